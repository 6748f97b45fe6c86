//! Raw access to memory that other processes map too.
//!
//! A [`Region`] hands out words by offset and copies bytes in and out; nothing above it holds a pointer. There is no
//! `&mut` and no `&[u8]` over the whole region. Control words are 64-bit atomics, 8-aligned, of one size for ever;
//! a futex is the low half of such a word (this crate builds for little-endian targets only).
//!
//! Under loom a region is a list of loom atomics, so that models see every word that the product touches.
#![allow(unsafe_code)] // The module exists to keep raw memory in one place.

#[cfg(not(loom))]
mod copy_out;
#[cfg(not(loom))]
mod guarded;
#[cfg(all(any(test, fuzzing), not(loom)))]
pub(crate) mod steps;
#[cfg(not(loom))]
mod view;
mod window;

#[cfg(not(loom))]
pub(crate) use guarded::{Access, Guarded};
#[cfg(not(loom))]
pub(crate) use view::View;
pub(crate) use window::{Section, Window};

use crate::fork::Home;
use crate::sync::{AtomicU64, Ordering};

#[cfg(not(target_endian = "little"))]
compile_error!("the futex half of a control word is its low half: little-endian targets only");

#[cfg(not(target_pointer_width = "64"))]
compile_error!("sizes and offsets of segments are computed in 64 bits");

/// Bytes in a cache line.
pub(crate) const LINE: usize = 64;

/// 128: pairs of 64-byte lines are fetched together on x86-64, so words of different writers lie this far apart.
pub(crate) const LINE_PAIR: usize = 128;

#[cfg(not(loom))]
mod memory {
    use std::alloc::Layout;
    use std::ptr::NonNull;

    use super::Guarded;
    use crate::fork::Home;

    /// Who gives the memory back.
    enum Owner {
        Heap(Layout),
        Mapping(Guarded),
    }

    pub(crate) struct Memory {
        base: NonNull<u8>,
        len: usize,
        owner: Owner,
    }

    // SAFETY: a region is reached through atomics and through copies that the protocols of this crate order; the
    // mapping may be used from and freed on any thread.
    unsafe impl Send for Memory {}
    // SAFETY: as for `Send`: no method gives out a unique reference to the bytes.
    unsafe impl Sync for Memory {}

    impl Memory {
        pub(super) fn heap(len: usize) -> Self {
            let layout = Layout::from_size_align(len.max(1), 4096).expect("lengths are checked by Segment");
            // SAFETY: the layout has a size of at least one byte.
            let base = unsafe { std::alloc::alloc_zeroed(layout) };
            let Some(base) = NonNull::new(base) else { std::alloc::handle_alloc_error(layout) };
            Self { base, len, owner: Owner::Heap(layout) }
        }

        pub(super) fn map(map: Guarded) -> Self {
            Self { base: map.base(), len: map.len(), owner: Owner::Mapping(map) }
        }

        /// Where it can be used: a mapping in its process, memory of the heap in the copies of each child as well.
        pub(super) fn home(&self) -> Home {
            match &self.owner {
                Owner::Heap(_) => Home::everywhere(),
                Owner::Mapping(mapping) => mapping.home(),
            }
        }

        pub(super) fn base(&self) -> *mut u8 {
            self.base.as_ptr()
        }

        pub(super) fn len(&self) -> usize {
            self.len
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            if let Owner::Heap(layout) = &self.owner {
                // SAFETY: `heap` allocated `base` with this very layout, and drop runs once.
                unsafe { std::alloc::dealloc(self.base.as_ptr(), *layout) }
            }
        }
    }
}

/// What the kernel can be told of a region.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Huge pages are welcome.
    HugePages,
    /// Every page is about to be written for the first time.
    FillForWriting,
    /// Every page is about to be used, and holds something already.
    FillForReading,
}

/// A range of memory that several threads or processes read and write.
pub(crate) struct Region {
    #[cfg(not(loom))]
    memory: memory::Memory,
    /// From how many bytes on a copy goes another way; see [`crate::copy`].
    #[cfg(not(loom))]
    string_from: usize,
    #[cfg(loom)]
    words: Vec<AtomicU64>,
    #[cfg(loom)]
    parked: crate::futex::LoomQueue,
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region").field("len", &self.len()).finish()
    }
}

