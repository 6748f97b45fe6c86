//! A whole queue: its consumer, and every lane.

use std::fmt;

use super::figures::Figures;
use super::life::Life;
use super::ready::ReadyStats;
use super::survey::everywhere;
use crate::error::Error;
use crate::mpsc::{self, LANE_NAME, QueueAddress, QueueOptions, READY_NAME};
use crate::segment::FileId;

/// A queue at about one moment. Its text is one line for the queue, and one for each lane.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueReport {
    /// The queue.
    pub address: QueueAddress,
    /// How its consumer's process stands: [`ReadyStats::queue`] names it.
    pub consumer: Life,
    /// What the consumer tells over all lanes.
    pub ready: ReadyStats,
    /// The lanes, one for each producing process.
    pub lanes: Vec<QueueLane>,
}

/// A lane of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLane {
    /// Its ring. The producing end names the process.
    pub ring: mpsc::Stats,
    /// How the producer's process stands.
    pub producer: Life,
}

impl QueueReport {
    /// Frames claimed and not given back, in all lanes.
    pub fn len(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.ring.len as u64).sum()
    }

    /// Whether no frame is on its way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frames received since the queue was created. For an instant, while a lane is given up, its frames may be missing
    /// or counted twice.
    pub fn received(&self) -> u64 {
        let gone = self.ready.queue.gone_given_back.wrapping_sub(self.ready.queue.gone_aborted);
        let lanes = self.lanes.iter().map(|lane| lane.ring.given_back.wrapping_sub(lane.ring.aborted));
        lanes.fold(gone, u64::wrapping_add)
    }

    /// Frames that were taken back, or whose producer died before it committed them.
    pub fn aborted(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.ring.aborted).fold(self.ready.queue.gone_aborted, u64::wrapping_add)
    }

    /// Claims that found their lane full.
    pub fn full(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.ring.full).fold(self.ready.queue.gone_full, u64::wrapping_add)
    }
}

impl fmt::Display for QueueReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, consumer, ready, lanes } = self;
        write!(f, "queue address={address} consumer_life={consumer} lag={} received={}", self.len(), self.received())?;
        write!(f, " aborted={} full={}{}", self.aborted(), self.full(), Figures::Ready(*ready))?;
        for QueueLane { ring, producer } in lanes {
            write!(f, "\nlane producer_life={producer}{}", Figures::Mpsc(*ring))?;
        }
        Ok(())
    }
}

fn is_of_a_queue(name: &str) -> bool {
    name.strip_prefix("/memfd:").is_some_and(|name| [READY_NAME, LANE_NAME].contains(&name))
}

/// Looks at the queue of that address, with the defaults of [`QueueOptions`]; see [`QueueOptions::inspect`].
///
/// # Errors
/// [`Error::BadAddress`], and as [`QueueOptions::inspect`].
pub fn queue(address: &str) -> Result<QueueReport, Error> {
    QueueOptions::new().inspect(&address.parse()?)
}

impl QueueOptions {
    /// Looks at a queue and all its lanes from outside, without connecting to it: its socket is not touched, so nobody
    /// notices, and a consumer that is stopped or dead is no obstacle, as long as any process has the queue open.
    ///
    /// Searches the descriptors of all processes of this user: some milliseconds. For tools.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the name has no socket, or nobody has that queue open any more.
    pub fn inspect(&self, address: &QueueAddress) -> Result<QueueReport, Error> {
        let (directory, file) = self.socket(address);
        let not_found = || Error::NotFound { name: address.name().to_owned(), dir: directory.display().to_string() };
        let socket = rustix::fs::stat(directory.join(file)).map_err(|_| not_found())?;
        let socket = FileId::of(&socket);
        let survey = everywhere(is_of_a_queue)?;
        let mut lanes = Vec::new();
        let mut sets = Vec::new();
        for found in &survey.found {
            let (pids, epoch) = (&found.pids, found.onlooker.epoch());
            match found.onlooker.look()?.figures {
                // Anybody could write the name of a queue; its consumer has it open.
                Figures::Ready(set) if set.socket() == socket => {
                    sets.push((!pids.contains(&set.queue.consumer), epoch, set));
                }
                Figures::Mpsc(ring) => lanes.push((epoch, ring)),
                _ => {}
            }
        }
        let (_, ours, ready) = sets.into_iter().min_by_key(|(is_orphan, ..)| *is_orphan).ok_or_else(not_found)?;
        let lanes = lanes.into_iter().filter(|(epoch, _)| *epoch == ours);
        let lanes = lanes.map(|(_, ring)| QueueLane { ring, producer: Life::of(ring.producer.pid) }).collect();
        Ok(QueueReport { address: address.clone(), consumer: Life::of(ready.queue.consumer), ready, lanes })
    }
}
