//! What this process holds, before and after: descriptors, shared mappings, children, the demo's directory.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};

use crate::failure::{Explain, Result};

/// Descriptors that the library opens with the first connection and keeps until the process ends: its one watcher
/// thread's `epoll` and `eventfd`.
const WATCHER: usize = 2;

/// How long threads that are ending may take to give back what they hold.
const SETTLE: Duration = Duration::from_secs(1);

/// How much of a kind this process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    descriptors: usize,
    /// Private ones come and go with the allocator and thread stacks; a segment is always a shared one.
    shared_mappings: usize,
}

impl Census {
    /// Counts.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn take() -> Result<Self> {
        let what = || "cannot count what this process holds".into();
        let descriptors = std::fs::read_dir("/proc/self/fd").explain(what)?.count();
        let maps = std::fs::read_to_string("/proc/self/maps").explain(what)?;
        let is_shared = |line: &&str| line.split(' ').nth(1).is_some_and(|access| access.ends_with('s'));
        Ok(Self { descriptors, shared_mappings: maps.lines().filter(is_shared).count() })
    }

    /// Says in words what there is more of now than then; nothing when all was given back, within a second. Drop every
    /// client and switchboard before: they keep their connections.
    ///
    /// # Errors
    /// As [`Census::take`].
    pub fn left_since(&self, dir: &Path) -> Result<Vec<String>> {
        let started = Instant::now();
        loop {
            let left = self.compare(Self::take()?, dir);
            if left.is_empty() || started.elapsed() > SETTLE {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn compare(&self, now: Self, dir: &Path) -> Vec<String> {
        let mut left = Vec::new();
        let mut compare = |kind: &str, expected: usize, now: usize| {
            if now > expected {
                left.push(format!("{kind} ({now} instead of {expected})"));
            }
        };
        compare("descriptors", self.descriptors + WATCHER, now.descriptors);
        compare("shared mappings", self.shared_mappings, now.shared_mappings);
        if dir.exists() {
            left.push(format!("the directory `{}`", dir.display()));
        }
        // Only the kernel's "no child" will do: a child that has ended but was not waited for is left over, too.
        if waitpid(None, Some(WaitPidFlag::WNOHANG)) != Err(Errno::ECHILD) {
            left.push("a child process".into());
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: &str = "/proc/no such directory";

    #[test]
    fn a_descriptor_that_stays_open_is_told() {
        let before = Census { descriptors: 3, shared_mappings: 0 };
        let after = Census { descriptors: 3 + WATCHER + 1, shared_mappings: 0 };
        assert_eq!(before.compare(after, Path::new(GONE)), ["descriptors (6 instead of 5)"]);
    }

    #[test]
    fn the_librarys_watcher_is_not_left_behind() {
        let before = Census { descriptors: 3, shared_mappings: 0 };
        let after = Census { descriptors: 3 + WATCHER, shared_mappings: 0 };
        assert!(before.compare(after, Path::new(GONE)).is_empty());
    }

    #[test]
    fn fewer_than_at_the_start_is_nothing_left() {
        let before = Census { descriptors: 3, shared_mappings: 2 };
        let after = Census { descriptors: 2, shared_mappings: 1 };
        assert!(before.compare(after, Path::new(GONE)).is_empty());
    }

    #[test]
    fn a_directory_that_stays_is_told() {
        let census = Census { descriptors: 3, shared_mappings: 2 };
        assert_eq!(census.compare(census, Path::new("/proc")), ["the directory `/proc`"]);
    }
}
