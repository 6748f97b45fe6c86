//! Each mode gives what was sent, and the modes that check refuse what is no message.
#![allow(unsafe_code)] // One mode is made by a promise.

use shm_ring::Trust;
use shm_ring::typed::{ClaimFrames, ReceiveFrames, Receiver, Sender};

use super::support::backings::for_every_backing;
use super::{FILLS, Order, cells, frames, ring_of_cells, ring_of_frames};

fn modes() -> [Trust; 3] {
    // SAFETY: both ends are in this program, and where messages are received the typed sender of their type sends them.
    [Trust::CHECKED, Trust::ISOLATED, unsafe { Trust::trusted() }]
}

fn what_is_sent_is_received(sender: impl ClaimFrames, receiver: impl ReceiveFrames) {
    let (mut sender, mut receiver) = (Sender::<Order, _>::new(sender), Receiver::<Order, _>::new(receiver));
    // Twice round the ring, so that each size comes to each cell.
    for (id, fills) in (0..).zip(FILLS.iter().cycle().take(11)) {
        let order = Order::of(id, *fills);
        sender.send(&order).unwrap();
        let received = receiver.recv().unwrap();
        assert_eq!(received.read().unwrap(), &order);
    }
}

for_every_backing!(every_mode_gives_the_messages_that_were_sent_through_cells, |backing| {
    for trust in modes() {
        let (sender, receiver) = ring_of_cells(backing.pair(cells()), trust);
        what_is_sent_is_received(sender, receiver);
    }
});

for_every_backing!(every_mode_gives_the_messages_that_were_sent_through_frames, |backing| {
    for trust in modes() {
        let (sender, receiver) = ring_of_frames(backing.pair(frames()), trust);
        what_is_sent_is_received(sender, receiver);
    }
});

fn what_is_no_message_is_refused(mut sender: impl ClaimFrames, receiver: impl ReceiveFrames) {
    let mut receiver = Receiver::<Order, _>::new(receiver);
    for len in [0, 7, 8, 100, 1000, 60_000] {
        sender.send(&vec![0xff; len]).unwrap();
        let error = receiver.recv().unwrap().read().map(drop).unwrap_err();
        assert_eq!(error.len, len, "{error}");
    }
}

for_every_backing!(the_modes_that_check_refuse_what_is_no_message, |backing| {
    for trust in [Trust::CHECKED, Trust::ISOLATED] {
        let (sender, receiver) = ring_of_cells(backing.pair(cells()), trust);
        what_is_no_message_is_refused(sender, receiver);
    }
});

for_every_backing!(the_modes_that_check_refuse_what_is_no_message_in_frames, |backing| {
    for trust in [Trust::CHECKED, Trust::ISOLATED] {
        let (sender, receiver) = ring_of_frames(backing.pair(frames()), trust);
        what_is_no_message_is_refused(sender, receiver);
    }
});

/// Raw frames of every length around the borders of cell, copy and block.
fn raw_frames_are_whole(mut sender: impl ClaimFrames, mut receiver: impl ReceiveFrames) {
    use shm_ring::typed::ReadFrame;
    for (i, len) in [0, 1, 8, 119, 120, 121, 512, 513, 2040, 2041, 2048, 2049, 128 << 10].into_iter().enumerate() {
        let payload: Vec<u8> = (0..len).map(|at| (at * 7 + i) as u8).collect();
        sender.send(&payload).unwrap();
        let frame = receiver.recv().unwrap();
        assert_eq!((frame.len(), frame.bytes()), (len, &payload[..]));
        let mut copy = vec![0; len];
        frame.copy_to(&mut copy);
        assert_eq!(copy, payload);
    }
}

for_every_backing!(every_mode_gives_the_bytes_that_were_sent_through_cells, |backing| {
    for trust in modes() {
        let (sender, receiver) = ring_of_cells(backing.pair(cells()), trust);
        raw_frames_are_whole(sender, receiver);
    }
});

for_every_backing!(every_mode_gives_the_bytes_that_were_sent_through_frames, |backing| {
    for trust in modes() {
        let (sender, receiver) = ring_of_frames(backing.pair(frames()), trust);
        raw_frames_are_whole(sender, receiver);
    }
});
