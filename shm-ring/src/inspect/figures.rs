//! What comes of a look, and its one line of text.

use std::fmt;

use super::lane::LaneStats;
use super::ready::{Doze, ReadyStats};
use crate::arena::ArenaLayout;
use crate::segment::Layout;
use crate::spsc::{End, EndStats};
use crate::{mpsc, spsc};

/// A segment at about one moment. Its text is one line of `name=value` pairs behind the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Processes that were found to hold it, by number; empty if it was not found through its processes.
    pub pids: Vec<u32>,
    /// The name under which the first of them holds it, for people: `/memfd:queue-lane`, or a path.
    pub name: Option<String>,
    /// Bytes of the segment.
    pub bytes: usize,
    /// The number by which its maker tells it from its former lives.
    pub epoch: u64,
    /// What the maker of a ring of messages says that it carries.
    pub message: Option<String>,
    /// What was read.
    pub figures: Figures,
}

/// What the words of a segment tell, by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Figures {
    /// A ring of frames of any length.
    Spsc(spsc::Stats),
    /// A ring of cells, on its own or a lane of a queue.
    Mpsc(mpsc::Stats),
    /// The ready set of a consumer with many lanes.
    Ready(ReadyStats),
    /// A call lane.
    Lane(LaneStats),
    /// An arena of its own. Which blocks are free its owner alone knows.
    Arena(ArenaStats),
    /// A kind that this crate did not make.
    Unknown {
        /// The kind's number.
        kind: u64,
    },
}

/// The shape of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaStats {
    /// Blocks of all sizes.
    pub blocks: u32,
    /// Bytes of the largest block.
    pub largest: usize,
    /// Bytes in all.
    pub bytes: usize,
}

impl ArenaStats {
    pub(super) fn of(layout: &ArenaLayout) -> Self {
        Self { blocks: layout.blocks(), largest: layout.largest(), bytes: layout.bytes() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.figures.kind())?;
        if !self.pids.is_empty() {
            f.write_str(" pids=")?;
            for (i, pid) in self.pids.iter().enumerate() {
                write!(f, "{}{pid}", if i == 0 { "" } else { "," })?;
            }
        }
        write!(f, " bytes={} epoch={:#x}{}", self.bytes, self.epoch, self.figures)?;
        if let Some(name) = &self.name {
            write!(f, " name={name:?}")?;
        }
        if let Some(message) = &self.message {
            write!(f, " message={message:?}")?;
        }
        Ok(())
    }
}

impl Figures {
    fn kind(&self) -> &'static str {
        match self {
            Self::Spsc(_) => "spsc",
            Self::Mpsc(_) => "mpsc",
            Self::Ready(_) => "ready",
            Self::Lane(_) => "lane",
            Self::Arena(_) => "arena",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// The pairs alone, each with a space before it.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spsc(stats) => {
                let spsc::Stats {
                    capacity, used, free, tail, head, frames, sent, received, aborted, full, empty, ..
                } = stats;
                write!(f, " capacity={capacity} used={used} free={free} frames={frames} tail={tail} head={head}")?;
                write!(f, " sent={sent} received={received} aborted={aborted} full={full} empty={empty}")?;
                ends(f, &stats.producer, &stats.consumer)
            }
            Self::Mpsc(stats) => {
                let mpsc::Stats { capacity, len, committed, claimed, given_back, aborted, full, empty, polled, .. } =
                    stats;
                write!(f, " capacity={capacity} len={len} committed={committed} claimed={claimed}")?;
                write!(f, " given_back={given_back} aborted={aborted} full={full} empty={empty} polled={polled}")?;
                ends(f, &stats.producer, &stats.consumer)
            }
            Self::Ready(ReadyStats { capacity, doze, rings, ready, queue, .. }) => {
                write!(f, " capacity={capacity} doze={doze} rings={rings} ready={ready} consumer={}", queue.consumer)?;
                write!(f, " lanes={} lanes_ever={} empty={}", queue.lanes, queue.lanes_ever, queue.empty)?;
                write!(f, " rescues={} thrown_out={}", queue.rescues, queue.thrown_out)
            }
            Self::Lane(stats) => {
                let LaneStats { capacity, waiting, taken, in_flight, asleep, abandoned, calls, polled, closed } = stats;
                write!(
                    f,
                    " capacity={capacity} waiting={waiting} taken={taken} in_flight={in_flight} asleep={asleep}"
                )?;
                write!(f, " abandoned={abandoned} calls={calls} polled={polled} closed={closed}")
            }
            Self::Arena(ArenaStats { blocks, largest, .. }) => write!(f, " blocks={blocks} largest={largest}"),
            Self::Unknown { kind } => write!(f, " kind={kind:#x}"),
        }
    }
}

fn ends(f: &mut fmt::Formatter<'_>, producer: &EndStats, consumer: &EndStats) -> fmt::Result {
    for (name, end) in [("producer", producer), ("consumer", consumer)] {
        let EndStats { pid, asleep, wakes, rescues, .. } = end;
        let how = match end.end {
            End::Free => "free",
            End::Attached => "attached",
            End::Closed => "closed",
            End::Died => "died",
        };
        write!(f, " {name}={pid} {name}_end={how} {name}_asleep={asleep} {name}_wakes={wakes}")?;
        write!(f, " {name}_rescues={rescues}")?;
    }
    Ok(())
}

impl fmt::Display for Doze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Awake => f.write_str("awake"),
            Self::Asleep => f.write_str("asleep"),
            Self::AsleepOnEvent => f.write_str("asleep-on-event"),
            Self::Impossible(word) => write!(f, "impossible-{word:#x}"),
        }
    }
}
