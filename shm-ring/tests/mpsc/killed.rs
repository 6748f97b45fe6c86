//! A producing process is killed at any moment: what it committed arrives once, in order and whole; then the ring ends.

use shm_ring::mpsc::{Control, Events, MpscLayout, Receiver, Sender};
use shm_ring::{ClaimError, Place, RecvError, Segment, SegmentOptions};

use super::{payload, with_blocks};
use crate::support::backings::fresh_name;
use crate::support::role::{Child, line};

/// How many producers are killed, and consumers.
const KILLS: usize = 60;

const OPTIONS: SegmentOptions = SegmentOptions::new();

/// A ring in shared memory whose name is gone already, and a process in a role at its other end.
fn ring_with(role: &str) -> (Segment<MpscLayout>, Child) {
    let name = fresh_name();
    let place = Place::named(&name).expect("a plain name");
    let made = place.create(with_blocks(16, 1024, 4), 1, &OPTIONS).expect("memory for a test");
    let mut child = Child::start(role);
    child.say(&name);
    let said = child.hear();
    place.remove().expect("what was made can be removed");
    assert_eq!(said, "attached");
    (made, child)
}

fn told() -> Option<(crate::support::role::Line, Segment<MpscLayout>)> {
    let mut line = line()?;
    let place = Place::named(&line.hear().expect("the name")).expect("a plain name");
    let segment = place.open(&OPTIONS).expect("the parent made it");
    Some((line, segment))
}

/// Small frames and large ones, alone and in batches, from two threads, for ever.
#[test]
#[ignore = "a role of a child process"]
fn role_floods_a_ring() {
    let Some((line, segment)) = told() else { return };
    let sender = Sender::attach(&segment, Events::default()).expect("nobody has attached");
    line.say("attached");
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let sender = sender.clone();
            scope.spawn(move || {
                let mut i = 0;
                loop {
                    if i % 7 == 3 && !(i..i + 3).any(is_large) {
                        let mut batch = sender.batch(3).expect("the consumer lives");
                        (0..3).for_each(|k| batch.try_send(&frame(thread, i + k)).expect("small ones fit"));
                        batch.commit();
                        i += 3;
                    } else {
                        sender.send(&frame(thread, i)).expect("the consumer lives");
                        i += 1;
                    }
                }
            });
        }
    });
}

/// Goes through the arena.
fn is_large(i: u64) -> bool {
    i % 77 == 11
}

/// Of various lengths.
fn frame(thread: u64, i: u64) -> Vec<u8> {
    let len = if is_large(i) { 1000 } else { 16 + (i % 100) as usize };
    let mut frame = payload(i as usize, len);
    frame[..8].copy_from_slice(&thread.to_le_bytes());
    frame[8..16].copy_from_slice(&i.to_le_bytes());
    frame
}

#[test]
fn seed_03_what_killed_producers_committed_arrives_once_and_the_ring_ends() {
    for round in 0..KILLS {
        let (segment, child) = ring_with("killed::role_floods_a_ring");
        let mut receiver = Receiver::attach(&segment, Events::default()).unwrap();
        let control = Control::over(&segment, Events::default());
        let mut next = [0; 2];
        let mut check = |bytes: &[u8]| {
            let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            let (thread, i) = (word(0), word(8));
            assert_eq!(i, next[thread as usize], "thread {thread}");
            assert_eq!(bytes, frame(thread, i), "torn");
            next[thread as usize] += 1;
        };
        // A different moment each time; in some rounds the producers have filled the ring and sleep.
        for _ in 0..(round * 53) % 500 {
            check(receiver.recv().unwrap().bytes());
        }
        child.kill();
        control.producers_died();
        let end = loop {
            match receiver.recv() {
                Ok(frame) => check(frame.bytes()),
                Err(end) => break end,
            }
        };
        assert_eq!(end, RecvError::Closed);
        assert_eq!((receiver.len(), control.stats().consumer.rescues), (0, 0));
    }
}

/// Receives until it is killed.
#[test]
#[ignore = "a role of a child process"]
fn role_receives_from_a_ring() {
    let Some((line, segment)) = told() else { return };
    let mut receiver = Receiver::attach(&segment, Events::default()).expect("nobody has attached");
    line.say("attached");
    while receiver.recv().is_ok() {}
}

#[test]
fn seed_03_producers_of_a_killed_consumer_are_told_even_asleep() {
    for _ in 0..KILLS / 4 {
        let (segment, child) = ring_with("killed::role_receives_from_a_ring");
        let sender = Sender::attach(&segment, Events::default()).unwrap();
        std::thread::scope(|scope| {
            let blocked: Vec<_> = (0..2)
                .map(|thread| {
                    let sender = sender.clone();
                    scope.spawn(move || (0..).map(|i| sender.send(&frame(thread, i))).find_map(Result::err))
                })
                .collect();
            child.kill();
            Control::over(&segment, Events::default()).consumer_died();
            for thread in blocked {
                assert_eq!(thread.join().unwrap(), Some(ClaimError::Closed));
            }
        });
    }
}
