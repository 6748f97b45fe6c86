//! The queue between processes, from outside.

#[path = "../support/mod.rs"]
mod support;

mod churn;
mod closing;
mod forked;
mod killed;
mod names;
mod sends;
mod stopped;
mod storm;
mod trust;

use std::path::{Path, PathBuf};

use shm_ring::mpsc::{MpscLayout, Queue, QueueAddress, QueueOptions, Sender};
use support::backings::fresh_path;
use support::role::{Child, Line, line};

/// A runtime directory of its own, with one queue's address in it.
struct Site {
    dir: PathBuf,
    address: QueueAddress,
}

impl Site {
    fn new() -> Self {
        Self { dir: fresh_path(), address: "tests/jobs".parse().expect("a good address") }
    }

    fn options(&self) -> QueueOptions {
        QueueOptions::new().runtime_dir(&self.dir)
    }

    fn create(&self) -> Queue {
        self.options().create(&self.address).expect("nobody serves here")
    }

    /// With lanes of so many cells.
    fn create_with(&self, cells: u32) -> Queue {
        let lane = MpscLayout::new(cells).expect("a power of two");
        self.options().lane(lane).create(&self.address).expect("nobody serves here")
    }

    fn open(&self) -> Sender {
        self.options().open(&self.address).expect("somebody serves here")
    }

    /// Starts a process in a role and tells it where the queue is.
    fn child(&self, role: &str) -> Child {
        let child = Child::start(role);
        child.say(self.dir.display());
        child.say(&self.address);
        child
    }

    /// In a child: the place that the parent names.
    fn told(line: &mut Line) -> std::mem::ManuallyDrop<Self> {
        let dir = line.hear().expect("the directory").into();
        let address = line.hear().expect("the address").parse().expect("what was written parses");
        // The directory is the parent's to remove.
        std::mem::ManuallyDrop::new(Self { dir, address })
    }

    fn socket(&self) -> PathBuf {
        self.dir.join(self.address.namespace()).join("queues").join(format!("{}.sock", self.address.name()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Not there if nothing was ever created.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Waits until something becomes true that other threads or processes bring about; the watchdog is generous.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < end, "not in a minute: {what}");
        std::thread::yield_now();
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir(Path::new("/proc/self/fd")).expect("proc is mounted").count()
}

/// Sends `count` numbered frames, then says so and waits for the line to end.
#[test]
#[ignore = "a role of a child process"]
fn role_counts() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let (id, count) = (number(&mut line), number(&mut line));
    let sender = site.open();
    for i in 0..count {
        sender.send(&numbered(id, i)).expect("the consumer lives");
    }
    line.say("sent");
    assert_eq!(line.hear(), None);
}

/// Sends numbered frames for ever, from two threads.
#[test]
#[ignore = "a role of a child process"]
fn role_floods() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let id = number(&mut line);
    let sender = site.open();
    line.say("open");
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let sender = sender.clone();
            scope.spawn(move || (0..).try_for_each(|i| sender.send(&numbered(id * 2 + thread, i))));
        }
    });
}

fn number(line: &mut Line) -> u64 {
    line.hear().expect("a number").parse().expect("a number")
}

/// Some more than a line, so that a torn frame shows.
fn numbered(id: u64, i: u64) -> [u8; 96] {
    let mut frame = [i as u8; 96];
    frame[..8].copy_from_slice(&id.to_le_bytes());
    frame[88..].copy_from_slice(&i.to_le_bytes());
    frame
}

/// What [`numbered`] made, checked.
fn read_numbered(frame: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_le_bytes(frame[at..at + 8].try_into().expect("eight bytes"));
    let (id, i) = (word(0), word(88));
    assert_eq!(frame, numbered(id, i), "torn");
    (id, i)
}
