//! A process is killed at any moment: the survivor receives what was committed, whole and once, and then the end.

use shm_ring::spsc::{Consumer, Control, End, Events, Producer};
use shm_ring::{ClaimError, RecvError};

use super::shared::{Shared, told};
use super::support::role::line;
use super::{payload, with_blocks};

/// Bytes of the ring: room for some ten frames.
const CAPACITY: usize = 1024;

/// Lengths that make frames wrap at every offset; some go through the arena.
fn len_of(i: usize) -> usize {
    if i % 13 == 12 { 600 } else { (i * 37) % 150 }
}

fn shared() -> Shared {
    Shared::new(with_blocks(CAPACITY, 640, 3))
}

/// Receives all that is left after the producer's death: frames `from..`, then the end. Gives the number behind the last.
fn drain_the_dead(consumer: &mut Consumer, from: usize) -> usize {
    consumer.control().producer_died();
    for i in from.. {
        match consumer.recv() {
            Ok(frame) => assert_eq!(frame.bytes(), payload(i, len_of(i)), "frame {i}"),
            Err(end) => {
                assert_eq!(end, RecvError::Closed);
                return i;
            }
        }
    }
    unreachable!("a ring ends")
}

/// Sends as many frames as it is told, goes on to the point that it is told, says so, and waits to be killed there.
#[test]
#[ignore = "a role of a child process"]
fn role_stops_at_a_point() {
    let Some(mut line) = line() else { return };
    let mut producer = Producer::attach(&told(&mut line), Events::default()).expect("nobody has attached");
    let frames: usize = line.hear().expect("a number").parse().expect("a number");
    let point = line.hear().expect("a point");
    (0..frames).for_each(|i| producer.try_send(&payload(i, len_of(i))).expect("room"));
    let garbage = [0xee; 600];
    // Nothing is committed any more, whatever is under way when the process ends.
    match &point[..] {
        "before_claim" => {}
        "after_claim" => std::mem::forget(producer.try_claim(100).expect("room")),
        "mid_write" => {
            let mut claim = producer.try_claim(100).expect("room");
            claim.write(&garbage[..50]);
            std::mem::forget(claim);
        }
        "before_commit" => {
            let mut claim = producer.try_claim(100).expect("room");
            claim.write(&garbage[..100]);
            std::mem::forget(claim);
        }
        "in_a_block" => {
            let mut claim = producer.try_claim(600).expect("room");
            claim.write(&garbage);
            std::mem::forget(claim);
        }
        "in_a_batch" => {
            let mut batch = producer.batch();
            batch.try_send(&garbage[..30]).expect("room");
            batch.try_send(&garbage).expect("room");
            batch.try_send(&garbage[..30]).expect("room");
            std::mem::forget(batch);
        }
        other => panic!("no point is called {other}"),
    }
    line.say("here");
    line.hear();
}

/// A producer that is killed at this point leaves what it committed, whatever else the ring held.
fn killed_at(point: &str) {
    for frames in [0, 1, 4, 7] {
        let shared = shared();
        let mut consumer = shared.consumer();
        let mut child = shared.child("killed::role_stops_at_a_point");
        child.say(frames);
        child.say(point);
        assert_eq!(child.hear(), "here");
        child.kill();
        assert_eq!(drain_the_dead(&mut consumer, 0), frames, "{point} after {frames}");
        let stats = consumer.control().stats();
        assert_eq!((stats.producer.end, stats.frames, stats.used), (End::Died, 0, 0));
    }
}

/// A producer killed before a claim leaves what it committed, and then the ring ends.
#[test]
fn kill_before_claim() {
    killed_at("before_claim");
}

/// A producer killed while it writes a payload, in the ring or in a block: that frame is absent, everything earlier is
/// received.
#[test]
fn kill_mid_payload_write() {
    ["after_claim", "mid_write", "in_a_block"].into_iter().for_each(killed_at);
}

/// A producer killed when a payload is complete and its header is not there yet: the frame is absent, and so is a batch.
#[test]
fn kill_after_payload_before_header() {
    ["before_commit", "in_a_batch"].into_iter().for_each(killed_at);
}

/// Sends numbered frames until it is killed.
#[test]
#[ignore = "a role of a child process"]
fn role_floods() {
    let Some(mut line) = line() else { return };
    let mut producer = Producer::attach(&told(&mut line), Events::default()).expect("nobody has attached");
    for i in 0.. {
        producer.send(&payload(i, len_of(i))).expect("the consumer lives");
    }
}

#[test]
fn seed_03_a_producer_killed_at_any_moment_leaves_whole_frames_in_order() {
    for round in 0..60 {
        let shared = shared();
        let mut consumer = shared.consumer();
        let child = shared.child("killed::role_floods");
        // A different moment each time: polling for room, asleep, in a copy, between two stores of a publication.
        let before = 1 + (round * 131) % 1500;
        for i in 0..before {
            assert_eq!(consumer.recv().unwrap().bytes(), payload(i, len_of(i)), "frame {i}");
        }
        child.kill();
        assert!(drain_the_dead(&mut consumer, before) >= before);
    }
}

/// Receives until it is killed.
#[test]
#[ignore = "a role of a child process"]
fn role_receives() {
    let Some(mut line) = line() else { return };
    let mut consumer = Consumer::attach(&told(&mut line), Events::default()).expect("nobody has attached");
    line.say("attached");
    for i in 0.. {
        assert_eq!(consumer.recv().expect("the producer lives").bytes(), payload(i, len_of(i)), "frame {i}");
    }
}

#[test]
fn seed_03_a_producer_whose_consumer_is_killed_is_told_even_in_its_sleep() {
    for round in 0..20 {
        let shared = shared();
        let mut producer = Producer::attach(&shared.segment, Events::default()).expect("nobody has attached");
        let control = Control::over(&shared.segment, Events::default());
        let mut child = shared.child("killed::role_receives");
        assert_eq!(child.hear(), "attached");
        std::thread::scope(|scope| {
            let sends = scope.spawn(|| {
                (0..).map(|i| producer.send(&payload(i, len_of(i)))).find_map(Result::err).expect("a ring ends")
            });
            while control.stats().received < round * 40 {
                std::thread::yield_now();
            }
            child.kill();
            control.consumer_died();
            assert_eq!(sends.join().expect("no panic"), ClaimError::Closed);
        });
        // Nobody takes the dead one's place.
        assert!(Consumer::attach(&shared.segment, Events::default()).is_err());
    }
}
