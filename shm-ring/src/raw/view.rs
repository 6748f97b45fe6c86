//! Memory of other processes that can only be looked at.
//!
//! A [`View`] has no way to store: it hands out values, never words, and the kernel refuses writes to its pages.
#![allow(unsafe_code)] // It makes words of a mapping's raw base.

use std::os::fd::BorrowedFd;

use super::{Access, Guarded};
use crate::sync::{AtomicU64, Ordering, fence};

/// A range of memory mapped for reading.
pub(crate) struct View(Guarded);

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("len", &self.len()).finish()
    }
}

impl View {
    /// Maps the first `bytes` of a file, without touching them.
    pub(crate) fn map(fd: BorrowedFd<'_>, bytes: usize) -> std::io::Result<Self> {
        Guarded::map(fd, bytes, Access::Read).map(Self)
    }

    /// Bytes in view.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value of the word at a byte offset. Whatever is read by later calls is not older than what this one saw.
    ///
    /// # Panics
    /// If the offset is not a multiple of 8 or lies outside: offsets come from layouts that were checked at the door.
    pub(crate) fn value(&self, offset: usize) -> u64 {
        assert!(
            offset.is_multiple_of(8) && offset < self.len() && self.len() - offset >= 8,
            "word at {offset} of {}",
            self.len()
        );
        // SAFETY: the assertion keeps the eight bytes inside the mapping.
        let at = unsafe { self.0.base().add(offset) };
        // SAFETY: 8-aligned (the base is page-aligned), mapped for as long as `self`; the one access through the
        // reference is a relaxed load of eight bytes, which memory that cannot be written allows.
        let word = unsafe { at.cast::<AtomicU64>().as_ref() };
        let value = word.load(Ordering::Relaxed);
        // ORDERING: Acquire fence behind the relaxed load, pairs with the Release stores of positions, ends and the magic:
        // what is read next is at least as new as what was published before this value.
        fence(Ordering::Acquire);
        value
    }
}
