//! What the processes of a round noted, held against each other.

pub mod calls;
pub mod frames;

use crate::log::Record;

/// One process of a round: what it noted, and when it was killed.
#[derive(Debug)]
pub struct Life {
    pub serial: u64,
    pub log: Vec<Record>,
    /// Just before the signal, in nanoseconds of the monotonic clock; `None` if it came to its own end.
    pub killed_ns: Option<u64>,
}

/// All processes of a round, each kind in the order in which they were started. The last hub is not killed.
#[derive(Debug, Default)]
pub struct Round {
    pub hubs: Vec<Life>,
    pub rim: Vec<Life>,
}

/// When hubs were killed, and what that met.
#[derive(Debug)]
struct Kills {
    /// When, in order, and whether somebody was waiting.
    kills: Vec<(u64, bool)>,
}

impl Kills {
    fn of(round: &Round) -> Self {
        Self { kills: round.hubs.iter().filter_map(|hub| hub.killed_ns).map(|kill_ns| (kill_ns, false)).collect() }
    }

    /// Somebody waited from `began_ns` to `told_ns`: the time since the first kill in between, if there was one.
    fn meet(&mut self, began_ns: u64, told_ns: u64) -> Option<u64> {
        let index = self.kills.partition_point(|(kill_ns, _)| *kill_ns < began_ns);
        let (kill_ns, met) = self.kills.get_mut(index)?;
        let since_ns = told_ns.checked_sub(*kill_ns)?;
        *met = true;
        Some(since_ns)
    }

    /// Kills that met somebody who waited.
    fn met(&self) -> u64 {
        self.kills.iter().filter(|(_, met)| *met).count() as u64
    }
}
