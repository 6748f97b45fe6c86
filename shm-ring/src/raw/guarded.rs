//! A file's memory between guards: addresses on which nothing can be read or written.
//!
//! Whatever a wrong offset, or a length that a peer made up, would reach beyond a segment is a fault at once, and never
//! another mapping of this process. Nor does the kernel have to be trusted to leave a gap: it puts mappings side by side.
#![allow(unsafe_code)] // It puts a mapping at a fixed address.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

use crate::fork::Home;

/// Bytes of a guard, at the least: a multiple of every page size that Linux has. They cost addresses and no memory.
const GUARD: usize = 64 << 10;

/// A mapping from this size on begins where a huge page can.
const HUGE_PAGE: usize = 2 << 20;

/// What this process may do with the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
    /// Of a file that nobody can write any more. A child made by fork keeps it.
    ReadFrozen,
}

/// The first bytes of a file, mapped. A child made by fork has nothing at these addresses, unless they are frozen.
pub(crate) struct Guarded {
    base: NonNull<u8>,
    len: usize,
    /// `None` once it is decided that it is not ours to unmap.
    whole: Option<MmapRaw>,
    home: Home,
}

// SAFETY: `base` points into `whole`, which is Send; a mapping may be used from, and removed on, any thread.
unsafe impl Send for Guarded {}
// SAFETY: as for `Send`: nothing here reads or writes the memory.
unsafe impl Sync for Guarded {}

impl Guarded {
    /// Maps the first `len` bytes of a file between guards, without touching them. Four system calls.
    pub(crate) fn map(fd: BorrowedFd<'_>, len: usize, access: Access) -> io::Result<Self> {
        let home = Home::of_system()?;
        let alignment = if len >= HUGE_PAGE { HUGE_PAGE } else { GUARD };
        let whole_len = GUARD + alignment + len.next_multiple_of(GUARD) + GUARD;
        // Memory of nobody, which `memmap2` reserves and removes; the file comes to stand inside.
        let whole = MmapRaw::from(MmapOptions::new().len(whole_len).no_reserve_swap().map_anon()?);
        let start = whole.as_mut_ptr();
        // SAFETY: the range is the reservation's own, and nobody has its address yet.
        unsafe { rustix::mm::mprotect(start.cast(), whole_len, MprotectFlags::empty()) }?;
        let front = (start.addr() + GUARD).next_multiple_of(alignment) - start.addr();
        // SAFETY: `front` is at most a guard and an alignment, which the reservation has before `len`.
        let base = unsafe { start.add(front) };
        let (protection, sharing) = match access {
            Access::Read => (ProtFlags::READ, MapFlags::SHARED),
            Access::ReadWrite => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED),
            Access::ReadFrozen => (ProtFlags::READ, MapFlags::PRIVATE),
        };
        // SAFETY: `base` is a multiple of every page size; the `len` bytes that are replaced, rounded up to pages, lie
        // inside the reservation with a guard before and behind, and nobody has their addresses.
        unsafe { rustix::mm::mmap(base.cast(), len, protection, sharing | MapFlags::FIXED, fd, 0) }?;
        if access != Access::ReadFrozen {
            // SAFETY: the range is the reservation's own; the advice changes nothing in this process.
            unsafe { rustix::mm::madvise(start.cast(), whole_len, Advice::LinuxDontFork) }?;
        }
        let base = NonNull::new(base).expect("a mapping is never at address zero");
        Ok(Self { base, len, whole: Some(whole), home })
    }

    /// Where the file's first byte stands.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The bytes, in place.
    ///
    /// # Safety
    /// The mapping was made with [`Access::ReadFrozen`], and nobody can write the file or change its size from before this
    /// call until the mapping is gone; every page of it is allocated.
    pub(crate) unsafe fn frozen(&self) -> &[u8] {
        // SAFETY: by the caller's promise the bytes do not change; the mapping has `len` of them for as long as `self` lives,
        // in a forked child too.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// The process that has it.
    pub(crate) fn home(&self) -> Home {
        self.home
    }

    /// Bytes between the guards, but for the rest of the last page.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // A child has a copy of this, but not of the mapping; something else may stand at the address by now.
        if !self.home.is_here() {
            std::mem::forget(self.whole.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::MemfdFlags;

    use super::*;

    /// The mappings of this process that touch a range: their ranges and permissions, in order.
    fn mappings(from: usize, to: usize) -> Vec<(usize, usize, String)> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let parsed = maps.lines().map(|line| {
            let mut fields = line.split_whitespace();
            let (start, end) = fields.next().unwrap().split_once('-').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            (number(start), number(end), fields.next().unwrap().to_owned())
        });
        parsed.filter(|(start, end, _)| *start < to && from < *end).collect()
    }

    #[test]
    fn nothing_can_be_touched_within_a_guard_before_and_behind() {
        for (access, expected) in [(Access::Read, "r--s"), (Access::ReadWrite, "rw-s"), (Access::ReadFrozen, "r--p")] {
            for len in [1, 4096, 70_007, HUGE_PAGE - 1, HUGE_PAGE, 3 * HUGE_PAGE + 5] {
                let fd = rustix::fs::memfd_create("guarded", MemfdFlags::CLOEXEC).unwrap();
                rustix::fs::ftruncate(&fd, len as u64).unwrap();
                let guarded = Guarded::map(fd.as_fd(), len, access).unwrap();
                let base = guarded.base().as_ptr().addr();
                let found = mappings(base - GUARD, base + len + GUARD);
                let [before, inside, behind] = found.as_slice() else { panic!("{len} bytes at {base:x}: {found:x?}") };
                assert!(before.0 <= base - GUARD && before.1 == base && before.2 == "---p", "{before:x?}");
                let end = inside.1;
                assert_eq!(*inside, (base, end, expected.to_owned()));
                assert!(end >= base + len && end - (base + len) < GUARD, "{inside:x?}");
                assert!(behind.0 == end && behind.1 >= base + len + GUARD && behind.2 == "---p", "{behind:x?}");
                if len >= HUGE_PAGE {
                    assert!(base.is_multiple_of(HUGE_PAGE), "no huge page can begin at {base:x}");
                }
            }
        }
    }
}
