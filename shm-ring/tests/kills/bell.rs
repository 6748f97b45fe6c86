//! A producer is killed between its lane's ready bit and the bell.

use std::time::Duration;

use shm_ring::mpsc::Queue;
use test_support::child::{self, Line};
use test_support::level::Level;
use test_support::stepped::{Path, Victim, always_at_the_same_addresses};

use super::payload;
use super::queue::{ON, SLEEPS, Site, Sleeper, WITHIN, soon};

/// How far an announcement has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Announced {
    Nothing,
    /// The lane's ready bit is set.
    Bit,
    /// The bell was rung.
    Rung,
}

/// Lets a producer send to a sleeping consumer up to this instruction, looks how far it is, and kills it there.
fn kill_at(site: &Site, queue: Queue, path: &Path, step: u64) -> (Queue, Announced) {
    let report = |site: &Site| site.options().inspect(&site.address).expect("it is served").ready;
    let sleeper = Sleeper::start(queue);
    let victim = site.victim("producer of a queue", SLEEPS);
    victim.is_ready();
    let (sleeper, before) = sleeper.sleeps();
    let rings = report(site).rings;
    assert!(victim.go(path, step, 0), "not where the path leads");
    let at = report(site);
    // The consumer's own look from time to time may have been first.
    let mut frame = sleeper.frames.try_recv().ok();
    let announced = match (at.rings == rings, at.ready) {
        (true, 0) if frame.is_none() => Announced::Nothing,
        (true, _) => Announced::Bit,
        (false, _) => Announced::Rung,
    };
    victim.kill();
    if announced > Announced::Nothing {
        // Nobody else rings: the death alone has to bring it.
        frame = frame.or_else(|| sleeper.frames.recv_timeout(WITHIN).ok());
        assert_eq!(frame.expect("what is committed is received"), payload(before.len(), 40), "{announced:?}");
    }
    let lanes = || site.options().inspect(&site.address).expect("it is served").lanes.len();
    soon("the dead one's lane is gone", || lanes() == 0);
    site.open().expect("it is served").try_send(ON).expect("room");
    (sleeper.thread.join().expect("no panic"), announced)
}

/// Role: the consumer that sleeps.
pub fn witness(line: Line) {
    always_at_the_same_addresses();
    let site = Site::new();
    drop(site.create().expect("nobody serves here"));
    let level = Level::settled();
    let mut queue = site.create().expect("nobody serves here");
    let path = {
        let sleeper = Sleeper::start(queue);
        let victim = site.victim("producer of a queue", SLEEPS);
        victim.is_ready();
        let (sleeper, _) = sleeper.sleeps();
        let path = victim.explore();
        victim.kill();
        site.open().expect("it is served").try_send(ON).expect("room");
        queue = sleeper.thread.join().expect("no panic");
        path
    };
    // Closes in on the first instruction behind which the bit is set, and kills at each that it looks at.
    let (mut nothing, mut some) = (0, path.steps());
    let mut last = Announced::Nothing;
    while some - nothing > 1 {
        let middle = nothing.midpoint(some);
        let announced;
        (queue, announced) = kill_at(&site, queue, &path, middle);
        if announced == Announced::Nothing {
            nothing = middle;
        } else {
            (some, last) = (middle, announced);
        }
    }
    assert_eq!(last, Announced::Bit, "there is an instruction between the bit and the bell");
    line.say(format!("killed between ready bit and bell: after instruction {some} of {}", path.steps()));
    drop(queue);
    site.remove();
    level.is_reached_within(Duration::from_secs(5));
}

/// A producer is killed when its lane's ready bit is set and the bell is not rung yet: the frame is received within a
/// second.
#[test]
fn kill_after_ready_before_bell() {
    if Victim::may_be("producer of a queue") {
        child::alone("witness of killed ringers");
    }
}
