//! The doorbell of many lanes: no frame is committed that a parked consumer does not learn of. A lost wake-up shows as
//! a deadlock, which loom reports.

use std::sync::Arc;

use loom::thread;
use shm_ring::cells::{BODY_WORDS, Consumer, Producer};
use shm_ring::model::{WatchWord, park_on_event, ready_set, ready_set_with_event, ring, watch_word};
use shm_ring::ready::{Park, Rang, ReadySet};

use crate::explore::explore;

fn send(producer: &Producer, ready: &ReadySet, lane: u32, watch: &WatchWord) {
    producer.try_claim().unwrap().commit(1, 8, &[7]);
    ready.announce(lane, watch.watch());
}

fn scan(consumer: &mut Consumer) -> Option<u64> {
    let mut body = [0; BODY_WORDS];
    consumer.scan(&mut body).unwrap().map(|_| body[0])
}

/// What a service's polling worker does with its lanes, without the handlers: takes `frames` frames, parking whenever
/// it finds nothing.
pub(crate) fn consume(ready: &ReadySet, lanes: &mut [(Consumer, Arc<WatchWord>)], hot: &mut [bool], frames: u32) {
    let mut taken = 0;
    while taken < frames {
        ready.awake();
        let mut announced = Vec::new();
        ready.take_ready(ready.lanes(), |lane| announced.push(lane));
        for lane in announced {
            lanes[lane as usize].1.watch().heat();
            hot[lane as usize] = true;
        }
        let mut found = false;
        for ((consumer, _), hot) in lanes.iter_mut().zip(&*hot) {
            if *hot && scan(consumer).is_some() {
                taken += 1;
                found = true;
            }
        }
        if found {
            continue;
        }
        let cooled = hot.to_vec();
        let watches: Vec<_> = lanes.iter().map(|(_, watch)| Arc::clone(watch)).collect();
        let parked = ready.park(
            || {
                for (watch, _) in watches.iter().zip(&cooled).filter(|(_, hot)| **hot) {
                    watch.watch().cool();
                }
            },
            || {
                let mut hot_lanes = lanes.iter_mut().enumerate().filter(|(i, _)| cooled[*i]);
                hot_lanes.find_map(|(i, (consumer, _))| scan(consumer).map(|_| i))
            },
        );
        hot.fill(false);
        match parked {
            Park::Found(i) => {
                taken += 1;
                watches[i].watch().heat();
                hot[i] = true;
            }
            Park::Ready => {}
            Park::Sleep(bell) => {
                ready.sleep(bell, None);
            }
        }
    }
}

/// A lane that is polled is cooled while a frame comes: the producer sees COLD, or the scan sees the frame.
#[test]
fn a_frame_committed_while_the_consumer_parks_is_found() {
    explore("doorbell hot lane", None, || {
        let (producer, consumer) = ring(1);
        let (ready, watch) = (ready_set(1), Arc::new(watch_word()));
        watch.watch().heat();
        let sender = {
            let (ready, watch) = (ready.clone(), Arc::clone(&watch));
            thread::spawn(move || send(&producer, &ready, 0, &watch))
        };
        consume(&ready, &mut [(consumer, watch)], &mut [true], 1);
        sender.join().unwrap();
    });
}

/// A lane that was cold before: the producer sets its bit, and the consumer sees the bit or is woken.
#[test]
fn a_cold_lane_wakes_a_parking_consumer() {
    explore("doorbell cold lane", None, || {
        let (producer, consumer) = ring(1);
        let (ready, watch) = (ready_set(1), Arc::new(watch_word()));
        let sender = {
            let (ready, watch) = (ready.clone(), Arc::clone(&watch));
            thread::spawn(move || send(&producer, &ready, 0, &watch))
        };
        consume(&ready, &mut [(consumer, watch)], &mut [false], 1);
        sender.join().unwrap();
    });
}

