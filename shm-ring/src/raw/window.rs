//! Two views of a region whose bounds are checked once, so that hot paths need neither a check nor a pointer chase.
//!
//! A [`Section`] holds control words at places that the compiler knows: each is checked when the program is built. A
//! [`Window`] is a range whose length is a power of two, addressed modulo that length: no offset can leave it,
//! whoever computed it.
#![allow(unsafe_code)] // Both keep a raw base, made from a range that `Region` checked.

#[cfg(not(loom))]
use std::ptr::NonNull;
use std::sync::Arc;

use crate::segment::Memory;
use crate::sync::AtomicU64;
#[cfg(loom)]
use crate::sync::Ordering;

/// Where a view begins. The memory outlives it.
#[derive(Clone)]
struct Base {
    memory: Arc<Memory>,
    #[cfg(not(loom))]
    at: NonNull<u8>,
    #[cfg(loom)]
    offset: usize,
}

// SAFETY: the pointer is into `memory`, which is Send and Sync and lives as long; all access through it is atomic or
// ordered by the protocols of this crate.
#[cfg(not(loom))]
unsafe impl Send for Base {}
// SAFETY: as for `Send`: no method gives out a unique reference to the bytes.
#[cfg(not(loom))]
unsafe impl Sync for Base {}

impl Base {
    /// # Panics
    /// If the range lies outside the region or does not begin at a multiple of 8: layouts are checked at the door.
    fn new(memory: Arc<Memory>, offset: usize, bytes: usize) -> Self {
        let len = memory.region().len();
        assert!(
            offset.is_multiple_of(8) && offset <= len && bytes <= len - offset,
            "{bytes} bytes at {offset} of {len}"
        );
        #[cfg(not(loom))]
        {
            // SAFETY: the assertion keeps the range inside the region.
            let at = unsafe { memory.region().memory.base().add(offset) };
            let at = NonNull::new(at).expect("a mapping is never at address zero");
            Self { memory, at }
        }
        #[cfg(loom)]
        Self { memory, offset }
    }

    /// The word at a multiple of 8 inside the range.
    ///
    /// # Safety
    /// `at` is a multiple of 8, and `at + 8` is at most the range's length.
    #[inline(always)]
    unsafe fn word(&self, at: usize) -> &AtomicU64 {
        #[cfg(not(loom))]
        {
            #[cfg(any(test, fuzzing))]
            super::steps::count(1);
            // SAFETY: inside the range by the caller's promise.
            let at = unsafe { self.at.add(at) };
            // SAFETY: aligned (the range begins at a multiple of 8 from a page) and valid for as long as `memory`;
            // every access to control words in this crate is atomic and of this size.
            unsafe { AtomicU64::from_ptr(at.as_ptr().cast()) }
        }
        #[cfg(loom)]
        self.memory.region().word(self.offset + at)
    }
}

/// `BYTES` bytes of control words.
#[derive(Clone)]
pub(crate) struct Section<const BYTES: usize>(Base);

impl<const BYTES: usize> Section<BYTES> {
    /// # Panics
    /// If the range lies outside the region or does not begin at a multiple of 8.
    pub(crate) fn new(memory: Arc<Memory>, offset: usize) -> Self {
        Self(Base::new(memory, offset, BYTES))
    }

    /// The word at byte `AT`.
    #[inline(always)]
    pub(crate) fn word<const AT: usize>(&self) -> &AtomicU64 {
        const { assert!(AT.is_multiple_of(8) && AT + 8 <= BYTES, "the word lies outside the section") };
        // SAFETY: the assertion above is exactly what is asked for.
        unsafe { self.0.word(AT) }
    }

    /// What the section lies in.
    pub(crate) fn memory(&self) -> &Memory {
        &self.0.memory
    }
}

/// A range of bytes addressed modulo its length.
#[derive(Clone)]
pub(crate) struct Window {
    base: Base,
    /// Length less one; the length is a power of two and at least 8.
    mask: usize,
    /// The same for words: its low three bits are clear.
    word_mask: usize,
    /// From how many bytes on a copy goes another way; see [`crate::copy`].
    #[cfg(not(loom))]
    string_from: usize,
}

impl Window {
    /// # Panics
    /// If `bytes` is no power of two from 8 on, or the range lies outside the region.
    pub(crate) fn new(memory: Arc<Memory>, offset: usize, bytes: usize) -> Self {
        assert!(bytes.is_power_of_two() && bytes >= 8, "a window of {bytes} bytes");
        Self {
            base: Base::new(memory, offset, bytes),
            mask: bytes - 1,
            word_mask: (bytes - 1) & !7,
            #[cfg(not(loom))]
            string_from: crate::copy::string_from(bytes),
        }
    }