impl Region {
    /// Zeroed memory of this process.
    pub(crate) fn heap(len: usize) -> Self {
        #[cfg(not(loom))]
        return Self::over(memory::Memory::heap(len));
        #[cfg(loom)]
        return Self {
            words: (0..len.div_ceil(8)).map(|_| AtomicU64::new(0)).collect(),
            parked: crate::futex::LoomQueue::default(),
        };
    }

    #[cfg(not(loom))]
    fn over(memory: memory::Memory) -> Self {
        let string_from = crate::copy::string_from(memory.len());
        Self { memory, string_from }
    }

    /// Memory behind a descriptor.
    #[cfg(not(loom))]
    pub(crate) fn map(map: Guarded) -> Self {
        Self::over(memory::Memory::map(map))
    }

    /// Where the memory can be used.
    pub(crate) fn home(&self) -> Home {
        #[cfg(not(loom))]
        return self.memory.home();
        #[cfg(loom)]
        Home::everywhere()
    }

    /// Where the memory stands in this process; for `/proc`, not for access.
    #[cfg(not(loom))]
    pub(crate) fn address(&self) -> usize {
        self.memory.base().addr()
    }

    /// Tells the kernel how the whole region is used. One system call, and the time to fill pages if it asks for that.
    #[cfg(not(loom))]
    pub(crate) fn advise(&self, advice: Advice) -> rustix::io::Result<()> {
        use rustix::mm::Advice as Kernel;
        let advice = match advice {
            Advice::HugePages => Kernel::LinuxHugepage,
            Advice::FillForWriting => Kernel::LinuxPopulateWrite,
            Advice::FillForReading => Kernel::LinuxPopulateRead,
        };
        // SAFETY: the range is the region's own, and none of the three kinds of advice changes or removes what stands in
        // it, in this process.
        unsafe { rustix::mm::madvise(self.memory.base().cast(), self.len(), advice) }
    }

    /// Bytes in the region.
    pub(crate) fn len(&self) -> usize {
        #[cfg(not(loom))]
        return self.memory.len();
        #[cfg(loom)]
        return self.words.len() * 8;
    }

