//! A process at the rim: some threads that call or send until they are killed or told to end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use test_support::child::Line;

use crate::log::Log;

/// Threads of each such process.
pub const THREADS: usize = 2;

/// Number of the process, in its environment: no two processes of a run have the same.
pub const SERIAL: &str = "SOAK_SERIAL";

/// Bits of a call's or frame's number below that of its thread.
pub const THREAD_SHIFT: u32 = 28;

/// Bits of a call's or frame's number below that of its process.
const SERIAL_SHIFT: u32 = 32;

/// After a hub is there again everybody has done something more within this time.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// This process's number.
pub fn serial() -> u64 {
    std::env::var(SERIAL).expect("a process of the soak has a number").parse().expect("it is a number")
}

/// What a thread of the gang works with.
#[derive(Debug)]
pub struct Member<'a> {
    pub log: &'a Log,
    /// The number of its first call or frame.
    pub first: u64,
    stop: &'a AtomicBool,
    done: &'a AtomicU64,
}

impl Member<'_> {
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Counts what went well.
    pub fn did_one(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Lets all threads work until the parent says "end", then says "ended" and waits to be killed, holding nothing. At
/// "settle" it says "settled" as soon as every thread has done something more.
pub fn work(mut parent: Line, work: impl Fn(Member<'_>) + Sync) {
    let (log, stop) = (Log::of_this_process(), AtomicBool::new(false));
    let done = [const { AtomicU64::new(0) }; THREADS];
    let serial = serial();
    thread::scope(|scope| {
        for (thread, done) in done.iter().enumerate() {
            let first = serial << SERIAL_SHIFT | (thread as u64) << THREAD_SHIFT;
            let member = Member { log: &log, first, stop: &stop, done };
            scope.spawn(|| work(member));
        }
        while let Some(order) = parent.hear() {
            match &order[..] {
                "settle" => parent.say(settle(&done)),
                "end" => break,
                other => panic!("`{other}` is no order"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(work);
    parent.say("ended");
    // Looked at from outside while it waits here.
    let _ = parent.hear();
}

fn settle(done: &[AtomicU64; THREADS]) -> &'static str {
    let counts = || done.each_ref().map(|count| count.load(Ordering::Relaxed));
    let (before, until) = (counts(), Instant::now() + SETTLED_WITHIN);
    while counts().iter().zip(before).any(|(now, before)| *now == before) {
        if Instant::now() > until {
            return "stuck";
        }
        thread::sleep(Duration::from_micros(200));
    }
    "settled"
}
