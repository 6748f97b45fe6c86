//! The mpsc ring: publication, claims that race, held claims, closing, sleep and wake.

use loom::thread;
use shm_ring::model::mpsc;
use shm_ring::mpsc::{Receiver, Sender};
use shm_ring::{ClaimError, RecvError};

use crate::explore::explore;

/// Sixteen bytes, so that a torn frame shows.
fn send(sender: &Sender, i: u64) -> Result<(), ClaimError> {
    sender.try_send(&frame(i))
}

fn frame(i: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&i.to_le_bytes());
    bytes[8..].copy_from_slice(&(i * 10).to_le_bytes());
    bytes
}

fn read(frame: &shm_ring::mpsc::Frame<'_>) -> u64 {
    let mut bytes = [0; 16];
    assert_eq!(frame.copy_to(&mut bytes), 16);
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(word(8), word(0) * 10, "torn");
    word(0)
}

fn look(receiver: &mut Receiver) -> Option<u64> {
    match receiver.try_recv() {
        Ok(frame) => Some(read(&frame)),
        Err(RecvError::Empty) => None,
        Err(other) => panic!("{other}"),
    }
}

fn rest(receiver: &mut Receiver) -> Vec<u64> {
    std::iter::from_fn(|| look(receiver)).collect()
}

/// A frame is seen whole or not at all, however early the consumer looks. At the end of the counts.
///
/// The consumer is the spawned thread: loom remembers one last access per word, so it would not see the race between a
/// look and a commit that follows the same thread's own look at the cell.
#[test]
fn a_frame_that_is_seen_is_seen_whole() {
    explore("mpsc publication", None, || {
        let (sender, mut receiver) = mpsc(1, u64::MAX);
        let looks = thread::spawn(move || (look(&mut receiver), receiver));
        send(&sender, 1).unwrap();
        let (early, mut receiver) = looks.join().unwrap();
        assert_eq!(early.or_else(|| look(&mut receiver)), Some(1));
        assert_eq!(look(&mut receiver), None);
    });
}

/// Two frames through one cell: the second does not overwrite the first before it was read.
#[test]
fn a_cell_is_claimed_again_only_after_it_was_given_back() {
    explore("mpsc reuse of a cell", None, || {
        let (sender, mut receiver) = mpsc(1, 0);
        send(&sender, 1).unwrap();
        let sends = thread::spawn(move || match send(&sender, 2) {
            Ok(()) => (true, sender),
            Err(ClaimError::Full { .. }) => (false, sender),
            Err(other) => panic!("{other}"),
        });
        assert_eq!(look(&mut receiver), Some(1));
        let mut seen = Vec::from_iter(look(&mut receiver));
        let (sent, _sender) = sends.join().unwrap();
        seen.extend(rest(&mut receiver));
        assert_eq!(seen, if sent { vec![2] } else { vec![] });
    });
}

/// Two threads claim at once, with room for one: one gets it, the other is told that the ring is full.
#[test]
fn racing_claims_get_different_cells() {
    explore("mpsc claim race", Some(3), || {
        let (sender, mut receiver) = mpsc(2, 0);
        send(&sender, 1).unwrap();
        let senders: Vec<_> = (2..=3)
            .map(|i| {
                let sender = sender.clone();
                thread::spawn(move || match send(&sender, i) {
                    Ok(()) => Some(i),
                    Err(ClaimError::Full { .. }) => None,
                    Err(other) => panic!("{other}"),
                })
            })
            .collect();
        let mut seen = Vec::from_iter(look(&mut receiver));
        let sent: Vec<_> = senders.into_iter().filter_map(|sender| sender.join().unwrap()).collect();
        seen.extend(rest(&mut receiver));
        assert!(!sent.is_empty(), "there was room for one");
        seen[1..].sort_unstable();
        assert_eq!(seen, [&[1], &sent[..]].concat());
        assert_eq!((sender.len(), receiver.len()), (0, 0));
    });
}

