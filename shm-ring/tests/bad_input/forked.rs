//! Ends of rings in a forked child: each operation is a typed error, and no drop takes anything from the parent.

use std::future::Future;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use shm_ring::arena::{ArenaLayout, Class};
use shm_ring::mpsc::{self, MpscLayout, Queue, QueueOptions};
use shm_ring::spsc::{self, Consumer, Producer, SpscLayout};
use shm_ring::{ClaimError, Error, Events, Place, RecvError, Segment, SegmentOptions};
use test_support::child::{self, Line};
use test_support::forked::Forked;

use crate::support::backings::{Backing, fresh_name, fresh_path};

/// A forked child cannot use its parent's ends, whatever they live in; what it opens itself works, and the parent's go on.
#[test]
fn fork_with_a_handle() {
    child::alone("forker of rings");
    child::alone("forker of a queue");
}

/// A claim, a batch or a frame that is held over a fork is dropped in the child without a trace.
#[test]
fn fork_with_a_claim_and_a_frame_in_hand() {
    child::alone("forker in the middle");
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a forked handle has nothing to wait for"),
    }
}

const SMALL: &[u8] = b"small";

/// More than fits into a cell, or half of the ring: by an arena, if at all.
const LARGE: [u8; 3000] = [3; 3000];

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn spsc_is_refused(producer: &mut Producer, consumer: &mut Consumer) {
    let refused = ClaimError::ForkedHandle;
    for payload in [SMALL, &LARGE] {
        assert_eq!(producer.try_send(payload), Err(refused));
        assert_eq!(producer.send(payload), Err(refused));
        assert_eq!(producer.send_deadline(payload, soon()), Err(refused));
        assert_eq!(producer.try_claim(payload.len()).err(), Some(refused));
        assert_eq!(producer.claim(payload.len()).err(), Some(refused));
        assert_eq!(producer.batch().try_send(payload), Err(refused));
        assert_eq!(at_once(producer.send_async(payload)), Err(refused));
    }
    let refused = RecvError::ForkedHandle;
    assert_eq!(consumer.try_recv().err(), Some(refused));
    assert_eq!(consumer.recv().err(), Some(refused));
    assert_eq!(consumer.recv_deadline(soon()).err(), Some(refused));
    assert_eq!(at_once(consumer.recv_async()).err(), Some(refused));
    assert_eq!(consumer.drain(9, |_| panic!("nothing is there")), 0);
    assert_eq!((producer.len(), consumer.len(), producer.batch().commit()), (0, 0, 0));
    assert_eq!(producer.control().stats().sent, 0);
    producer.control().close();
    consumer.control().producer_died();
    producer.close();
    consumer.close();
    assert!(refused.to_string().contains("open it again in the child"), "{refused}");
}

fn mpsc_is_refused(sender: &mpsc::Sender, receiver: &mut mpsc::Receiver) {
    sender_is_refused(sender);
    let refused = RecvError::ForkedHandle;
    assert_eq!(receiver.try_recv().err(), Some(refused));
    assert_eq!(receiver.recv().err(), Some(refused));
    assert_eq!(receiver.recv_deadline(soon()).err(), Some(refused));
    assert_eq!(at_once(receiver.recv_async()).err(), Some(refused));
    assert_eq!(receiver.drain(9, |_| panic!("nothing is there")), 0);
    assert_eq!(receiver.len(), 0);
    receiver.close();
}

fn sender_is_refused(sender: &mpsc::Sender) {
    let refused = ClaimError::ForkedHandle;
    for payload in [SMALL, &LARGE] {
        assert_eq!(sender.try_send(payload), Err(refused));
        assert_eq!(sender.send(payload), Err(refused));
        assert_eq!(sender.send_deadline(payload, soon()), Err(refused));
        assert_eq!(sender.try_claim(payload.len()).err(), Some(refused));
        assert_eq!(sender.claim(payload.len()).err(), Some(refused));
        assert_eq!(at_once(sender.send_async(payload)), Err(refused));
    }
    assert_eq!(sender.try_batch(2).err(), Some(refused));
    assert_eq!(sender.batch(2).err(), Some(refused));
    assert!(sender.is_closed() && sender.is_empty());
    sender.close();
}

fn spsc_layout() -> SpscLayout {
    SpscLayout::new(4096).unwrap().with_arena(arena())
}

fn arena() -> ArenaLayout {
    ArenaLayout::new([Class { block: 4096, count: 4 }, Class::default(), Class::default()]).unwrap()
}

fn rings(backing: Backing) -> (Producer, Consumer, mpsc::Sender, mpsc::Receiver) {
    let events = || Events::new().unwrap();
    let (maker, opener) = backing.pair(spsc_layout());
    let ends = events();
    let (producer, consumer) =
        (Producer::attach(&maker, ends.clone()).unwrap(), Consumer::attach(&opener, ends).unwrap());
    let (maker, opener) = backing.pair(MpscLayout::new(16).unwrap().with_arena(arena()));
    let ends = events();
    let (sender, receiver) =
        (mpsc::Sender::attach(&maker, ends.clone()).unwrap(), mpsc::Receiver::attach(&opener, ends).unwrap());
    (producer, consumer, sender, receiver)
}

