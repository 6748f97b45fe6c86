//! Who waits for whom, and for how long.

use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::Duration;

use service_core::{Code, Deadline, Message, Shape, StreamSender};
use shm_ring::Trust;

use super::{PATIENCE, block_on, pair, poll_recv, poll_send, recv, recv_until, send};
use crate::stream::{RING_BYTES, rings};

const SHORT: Duration = Duration::from_millis(20);

/// Sends until nothing more fits; says how many.
fn fill(sender: &mut super::Sender, item: &Vec<u8>) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let sent = std::iter::from_fn(|| poll_send(sender, &mut cx, item).is_ready().then_some(())).count();
    sender.give_up();
    sent
}

#[test]
fn a_full_stream_holds_its_sender_until_items_are_taken() {
    let (mut sender, mut receiver) = pair();
    let item = vec![7_u8; 1000];
    let sent = fill(&mut sender, &item);
    assert!((RING_BYTES / 1100..=RING_BYTES / 1000).contains(&sent), "{sent} items of 1000 bytes");
    let late = sender.send(&Message(&item), Some(Deadline::after(SHORT))).unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    let sends = std::thread::spawn(move || {
        send(&mut sender, &item).unwrap();
        sender.finish().unwrap();
    });
    for _ in 0..=sent {
        assert!(recv::<Vec<u8>>(&mut receiver).unwrap().is_some());
    }
    assert_eq!(recv::<Vec<u8>>(&mut receiver).unwrap(), None, "what was late was not sent");
    sends.join().unwrap();
}

#[test]
fn a_stream_that_nobody_takes_from_delays_no_other() {
    let (mut stuck, _its_receiver) = pair();
    let item = vec![7_u8; 1000];
    fill(&mut stuck, &item);
    let waits = std::thread::spawn(move || send(&mut stuck, &item));
    for _ in 0..10 {
        let (mut sender, mut receiver) = pair();
        let sends = std::thread::spawn(move || {
            (0..1000_u64).for_each(|number| send(&mut sender, &number).unwrap());
            sender.finish().unwrap();
        });
        (0..1000_u64).for_each(|number| assert_eq!(recv(&mut receiver).unwrap(), Some(number)));
        sends.join().unwrap();
    }
    assert!(!waits.is_finished(), "it has found room in a full ring");
    drop(_its_receiver);
    assert_eq!(waits.join().unwrap().unwrap_err().code(), Code::Cancelled);
}

#[test]
fn nothing_comes_before_the_deadline_and_later_it_does() {
    let (mut sender, mut receiver) = pair();
    let late = recv_until::<u32>(&mut receiver, Some(Deadline::after(SHORT))).unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    send(&mut sender, &5_u32).unwrap();
    assert_eq!(recv_until(&mut receiver, Some(Deadline::after(PATIENCE))).unwrap(), Some(5_u32));
}

/// Both ends of a stream whose call has a deadline, in a mode of trust.
fn pair_until(deadline: Deadline, trust: Trust) -> (super::Sender, super::Receiver) {
    let (rings, fds) = super::Rings::make(Shape::ClientStream, trust).unwrap();
    let theirs = super::Rings::open(Shape::ClientStream, fds, trust).unwrap();
    let producer = rings.client_ends(trust, None).unwrap().producer.unwrap();
    let consumer = theirs.server_ends(trust, None).unwrap().consumer.unwrap();
    let peer = || super::Peer::new("a test");
    let sender = super::Sender::new(producer, Some(deadline), peer(), None);
    (sender, super::Receiver::new(consumer, Some(deadline), None, peer(), None))
}

#[test]
fn a_task_that_waits_is_woken_at_the_calls_deadline() {
    for trust in [Trust::CHECKED, Trust::ISOLATED] {
        let deadline = Deadline::after(SHORT);
        let (mut sender, mut receiver) = pair_until(deadline, trust);
        let late = block_on(|cx| poll_recv::<u32>(&mut receiver, cx)).unwrap_err();
        assert!(deadline.has_passed() && late.code() == Code::DeadlineExceeded, "{late}");
        let item = vec![7_u8; 1000];
        let late = std::iter::repeat_with(|| block_on(|cx| poll_send(&mut sender, cx, &item))).find_map(Result::err);
        assert_eq!(late.unwrap().code(), Code::DeadlineExceeded);
    }
}

/// A task is woken by an item, by room, and by whatever ends the stream.
#[test]
fn a_task_that_waits_is_woken_by_whatever_happens() {
    type Act = fn(&mut super::Sender);
    let acts: [(Act, Result<Option<u32>, Code>); 3] = [
        (|sender| send(sender, &3_u32).unwrap(), Ok(Some(3))),
        (|sender| sender.finish().unwrap(), Ok(None)),
        (|sender| drop(std::mem::replace(sender, pair().0)), Err(Code::Cancelled)),
    ];
    for (act, expected) in acts {
        let (mut sender, mut receiver) = pair();
        let (is_pending, pending) = mpsc::channel();
        let waits = std::thread::spawn(move || {
            block_on(|cx| {
                let polled = poll_recv::<u32>(&mut receiver, cx);
                if polled.is_pending() {
                    let _ = is_pending.send(());
                }
                polled
            })
        });
        pending.recv_timeout(PATIENCE).unwrap();
        act(&mut sender);
        assert_eq!(waits.join().unwrap().map_err(|status| status.code()), expected);
    }
}

#[test]
fn a_task_that_waits_for_room_is_woken_when_the_receiver_goes() {
    let (mut sender, receiver) = pair();
    let item = vec![7_u8; 1000];
    fill(&mut sender, &item);
    let (is_pending, pending) = mpsc::channel();
    let waits = std::thread::spawn(move || {
        block_on(|cx| {
            let polled = poll_send(&mut sender, cx, &item);
            if polled.is_pending() {
                let _ = is_pending.send(());
            }
            polled
        })
    });
    pending.recv_timeout(PATIENCE).unwrap();
    drop(receiver);
    assert_eq!(waits.join().unwrap().unwrap_err().code(), Code::Cancelled);
}

/// What the watcher thread does when the other process is gone.
#[test]
fn the_death_of_the_other_side_ends_both_directions() {
    let rings = super::Rings::heap(Shape::BothWays).unwrap();
    let ends = rings.client_ends(Trust::CHECKED, None).unwrap();
    let peer = || super::Peer::new("a test");
    let mut sender = super::Sender::new(ends.producer.unwrap(), None, peer(), None);
    let mut receiver = super::Receiver::new(ends.consumer.unwrap(), None, None, peer(), None);
    let waits = std::thread::spawn(move || recv::<u32>(&mut receiver));
    send(&mut sender, &1_u32).unwrap();
    rings::end(&rings.controls());
    assert_eq!(waits.join().unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(send(&mut sender, &2_u32).unwrap_err().code(), Code::Unavailable);
}
