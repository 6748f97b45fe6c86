//! A ring seen from outside.

use super::layout::MpscLayout;
use super::ring::{CLOSED, DIED, Ring, Role};
use super::{EndStats, Events};
use crate::segment::Segment;
use crate::signal::Signal;

/// What whoever holds neither end may do with a ring: look at it, and end it. Any process that maps the segment.
///
/// Looking costs the two ends nothing but the way of a cache line now and then.
#[derive(Debug, Clone)]
pub struct Control {
    ring: Ring,
    data: Signal,
    space: Signal,
}

/// The state of a ring at about one moment. All counts are since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Frames that the ring holds.
    pub capacity: usize,
    /// Frames claimed and not yet given back: being written, committed, or being read.
    pub len: usize,
    /// Cells claimed, aborted ones included.
    pub claimed: u64,
    /// Cells given back by the consumer, in order.
    pub given_back: u64,
    /// Frames that were taken back, or whose producer died before it committed them.
    pub aborted: u64,
    /// How often a claim found the ring full.
    pub full: u64,
    /// How often the consumer found nothing.
    pub empty: u64,
    /// The producers' end.
    pub producer: EndStats,
    /// The consumer's end.
    pub consumer: EndStats,
}

impl Control {
    /// Over a ring's segment. `events` are those of the ring, so that an end that waits by eventfd learns of an end.
    pub fn over(segment: &Segment<MpscLayout>, events: Events) -> Self {
        let ring = Ring::new(segment);
        Self { data: ring.data_signal(events.data), space: ring.space_signal(events.space), ring }
    }

    /// Looks at everything. Some twenty loads.
    pub fn stats(&self) -> Stats {
        let ring = &self.ring;
        let end = |role, (wakes, rescues)| {
            let (end, pid) = ring.standing(role);
            EndStats { end, pid, wakes, rescues }
        };
        let counts = ring.counts();
        Stats {
            capacity: ring.count() as usize,
            len: ring.len() as usize,
            claimed: counts.claimed,
            given_back: counts.given_back,
            aborted: counts.aborted,
            full: counts.full,
            empty: counts.empty,
            producer: end(Role::Producers, self.space.counts()),
            consumer: end(Role::Consumer, self.data.counts()),
        }
    }

    fn finish(&self, role: Role, how: u64) {
        self.ring.finish(role, how);
        self.data.wake_all();
        self.space.wake_all();
    }

    /// Ends the ring for both: no further claim succeeds, the consumer receives what was claimed before and then
    /// [`RecvError::Closed`](crate::RecvError::Closed). Wakes whoever sleeps. Some system calls.
    pub fn close(&self) {
        self.finish(Role::Consumer, CLOSED);
        self.finish(Role::Producers, CLOSED);
    }

    /// For whoever learns that the producers' process is gone (from a pidfd or a hang-up, never from a time-out): the
    /// consumer receives what was committed, and then [`RecvError::Closed`](crate::RecvError::Closed). Claims that were
    /// under way are stepped over.
    pub fn producers_died(&self) {
        self.finish(Role::Producers, DIED);
    }

    /// For whoever learns that the consumer's process is gone: the producers' next claims, and those that wait for room,
    /// are [`ClaimError::Closed`](crate::ClaimError::Closed).
    pub fn consumer_died(&self) {
        self.finish(Role::Consumer, DIED);
    }
}