pub fn fork_with_rings(_parent: Line) {
    for backing in [Backing::Memfd, Backing::Named, Backing::File, Backing::FromFd] {
        let (mut producer, mut consumer, sender, mut receiver) = rings(backing);
        producer.try_send(b"before").unwrap();
        sender.try_send(b"before").unwrap();
        let (unattached, fd) = Segment::memfd("unattached", spsc_layout(), 1).unwrap();
        let child = Forked::start(|| {
            spsc_is_refused(&mut producer, &mut consumer);
            mpsc_is_refused(&sender, &mut receiver);
            let attached = Producer::attach(&unattached, Events::default()).err();
            assert!(matches!(attached, Some(Error::ForkedHandle { what: "the ring" })), "{attached:?}");
            // By its own door the very same memory is the child's as well; afterwards the others still are not.
            let own = Segment::<SpscLayout>::open(fd.as_fd()).unwrap();
            let (mut there, mut here) = spsc::pair(&own).unwrap();
            there.try_send(b"own").unwrap();
            assert_eq!(here.recv().unwrap().bytes(), b"own");
            assert_eq!(producer.try_send(b"x"), Err(ClaimError::ForkedHandle));
            let grandchild = Forked::start(|| {
                spsc_is_refused(&mut producer, &mut consumer);
                spsc_is_refused(&mut there, &mut here);
                0
            });
            assert_eq!(grandchild.end(), Ok(0));
            there.try_send(b"after the grandchild").unwrap();
            assert_eq!(here.recv().unwrap().bytes(), b"after the grandchild");
            0
        });
        assert_eq!(child.end(), Ok(0), "{backing:?}");
        // Drops in a child take nothing away, either.
        let mut all = Some((producer, consumer, sender, receiver, unattached));
        let child = Forked::start(|| {
            drop(all.take());
            0
        });
        assert_eq!(child.end(), Ok(0), "{backing:?}");
        let (mut producer, mut consumer, sender, mut receiver, _) = all.unwrap();
        for word in [&b"before"[..], b"after"] {
            assert_eq!(consumer.recv().unwrap().bytes(), word);
            assert_eq!(receiver.recv().unwrap().bytes(), word);
            producer.try_send(b"after").unwrap();
            sender.try_send(b"after").unwrap();
        }
        drop((producer, sender));
        assert_eq!(consumer.recv().unwrap().bytes(), b"after");
        assert_eq!(consumer.recv().err(), Some(RecvError::Closed));
    }
    // A place is opened by its name, and the child's locks are its own.
    let place = Place::named(&fresh_name()).unwrap();
    let made = place.create(spsc_layout(), 1, &SegmentOptions::new()).unwrap();
    let child = Forked::start(|| {
        drop(place.open::<SpscLayout>(&SegmentOptions::new()).unwrap());
        0
    });
    assert_eq!(child.end(), Ok(0));
    let in_use = place.create(spsc_layout(), 2, &SegmentOptions::new()).err();
    place.remove().unwrap();
    assert!(matches!(in_use, Some(Error::Taken { .. })), "{in_use:?}");
    drop(made);
}

/// A runtime directory, removed at the end.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

pub fn fork_with_a_queue(_parent: Line) {
    let directory = Directory(fresh_path());
    let options = QueueOptions::new().runtime_dir(&directory.0);
    let address = "tests/forked".parse().unwrap();
    let mut queue: Queue = options.create(&address).unwrap();
    let sender = options.open(&address).unwrap();
    sender.send(b"before").unwrap();
    let child = Forked::start(|| {
        let refused = RecvError::ForkedHandle;
        assert_eq!(queue.try_recv().err(), Some(refused));
        assert_eq!(queue.recv().err(), Some(refused));
        assert_eq!(queue.recv_deadline(soon()).err(), Some(refused));
        assert_eq!(at_once(queue.recv_async()).err(), Some(refused));
        assert_eq!(queue.drain(9, |_| panic!("nothing is there")), 0);
        assert_eq!((queue.len(), queue.producers(), queue.arm()), (0, 0, false));
        queue.close();
        sender_is_refused(&sender);
        // The parent serves the name on, and the child is one of its producers now.
        assert!(matches!(options.create(&address), Err(Error::AlreadyServed { .. })));
        options.open(&address).unwrap().send(b"child").unwrap();
        sender_is_refused(&sender.clone());
        0
    });
    assert_eq!(child.end(), Ok(0));
    let mut both = Some((queue, sender));
    let child = Forked::start(|| {
        drop(both.take());
        0
    });
    assert_eq!(child.end(), Ok(0));
    let (mut queue, sender) = both.unwrap();
    sender.send(b"after").unwrap();
    let mut received: Vec<Vec<u8>> = (0..3).map(|_| queue.recv().unwrap().bytes().to_vec()).collect();
    received.sort_unstable();
    assert_eq!(received, [&b"after"[..], b"before", b"child"]);
}

pub fn fork_in_the_middle(_parent: Line) {
    let (mut producer, mut consumer, sender, mut receiver) = rings(Backing::Memfd);
    producer.try_send(b"first").unwrap();
    sender.try_send(b"first").unwrap();
    {
        let mut claim = Some(producer.try_claim(8).unwrap());
        let mut frame = Some(consumer.recv().unwrap());
        let mut cell = Some(sender.try_claim(8).unwrap());
        let mut batch = Some(sender.try_batch(3).unwrap());
        let mut taken = Some(receiver.recv().unwrap());
        let child = Forked::start(|| {
            drop((claim.take(), frame.take(), cell.take(), batch.take(), taken.take()));
            0
        });
        assert_eq!(child.end(), Ok(0));
        assert_eq!((frame.as_ref().unwrap().bytes(), taken.as_ref().unwrap().bytes()), (&b"first"[..], &b"first"[..]));
        let (mut claim, mut cell) = (claim.unwrap(), cell.unwrap());
        claim.write(b"second");
        claim.commit();
        cell.write(b"second");
        cell.commit();
    }
    assert_eq!(consumer.recv().unwrap().bytes(), b"second");
    assert_eq!(receiver.recv().unwrap().bytes(), b"second");
}