    /// The word at a byte offset.
    ///
    /// # Panics
    /// If the offset is not a multiple of 8 or lies outside: offsets come from layouts that were checked at the door,
    /// never from a peer.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        #[cfg(not(loom))]
        {
            #[cfg(any(test, fuzzing))]
            steps::count(1);
            assert!(
                offset.is_multiple_of(8) && offset < self.len() && self.len() - offset >= 8,
                "word at {offset} of {}",
                self.len()
            );
            // SAFETY: the assertion keeps the eight bytes inside the region.
            let at = unsafe { self.memory.base().add(offset) };
            // SAFETY: `at` is 8-aligned (base is page-aligned), valid for as long as `self`, and every access to
            // control words in this crate is atomic and of this size.
            unsafe { AtomicU64::from_ptr(at.cast()) }
        }
        #[cfg(loom)]
        &self.words[offset / 8]
    }

    /// Sleeps while the low half of the word is `expected`; see [`crate::futex`].
    pub(crate) fn futex_wait(&self, offset: usize, expected: u32, until_ns: Option<u64>) -> crate::futex::Woken {
        #[cfg(not(loom))]
        return crate::futex::wait(self.futex(offset), expected, until_ns);
        #[cfg(loom)]
        {
            let _ = until_ns;
            self.parked.wait(self.word(offset), expected)
        }
    }

    /// Wakes up to `count` sleepers on the word; says how many. One system call.
    pub(crate) fn futex_wake(&self, offset: usize, count: u32) -> u32 {
        #[cfg(not(loom))]
        return crate::futex::wake(self.futex(offset), count);
        #[cfg(loom)]
        self.parked.wake(self.word(offset), count)
    }

    #[cfg(not(loom))]
    fn futex(&self, offset: usize) -> &core::sync::atomic::AtomicU32 {
        let word = self.word(offset);
        // SAFETY: the low half of a live, 8-aligned word on a little-endian target; it is only handed to the kernel,
        // which compares and never writes it.
        unsafe { core::sync::atomic::AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// `count` words from a byte offset on.
    ///
    /// # Panics
    /// As [`word`](Self::word), for the whole range.
    #[inline]
    fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        #[cfg(not(loom))]
        {
            #[cfg(any(test, fuzzing))]
            steps::count(count);
            assert!(
                offset.is_multiple_of(8) && offset <= self.len() && count <= (self.len() - offset) / 8,
                "{count} words at {offset} of {}",
                self.len()
            );
            // SAFETY: the assertion keeps all of the words inside the region.
            let at = unsafe { self.memory.base().add(offset) };
            // SAFETY: aligned and inside as asserted; atomics may be shared, and live as long as `self`.
            unsafe { core::slice::from_raw_parts(at.cast::<AtomicU64>(), count) }
        }
        #[cfg(loom)]
        &self.words[offset / 8..offset / 8 + count]
    }

    /// Copies whole words in, by relaxed stores: a racing reader sees old or new words, never a data race.
    #[inline]
    pub(crate) fn store_words(&self, offset: usize, words: &[u64]) {
        for (to, word) in self.words(offset, words.len()).iter().zip(words) {
            to.store(*word, Ordering::Relaxed);
        }
    }

    /// Copies whole words out, by relaxed loads.
    #[inline]
    pub(crate) fn load_words(&self, offset: usize, words: &mut [u64]) {
        for (from, word) in self.words(offset, words.len()).iter().zip(words) {
            *word = from.load(Ordering::Relaxed);
        }
    }

    /// Copies bytes in. The range belongs to the caller until it publishes it.
    ///
    /// # Panics
    /// If the range lies outside the region.
    pub(crate) fn copy_in(&self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.len() && bytes.len() <= self.len() - offset, "range outside the region");
        #[cfg(not(loom))]
        {
            // SAFETY: the assertion keeps the range inside the region.
            let to = unsafe { self.memory.base().add(offset) };
            // SAFETY: `to` is valid for `bytes.len()` bytes; `bytes` is private memory, so the two do not overlap; by
            // the protocol nobody else touches an unpublished range.
            unsafe { crate::copy::into_shared(to, bytes, self.string_from) }
        }
        #[cfg(loom)]
        for (i, byte) in bytes.iter().enumerate() {
            let at = offset + i;
            let word = self.word(at / 8 * 8);
            let shift = at % 8 * 8;
            let old = word.load(Ordering::Relaxed) & !(0xff << shift);
            word.store(old | u64::from(*byte) << shift, Ordering::Relaxed);
        }
    }

    /// Reads a published range in place.
    ///
    /// # Safety
    /// Nobody may write the range while the slice lives: its writer keeps the protocol (it published the range and
    /// writes it again only after it was given back). That is the assumption of the trust mode `Checked`.
    ///
    /// # Panics
    /// If the range lies outside the region.
    #[cfg(not(loom))]
    pub(crate) unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset <= self.len() && len <= self.len() - offset, "range outside the region");
        // SAFETY: the assertion keeps the range inside the region.
        let at = unsafe { self.memory.base().add(offset) };
        // SAFETY: valid for `len` bytes for as long as `self`; unwritten meanwhile by the caller's promise.
        unsafe { core::slice::from_raw_parts(at, len) }
    }

    /// Copies bytes out that a peer may be writing: what was there, each byte as of some moment of the copy. Nothing is
    /// assumed of the peer.
    ///
    /// # Panics
    /// If the range lies outside the region.
    #[cfg(not(loom))]
    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) {
        assert!(offset <= self.len() && to.len() <= self.len() - offset, "range outside the region");
        // SAFETY: the assertion keeps the range inside the region.
        let from = unsafe { self.memory.base().add(offset) };
        // SAFETY: `from` is valid for `to.len()` bytes as asserted, and shared memory of which `to` is no part.
        unsafe { copy_out::out_of_shared(from, to) }
    }

    /// Asks for a line to be read soon. A hint; no effect on values.
    #[inline]
    pub(crate) fn prefetch_for_read(&self, offset: usize) {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        {
            let word = self.word(offset).as_ptr();
            // SAFETY: PREFETCHT0 changes no architectural state and cannot fault; the address is inside the region.
            unsafe {
                core::arch::asm!("prefetcht0 [{}]", in(reg) word, options(nostack, preserves_flags, readonly));
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
        let _ = offset;
    }

    /// Asks for a line in exclusive state, ahead of a store. A hint; no effect on values.
    #[inline]
    pub(crate) fn prefetch_for_write(&self, offset: usize) {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        {
            let word = self.word(offset).as_ptr();
            // SAFETY: PREFETCHW changes no architectural state and cannot fault; the address is inside the region.
            unsafe {
                core::arch::asm!("prefetchw [{}]", in(reg) word, options(nostack, preserves_flags, readonly));
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
        let _ = offset;
    }
}