/// One thread commits two frames in order while another holds a claim before them: the second never comes first.
#[test]
fn a_search_past_a_held_claim_keeps_the_order() {
    explore("mpsc search order", Some(3), || {
        let (sender, mut receiver) = mpsc(4, 0);
        let other = sender.clone();
        let aborts = thread::spawn(move || drop(other.try_claim(8).unwrap()));
        let sends = thread::spawn(move || {
            send(&sender, 1).unwrap();
            send(&sender, 2).unwrap();
            sender
        });
        let mut seen = Vec::from_iter(look(&mut receiver));
        aborts.join().unwrap();
        let _sender = sends.join().unwrap();
        seen.extend(rest(&mut receiver));
        assert_eq!(seen, [1, 2]);
    });
}

/// A consumer falls asleep while a frame is committed behind a claim that another thread holds.
#[test]
fn a_consumer_that_falls_asleep_is_woken_by_a_frame_behind_a_held_claim() {
    explore("mpsc consumer asleep", Some(3), || {
        let (sender, mut receiver) = mpsc(2, 0);
        let held = sender.try_claim(8).unwrap();
        let other = sender.clone();
        let sends = thread::spawn(move || {
            send(&other, 1).unwrap();
            other
        });
        assert_eq!(receiver.recv().map(|frame| read(&frame)), Ok(1));
        drop(held);
        let _other = sends.join().unwrap();
        assert_eq!(look(&mut receiver), None);
    });
}

/// Two producers wait for the one cell: each gets it once it is given back, though only one is woken each time.
#[test]
fn producers_that_sleep_for_room_are_woken_one_after_the_other() {
    explore("mpsc producers asleep", Some(1), || {
        let (sender, mut receiver) = mpsc(1, 0);
        send(&sender, 1).unwrap();
        let senders: Vec<_> = (2..=3)
            .map(|i| {
                let sender = sender.clone();
                thread::spawn(move || sender.send(&frame(i)).unwrap())
            })
            .collect();
        // On a thread of its own, so that it may come last.
        let receives = thread::spawn(move || {
            let seen: Vec<_> = (0..2).map(|_| read(&receiver.recv().unwrap())).collect();
            (seen, receiver)
        });
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let (mut seen, mut receiver) = receives.join().unwrap();
        seen.extend(rest(&mut receiver));
        seen[1..].sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    });
}

/// A close meets a consumer that falls asleep.
#[test]
fn a_close_wakes_a_consumer_that_falls_asleep() {
    explore("mpsc close against consumer", Some(3), || {
        let (sender, mut receiver) = mpsc(1, 0);
        let closes = thread::spawn(move || {
            sender.close();
            sender
        });
        assert_eq!(receiver.recv().map(|_| ()), Err(RecvError::Closed));
        closes.join().unwrap();
    });
}

/// A close meets a producer that falls asleep for room.
#[test]
fn a_close_wakes_a_producer_that_falls_asleep() {
    explore("mpsc close against producer", Some(3), || {
        let (sender, mut receiver) = mpsc(1, 0);
        send(&sender, 1).unwrap();
        let sends = thread::spawn(move || (sender.send(&frame(2)), sender));
        receiver.close();
        let (sent, _sender) = sends.join().unwrap();
        assert_eq!(sent, Err(ClaimError::Closed));
        assert_eq!(look(&mut receiver), Some(1));
        assert_eq!(receiver.recv().map(|_| ()), Err(RecvError::Closed));
    });
}

/// A claim races the close: it is refused, or its frame is received before the end.
#[test]
fn a_claim_is_before_the_close_or_refused() {
    explore("mpsc claim against close", Some(3), || {
        let (sender, mut receiver) = mpsc(1, 0);
        let sends = thread::spawn(move || (send(&sender, 1), sender));
        receiver.close();
        let early = receiver.recv().map(|frame| read(&frame));
        let (sent, _sender) = sends.join().unwrap();
        assert_eq!(early.is_ok(), sent.is_ok());
        assert_eq!(receiver.recv().map(|_| ()), Err(RecvError::Closed));
    });
}
