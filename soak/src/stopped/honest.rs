//! Those who are not stopped, and whose work is timed.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use shm_ring::clock;
use shm_ring::mpsc::{Queue, Sender};
use switchboard::prelude::*;
use test_support::child::Line;

/// Where the service is that is called by whoever is timed.
pub const SERVICE: &str = "stopped.echo";

/// The queue whose consumer is timed.
const QUEUE: &str = "stopped/timed";

/// Between two calls or frames: so that no processor is always busy.
const PACE: Duration = Duration::from_micros(100);

#[service]
pub trait Echo {
    /// Gives back what it is given, after so many microseconds.
    fn echo(&self, ctx: &Context<'_>, number: u64, us: u64) -> Result<u64, Status>;
}

pub struct Answers;

impl Echo for Answers {
    fn echo(&self, _ctx: &Context<'_>, number: u64, us: u64) -> Result<u64, Status> {
        if us > 0 {
            // That it takes time is what it is for.
            thread::sleep(Duration::from_micros(us));
        }
        Ok(number)
    }
}

/// Role: the service of whoever is timed.
pub fn serve(mut parent: Line) {
    let board = Switchboard::from_env().expect("the directory is ours");
    let serve = board.serve(SERVICE, EchoServer::new(Answers)).workers(2);
    let _running = serve.start().expect("nobody else serves here");
    parent.say("serving");
    assert_eq!(parent.hear(), None);
}

/// What was timed in this slice, in nanoseconds.
#[derive(Debug, Default)]
struct Slice(Mutex<Vec<u64>>);

impl Slice {
    fn note(&self, ns: u64) {
        self.0.lock().expect("nobody panics with it").push(ns);
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics with it"))
    }

    /// Answers "begin" by forgetting, and "end" by the 99th percentile; waits for something to be timed, if need be.
    fn obey(&self, mut parent: Line) {
        while let Some(order) = parent.hear() {
            let mut times = self.take();
            while order == "end" && times.is_empty() {
                thread::sleep(PACE);
                times = self.take();
            }
            if order == "end" {
                times.sort_unstable();
                parent.say(times[times.len() * 99 / 100]);
            }
        }
        // Its parent has what it wanted.
        std::process::exit(0);
    }
}

/// Role: one call after the other, each timed.
pub fn call(parent: Line) {
    let board = Switchboard::from_env().expect("the directory is ours");
    let client = EchoClient::connect(&board, SERVICE).expect("it is served");
    let slice = Slice::default();
    parent.say("calling");
    thread::scope(|scope| {
        scope.spawn(|| slice.obey(parent));
        for number in 0.. {
            let sent = Instant::now();
            assert_eq!(client.echo(number, 0), Ok(number));
            slice.note(sent.elapsed().as_nanos() as u64);
            thread::sleep(PACE);
        }
    });
}

/// Role: receives frames that carry the time of their sending.
pub fn consume(parent: Line) {
    let mut queue = Queue::create(QUEUE).expect("nobody else receives here");
    let slice = Slice::default();
    parent.say("receiving");
    thread::scope(|scope| {
        scope.spawn(|| slice.obey(parent));
        loop {
            let frame = queue.recv().expect("the queue is ours");
            // Those who are to be stopped send frames without a time.
            if let Ok(sent_ns) = frame.bytes().try_into() {
                slice.note(clock::now_ns().saturating_sub(u64::from_le_bytes(sent_ns)));
            }
        }
    });
}

/// A producer of the queue that is timed.
pub fn open() -> Sender {
    Queue::open(QUEUE).expect("somebody receives here")
}

/// Role: sends frames that carry the time of their sending.
pub fn produce(parent: Line) {
    let sender = open();
    parent.say("sending");
    loop {
        if sender.send(&clock::now_ns().to_le_bytes()).is_err() {
            // The consumer has been killed: all is measured.
            return;
        }
        thread::sleep(PACE);
    }
}
