//! Those who are stopped, and those who work with them. Each is there and does nothing until it hears "work"; then it says
//! "working", and at "rest" "resting" again. Everybody checks what he gets; who finds a fault ends.

use std::panic::UnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use shm_ring::mpsc::{MpscLayout, Queue, QueueAddress, QueueOptions};
use shm_ring::spsc::{Consumer, Events, Producer, SpscLayout};
use shm_ring::{Place, SegmentOptions};
use switchboard::prelude::*;
use test_support::child::Line;

use crate::honest::{Answers, EchoClient, EchoServer, SERVICE, open};

/// Where the service is that is stopped.
const STOPPED_SERVICE: &str = "stopped.victim";

/// The queue whose consumer is stopped.
const STOPPED_QUEUE: &str = "stopped/victim";

/// Between two calls or frames: a lane and a ring are full a few milliseconds after their consumer is stopped.
const PACE: Duration = Duration::from_micros(200);

/// Between two looks whether there is to be work again.
const REST: Duration = Duration::from_millis(5);

/// Cells of the lane, and bytes of the ring, of a consumer that is stopped.
const CELLS: u32 = 16;
const RING: usize = 1024;

/// Bytes of a producer's frame: more than a time takes.
const LEN: usize = 64;

/// Whether this process works at the moment.
static WORKS: AtomicBool = AtomicBool::new(false);

/// Hears orders until the parent is gone; then this process ends, whatever its other threads do.
fn obey(mut parent: Line) -> ! {
    parent.say("resting");
    while let Some(order) = parent.hear() {
        let works = order == "work";
        WORKS.store(works, Ordering::Relaxed);
        parent.say(if works { "working" } else { "resting" });
    }
    std::process::exit(0);
}

/// What a working thread does between two calls or frames: at rest it looks now and then whether it is to work.
fn pause() {
    thread::sleep(PACE);
    while !WORKS.load(Ordering::Relaxed) {
        thread::sleep(REST);
    }
}

/// Runs it on a thread; if it panics the process ends, so that the parent notices.
fn spawn(run: impl FnOnce() + Send + UnwindSafe + 'static) {
    thread::spawn(|| {
        if std::panic::catch_unwind(run).is_err() {
            std::process::exit(1);
        }
    });
}

/// Calls for ever: half of the calls wait for a handler that takes its time.
fn call_for_ever(name: &str) {
    let board = Switchboard::from_env().expect("the directory is ours");
    let client = EchoClient::connect(&board, name).expect("it is served");
    for number in 0.. {
        assert_eq!(client.echo(number, number % 2 * 300), Ok(number));
        pause();
    }
}

/// Role: calls from two threads.
pub fn client(parent: Line) {
    (0..2).for_each(|_| spawn(|| call_for_ever(SERVICE)));
    obey(parent);
}

/// Role: a service.
pub fn service(parent: Line) {
    let board = Switchboard::from_env().expect("the directory is ours");
    let serve = board.serve(STOPPED_SERVICE, EchoServer::new(Answers)).workers(2);
    let _running = serve.start().expect("nobody else serves here");
    obey(parent);
}

/// Role: clients of the service that is stopped.
pub fn clients_of_the_service(parent: Line) {
    (0..2).for_each(|_| spawn(|| call_for_ever(STOPPED_SERVICE)));
    obey(parent);
}

/// Role: works at half a frame all the time.
pub fn producer(mut parent: Line) {
    let sender = open();
    parent.say("resting");
    while parent.hear().is_some() {
        let mut claim = sender.claim(LEN).expect("the consumer lives");
        claim.write(&[1; LEN / 2]);
        parent.say("working");
        let Some(_) = parent.hear() else { break };
        claim.write(&[1; LEN / 2]);
        claim.commit();
        parent.say("resting");
    }
    std::process::exit(0);
}

fn stopped_queue() -> QueueAddress {
    STOPPED_QUEUE.parse().expect("it is an address")
}

/// Role: a queue's consumer, who gets its frames in order.
pub fn consumer(parent: Line) {
    let lane = MpscLayout::new(CELLS).expect("a power of two");
    let mut queue: Queue = QueueOptions::new().lane(lane).create(&stopped_queue()).expect("it is ours");
    spawn(move || {
        for number in 0_u64.. {
            assert_eq!(queue.recv().expect("the queue is ours").bytes(), number.to_le_bytes());
        }
    });
    obey(parent);
}

/// Role: the producer of the queue whose consumer is stopped.
pub fn producer_of_the_consumer(parent: Line) {
    spawn(|| {
        let sender = QueueOptions::new().open(&stopped_queue()).expect("somebody receives here");
        for number in 0_u64.. {
            sender.send(&number.to_le_bytes()).expect("a stopped consumer is not a dead one");
            pause();
        }
    });
    obey(parent);
}

fn ring() -> Place {
    let dir = PathBuf::from(std::env::var_os(crate::RUNTIME_DIR).expect("the parent names it"));
    Place::file(dir.join("ring")).expect("a path with a name")
}

/// Role: a ring's consumer, who gets its frames in order.
pub fn ring_consumer(parent: Line) {
    let layout = SpscLayout::new(RING).expect("a power of two");
    let segment = ring().create(layout, 1, &SegmentOptions::new()).expect("the directory is ours");
    let mut consumer = Consumer::attach(&segment, Events::default()).expect("nobody else has");
    spawn(move || {
        for number in 0_u64.. {
            assert_eq!(consumer.recv().expect("the ring is open").bytes(), number.to_le_bytes());
        }
    });
    obey(parent);
}

/// Role: the producer of the ring whose consumer is stopped.
pub fn producer_of_the_ring(parent: Line) {
    let segment = ring().open(&SegmentOptions::new()).expect("the consumer made it");
    let mut producer = Producer::attach(&segment, Events::default()).expect("nobody else has");
    spawn(move || {
        for number in 0_u64.. {
            producer.send(&number.to_le_bytes()).expect("a stopped consumer is not a dead one");
            pause();
        }
    });
    obey(parent);
}
