//! How often a thread has looked at shared memory: what tests and fuzz targets bound the work of an operation by.
//!
//! A time limit would say more about the machine than about the code. Counted are words: one for each that is read,
//! written or asked for early, whatever comes of it. Payloads that are copied as bytes or read in place do not count.

use std::cell::Cell;

thread_local!(static TAKEN: Cell<usize> = const { Cell::new(0) });

/// Counts so many words.
#[inline]
pub(super) fn count(words: usize) {
    TAKEN.with(|taken| taken.set(taken.get().wrapping_add(words)));
}

/// Runs an operation that may look at `most` words.
///
/// # Panics
/// If it looked at more.
pub(crate) fn at_most<T>(most: usize, what: &str, operation: impl FnOnce() -> T) -> T {
    let before = TAKEN.get();
    let result = operation();
    let taken = TAKEN.get().wrapping_sub(before);
    assert!(taken <= most, "{what} looked at {taken} words, {most} are its bound");
    result
}
