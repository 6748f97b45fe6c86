//! Rings seen by a process that has no part in them.

#[path = "../support/mod.rs"]
mod support;

mod figures;
mod refused;
mod standstill;
mod undisturbed;

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use shm_ring::inspect::{self, Figures, Found, Life, QueueReport};
use shm_ring::mpsc::{MpscLayout, QueueAddress, QueueOptions};
use shm_ring::{Place, SegmentOptions, mpsc, spsc};
use support::backings::{fresh_name, fresh_path};
use support::role::{Child, Line};

/// Tests that look through this very process, which all tests share, and tests that count what it has open.
static THIS_PROCESS: RwLock<()> = RwLock::new(());

/// Held by a test that looks through this process.
fn looking() -> RwLockReadGuard<'static, ()> {
    THIS_PROCESS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held by a test that counts.
fn counting() -> RwLockWriteGuard<'static, ()> {
    THIS_PROCESS.write().unwrap_or_else(PoisonError::into_inner)
}

/// A runtime directory with one queue's address in it.
struct Site {
    dir: PathBuf,
    address: QueueAddress,
}

impl Site {
    fn new() -> Self {
        Self::at(fresh_path())
    }

    fn at(dir: PathBuf) -> Self {
        Self { dir, address: "tests/seen".parse().expect("a good address") }
    }

    /// The place that the parent names; it is the parent's to remove.
    fn told(line: &mut Line) -> std::mem::ManuallyDrop<Self> {
        std::mem::ManuallyDrop::new(Self::at(line.hear().expect("a directory").into()))
    }

    fn options(&self) -> QueueOptions {
        QueueOptions::new().runtime_dir(&self.dir).lane(MpscLayout::new(64).expect("a power of two"))
    }

    /// Starts a process in a role and tells it where the queue is.
    fn child(&self, role: &str) -> Child {
        let child = Child::start(role);
        child.say(self.dir.display());
        child
    }

    fn look(&self) -> QueueReport {
        self.options().inspect(&self.address).expect("somebody has the queue open")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Not there if nothing was ever created.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A name of POSIX shared memory, removed at the end.
struct Named(Place);

impl Named {
    fn new() -> Self {
        Self(Place::named(&fresh_name()).expect("a plain name"))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // Not there if nothing was ever made.
        let _ = self.0.remove();
    }
}

/// In a child: the segment of the named ring.
fn told_ring(line: &mut Line) -> shm_ring::Segment<spsc::SpscLayout> {
    let place = Place::file(line.hear().expect("a path")).expect("it ends in a name");
    place.open(&SegmentOptions::new()).expect("it was made before")
}

fn number(line: &mut Line) -> u64 {
    line.hear().expect("a number").parse().expect("a number")
}

/// All that a process has, none of it refused.
fn found(pid: u32) -> Vec<Found> {
    let survey = inspect::process(pid).expect("it may be looked at");
    assert!(survey.refused.is_empty(), "{:?}", survey.refused);
    survey.found
}

/// The only ring of that kind that a process has.
fn only_spsc(pid: u32) -> spsc::Stats {
    let rings = found(pid).into_iter().filter_map(|found| match found.look().expect("it is whole").figures {
        Figures::Spsc(stats) => Some(stats),
        _ => None,
    });
    <[_; 1]>::try_from(rings.collect::<Vec<_>>()).expect("one ring")[0]
}

fn only_lane(report: &QueueReport) -> mpsc::Stats {
    assert_eq!(report.lanes.len(), 1, "{report}");
    report.lanes[0].ring
}

/// Waits until something becomes true that other processes bring about; the watchdog is generous.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < end, "not in a minute: {what}");
        std::thread::yield_now();
    }
}

fn stop(child: &Child) {
    signal(child, nix::sys::signal::Signal::SIGSTOP);
    until("it is stopped", || Life::of(child.pid()) == Life::Stopped);
}

fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(child.pid().try_into().expect("a process number"));
    nix::sys::signal::kill(pid, signal).expect("the child is not reaped yet");
}
