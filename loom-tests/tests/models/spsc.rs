//! The spsc ring: publication, wraps, old payload that looks like a header, batches, ends, sleep and wake.
//!
//! Rings of 64 bytes: three frames of up to 8 bytes, or one of up to 24 that makes the ring wrap.

use loom::thread;
use shm_ring::model::spsc;
use shm_ring::spsc::{Consumer, Frame, Producer};
use shm_ring::{ClaimError, RecvError};

use crate::explore::explore;

const CAPACITY: usize = 64;

/// The header word of a frame of 8 bytes at position 80: what an old payload at that place must not be taken for.
const LOOKALIKE: u64 = (80 | 1) << 32 | 8;

/// A payload of one word or more.
fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words(frame: &Frame<'_>) -> Vec<u64> {
    let mut bytes = [0; CAPACITY];
    let len = frame.copy_to(&mut bytes);
    bytes[..len].chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

fn look(consumer: &mut Consumer) -> Option<Vec<u64>> {
    match consumer.try_recv() {
        Ok(frame) => Some(words(&frame)),
        Err(RecvError::Empty) => None,
        Err(other) => panic!("{other}"),
    }
}

/// A ring whose tail and head are both at the beginning of its second lap, and whose memory is full of old frames, one
/// of them with a payload that looks like a header.
fn second_lap() -> (Producer, Consumer) {
    let (mut producer, mut consumer) = spsc(CAPACITY, 0);
    producer.try_send(&bytes(&[LOOKALIKE, LOOKALIKE, LOOKALIKE])).unwrap();
    assert_eq!(look(&mut consumer), Some(vec![LOOKALIKE; 3]));
    producer.try_send(&bytes(&[LOOKALIKE, LOOKALIKE, LOOKALIKE])).unwrap();
    assert_eq!(look(&mut consumer), Some(vec![LOOKALIKE; 3]));
    assert_eq!(look(&mut consumer), None);
    (producer, consumer)
}

/// Looks twice from a thread of its own while `send` runs, then looks for the rest: what is seen is `sent`.
fn race(ring: (Producer, Consumer), send: impl FnOnce(&mut Producer), sent: &[Vec<u64>]) {
    let (mut producer, mut consumer) = ring;
    let receiver = thread::spawn(move || {
        let seen: Vec<_> = (0..2).filter_map(|_| look(&mut consumer)).collect();
        (seen, consumer)
    });
    send(&mut producer);
    let (mut seen, mut consumer) = receiver.join().unwrap();
    seen.extend(std::iter::from_fn(|| look(&mut consumer)));
    assert_eq!(seen, sent);
}

/// A frame is seen whole or not at all, however early the consumer looks.
#[test]
fn a_frame_that_is_seen_is_seen_whole() {
    explore("spsc publication", None, || {
        race(spsc(CAPACITY, 0), |producer| producer.try_send(&bytes(&[1, 2])).unwrap(), &[vec![1, 2]]);
    });
}

/// The bytes behind a frame are an old payload, which is a good header of this very lap: it is never taken for one.
#[test]
fn old_payload_is_never_taken_for_a_header() {
    explore("spsc old payload", None, || {
        race(second_lap(), |producer| producer.try_send(&bytes(&[1])).unwrap(), &[vec![1]]);
    });
}

/// A frame that does not fit before the end goes to the beginning, and is there when the padding says so.
#[test]
fn a_frame_that_wraps_is_there_when_its_padding_is_seen() {
    explore("spsc wrap", None, || {
        let (mut producer, mut consumer) = second_lap();
        for i in 0..3 {
            producer.try_send(&bytes(&[i])).unwrap();
            assert_eq!(look(&mut consumer), Some(vec![i]));
        }
        race((producer, consumer), |producer| producer.try_send(&bytes(&[7, 8, 9])).unwrap(), &[vec![7, 8, 9]]);
    });
}

/// A ring is filled up while it is read: what was accepted arrives, and no header is cleared that is still to be read.
#[test]
fn a_ring_that_is_filled_up_loses_nothing() {
    explore("spsc full", Some(3), || {
        let (mut producer, mut consumer) = spsc(CAPACITY, 16);
        let sender = thread::spawn(move || {
            let sent = (0..4).take_while(|i| match producer.try_send(&bytes(&[*i])) {
                Ok(()) => true,
                Err(ClaimError::Full { .. }) => false,
                Err(other) => panic!("{other}"),
            });
            (sent.count(), producer)
        });
        let mut seen = Vec::from_iter(look(&mut consumer));
        let (sent, producer) = sender.join().unwrap();
        seen.extend(std::iter::from_fn(|| look(&mut consumer)));
        assert!(sent >= 3);
        assert_eq!(seen, (0..sent as u64).map(|i| vec![i]).collect::<Vec<_>>());
        drop(producer);
    });
}

/// Who sees the first frame of a batch sees all of it, and nothing behind it; also over a wrap.
#[test]
fn a_batch_is_seen_whole() {
    explore("spsc batch", None, || {
        let (mut producer, mut consumer) = second_lap();
        for i in 0..2 {
            producer.try_send(&bytes(&[i])).unwrap();
            assert_eq!(look(&mut consumer), Some(vec![i]));
        }
        let receiver = thread::spawn(move || {
            let first = look(&mut consumer);
            if first.is_some() {
                assert_eq!(look(&mut consumer), Some(vec![8]), "half a batch");
                assert_eq!(look(&mut consumer), None, "more than the batch");
            }
            (first, consumer)
        });
        let mut batch = producer.batch();
        batch.try_send(&bytes(&[7])).unwrap();
        batch.try_send(&bytes(&[8])).unwrap();
        assert_eq!(batch.commit(), 2);
        let (first, mut consumer) = receiver.join().unwrap();
        if first.is_none() {
            assert_eq!(look(&mut consumer), Some(vec![7]));
            assert_eq!(look(&mut consumer), Some(vec![8]));
        }
        assert_eq!(look(&mut consumer), None);
    });
}

/// A frame overwrites an older one only after that was read and given back, however tight the ring.
#[test]
fn room_is_used_again_only_after_it_was_given_back() {
    explore("spsc reuse", Some(3), || {
        let (mut producer, mut consumer) = spsc(CAPACITY, 0);
        for i in 0..3 {
            producer.try_send(&bytes(&[i])).unwrap();
        }
        let sender = thread::spawn(move || (producer.try_send(&bytes(&[3])).is_ok(), producer));
        let mut seen = Vec::from_iter(look(&mut consumer));
        let (sent, producer) = sender.join().unwrap();
        seen.extend(std::iter::from_fn(|| look(&mut consumer)));
        assert_eq!(seen.len(), if sent { 4 } else { 3 });
        assert!((0..).zip(&seen).all(|(i, seen)| *seen == [i]), "{seen:?}");
        drop(producer);
    });
}

/// The producer commits, then closes: the consumer receives the frame before it learns of the end.
#[test]
fn a_frame_committed_before_the_close_is_received() {
    explore("spsc close after a frame", Some(3), || {
        let (mut producer, mut consumer) = spsc(CAPACITY, 0);
        let sender = thread::spawn(move || {
            producer.try_send(&bytes(&[1])).unwrap();
            drop(producer);
        });
        assert_eq!(consumer.recv().map(|frame| words(&frame)), Ok(vec![1]));
        assert_eq!(consumer.recv().map(|frame| words(&frame)), Err(RecvError::Closed));
        sender.join().unwrap();
    });
}

/// A frame committed while the consumer falls asleep wakes it. A lost wake-up shows as a deadlock.
#[test]
fn a_consumer_that_falls_asleep_is_woken_by_a_frame() {
    explore("spsc sleep of the consumer", Some(3), || {
        let (mut producer, mut consumer) = spsc(CAPACITY, 0);
        let sender = thread::spawn(move || {
            producer.try_send(&bytes(&[1])).unwrap();
            producer
        });
        assert_eq!(consumer.recv().map(|frame| words(&frame)), Ok(vec![1]));
        drop(sender.join().unwrap());
    });
}

/// Room given back while the producer falls asleep wakes it.
#[test]
fn a_producer_that_falls_asleep_is_woken_by_room() {
    explore("spsc sleep of the producer", Some(3), || {
        let (mut producer, mut consumer) = spsc(CAPACITY, 0);
        for i in 0..3 {
            producer.try_send(&bytes(&[i])).unwrap();
        }
        let receiver = thread::spawn(move || {
            assert_eq!(look(&mut consumer), Some(vec![0]));
            consumer
        });
        producer.send(&bytes(&[3])).unwrap();
        drop(receiver.join().unwrap());
    });
}

/// The producer closes while the consumer falls asleep on an empty ring.
#[test]
fn a_close_wakes_a_consumer_that_falls_asleep() {
    explore("spsc close against a consumer", Some(3), || {
        let (producer, mut consumer) = spsc(CAPACITY, 0);
        let closer = thread::spawn(move || drop(producer));
        assert_eq!(consumer.recv().map(|frame| words(&frame)), Err(RecvError::Closed));
        closer.join().unwrap();
    });
}

/// The consumer closes while the producer falls asleep on a full ring.
#[test]
fn a_close_wakes_a_producer_that_falls_asleep() {
    explore("spsc close against a producer", Some(3), || {
        let (mut producer, consumer) = spsc(CAPACITY, 0);
        for i in 0..3 {
            producer.try_send(&bytes(&[i])).unwrap();
        }
        let closer = thread::spawn(move || drop(consumer));
        assert_eq!(producer.send(&bytes(&[3])), Err(ClaimError::Closed));
        closer.join().unwrap();
    });
}
