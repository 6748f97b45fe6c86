//! Producers and consumers are killed at any moment, and nobody else notices.

use std::collections::HashMap;

use shm_ring::RecvError;

use super::support::role::{Child, line};
use super::{Site, number, numbered, read_numbered, until};

/// How many producers are killed in the test that does so.
const KILLS: u64 = 60;

#[test]
fn seed_03_a_killed_producers_frames_arrive_once_and_in_order_and_others_go_on() {
    let site = Site::new();
    let mut queue = site.create_with(64);
    let survivor = {
        let child = site.child("role_floods");
        child.say(1_000_000);
        child
    };
    let mut next: HashMap<u64, u64> = HashMap::new();
    let mut receive = |queue: &mut shm_ring::mpsc::Queue, frames: usize| {
        for _ in 0..frames {
            let frame = queue.recv().unwrap();
            let (id, i) = read_numbered(frame.bytes());
            let expected = next.entry(id).or_default();
            assert_eq!(i, *expected, "thread {id}");
            *expected += 1;
        }
    };
    for round in 0..KILLS {
        let mut victim = site.child("role_floods");
        victim.say(round);
        assert_eq!(victim.hear(), "open");
        // A different moment each time: after a claim, in a payload, before a commit, asleep for room.
        receive(&mut queue, 50 + (round as usize * 37) % 400);
        victim.kill();
        receive(&mut queue, 50);
    }
    // Every lane of the dead is emptied and given up; the survivor's is not.
    until("one producer is left", || {
        receive(&mut queue, 10);
        queue.producers() == 1
    });
    survivor.kill();
    until("none is left", || {
        let _ = queue.drain(1000, |frame| {
            read_numbered(frame.bytes());
        });
        queue.try_recv().is_err() && queue.producers() == 0
    });
    assert_eq!((queue.try_recv().unwrap_err(), queue.len()), (RecvError::Empty, 0));
    assert_eq!((queue.thrown_out(), queue.rescues()), (0, 0));
}

/// Creates the queue, says so, and receives until it is killed.
#[test]
#[ignore = "a role of a child process"]
fn role_consumes() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let mut queue = site.create_with(16);
    line.say("created");
    while queue.recv().is_ok() {}
}

#[test]
fn seed_03_producers_of_a_killed_consumer_are_told_and_the_next_one_takes_the_name() {
    let site = Site::new();
    for _ in 0..10 {
        let mut consumer: Child = site.child("killed::role_consumes");
        assert_eq!(consumer.hear(), "created");
        let sender = site.open();
        std::thread::scope(|scope| {
            // Sends until told: the ring fills at the latest when the consumer is dead, so it is also woken.
            let sends = scope.spawn(|| (0..).map(|i| sender.send(&numbered(0, i))).find_map(Result::err));
            consumer.kill();
            assert_eq!(sends.join().unwrap(), Some(shm_ring::ClaimError::Closed));
        });
        assert!(site.socket().exists(), "a killed process removes nothing");
        let error = site.options().open(&site.address).unwrap_err();
        assert!(matches!(error, shm_ring::Error::NotFound { .. }), "{error}");
    }
    let mut queue = site.create();
    site.open().send(b"again").unwrap();
    assert_eq!(queue.recv().unwrap().bytes(), b"again");
}

/// Sends some frames and forks nothing: ends in the middle of a claim without unwinding.
#[test]
#[ignore = "a role of a child process"]
fn role_dies_in_a_claim() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let (id, before) = (number(&mut line), number(&mut line));
    let sender = site.open();
    let mut held = sender.claim(96).expect("room");
    for i in 0..before {
        sender.send(&numbered(id, i)).expect("room");
    }
    held.write(&[0xff; 50]);
    line.say("half");
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).expect("our own");
}

#[test]
fn seed_03_frames_behind_a_claim_that_a_dead_producer_held_are_received() {
    let site = Site::new();
    let mut queue = site.create_with(64);
    for id in 0..20 {
        let mut child = site.child("killed::role_dies_in_a_claim");
        child.say(id);
        child.say(id);
        assert_eq!(child.hear(), "half");
        for i in 0..id {
            assert_eq!(read_numbered(queue.recv().unwrap().bytes()), (id, i));
        }
        until("the lane is given up", || {
            assert_eq!(queue.try_recv().map(|_| ()).unwrap_err(), RecvError::Empty);
            queue.producers() == 0
        });
    }
}
