//! Copies out of memory that somebody may be writing who keeps no protocol.
//!
//! An ordinary copy of such bytes would be a data race. These are read by relaxed atomic loads, of words where they can
//! be, and from [`STRING_FROM`] bytes on by the string instruction, which the compiler's model does not see into.
#![allow(unsafe_code)] // Reads over raw pointers, one by an instruction that Rust has no name for.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Measured, of cached memory: at 64 bytes words take 4.9 ns and the instruction 7.1 ns, at 1 KiB 39 and 32, at 16 KiB
/// 1170 and 231.
const STRING_FROM: usize = 513;

const WORD: usize = 8;

/// Copies `to.len()` bytes from `from` on, each as it was at some moment of the copy. What is in `to` afterwards is
/// private, and does not change.
///
/// # Safety
/// `from` is valid for reads of `to.len()` bytes, which do not overlap `to`. Others may write them meanwhile, in any way.
#[inline]
pub(super) unsafe fn out_of_shared(from: *mut u8, to: &mut [u8]) {
    if to.len() < STRING_FROM {
        // SAFETY: the caller's promise is the same.
        unsafe { by_words(from, to) }
    } else {
        // SAFETY: the caller's promise is the same.
        unsafe { by_string(from, to) }
    }
}

/// # Safety
/// As for [`out_of_shared`].
#[inline]
unsafe fn by_words(from: *mut u8, to: &mut [u8]) {
    // Frames and blocks begin at a multiple of eight; only parts of them do not.
    let lead = from.align_offset(WORD).min(to.len());
    let (first, rest) = to.split_at_mut(lead);
    // SAFETY: the first `lead` bytes of the range.
    unsafe { by_bytes(from, first) }
    let (words, last) = rest.as_chunks_mut::<WORD>();
    // SAFETY: `lead` is at most the length.
    let from = unsafe { from.add(lead) };
    for (i, to) in words.iter_mut().enumerate() {
        // SAFETY: word `i` lies inside the range, which is at least as long as `words`.
        let at = unsafe { from.add(i * WORD) };
        // SAFETY: aligned after the lead, valid as above, and read by an atomic, so that no writer makes it a race.
        let word = unsafe { AtomicU64::from_ptr(at.cast()) };
        *to = word.load(Ordering::Relaxed).to_ne_bytes();
    }
    // SAFETY: as long as all words, which are inside the range.
    let behind = unsafe { from.add(words.len() * WORD) };
    // SAFETY: the last bytes of the range.
    unsafe { by_bytes(behind, last) }
}

/// # Safety
/// As for [`out_of_shared`].
#[inline]
unsafe fn by_bytes(from: *mut u8, to: &mut [u8]) {
    for (i, to) in to.iter_mut().enumerate() {
        // SAFETY: byte `i` lies inside the range.
        let at = unsafe { from.add(i) };
        // SAFETY: valid as above, without alignment, and read by an atomic.
        *to = unsafe { AtomicU8::from_ptr(at) }.load(Ordering::Relaxed);
    }
}

/// # Safety
/// As for [`out_of_shared`].
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn by_string(from: *mut u8, to: &mut [u8]) {
    // SAFETY: reads as many bytes as `to` has from `from` on, which is valid for them, and writes them to `to`, which is
    // borrowed for that; the direction flag is clear by the calling convention. The compiler assumes nothing of what is
    // read, so whoever writes there meanwhile decides about values only.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") to.len() => _,
            inout("rdi") to.as_mut_ptr() => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// As for [`out_of_shared`].
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn by_string(from: *mut u8, to: &mut [u8]) {
    // SAFETY: the caller's promise is the same.
    unsafe { by_words(from, to) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_alignment_is_copied_out_exactly() {
        let mut from: Vec<u8> = (0..5_000_u32).map(|i| (i * 7 + i / 251) as u8).collect();
        let lens =
            if cfg!(miri) { vec![0, 1, 7, 8, 9, 63, 513] } else { (0..200).chain(500..530).chain([4096]).collect() };
        for len in lens {
            for skew in [0, 1, 3, 7, 8, 9, 64] {
                let mut to = vec![0xee; len];
                let expected = from[skew..][..len].to_vec();
                // SAFETY: `skew + len` bytes are less than `from` has, and `to` is another vector.
                unsafe { out_of_shared(from[skew..].as_mut_ptr(), &mut to) };
                assert_eq!(to, expected, "{len} at {skew}");
            }
        }
    }
}
