//! A ring whose other end is a child process.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use shm_ring::Segment;
use shm_ring::spsc::{Consumer, Events, SpscLayout};

use super::support::role::{Child, Line};

/// The parent's part.
pub struct Shared {
    pub segment: Segment<SpscLayout>,
    file: OwnedFd,
}

impl Shared {
    pub fn new(layout: SpscLayout) -> Self {
        let (segment, file) = Segment::memfd("shared", layout, 1).expect("memory for a test");
        Self { segment, file }
    }

    /// Starts a child in this role and tells it where the ring is.
    pub fn child(&self, role: &str) -> Child {
        let child = Child::start(role);
        child.say(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()));
        child
    }

    pub fn consumer(&self) -> Consumer {
        Consumer::attach(&self.segment, Events::default()).expect("nobody has attached")
    }
}

/// In a child: the ring that the parent told of.
pub fn told(line: &mut Line) -> Segment<SpscLayout> {
    let path = line.hear().expect("a path");
    let file = File::options().read(true).write(true).open(path).expect("the parent lives");
    Segment::open(file.as_fd()).expect("a ring")
}
