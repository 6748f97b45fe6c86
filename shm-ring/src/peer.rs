//! Words that a peer may write.
//!
//! A [`PeerWord`] gives each value once, as an [`Untrusted`] that is consumed by the check. A decision is therefore
//! always made on one private copy: a peer that changes the word meanwhile changes nothing.

use crate::raw::Region;
use crate::sync::{AtomicU64, Ordering};

/// A 64-bit control word in shared memory, writable by a peer.
#[derive(Clone, Copy)]
pub struct PeerWord<'a> {
    word: &'a AtomicU64,
}

impl std::fmt::Debug for PeerWord<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerWord")
    }
}

impl<'a> PeerWord<'a> {
    #[inline]
    pub(crate) fn at(region: &'a Region, offset: usize) -> Self {
        Self { word: region.word(offset) }
    }

    /// A word that a view of the region gave out.
    #[inline(always)]
    pub(crate) fn of(word: &'a AtomicU64) -> Self {
        Self { word }
    }

    /// Reads the word once.
    #[inline]
    pub(crate) fn load(self, order: Ordering) -> Untrusted {
        Untrusted(self.word.load(order))
    }

    #[inline]
    pub(crate) fn store(self, value: u64, order: Ordering) {
        self.word.store(value, order);
    }

    /// Replaces `old` by `new`; on failure gives the value found.
    #[inline]
    pub(crate) fn compare_exchange(self, old: u64, new: u64, ok: Ordering, err: Ordering) -> Result<(), Untrusted> {
        match self.word.compare_exchange(old, new, ok, err) {
            Ok(_) => Ok(()),
            Err(found) => Err(Untrusted(found)),
        }
    }

    #[inline]
    pub(crate) fn swap(self, value: u64, order: Ordering) -> Untrusted {
        Untrusted(self.word.swap(value, order))
    }

    #[inline]
    pub(crate) fn fetch_or(self, bits: u64, order: Ordering) {
        self.word.fetch_or(bits, order);
    }

    #[inline]
    pub(crate) fn fetch_add(self, n: u64, order: Ordering) {
        self.word.fetch_add(n, order);
    }
}

/// Reads words of a region for whoever only tells their values. What a later call reads is not older than what an
/// earlier one saw.
pub(crate) fn values(region: &Region) -> impl Fn(usize) -> u64 + '_ {
    // ORDERING: Acquire, pairs with the Release stores of positions and ends.
    |at| PeerWord::at(region, at).load(Ordering::Acquire).decode(|value| value)
}

/// A value read from a peer's word: private now, not yet believed.
#[must_use = "a word is read to be checked"]
#[derive(Debug)]
pub struct Untrusted(u64);

impl Untrusted {
    /// Consumes the value into a decision. The closure must cope with every possible `u64`.
    #[inline]
    pub(crate) fn decode<T>(self, check: impl FnOnce(u64) -> T) -> T {
        check(self.0)
    }
}
