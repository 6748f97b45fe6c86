//! The mpsc ring's ends in tasks and event loops, over every backing.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;

use futures_executor::block_on;
use futures_util::StreamExt;
use shm_ring::Events;
use shm_ring::arena::{ArenaLayout, CLASSES, Class};
use shm_ring::mpsc::{MpscLayout, Receiver, Sender};

use super::kinds::KINDS;
use super::kinds::mpsc::{receive_all, send_all};
use crate::support::backings::{Backing, for_every_backing};

/// Both ends of a ring, each over its own segment, which may wait in every way.
pub fn ring(backing: Backing, layout: MpscLayout) -> (Sender, Receiver) {
    let (maker, opener) = backing.pair(layout);
    let events = Events::new().expect("descriptors are left");
    let sender = Sender::attach(&maker, events.clone()).expect("nobody has attached");
    (sender, Receiver::attach(&opener, events).expect("nobody has attached"))
}

fn small() -> MpscLayout {
    MpscLayout::new(4).expect("a power of two")
}

/// The frames of one producer: its number, then the frame's.
fn payloads(producer: u8, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| [&[producer], &i.to_ne_bytes()[..]].concat()).collect()
}

for_every_backing!(producers_of_every_kind_at_once_reach_a_consumer_of_each_kind, |backing| {
    for receives in KINDS {
        let (sender, mut receiver) = ring(backing, small());
        let mut received = [const { Vec::new() }; 3];
        thread::scope(|scope| {
            for (number, sends) in (0..).zip(KINDS) {
                let mut sender = sender.clone();
                scope.spawn(move || send_all(&mut sender, sends, &payloads(number, 500)));
            }
            drop(sender);
            receive_all(&mut receiver, receives, |payload| received[usize::from(payload[0])].push(payload.to_vec()));
        });
        for (number, received) in (0..).zip(received) {
            assert_eq!(received, payloads(number, 500), "{:?} to {receives:?}", KINDS[usize::from(number)]);
        }
    }
});

for_every_backing!(a_stream_gives_what_was_sent_and_ends_with_the_ring, |backing| {
    let (sender, mut receiver) = ring(backing, small());
    let sends = thread::spawn(move || {
        block_on(async {
            for payload in payloads(1, 300) {
                sender.send_async(&payload).await.expect("the receiver is there");
            }
        });
    });
    let received = block_on(receiver.messages().map(|message| message.expect("the ring is sound")).collect::<Vec<_>>());
    sends.join().expect("it does not panic");
    assert_eq!(received, payloads(1, 300));
    assert_eq!(block_on(receiver.messages().next()), None, "and stays ended");
});

for_every_backing!(a_dropped_future_loses_no_frame_and_keeps_no_cell, |backing| {
    let (sender, mut receiver) = ring(backing, small());
    let mut cx = Context::from_waker(Waker::noop());
    for i in 0..1_000_u32 {
        {
            let mut receives = pin!(receiver.recv_async());
            assert!(receives.as_mut().poll(&mut cx).is_pending());
            sender.try_send(&i.to_ne_bytes()).expect("there is room");
        }
        assert_eq!(block_on(receiver.recv_async()).expect("it is there").bytes(), i.to_ne_bytes());
    }
    while sender.try_send(b"fills it").is_ok() {}
    {
        let mut claims = pin!(sender.claim_async(8));
        assert!(claims.as_mut().poll(&mut cx).is_pending());
        while receiver.try_recv().is_ok() {}
    }
    assert_eq!(sender.free(), sender.capacity());
    let batch = block_on(sender.batch_async(sender.capacity())).expect("all cells are free");
    drop(batch);
});

/// A waker to wait for.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    fn wait(&self) {
        while !self.0.swap(false, Ordering::Relaxed) {
            thread::yield_now();
        }
    }
}

#[test]
fn a_small_frame_is_not_held_up_by_a_large_one_that_waits_in_front_of_it() {
    let mut classes = [Class::default(); CLASSES];
    classes[0] = Class { block: 1024, count: 1 };
    let arena = ArenaLayout::new(classes).expect("a legal class");
    let (sender, mut receiver) = ring(Backing::Memfd, small().with_arena(arena));
    while sender.len() < sender.capacity() - 1 {
        sender.try_send(b"small").expect("there is room");
    }
    // The one block and the last cell.
    let held = sender.try_claim(1000).expect("there is room");
    let (large_woken, small_woken) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
    let wakers = [Waker::from(Arc::clone(&large_woken)), Waker::from(Arc::clone(&small_woken))];
    let mut large = pin!(sender.claim_async(1000));
    let mut small = pin!(sender.claim_async(8));
    assert!(large.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending());
    assert!(small.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_pending());
    while receiver.try_recv().is_ok() {}
    large_woken.wait();
    assert!(large.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending(), "there are cells, but no block");
    small_woken.wait();
    assert!(small.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_ready());
    drop(held);
}
