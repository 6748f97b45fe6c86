//! How a ring begins and ends: roles, close, death, and what an onlooker sees.

use std::time::Duration;

use shm_ring::spsc::{Consumer, Control, End, Events, Producer};
use shm_ring::{ClaimError, Error, RecvError};

use super::{plain, ring, with_blocks};
use crate::support::backings::for_every_backing;

for_every_backing!(each_end_has_one_owner_for_life, |backing| {
    let (maker, opener) = backing.pair(plain(256));
    let producer = Producer::attach(&maker, Events::default()).unwrap();
    let consumer = Consumer::attach(&opener, Events::default()).unwrap();
    drop((producer, consumer));
    let pid = std::process::id();
    let refused = Producer::attach(&opener, Events::default()).unwrap_err();
    assert!(matches!(refused, Error::AlreadyAttached { role: "producer", pid: named } if named == pid), "{refused}");
    let refused = Consumer::attach(&maker, Events::default()).unwrap_err();
    assert_eq!(refused.to_string(), format!("the ring's consumer is process {pid}"));
});

for_every_backing!(what_was_sent_before_a_close_is_received_and_then_closed, |backing| {
    let (mut producer, mut consumer) = ring(backing, plain(256));
    producer.try_send(b"last").unwrap();
    producer.close();
    assert_eq!(producer.try_claim(8).unwrap_err(), ClaimError::Closed);
    assert_eq!(producer.claim(8).unwrap_err(), ClaimError::Closed);
    assert_eq!(consumer.recv().unwrap().bytes(), b"last");
    assert_eq!(consumer.recv().unwrap_err(), RecvError::Closed);
    assert_eq!(consumer.try_recv().unwrap_err(), RecvError::Closed);
});

for_every_backing!(a_consumer_that_closes_refuses_what_comes_and_still_reads_what_is_there, |backing| {
    let (mut producer, mut consumer) = ring(backing, plain(256));
    producer.try_send(b"there").unwrap();
    consumer.close();
    assert_eq!(producer.try_send(b"late").unwrap_err(), ClaimError::Closed);
    assert_eq!(consumer.try_recv().unwrap().bytes(), b"there");
    assert_eq!(consumer.recv().unwrap_err(), RecvError::Closed);
});

for_every_backing!(dropping_an_end_closes_it, |backing| {
    let (mut producer, consumer) = ring(backing, plain(256));
    drop(consumer);
    assert_eq!(producer.try_send(b"x").unwrap_err(), ClaimError::Closed);
    let (producer, mut consumer) = ring(backing, plain(256));
    drop(producer);
    assert_eq!(consumer.try_recv().unwrap_err(), RecvError::Closed);
});

for_every_backing!(an_onlooker_ends_a_ring_for_both, |backing| {
    let (maker, opener) = backing.pair(plain(256));
    let mut producer = Producer::attach(&maker, Events::default()).unwrap();
    let mut consumer = Consumer::attach(&opener, Events::default()).unwrap();
    producer.try_send(b"there").unwrap();
    Control::over(&opener, Events::default()).close();
    assert_eq!(producer.try_send(b"late").unwrap_err(), ClaimError::Closed);
    assert_eq!(consumer.recv().unwrap().bytes(), b"there");
    assert_eq!(consumer.recv().unwrap_err(), RecvError::Closed);
});

for_every_backing!(a_dead_producers_frames_are_received_and_its_claim_is_never_seen, |backing| {
    let (mut producer, mut consumer) = ring(backing, with_blocks(256, 1024, 2));
    producer.try_send(b"committed").unwrap();
    let mut batch = producer.batch();
    batch.try_send(b"in a batch").unwrap();
    batch.try_send(&[1; 1000]).unwrap();
    batch.try_claim(10).unwrap().write(b"half");
    // It stops here for ever.
    std::mem::forget(batch);
    consumer.control().producer_died();
    assert_eq!(consumer.recv().unwrap().bytes(), b"committed");
    assert_eq!(consumer.recv().unwrap_err(), RecvError::Closed);
    assert_eq!(consumer.control().stats().producer.end, End::Died);
    std::mem::forget(producer);
});

for_every_backing!(a_dead_consumer_closes_the_ring_for_its_producer, |backing| {
    let (mut producer, consumer) = ring(backing, plain(256));
    producer.control().consumer_died();
    assert_eq!(producer.try_send(b"x").unwrap_err(), ClaimError::Closed);
    // The news of a death is not undone by a late close, nor the other way round.
    drop(consumer);
    assert_eq!(producer.control().stats().consumer.end, End::Died);
    producer.close();
    producer.control().producer_died();
    assert_eq!(producer.control().stats().producer.end, End::Closed);
});

for_every_backing!(seed_05_an_onlooker_sees_the_same_numbers_as_both_ends, |backing| {
    let (maker, opener) = backing.pair(plain(256));
    let onlooker = Control::over(&opener, Events::default());
    let before = onlooker.stats();
    assert_eq!((before.producer.end, before.consumer.end, before.frames), (End::Free, End::Free, 0));
    let mut producer = Producer::attach(&maker, Events::default()).unwrap();
    let mut consumer = Consumer::attach(&opener, Events::default()).unwrap();
    let _ = consumer.try_recv();
    for i in 0..3 {
        producer.try_send(&[i; 20]).unwrap();
    }
    drop(producer.try_claim(8).unwrap());
    drop(consumer.try_recv().unwrap());
    let seen = onlooker.stats();
    assert_eq!((seen.capacity, seen.used, seen.free, seen.frames), (256, 64, 176, 2));
    assert_eq!((seen.tail, seen.head, seen.sent, seen.received), (96, 32, 3, 1));
    // Each spell of being full, or empty, counts once.
    assert_eq!((seen.aborted, seen.full, seen.empty), (1, 0, 1));
    assert_eq!((seen.producer.pid, seen.consumer.end), (std::process::id(), End::Attached));
    assert_eq!((producer.len(), consumer.len(), producer.free(), consumer.free()), (2, 2, 176, 176));
    for _ in 0..2 {
        while producer.try_send(&[0; 8]).is_ok() {}
        assert!(producer.try_send(&[0; 8]).is_err());
        drop(consumer.try_recv().unwrap());
    }
    assert_eq!(onlooker.stats().full, 2);
    assert_eq!(producer.control().stats(), consumer.control().stats());
});

for_every_backing!(a_close_wakes_whoever_sleeps_on_either_side, |backing| {
    for from_outside in [false, true] {
        let (mut producer, consumer) = ring(backing, plain(256));
        let control = consumer.control();
        while producer.try_send(&[0; 8]).is_ok() {}
        std::thread::scope(|scope| {
            let mut consumer = consumer;
            let waiting = scope.spawn(move || {
                producer.set_spin(Duration::ZERO);
                let refused = producer.claim(8).unwrap_err();
                (refused, producer)
            });
            if from_outside {
                control.close();
            } else {
                consumer.close();
            }
            assert_eq!(waiting.join().unwrap().0, ClaimError::Closed);
        });
        let (mut producer, mut consumer) = ring(backing, plain(256));
        let control = producer.control();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                consumer.set_spin(Duration::ZERO);
                consumer.recv().map(|frame| frame.len())
            });
            if from_outside {
                control.close();
            } else {
                producer.close();
            }
            assert_eq!(waiting.join().unwrap(), Err(RecvError::Closed));
        });
    }
});
