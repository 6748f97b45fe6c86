//! An allocator that counts. Every heap allocation of the process passes through it, whichever thread makes it.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, with a count of allocations (growing a block counts as one; freeing does not).
#[derive(Debug)]
pub struct CountingAllocator;

/// How often this process has allocated since its start.
#[must_use]
pub fn allocations() -> u64 {
    // ORDERING: Relaxed: a window's calls are over when it is read; the threads of a call are ordered by its reply.
    ALLOCATIONS.load(Ordering::Relaxed)
}

fn count() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every method hands its arguments unchanged to `System` and returns what it returns; counting touches one
// static word and does not allocate.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is also that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `GlobalAlloc::alloc_zeroed`'s contract, which is also that of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_len: usize) -> *mut u8 {
        count();
        // SAFETY: `block` came from one of the methods here, that is from `System`, with the same layout.
        unsafe { System.realloc(block, layout, new_len) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from one of the methods here, that is from `System`, with the same layout.
        unsafe { System.dealloc(block, layout) }
    }
}
