//! Payloads at the edge of what fits, threads that end in the middle, and ends dropped in every order.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shm_ring::arena::{ArenaLayout, Class};
use shm_ring::mpsc::{self, MpscLayout};
use shm_ring::spsc::{self, Consumer, Control, Events, Producer, SpscLayout};
use shm_ring::{ClaimError, RecvError};

use crate::support::backings::for_every_backing;

/// One block, which is the limit of both rings.
fn arena() -> ArenaLayout {
    ArenaLayout::new([Class { block: 4096, count: 1 }, Class::default(), Class::default()]).unwrap()
}

fn layouts() -> [(SpscLayout, MpscLayout); 2] {
    let (spsc, mpsc) = (SpscLayout::new(1024).unwrap(), MpscLayout::new(8).unwrap());
    [(spsc, mpsc), (spsc.with_arena(arena()), mpsc.with_arena(arena()))]
}

/// Sends one payload of this length through each kind of ring, as one slice and piece by piece; gives how it ended.
fn send_each(backing: crate::support::backings::Backing, len: impl Fn(usize) -> usize) -> Vec<Result<(), ClaimError>> {
    let mut ended = Vec::new();
    for (spsc, mpsc) in layouts() {
        let (maker, opener) = backing.pair(spsc);
        let mut producer = Producer::attach(&maker, Events::default()).unwrap();
        let mut consumer = Consumer::attach(&opener, Events::default()).unwrap();
        let payload: Vec<u8> = (0..len(spsc.limit())).map(|i| i as u8).collect();
        for _ in 0..3 {
            let sent = producer.send(&payload);
            ended.push(sent);
            if sent.is_ok() {
                assert_eq!(consumer.recv().unwrap().bytes(), payload);
            }
            let claimed = producer.claim(payload.len()).map(|mut claim| {
                payload.chunks(7).for_each(|piece| claim.write(piece));
                claim.commit();
            });
            ended.push(claimed);
            if claimed.is_ok() {
                assert_eq!(consumer.recv().unwrap().bytes(), payload);
            }
        }
        assert_eq!(consumer.try_recv().err(), Some(RecvError::Empty));
        let (maker, opener) = backing.pair(mpsc);
        let sender = mpsc::Sender::attach(&maker, Events::default()).unwrap();
        let mut receiver = mpsc::Receiver::attach(&opener, Events::default()).unwrap();
        let payload: Vec<u8> = (0..len(sender.limit())).map(|i| i as u8).collect();
        for _ in 0..3 {
            let sent = sender.send(&payload);
            ended.push(sent);
            if sent.is_ok() {
                assert_eq!(receiver.recv().unwrap().bytes(), payload);
            }
        }
        assert_eq!(receiver.try_recv().err(), Some(RecvError::Empty));
    }
    ended
}

// The largest payload of a ring passes, again and again, with and without an arena.
for_every_backing!(max_frame_exact, |backing| {
    assert!(send_each(backing, |limit| limit).iter().all(Result::is_ok));
});

// One byte more is refused at once, by both numbers, and nothing is sent.
for_every_backing!(max_frame_plus_1, |backing| {
    for (ended, at) in send_each(backing, |limit| limit + 1).into_iter().zip(0..) {
        let Err(ClaimError::TooLarge { len, limit }) = ended else { panic!("{at}: {ended:?}") };
        assert_eq!(len, limit + 1);
    }
});

// A payload of no bytes is a frame as any other.
for_every_backing!(empty_payload, |backing| {
    assert!(send_each(backing, |_| 0).iter().all(Result::is_ok));
});

// A thread that panics between claim and commit takes its claim back; the others' frames arrive, before it and behind it.
for_every_backing!(panic_while_holding_claim, |backing| {
    let (spsc, mpsc) = layouts()[1];
    let (maker, opener) = backing.pair(spsc);
    let mut producer = Producer::attach(&maker, Events::default()).unwrap();
    let mut consumer = Consumer::attach(&opener, Events::default()).unwrap();
    let (maker, opener) = backing.pair(mpsc);
    let sender = mpsc::Sender::attach(&maker, Events::default()).unwrap();
    let mut receiver = mpsc::Receiver::attach(&opener, Events::default()).unwrap();
    for len in [8, 4000] {
        for round in 0..20_u8 {
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                let mut claim = producer.claim(len).unwrap();
                claim.write(b"half");
                let mut cell = sender.claim(len).unwrap();
                cell.write(b"half");
                std::panic::resume_unwind(Box::new("in the middle"));
            }));
            assert!(unwound.is_err());
            producer.send(&[round]).unwrap();
            sender.send(&[round]).unwrap();
            assert_eq!(consumer.recv().unwrap().bytes(), [round]);
            assert_eq!(receiver.recv().unwrap().bytes(), [round]);
        }
    }
    assert_eq!(consumer.control().stats().aborted, 40);
    assert!(receiver.is_empty());
});

/// What can be held of a ring.
#[allow(clippy::large_enum_variant, reason = "there are four of them")]
enum Handle {
    Segment(#[allow(dead_code, reason = "held to be dropped")] shm_ring::Segment<SpscLayout>),
    Producer(Box<Producer>),
    Consumer(Box<Consumer>),
    Control(Control),
}

// Both ends, an onlooker and the segment itself, dropped in each order: what is left goes on as far as it can, and ends.
for_every_backing!(drop_order_all_permutations, |backing| {
    for order in orders() {
        let (segment, opener) = backing.pair(SpscLayout::new(256).unwrap());
        let mut producer = Producer::attach(&segment, Events::default()).unwrap();
        producer.send(b"there").unwrap();
        let mut handles = [
            Handle::Control(producer.control()),
            Handle::Consumer(Box::new(Consumer::attach(&opener, Events::default()).unwrap())),
            Handle::Producer(Box::new(producer)),
            Handle::Segment(segment),
        ]
        .map(Some);
        drop(opener);
        let (mut sends, mut receives) = (true, true);
        for next in order {
            match handles[next].take().expect("each once") {
                Handle::Segment(_) => {}
                Handle::Producer(mut producer) => {
                    assert_eq!(producer.try_send(b"more").err(), (!receives).then_some(ClaimError::Closed));
                    sends = false;
                }
                Handle::Consumer(mut consumer) => {
                    assert_eq!(consumer.recv().unwrap().bytes(), b"there");
                    if !sends {
                        assert_eq!(consumer.recv().unwrap().bytes(), b"more");
                        assert_eq!(consumer.recv().err(), Some(RecvError::Closed));
                    }
                    receives = false;
                }
                Handle::Control(control) => {
                    let stats = control.stats();
                    assert_eq!(stats.producer.end == spsc::End::Attached, sends);
                    assert_eq!(stats.consumer.end == spsc::End::Attached, receives);
                }
            }
        }
    }
});

/// All 24 orders of four things.
fn orders() -> Vec<[usize; 4]> {
    let all = (0..256).map(|n| [n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6]);
    all.filter(|order| (0..4).all(|thing| order.contains(&thing))).collect()
}
