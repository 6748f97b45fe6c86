//! The spsc ring's ends in tasks and event loops, over every backing.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use futures_executor::block_on;
use futures_util::StreamExt;
use shm_ring::spsc::{Consumer, Producer, SpscLayout};
use shm_ring::{ClaimError, Error, Events, RecvError};

use super::kinds::spsc::{receive_all, send_all};
use super::kinds::{KINDS, Kind, UNLUCKY, closed_is_none};
use crate::support::backings::{Backing, for_every_backing};

/// Both ends of a small ring, each over its own segment, which may wait in every way.
pub fn ring(backing: Backing, capacity: usize) -> (Producer, Consumer) {
    let (maker, opener) = backing.pair(SpscLayout::new(capacity).expect("a power of two"));
    let events = Events::new().expect("descriptors are left");
    let producer = Producer::attach(&maker, events.clone()).expect("nobody has attached");
    (producer, Consumer::attach(&opener, events).expect("nobody has attached"))
}

fn payloads(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| vec![i as u8; i * 37 % 101]).collect()
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

for_every_backing!(threads_event_loops_and_tasks_stream_to_each_other, |backing| {
    let sent = payloads(500);
    for (sends, receives) in KINDS.into_iter().flat_map(|sends| KINDS.map(|receives| (sends, receives))) {
        let (producer, mut consumer) = ring(backing, 256);
        let mut received = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                // Moved in, so that the ring ends with the thread, whatever it ends by.
                let mut producer = producer;
                send_all(&mut producer, sends, &sent);
            });
            receive_all(&mut consumer, receives, |payload| received.push(payload.to_vec()));
        });
        assert_eq!(received, sent, "{sends:?} to {receives:?}");
        let stats = consumer.control().stats();
        assert!(stats.producer.rescues + stats.consumer.rescues <= UNLUCKY, "{sends:?} to {receives:?}: {stats:?}");
    }
});

for_every_backing!(one_end_waits_now_in_this_way_and_now_in_that, |backing| {
    let sent = payloads(600);
    let (producer, mut consumer) = ring(backing, 256);
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut producer = producer;
            for (payloads, kind) in sent.chunks(50).zip(KINDS.into_iter().cycle()) {
                send_all(&mut producer, kind, payloads);
            }
        });
        for turn in 0.. {
            let before = received.len();
            let frame = match turn % 2 {
                0 => closed_is_none(consumer.recv()),
                _ => block_on(async { closed_is_none(consumer.recv_async().await) }),
            };
            received.extend(frame.map(|frame| frame.bytes().to_vec()));
            if received.len() == before {
                break;
            }
        }
    });
    assert_eq!(received, sent);
});

for_every_backing!(a_future_that_is_dropped_loses_no_frame_and_keeps_no_room, |backing| {
    let (mut producer, mut consumer) = ring(backing, 256);
    let free = producer.free();
    for i in 0..1_000_u32 {
        // Pending, and dropped before and after what it waited for came.
        assert!(poll_once(consumer.recv_async()).is_pending());
        {
            let mut dropped = pin!(consumer.recv_async());
            assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            producer.try_send(&i.to_ne_bytes()).expect("there is room");
        }
        assert_eq!(block_on(consumer.recv_async()).expect("it is there").bytes(), i.to_ne_bytes());
    }
    while producer.try_send(&[7; 40]).is_ok() {}
    assert!(poll_once(producer.claim_async(100)).is_pending());
    while consumer.try_recv().is_ok() {}
    assert!(poll_once(producer.claim_async(100)).is_ready(), "a claim, dropped at once");
    assert!(consumer.try_recv().is_err());
    assert_eq!(producer.free(), free);
});

for_every_backing!(the_end_of_either_side_wakes_tasks_of_the_other, |backing| {
    let (producer, mut consumer) = ring(backing, 256);
    let waits = thread::spawn(move || block_on(consumer.recv_async()).map(|frame| frame.len()));
    drop(producer);
    assert_eq!(waits.join().expect("it does not panic"), Err(RecvError::Closed));

    let (mut producer, consumer) = ring(backing, 256);
    let waits = thread::spawn(move || {
        block_on(async {
            loop {
                if let Err(error) = producer.send_async(&[0; 50]).await {
                    return error;
                }
            }
        })
    });
    drop(consumer);
    assert_eq!(waits.join().expect("it does not panic"), ClaimError::Closed);
});

for_every_backing!(a_stream_gives_what_was_sent_and_ends_with_the_ring, |backing| {
    let sent = payloads(300);
    let (producer, mut consumer) = ring(backing, 256);
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            let mut producer = producer;
            send_all(&mut producer, Kind::Task, &sent);
        });
        block_on(consumer.messages().map(|message| message.expect("the ring is sound")).collect::<Vec<_>>())
    });
    assert_eq!(received, sent);
    assert_eq!(block_on(consumer.messages().next()), None, "and stays ended");
});

#[test]
fn a_payload_that_can_never_fit_is_refused_at_once() {
    let (mut producer, _consumer) = ring(Backing::Heap, 256);
    let Poll::Ready(Err(refused)) = poll_once(producer.claim_async(1_000)) else { panic!("it waits for ever") };
    assert_eq!(refused, ClaimError::TooLarge { len: 1_000, limit: 120 });
}

#[test]
fn without_eventfds_tasks_try_but_cannot_wait() {
    let segment = Backing::Heap.pair(SpscLayout::new(256).expect("a power of two")).0;
    let (mut producer, mut consumer) = shm_ring::spsc::pair(&segment).expect("nobody has attached");
    block_on(producer.send_async(b"there is room")).expect("no need to wait");
    assert_eq!(block_on(consumer.recv_async()).expect("no need to wait").bytes(), b"there is room");
    assert_eq!(block_on(consumer.recv_async()).unwrap_err(), RecvError::CannotWait { missing: "eventfd" });
    assert!(matches!(consumer.pollable(), Err(Error::CannotWait { missing: "eventfd" })));
}

#[test]
fn the_futures_may_run_on_any_thread() {
    fn is_send<T: Send>(_: T) {}
    let (mut producer, mut consumer) = ring(Backing::Heap, 256);
    is_send(producer.send_async(b""));
    is_send(consumer.recv_async());
    is_send(consumer.messages());
}
