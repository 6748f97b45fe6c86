//! What arrives: every item once, in order, whole; and how a stream ends.

use service_core::{Code, Encode, EncodeError, Sink, StreamSender};
use shm_ring::Trust;

use super::{block_on, pair, pair_trusting, poll_recv, poll_send, recv, send};
use crate::stream::{MAX_ITEM, RING_BYTES};

/// Lengths around every border there is: of what is encoded beside the ring, of what goes as one frame, of the ring.
fn lengths() -> impl Iterator<Item = usize> {
    let around = |border: usize| border.saturating_sub(60)..border + 4;
    let borders = [512, RING_BYTES / 4, RING_BYTES / 2, RING_BYTES];
    (0..40).chain(borders.into_iter().flat_map(around)).chain([300_000, 5 << 20])
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len) as u8).collect()
}

#[test]
fn items_of_any_length_arrive_whole_and_in_order() {
    for trust in [Trust::CHECKED, Trust::ISOLATED] {
        let (mut sender, mut receiver) = pair_trusting(trust);
        let sends = std::thread::spawn(move || {
            for len in lengths() {
                send(&mut sender, &bytes(len)).unwrap();
            }
            sender.finish().unwrap();
        });
        for len in lengths() {
            assert!(recv::<Vec<u8>>(&mut receiver).unwrap() == Some(bytes(len)), "{len} bytes, {trust}");
        }
        assert_eq!(recv::<Vec<u8>>(&mut receiver).unwrap(), None);
        assert_eq!(recv::<Vec<u8>>(&mut receiver).unwrap(), None, "it stays ended");
        sends.join().unwrap();
    }
}

#[test]
fn tasks_pass_items_of_any_length_as_threads_do() {
    let (mut sender, mut receiver) = pair();
    let sends = std::thread::spawn(move || {
        for len in lengths() {
            let item = bytes(len);
            block_on(|cx| poll_send(&mut sender, cx, &item)).unwrap();
        }
        sender.finish().unwrap();
    });
    for len in lengths() {
        assert!(block_on(|cx| poll_recv::<Vec<u8>>(&mut receiver, cx)).unwrap() == Some(bytes(len)), "{len} bytes");
    }
    assert_eq!(block_on(|cx| poll_recv::<Vec<u8>>(&mut receiver, cx)).unwrap(), None);
    sends.join().unwrap();
}

#[test]
fn a_sender_that_is_dropped_breaks_off_behind_what_it_sent() {
    let (mut sender, mut receiver) = pair();
    send(&mut sender, &1_u32).unwrap();
    drop(sender);
    assert_eq!(recv(&mut receiver).unwrap(), Some(1_u32));
    for _ in 0..2 {
        assert_eq!(recv::<u32>(&mut receiver).unwrap_err().code(), Code::Cancelled);
    }
}

#[test]
fn a_receiver_that_is_dropped_tells_the_sender() {
    let (mut sender, receiver) = pair();
    send(&mut sender, &1_u32).unwrap();
    drop(receiver);
    assert_eq!(send(&mut sender, &2_u32).unwrap_err().code(), Code::Cancelled);
    assert_eq!(sender.finish().unwrap_err().code(), Code::Cancelled);
}

#[test]
fn nothing_is_sent_behind_the_end() {
    let (mut sender, mut receiver) = pair();
    sender.finish().unwrap();
    sender.finish().unwrap();
    assert_eq!(send(&mut sender, &1_u32).unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(recv::<u32>(&mut receiver).unwrap(), None);
}

/// Says that it is longer than any item may be, and is never written.
struct Endless;

impl Encode for Endless {
    fn encode(&self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        (0..=MAX_ITEM >> 20).try_for_each(|_| sink.write(&[0; 1 << 20])).map_err(EncodeError::from)
    }
}

#[test]
fn an_item_that_is_too_long_or_cannot_be_read_ends_no_stream() {
    let (mut sender, mut receiver) = pair();
    let refused = sender.send(&Endless, None).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    send(&mut sender, &1_u8).unwrap();
    send(&mut sender, &"a text of some length".to_owned()).unwrap();
    assert!(recv::<String>(&mut receiver).is_err(), "a byte is no text");
    assert_eq!(recv::<String>(&mut receiver).unwrap().as_deref(), Some("a text of some length"));
}

#[test]
fn an_item_that_was_given_up_is_never_seen() {
    let (mut sender, mut receiver) = pair();
    let long = bytes(3 * RING_BYTES);
    let waker = std::task::Waker::noop();
    assert!(poll_send(&mut sender, &mut std::task::Context::from_waker(waker), &long).is_pending());
    sender.give_up();
    let receives = std::thread::spawn(move || {
        let next = recv::<Vec<u8>>(&mut receiver).unwrap();
        (next, recv::<Vec<u8>>(&mut receiver).unwrap())
    });
    send(&mut sender, &bytes(2 * RING_BYTES)).unwrap();
    assert!(poll_send(&mut sender, &mut std::task::Context::from_waker(waker), &long).is_pending());
    // The end goes over an item that is under way as well.
    sender.finish().unwrap();
    let (next, end) = receives.join().unwrap();
    assert!(next == Some(bytes(2 * RING_BYTES)), "the item behind the one that was given up");
    assert_eq!(end, None);
}

/// However the items have filled the ring: nobody waits to say the end.
#[test]
fn the_end_always_has_room() {
    for len in (0..600).chain([16_000, 16_320, 40_000]) {
        let (mut sender, mut receiver) = pair();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut sent = 0;
        while poll_send(&mut sender, &mut cx, &bytes(len)).is_ready() {
            sent += 1;
        }
        sender.finish().unwrap();
        for _ in 0..sent {
            assert!(recv::<Vec<u8>>(&mut receiver).unwrap().is_some());
        }
        assert_eq!(recv::<Vec<u8>>(&mut receiver).unwrap(), None, "{sent} items of {len} bytes");
    }
}
