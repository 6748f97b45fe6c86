//! A ring seen from outside.

use crate::event::Events;
use crate::peer;
use crate::segment::Segment;
use crate::signal::SignalStats;
use crate::spsc::cursor::{Geometry, Position};
use crate::spsc::layout::{self, SpscLayout};
use crate::spsc::ring::{CLOSED, DIED, End, Ring};

/// What whoever holds neither end may do with a ring: look at it, and end it. Any process that maps the segment.
///
/// Looking costs the two ends nothing but the way of a cache line now and then.
#[derive(Debug, Clone)]
pub struct Control(pub(super) Ring);

/// An end of a ring, as the ring's words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndStats {
    /// How it stands.
    pub end: End,
    /// The process that attached, as it called itself; zero while nobody has.
    pub pid: u32,
    /// Whether it has said that it sleeps. May be left from a sleep that is over: nobody takes it back.
    pub asleep: bool,
    /// How often this end was woken from a sleep.
    pub wakes: u64,
    /// How often it slept over something that was there, until the safety time-out. Expected 0.
    pub rescues: u64,
}

/// The state of a ring at about one moment. All counts are since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of frames that the ring was made for.
    pub capacity: usize,
    /// Bytes that queued frames take.
    pub used: usize,
    /// Bytes that further frames may take, their headers included.
    pub free: usize,
    /// Position up to which frames were committed, in bytes.
    pub tail: u64,
    /// Position up to which frames were received, in bytes.
    pub head: u64,
    /// Frames that wait to be received.
    pub frames: u64,
    /// Frames committed.
    pub sent: u64,
    /// Frames received.
    pub received: u64,
    /// Claims that were dropped.
    pub aborted: u64,
    /// How often the producer came to find the ring full.
    pub full: u64,
    /// How often the consumer came to find the ring empty.
    pub empty: u64,
    /// The producing end.
    pub producer: EndStats,
    /// The consuming end.
    pub consumer: EndStats,
}

impl EndStats {
    pub(crate) fn new(end: End, role: u64, signal: SignalStats) -> Self {
        let SignalStats { asleep, wakes, rescues } = signal;
        Self { end, pid: role as u32, asleep, wakes, rescues }
    }
}

impl Stats {
    /// From the words of a ring's segment, which `value` reads in the order in which it is called.
    pub(crate) fn read(layout: &SpscLayout, value: impl Fn(usize) -> u64) -> Self {
        let geometry = Geometry::new(layout.capacity());
        let word = |at: usize| value(layout::WORDS_AT + at);
        let end = |role: usize, end: usize, signal: usize| {
            let (role, end) = (word(role), word(end));
            let end = match (role, end) {
                (_, DIED) => End::Died,
                (_, CLOSED) => End::Closed,
                (0, _) => End::Free,
                _ => End::Attached,
            };
            EndStats::new(end, role, SignalStats::read(signal, &value))
        };
        // What the consumer has done first: what the producer had done before that is then seen.
        let (head, received) = (word(layout::HEAD), word(layout::RECEIVED));
        let (tail, sent) = (word(layout::TAIL), word(layout::SENT));
        let used = geometry.used(Position::from_word(head), Position::from_word(tail));
        Self {
            capacity: layout.capacity(),
            used,
            free: geometry.most_used().saturating_sub(used),
            tail,
            head,
            frames: geometry.queued(received, sent),
            sent,
            received,
            aborted: word(layout::ABORTED),
            full: word(layout::FULL),
            empty: word(layout::EMPTY),
            producer: end(layout::PRODUCER_ROLE, layout::PRODUCER_END, layout::SPACE_SIGNAL_AT),
            consumer: end(layout::CONSUMER_ROLE, layout::CONSUMER_END, layout::DATA_SIGNAL_AT),
        }
    }
}

impl Control {
    /// Over a ring's segment. `events` are those of the ring, so that an end that waits by eventfd learns of an end.
    pub fn over(segment: &Segment<SpscLayout>, events: Events) -> Self {
        Self(Ring::over(segment, events))
    }

    /// Looks at everything. Some twenty loads. All zero in a forked child.
    pub fn stats(&self) -> Stats {
        let values = peer::values(self.0.memory().region());
        Stats::read(&self.0.layout, |at| if self.0.is_here() { values(at) } else { 0 })
    }

    /// Ends the ring for both: no further claim succeeds, the consumer receives what is there and then
    /// [`RecvError::Closed`](crate::RecvError::Closed). Wakes whoever sleeps. Some system calls.
    ///
    /// A frame that is being committed at this moment may be among those received or not.
    pub fn close(&self) {
        self.0.end::<{ layout::CONSUMER_END }>(CLOSED);
        self.0.end::<{ layout::PRODUCER_END }>(CLOSED);
    }

    /// For whoever learns that the producer's process is gone (from a pidfd or a hang-up, never from a time-out): the
    /// consumer receives what was committed, and then [`RecvError::Closed`](crate::RecvError::Closed). A claim that was
    /// under way is never seen.
    pub fn producer_died(&self) {
        self.0.end::<{ layout::PRODUCER_END }>(DIED);
    }

    /// For whoever learns that the consumer's process is gone: the producer's next claim, and one that waits for room,
    /// is [`ClaimError::Closed`](crate::ClaimError::Closed).
    pub fn consumer_died(&self) {
        self.0.end::<{ layout::CONSUMER_END }>(DIED);
    }
}
