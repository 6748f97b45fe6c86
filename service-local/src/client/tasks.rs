//! What a connection keeps for calls that no thread waits for.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use service_core::{Line, MethodIndex};
use shm_ring::arena::BlockRef;
use shm_ring::wait::SpinBudget;

/// The longest that a task is let poll for its reply, while no other call of the connection is in flight.
const SPIN: Duration = Duration::from_micros(5);

/// No time at all.
const NEVER: u64 = u64::MAX;

/// What is noted of a call in flight, by its slot. Written by whoever sends the call, before others may have it in hand.
#[derive(Debug, Default)]
pub(super) struct Note {
    method: AtomicU16,
    /// Of the request's cell.
    position: AtomicU64,
    until_ns: AtomicU64,
    /// The block of a large request; place zero if there is none.
    place: AtomicU8,
    block: AtomicU64,
}

impl Note {
    pub(super) fn write(
        &self,
        method: MethodIndex,
        position: u64,
        until_ns: Option<u64>,
        lent: Option<(u8, BlockRef)>,
    ) {
        self.method.store(method.0, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
        self.until_ns.store(until_ns.unwrap_or(NEVER), Ordering::Relaxed);
        let (place, block) = lent.map_or((0, 0), |(place, block)| (place, block.to_word()));
        self.place.store(place, Ordering::Relaxed);
        self.block.store(block, Ordering::Relaxed);
    }

    pub(super) fn method(&self) -> MethodIndex {
        MethodIndex(self.method.load(Ordering::Relaxed))
    }

    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// When the call's time is up; the highest number if never.
    pub(super) fn until_ns(&self) -> u64 {
        self.until_ns.load(Ordering::Relaxed)
    }

    pub(super) fn lent(&self) -> Option<(u8, BlockRef)> {
        let block = BlockRef::from_word(self.block.load(Ordering::Relaxed));
        Some((self.place.load(Ordering::Relaxed), block)).filter(|(place, _)| *place != 0)
    }
}

/// What a connection keeps for tasks.
#[derive(Debug)]
pub(super) struct Tasks {
    notes: Box<[Note]>,
    /// Tasks that found all slots in flight.
    pub(super) line: Line,
    pub(super) spin: SpinBudget,
    in_flight: AtomicUsize,
    /// The service was once told to pull the rope; from then on the watcher thread tells it anew.
    is_armed: AtomicBool,
    /// When the watcher thread is to look around.
    due_ns: AtomicU64,
}

impl Tasks {
    pub(super) fn new(slots: usize, spin: Option<Duration>) -> Self {
        Self {
            notes: (0..slots).map(|_| Note::default()).collect(),
            line: Line::default(),
            spin: SpinBudget::new(Some(spin.unwrap_or(SPIN).min(SPIN))),
            in_flight: AtomicUsize::new(0),
            is_armed: AtomicBool::new(false),
            due_ns: AtomicU64::new(NEVER),
        }
    }

    /// The note of a slot that the table has.
    pub(super) fn note(&self, slot: u32) -> &Note {
        &self.notes[slot as usize]
    }

    pub(super) fn notes(&self) -> impl Iterator<Item = (u32, &Note)> {
        (0..).zip(&self.notes)
    }

    pub(super) fn began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many calls are in flight that no thread waits for.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// True for the first who asks. One load for all others.
    #[inline]
    pub(super) fn is_to_be_armed(&self) -> bool {
        !self.is_armed.load(Ordering::Relaxed) && !self.is_armed.swap(true, Ordering::Relaxed)
    }

    /// Somebody waits for `at_ns`; true if the watcher thread has to be told of it. One load if an earlier look is due.
    #[inline]
    pub(super) fn is_due_by(&self, at_ns: u64) -> bool {
        // ORDERING: AcqRel, pairs with the swap in `take_due`: whoever finds the time here finds what it is about.
        at_ns < self.due_ns.load(Ordering::Relaxed) && at_ns < self.due_ns.fetch_min(at_ns, Ordering::AcqRel)
    }

    /// When the next look is due.
    pub(super) fn due_ns(&self) -> u64 {
        self.due_ns.load(Ordering::Relaxed)
    }

    /// The watcher thread begins a look around: times that are told from now on are not in it.
    pub(super) fn take_due(&self) {
        // ORDERING: AcqRel, see `is_due_by`.
        self.due_ns.swap(NEVER, Ordering::AcqRel);
    }
}