    /// The word that holds byte `at`, modulo the length.
    #[inline(always)]
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: masked, `at` is a multiple of 8 below the length, which is a multiple of 8.
        unsafe { self.base.word(at & self.word_mask) }
    }

    /// Asks for the line of byte `at`, modulo the length, to be read soon. A hint; no effect on values.
    #[inline(always)]
    pub(crate) fn prefetch_for_read(&self, at: usize) {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        {
            let word = self.word(at).as_ptr();
            // SAFETY: PREFETCHT0 changes no architectural state and cannot fault; the address is inside the range.
            unsafe {
                core::arch::asm!("prefetcht0 [{}]", in(reg) word, options(nostack, preserves_flags, readonly));
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
        let _ = at;
    }

    /// Asks for the line of byte `at`, modulo the length, in exclusive state. A hint; no effect on values.
    #[inline(always)]
    pub(crate) fn prefetch_for_write(&self, at: usize) {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        {
            let word = self.word(at).as_ptr();
            // SAFETY: PREFETCHW changes no architectural state and cannot fault; the address is inside the range.
            unsafe {
                core::arch::asm!("prefetchw [{}]", in(reg) word, options(nostack, preserves_flags, readonly));
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
        let _ = at;
    }

    #[inline(always)]
    fn offset(&self, at: usize) -> usize {
        at & self.mask
    }

    /// Whether so many bytes fit from an offset on without a wrap.
    #[inline(always)]
    fn holds(&self, offset: usize, len: usize) -> bool {
        len <= self.mask + 1 - offset
    }

    /// Copies bytes in, from `at` modulo the length on. The range belongs to the caller until it publishes it.
    ///
    /// # Panics
    /// If the bytes do not fit before the end.
    #[inline]
    pub(crate) fn copy_in(&self, at: usize, bytes: &[u8]) {
        assert!(self.try_copy_in(at, bytes, || ()), "a copy does not wrap");
    }

    /// As [`copy_in`](Self::copy_in) after `first`; does nothing, and says so, if the bytes do not fit before the end.
    #[inline(always)]
    pub(crate) fn try_copy_in(&self, at: usize, bytes: &[u8], first: impl FnOnce()) -> bool {
        let offset = self.offset(at);
        if !self.holds(offset, bytes.len()) {
            return false;
        }
        first();
        #[cfg(not(loom))]
        {
            // SAFETY: masked, the offset lies inside the range.
            let to = unsafe { self.base.at.add(offset) };
            // SAFETY: `to` is valid for `bytes.len()` bytes by the assertion; by the protocol nobody else touches an
            // unpublished range; `bytes` is not memory of this region, of which no `&[u8]` to unpublished bytes exists.
            unsafe { crate::copy::into_shared(to.as_ptr(), bytes, self.string_from) }
        }
        #[cfg(loom)]
        copy_words_in(self, at, bytes);
        true
    }

    /// Copies bytes out that a peer may be writing, from `at` modulo the length on; see
    /// [`Region::copy_out`](super::Region::copy_out).
    ///
    /// # Panics
    /// If the range does not fit before the end.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn copy_out(&self, at: usize, to: &mut [u8]) {
        let offset = self.offset(at);
        assert!(self.holds(offset, to.len()), "a copy does not wrap");
        // SAFETY: masked, the offset lies inside the range.
        let from = unsafe { self.base.at.add(offset) };
        // SAFETY: `from` is valid for `to.len()` bytes by the assertion, and shared memory of which `to` is no part.
        unsafe { super::copy_out::out_of_shared(from.as_ptr(), to) }
    }

    /// Copies published bytes out, from `at` on.
    #[cfg(loom)]
    pub(crate) fn copy_out(&self, at: usize, to: &mut [u8]) {
        for (at, byte) in (at..).zip(to) {
            *byte = (self.word(at).load(Ordering::Relaxed) >> (at % 8 * 8)) as u8;
        }
    }

    /// Reads a published range in place, from `at` modulo the length on.
    ///
    /// # Safety
    /// Nobody may write the range while the slice lives; see [`Region::bytes`](super::Region::bytes).
    ///
    /// # Panics
    /// If the range does not fit before the end.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) unsafe fn bytes(&self, at: usize, len: usize) -> &[u8] {
        let offset = self.offset(at);
        assert!(self.holds(offset, len), "a slice does not wrap");
        // SAFETY: masked, the offset lies inside the range.
        let from = unsafe { self.base.at.add(offset) };
        // SAFETY: valid for `len` bytes by the assertion, for as long as `self`; unwritten by the caller's promise.
        unsafe { core::slice::from_raw_parts(from.as_ptr(), len) }
    }
}

/// Whole words at once where it can, so that a model has few steps. The rest of a last word is zeroed.
#[cfg(loom)]
fn copy_words_in(window: &Window, at: usize, bytes: &[u8]) {
    assert!(at.is_multiple_of(8), "models write whole words");
    for (i, chunk) in (0..).zip(bytes.chunks(8)) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        window.word(at + i * 8).store(u64::from_le_bytes(word), Ordering::Relaxed);
    }
}
