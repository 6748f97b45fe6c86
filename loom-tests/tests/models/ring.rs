//! The cell ring: publication, claims that race, held claims, "taken".

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;
use shm_ring::cells::{BODY_WORDS, Consumer, Refused};
use shm_ring::model::ring;

use crate::explore::explore;

fn take(consumer: &mut Consumer) -> Option<[u64; 2]> {
    let mut body = [0; BODY_WORDS];
    consumer.try_take(&mut body).unwrap().map(|_| [body[0], body[1]])
}

fn scan(consumer: &mut Consumer) -> Option<[u64; 2]> {
    let mut body = [0; BODY_WORDS];
    consumer.scan(&mut body).unwrap().map(|_| [body[0], body[1]])
}

/// A frame is seen whole or not at all, however early the consumer looks.
///
/// The consumer is the spawned thread: loom remembers one last access per word, so it would not see the race between a
/// look and a commit that follows the same thread's own look at the cell.
#[test]
fn a_frame_that_is_seen_is_seen_whole() {
    explore("ring publication", None, || {
        let (producer, mut consumer) = ring(1);
        let receiver = thread::spawn(move || (take(&mut consumer), consumer));
        producer.try_claim().unwrap().commit(1, 16, &[1, 10]);
        let (early, mut consumer) = receiver.join().unwrap();
        assert_eq!(early.or_else(|| take(&mut consumer)), Some([1, 10]));
        assert_eq!(take(&mut consumer), None);
    });
}

/// Two frames through one cell: the second does not overwrite the first before it was read.
#[test]
fn a_cell_is_written_again_only_after_it_was_read() {
    explore("ring reuse of a cell", None, || {
        let (producer, mut consumer) = ring(1);
        producer.try_claim().unwrap().commit(1, 16, &[1, 10]);
        let sender = thread::spawn(move || match producer.try_claim() {
            Ok(mut claim) => Some(claim.commit(1, 16, &[2, 20])),
            Err(refused) => {
                assert_eq!(refused, Refused::Full);
                None
            }
        });
        assert_eq!(take(&mut consumer), Some([1, 10]));
        let second = take(&mut consumer);
        let sent = sender.join().unwrap();
        assert_eq!(second.or_else(|| take(&mut consumer)), sent.map(|_| [2, 20]));
    });
}

/// Two threads claim at once: each frame arrives once, whole.
#[test]
fn racing_claims_get_different_cells() {
    explore("ring claim race", Some(3), || {
        let (producer, mut consumer) = ring(2);
        let producer = Arc::new(producer);
        let senders: Vec<_> = (1..=2)
            .map(|i| {
                let producer = Arc::clone(&producer);
                thread::spawn(move || producer.try_claim().unwrap().commit(1, 16, &[i, i * 10]))
            })
            .collect();
        let mut seen = Vec::new();
        seen.extend(scan(&mut consumer));
        let positions: Vec<_> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        assert_ne!(positions[0], positions[1]);
        while let Some(frame) = scan(&mut consumer) {
            seen.push(frame);
        }
        seen.sort_unstable();
        assert_eq!(seen, [[1, 10], [2, 20]]);
    });
}

/// One thread commits two frames in order while another holds a claim before them: a scan never gives the second first.
#[test]
fn a_scan_past_a_held_claim_keeps_the_order() {
    explore("ring scan order", Some(3), || {
        let (producer, mut consumer) = ring(4);
        let producer = Arc::new(producer);
        let held = Arc::clone(&producer);
        let aborter = thread::spawn(move || drop(held.try_claim().unwrap()));
        let sender = thread::spawn(move || {
            for i in 1..=2 {
                producer.try_claim().unwrap().commit(1, 16, &[i, i * 10]);
            }
        });
        let mut seen = Vec::new();
        seen.extend(scan(&mut consumer));
        aborter.join().unwrap();
        sender.join().unwrap();
        while let Some(frame) = scan(&mut consumer) {
            seen.push(frame);
        }
        assert_eq!(seen, [[1, 10], [2, 20]]);
    });
}

/// The rule behind `NotRun`: once any effect of the handler is visible, the caller's own cell is not committed any more.
#[test]
fn whoever_sees_an_effect_of_a_handler_sees_its_frame_taken() {
    explore("ring taken before effect", None, || {
        let (producer, mut consumer) = ring(1);
        let effect = Arc::new(AtomicU64::new(0));
        let position = producer.try_claim().unwrap().commit(1, 16, &[1, 10]);
        let seen = Arc::clone(&effect);
        let server = thread::spawn(move || {
            assert_eq!(take(&mut consumer), Some([1, 10]));
            effect.store(1, Ordering::Relaxed); // the handler
        });
        if seen.load(Ordering::Relaxed) == 1 {
            fence(Ordering::Acquire);
            assert!(!producer.is_untaken(position), "it ran, and would be called not run");
        }
        server.join().unwrap();
        assert!(!producer.is_untaken(position));
    });
}
