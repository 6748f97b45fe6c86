//! Processes that cannot answer, or never will.

use nix::sys::signal::Signal;
use shm_ring::Error;
use shm_ring::inspect::{self, Life, Onlooker};
use shm_ring::spsc::{Consumer, SpscLayout};
use shm_ring::{Events, SegmentOptions};

use super::support::role::{Child, line};
use super::{Named, Site, found, only_lane, only_spsc, signal, stop, told_ring};

#[test]
fn the_queue_of_a_stopped_consumer_can_be_looked_at_and_goes_on_afterwards() {
    let site = Site::new();
    let mut consumer = site.child("figures::role_queue_consumer");
    assert_eq!(consumer.hear(), "created");
    let sender = site.options().open(&site.address).unwrap();
    stop(&consumer);
    for _ in 0..40 {
        sender.try_send(b"while it stands still").unwrap();
    }
    for _ in 0..3 {
        let report = site.look();
        assert_eq!((report.consumer, report.len(), report.received()), (Life::Stopped, 40, 0));
        assert_eq!(only_lane(&report).producer.pid, std::process::id());
    }
    assert_eq!(found(consumer.pid()).len(), 2, "its ready set and its lane");
    signal(&consumer, Signal::SIGCONT);
    consumer.say(40);
    assert_eq!(consumer.hear(), "0 1");
    assert_eq!((site.look().consumer, site.look().received()), (Life::Running, 40));
}

/// Receives one frame of the named ring and never comes back from it.
#[test]
#[ignore = "a role of a child process"]
fn role_hangs() {
    let Some(mut line) = line() else { return };
    let mut consumer = Consumer::attach(&told_ring(&mut line), Events::default()).expect("nobody has it");
    let _frame = consumer.recv().expect("the producer lives");
    line.say("hangs");
    loop {
        std::hint::spin_loop();
    }
}

#[test]
fn the_ring_of_a_process_that_hangs_shows_where() {
    let named = Named::new();
    let segment = named.0.create(SpscLayout::new(4096).unwrap(), 1, &SegmentOptions::new()).unwrap();
    let mut producer = shm_ring::spsc::Producer::attach(&segment, Events::default()).unwrap();
    let mut hangs = Child::start("standstill::role_hangs");
    hangs.say(named.0.path().display());
    for _ in 0..7 {
        producer.try_send(&[1; 40]).unwrap();
    }
    assert_eq!(hangs.hear(), "hangs");
    let seen = only_spsc(hangs.pid());
    // The frame that it reads is not given back.
    assert_eq!((seen.sent, seen.received, seen.frames, seen.used), (7, 0, 7, 7 * 48));
    assert_eq!((seen.consumer.pid, Life::of(hangs.pid())), (hangs.pid(), Life::Running));
}

#[test]
fn what_a_killed_process_left_under_a_name_can_be_looked_at() {
    let named = Named::new();
    let segment = named.0.create(SpscLayout::new(4096).unwrap(), 1, &SegmentOptions::new()).unwrap();
    let mut hangs = Child::start("standstill::role_hangs");
    hangs.say(named.0.path().display());
    shm_ring::spsc::Producer::attach(&segment, Events::default()).unwrap().try_send(b"last").unwrap();
    assert_eq!(hangs.hear(), "hangs");
    let pid = hangs.pid();
    hangs.kill();
    drop(segment);
    let report = Onlooker::at(&named.0).unwrap().look().unwrap();
    assert!(report.to_string().contains(&format!(" consumer={pid} consumer_end=attached ")), "{report}");
    assert_eq!(Life::of(pid), Life::Dead);
    assert!(matches!(inspect::process(pid), Err(Error::NoProcess { pid: told }) if told == pid));
}

#[test]
fn a_queue_whose_consumer_was_killed_is_seen_as_long_as_a_producer_has_it_open() {
    let site = Site::new();
    let mut consumer = site.child("figures::role_queue_consumer");
    assert_eq!(consumer.hear(), "created");
    let mut producer = site.child("figures::role_queue_producer");
    assert_eq!(producer.hear(), "open");
    producer.say(9);
    assert_eq!(producer.hear(), "sent");
    let pid = consumer.pid();
    consumer.kill();
    let report = site.look();
    assert_eq!((report.consumer, report.ready.queue.consumer, report.lanes.len()), (Life::Dead, pid, 1));
    assert_eq!((only_lane(&report).committed, report.lanes[0].producer), (9, Life::Running));
    producer.kill();
    assert!(matches!(site.options().inspect(&site.address), Err(Error::NotFound { .. })));
}