/// Two lanes, one polled and one not.
#[test]
fn two_lanes_lose_no_wakeup_to_each_other() {
    explore("doorbell two lanes", Some(2), || {
        let ready = ready_set(2);
        let mut lanes = Vec::new();
        let mut senders = Vec::new();
        for lane in 0..2 {
            let (producer, consumer) = ring(1);
            let watch = Arc::new(watch_word());
            if lane == 0 {
                watch.watch().heat();
            }
            let (ready, seen) = (ready.clone(), Arc::clone(&watch));
            senders.push(thread::spawn(move || send(&producer, &ready, lane, &seen)));
            lanes.push((consumer, watch));
        }
        consume(&ready, &mut lanes, &mut [true, false], 2);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// The consumer is about to park, finds a frame, and looks at the bits once more before it runs a handler: a producer
/// that still took it for asleep, and so will not ring again, is seen.
#[test]
fn whoever_rang_for_a_sleeper_is_seen_by_the_consumer_that_wakes_up() {
    explore("doorbell awake against announce", None, || {
        let (producer, _consumer) = ring(1);
        let (ready, watch) = (ready_set(1), Arc::new(watch_word()));
        let sender = {
            let (ready, watch) = (ready.clone(), Arc::clone(&watch));
            thread::spawn(move || {
                producer.try_claim().unwrap().commit(1, 8, &[7]);
                ready.announce(0, watch.watch())
            })
        };
        assert!(matches!(ready.park(|| (), || Some(())), Park::Found(())));
        let seen = ready.any_ready(1);
        let rang = sender.join().unwrap();
        assert!(seen || rang == Rang::No, "rang, and was not seen");
    });
}

/// A worker is in a handler with the role in its hands; a caller that lost patience rings; a standby takes the frame.
#[test]
fn a_ring_brings_a_standby_to_an_untaken_frame() {
    explore("doorbell ring for a standby", None, || {
        let (producer, mut consumer) = ring(1);
        let ready = ready_set(1);
        let caller = {
            let ready = ready.clone();
            thread::spawn(move || {
                producer.try_claim().unwrap().commit(1, 8, &[7]);
                ready.ring(0);
            })
        };
        // The standby: reads the bell, looks at the bits, sleeps with the value read.
        loop {
            let bell = ready.bell();
            let mut announced = false;
            ready.take_ready(1, |_| announced = true);
            if announced {
                break;
            }
            ready.sleep(bell, None);
        }
        assert_eq!(scan(&mut consumer), Some(7));
        caller.join().unwrap();
    });
}

/// The consumer waits in an event loop: its eventfd becomes readable for a lane that it polled until now, and for one
/// that it did not.
#[test]
fn a_frame_makes_the_descriptor_of_a_parked_consumer_readable() {
    for hot in [true, false] {
        explore("doorbell eventfd", None, move || {
            let (producer, mut consumer) = ring(1);
            let ((ready, event), watch) = (ready_set_with_event(1), Arc::new(watch_word()));
            if hot {
                watch.watch().heat();
            }
            let sender = {
                let (ready, watch) = (ready.clone(), Arc::clone(&watch));
                thread::spawn(move || send(&producer, &ready, 0, &watch))
            };
            let cool = || {
                if hot {
                    watch.watch().cool()
                }
            };
            let look = |consumer: &mut Consumer| if hot { scan(consumer) } else { None };
            match park_on_event(&ready, cool, || look(&mut consumer)) {
                Park::Found(frame) => assert_eq!(frame, 7),
                Park::Ready => assert_eq!(scan(&mut consumer), Some(7)),
                Park::Sleep(_) => {
                    event.wait();
                    ready.awake();
                    let mut announced = false;
                    ready.take_ready(1, |_| announced = true);
                    assert!(announced, "readable for nothing");
                    assert_eq!(scan(&mut consumer), Some(7));
                }
            }
            sender.join().unwrap();
        });
    }
}
