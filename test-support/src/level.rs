//! What a process holds, to be compared before and after.

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Descriptors by what they are open on and mappings of memfds by name, sorted; and how many threads there are (a thread
/// takes its name only some time after it was started).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    descriptors: Vec<String>,
    memfds: Vec<String>,
    threads: usize,
}

impl Level {
    /// What this process holds now.
    pub fn of_this_process() -> Self {
        Self::below("/proc/self")
    }

    /// What a process of this user holds now; it has not been reaped yet.
    pub fn of_process(pid: u32) -> Self {
        Self::below(&format!("/proc/{pid}"))
    }

    fn below(proc: &str) -> Self {
        let maps = std::fs::read_to_string(format!("{proc}/maps")).expect("proc is mounted");
        let memfds = maps.lines().filter(|line| line.contains("/memfd:"));
        Self {
            descriptors: sorted(entries(&format!("{proc}/fd")).filter_map(|path| {
                // The descriptor that reads this very directory is closed by now.
                let target = std::fs::read_link(path).ok()?;
                Some(without_numbers(&target.to_string_lossy()))
            })),
            memfds: sorted(memfds.map(|line| line.split_whitespace().skip(5).collect())),
            threads: entries(&format!("{proc}/task")).count(),
        }
    }

    /// How many descriptors, mappings of memfds and threads: alike for processes of which each has files of its own.
    pub fn counts(&self) -> [usize; 3] {
        [self.descriptors.len(), self.memfds.len(), self.threads]
    }

    /// The level of this process once it has stopped changing: what is given back by other threads takes a moment.
    pub fn settled() -> Self {
        let mut level = Self::of_this_process();
        let mut since = Instant::now();
        while since.elapsed() < Duration::from_millis(200) {
            let now = Self::of_this_process();
            if now != level {
                (level, since) = (now, Instant::now());
            }
            std::thread::yield_now();
        }
        level
    }

    /// Looks until the process is at this level again, at most so long.
    pub fn is_reached_within(&self, limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            let now = Self::of_this_process();
            if now == *self {
                return;
            }
            assert!(Instant::now() < until, "not back at the level {self:#?}\n after {limit:?}, but at {now:#?}");
            std::thread::yield_now();
        }
    }
}

fn entries(dir: &str) -> impl Iterator<Item = PathBuf> {
    let entries: Vec<_> = std::fs::read_dir(dir).expect("proc is mounted").filter_map(Result::ok).collect();
    entries.into_iter().map(|entry| entry.path())
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.collect();
    texts.sort_unstable();
    texts
}

/// `socket:[123]` as `socket:[]`: which one it is does not matter.
fn without_numbers(target: &str) -> String {
    match target.split_once(":[") {
        Some((kind, _)) => format!("{kind}:[]"),
        None => target.to_owned(),
    }
}
