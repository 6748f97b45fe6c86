//! The doorbell of a producer that shares no ready set: rings go through a rope and the consumer's watcher thread. A lost
//! wake-up shows as a deadlock, which loom reports.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use shm_ring::cells::Producer;
use shm_ring::model::{WatchWord, ready_set, relay, ring, watch_word};
use shm_ring::ready::{Relay, Ringer};

use crate::doorbell::consume;
use crate::explore::explore;

fn send(producer: &Producer, ringer: &Ringer, watch: &WatchWord) {
    producer.try_claim().unwrap().commit(1, 8, &[7]);
    ringer.announce(watch.watch());
}

/// The watcher thread, until it is told to stop and the rope was pulled once more.
fn pass_on(relay: &Relay, stop: &AtomicBool) {
    loop {
        relay.wait();
        relay.pass();
        // Stored before the last pull: seen by whoever has taken that one in.
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// One lane, `hot` or not, through a relay; the consumer takes `frames` frames and parks in between.
fn lane(name: &'static str, bound: Option<usize>, hot: bool, frames: u32) {
    explore(name, bound, move || {
        let (producer, consumer) = ring(2);
        let (ready, watch) = (ready_set(1), Arc::new(watch_word()));
        let (relay, ringer) = relay(ready.clone(), 0);
        let (ringer, stop) = (Arc::new(ringer), Arc::new(AtomicBool::new(false)));
        if hot {
            watch.watch().heat();
        }
        let sender = {
            let (watch, ringer) = (Arc::clone(&watch), Arc::clone(&ringer));
            thread::spawn(move || (0..frames).for_each(|_| send(&producer, &ringer, &watch)))
        };
        let watcher = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || pass_on(&relay, &stop))
        };
        consume(&ready, &mut [(consumer, watch)], &mut [hot], frames);
        stop.store(true, Ordering::Relaxed);
        ringer.ring();
        sender.join().unwrap();
        watcher.join().unwrap();
    });
}

/// A lane that is polled is cooled while a frame comes: the producer sees COLD and pulls, or the scan sees the frame.
#[test]
fn a_frame_committed_while_the_consumer_parks_reaches_it_by_the_relay() {
    lane("relay hot lane", Some(2), true, 1);
}

/// A lane that was cold before.
#[test]
fn a_cold_lane_wakes_a_parking_consumer_by_the_relay() {
    lane("relay cold lane", Some(2), false, 1);
}

/// The rope is pulled again while the first pull is passed on.
#[test]
fn a_pull_that_comes_while_another_is_passed_on_is_not_forgotten() {
    lane("relay two pulls", Some(2), false, 2);
}
