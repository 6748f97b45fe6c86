//! What a ready set tells, and what the consumer of a queue tells in it.

use crate::account;
use crate::ready::{ACCOUNT_AT, ASLEEP, ASLEEP_ON_EVENT, AWAKE, BELL_AT, BITS_AT, MODE_AT, ReadyLayout};
use crate::segment::FileId;

/// Whether the consumer of many lanes sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doze {
    /// It looks by itself.
    Awake,
    /// A thread sleeps and is to be woken by the bell.
    Asleep,
    /// It waits for its eventfd.
    AsleepOnEvent,
    /// No consumer writes this.
    Impossible(u64),
}

/// The state of a ready set at about one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyStats {
    /// Lanes that fit.
    pub capacity: u32,
    /// Whether the consumer sleeps, as it said last. Written by the consumer.
    pub doze: Doze,
    /// Rings of the bell since the set was made: wakes, and some more. Written by whoever rings.
    pub rings: u64,
    /// Lanes that have told of a frame and were not looked at since.
    pub ready: u32,
    /// What the consumer of a queue counts; all zero if the set is not of a queue.
    pub queue: QueueCounts,
    socket: FileId,
}

/// What the consumer of a queue counts over all lanes, for whoever looks on; since the queue was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueCounts {
    /// The consumer's process, as it calls itself.
    pub consumer: u32,
    /// Sleeps that only the safety time-out ended although something was there. Expected 0.
    pub rescues: u64,
    /// Producers that were thrown out because they wrote an impossible word.
    pub thrown_out: u64,
    /// Looks at all lanes that found nothing.
    pub empty: u64,
    /// Lanes at the moment, those included that are being emptied.
    pub lanes: u64,
    /// Lanes given in all.
    pub lanes_ever: u64,
    /// Of lanes that were given up: cells given back, aborted frames included.
    pub gone_given_back: u64,
    /// Of lanes that were given up: frames that were taken back or never committed.
    pub gone_aborted: u64,
    /// Of lanes that were given up: claims that found them full.
    pub gone_full: u64,
}

impl ReadyStats {
    pub(super) fn read(layout: &ReadyLayout, value: impl Fn(usize) -> u64) -> Self {
        let word = |at: usize| value(ACCOUNT_AT + at);
        let doze = match value(MODE_AT) {
            AWAKE => Doze::Awake,
            ASLEEP => Doze::Asleep,
            ASLEEP_ON_EVENT => Doze::AsleepOnEvent,
            other => Doze::Impossible(other),
        };
        let bits = (0..layout.lanes().div_ceil(64) as usize).map(|i| value(BITS_AT + i * 8).count_ones());
        Self {
            capacity: layout.lanes(),
            doze,
            rings: value(BELL_AT),
            ready: bits.sum(),
            queue: QueueCounts {
                consumer: word(account::CONSUMER_AT) as u32,
                rescues: word(account::RESCUES_AT),
                thrown_out: word(account::THROWN_OUT_AT),
                empty: word(account::EMPTY_AT),
                lanes: word(account::LANES_AT),
                lanes_ever: word(account::LANES_EVER_AT),
                gone_given_back: word(account::GONE_GIVEN_BACK_AT),
                gone_aborted: word(account::GONE_ABORTED_AT),
                gone_full: word(account::GONE_FULL_AT),
            },
            socket: FileId { device: word(account::DEVICE_AT), inode: word(account::INODE_AT) },
        }
    }

    /// The socket by which the queue of this set is found; zeros if there is none.
    pub(super) fn socket(&self) -> FileId {
        self.socket
    }
}
