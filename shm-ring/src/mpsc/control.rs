//! A ring seen from outside.

use super::layout::{
    ABORTED_AT, CELLS_AT, DATA_AT, EMPTY_AT, ENDS_AT, FULL_AT, HEAD_AT, MpscLayout, ROLES_AT, SPACE_AT, TAIL_AT,
    WATCH_AT,
};
use super::position::{Cell, Kind, Position, Tail};
use super::ring::{CLOSED, DIED, GONE, Ring, Role};
use super::{End, EndStats, Events};
use crate::peer;
use crate::ready::HOT;
use crate::segment::Segment;
use crate::signal::{Signal, SignalStats};

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
    /// Those of them that are committed. The rest is being written, or was and its writer has stopped.
    pub committed: usize,
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
    /// Whether the consumer of many lanes polls this one; of a cold lane it is told through the ready set.
    pub polled: bool,
    /// The producers' end.
    pub producer: EndStats,
    /// The consumer's end.
    pub consumer: EndStats,
}

impl Stats {
    /// From the words of a ring's segment, which `value` reads in the order in which it is called.
    pub(crate) fn read(layout: &MpscLayout, value: impl Fn(usize) -> u64) -> Self {
        let end = |role: usize, end: usize, signal: usize| {
            let (role, end) = (value(role), value(end));
            let end = match (role, end) {
                (_, DIED) => End::Died,
                (_, CLOSED | GONE) => End::Closed,
                (0, _) => End::Free,
                _ => End::Attached,
            };
            EndStats::new(end, role, SignalStats::read(signal, &value))
        };
        // What was given back first: what had been claimed before that is then seen.
        let head = Position::new(value(HEAD_AT));
        let tail = Tail::of(value(TAIL_AT)).position();
        let capacity = u64::from(layout.cells());
        let len = u64::try_from(tail.since(head)).unwrap_or(0).min(capacity);
        let is_committed = |ahead: &u64| {
            let position = head.plus(*ahead);
            let cell = value(CELLS_AT + ((position.get() & (capacity - 1)) << layout.cell_shift()) as usize);
            let lap = position.get() >> capacity.trailing_zeros();
            matches!(Cell::of(cell, lap), Cell::Committed(Kind::Inline | Kind::Block, _))
        };
        Self {
            capacity: capacity as usize,
            len: len as usize,
            committed: (0..len).filter(is_committed).count(),
            claimed: tail.get(),
            given_back: head.get(),
            aborted: value(ABORTED_AT),
            full: value(FULL_AT),
            empty: value(EMPTY_AT),
            polled: value(WATCH_AT) == HOT,
            producer: end(ROLES_AT, ENDS_AT, SPACE_AT),
            consumer: end(ROLES_AT + 8, ENDS_AT + 8, DATA_AT),
        }
    }
}

impl Control {
    /// Over a ring's segment. `events` are those of the ring, so that an end that waits by eventfd learns of an end.
    pub fn over(segment: &Segment<MpscLayout>, events: Events) -> Self {
        let ring = Ring::new(segment);
        Self { data: ring.data_signal(events.data), space: ring.space_signal(events.space), ring }
    }

    /// Looks at everything. Some twenty loads, and one for each frame on its way. All zero in a forked child.
    pub fn stats(&self) -> Stats {
        let memory = self.ring.share();
        let values = peer::values(memory.region());
        Stats::read(self.ring.layout(), |at| if self.ring.is_here() { values(at) } else { 0 })
    }

    fn finish(&self, role: Role, how: u64) {
        if !self.ring.is_here() {
            return;
        }
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
