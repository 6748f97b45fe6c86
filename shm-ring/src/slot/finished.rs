//! Which calls of tasks have ended: how a server tells a client whose tasks all sleep.
//!
//! A section behind the slots, on lines of its own:
//!
//! | byte | word | written by |
//! |---|---|---|
//! | 0 | `want`: the client sleeps and is to be told | client sets, server clears |
//! | 128.. | a bit for each slot | server sets, client clears |
//!
//! All of it is a hint; the truth is in the slots' states. The server sets the bit, fences, looks at `want`; the client
//! sets `want`, fences, looks at the bits. Either the server sees that it is to ring, or the client sees the bit.

use std::sync::Arc;

use super::SLOT_BYTES;
use crate::peer::PeerWord;
use crate::raw::LINE_PAIR;
use crate::segment::Memory;
use crate::sync::{Ordering, fence};

const WANT_AT: usize = 0;
const BITS_AT: usize = LINE_PAIR;
const _: () = assert!(WANT_AT == 0 && BITS_AT == 128);

/// Bytes of the set for so many slots.
pub(crate) const fn section_bytes(count: u32) -> usize {
    BITS_AT + (count.div_ceil(64) as usize * 8).next_multiple_of(LINE_PAIR)
}

/// The set, as both sides hold it.
#[derive(Debug)]
pub(super) struct FinishedSet {
    segment: Arc<Memory>,
    offset: usize,
    words: usize,
}

impl FinishedSet {
    /// The set behind `count` slots that begin at `slots_at`.
    pub(super) fn behind(segment: Arc<Memory>, slots_at: usize, count: u32) -> Self {
        Self { segment, offset: slots_at + count as usize * SLOT_BYTES, words: count.div_ceil(64) as usize }
    }

    fn want(&self) -> PeerWord<'_> {
        PeerWord::at(self.segment.region(), self.offset + WANT_AT)
    }

    fn word(&self, index: usize) -> PeerWord<'_> {
        PeerWord::at(self.segment.region(), self.offset + BITS_AT + index * 8)
    }

    /// Server: the call in `slot`, which is below the set's count, has ended. True if the client is to be rung for.
    pub(super) fn add(&self, slot: u32) -> bool {
        // ORDERING: Release, pairs with the AcqRel swap in `take`: whoever takes the bit sees DONE in the slot, and so does
        // the task that he wakes.
        self.word(slot as usize / 64).fetch_or(1 << (slot % 64), Ordering::Release);
        if cfg!(not(weaken = "finished_without_fence")) {
            // ORDERING: SeqCst fence between the bit and the load of `want`, pairs with the one in `arm` between `want`
            // and the look at the bits. Without either, the load can miss that the client sleeps while the client misses
            // the bit: a task sleeps over its reply (`finished_without_fence`).
            fence(Ordering::SeqCst);
        }
        // ORDERING: AcqRel keeps the chain of swaps and stores of `want` in one order; the fences do the rest.
        self.want().load(Ordering::Relaxed).decode(|want| want != 0)
            && self.want().swap(0, Ordering::AcqRel).decode(|want| want != 0)
    }

    /// Client: "tell me". Worth something only with a [`take`](Self::take) after it.
    pub(super) fn arm(&self) {
        self.want().store(1, Ordering::Relaxed);
        if cfg!(not(weaken = "arm_without_fence")) {
            // ORDERING: SeqCst fence, pairs with the one in `add` (`arm_without_fence`).
            fence(Ordering::SeqCst);
        }
    }

    /// Client: takes the bits out and calls `f` with each slot, which may be any number. A load per 64 slots if there is
    /// nothing.
    #[inline]
    pub(super) fn take(&self, mut f: impl FnMut(u32)) {
        for index in 0..self.words {
            let word = self.word(index);
            if word.load(Ordering::Relaxed).decode(|bits| bits == 0) {
                continue;
            }
            // ORDERING: AcqRel, pairs with the Release in `add`.
            let mut bits = word.swap(0, Ordering::AcqRel).decode(|bits| bits);
            while bits != 0 {
                f(index as u32 * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }
}
