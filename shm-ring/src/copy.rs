//! Copies of payloads into shared memory, by the way that is fastest for their size.
//!
//! | bytes | way |
//! |---|---|
//! | up to 64 | in place, by two overlapping halves: a call of the library costs more than the copy |
//! | below [`string_from`] | the library's copy |
//! | from there on | the string instruction, where the processor says that it is fast |
//!
//! The string instruction takes a line for writing without reading what it held, which the other side had. Non-temporal
//! stores spare that too, but push the payload out to memory: measured, they lose to it in every class.
#![allow(unsafe_code)] // Copies over raw pointers, one of them by an instruction that Rust has no name for.

/// Longest copy that is made in place.
const SMALL: usize = 64;

/// From how many bytes on payloads are copied by the string instruction into memory of so many bytes. Large memory
/// spills into the cache that both sides share, and there the library's copy is good for longer.
pub(crate) fn string_from(footprint: usize) -> usize {
    const SPILLS: usize = 1 << 20;
    match (is_string_fast(), footprint) {
        (false, _) => usize::MAX,
        (true, ..=SPILLS) => 1024,
        (true, _) => 2048,
    }
}

fn is_string_fast() -> bool {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    return std::arch::is_x86_feature_detected!("ermsb");
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    false
}

/// Copies `bytes` to `to`, which nobody else touches until it is published; from `string_from` bytes on by the string
/// instruction. An ordinary release store after the call publishes the bytes, whatever the way.
///
/// # Safety
/// `to` is valid for writes of `bytes.len()` bytes and does not overlap `bytes`. `string_from` is what [`string_from`]
/// gave, or more.
#[inline(always)]
pub(crate) unsafe fn into_shared(to: *mut u8, bytes: &[u8], string_from: usize) {
    if bytes.len() <= SMALL {
        // SAFETY: the caller's promise is the same.
        unsafe { small(to, bytes) }
    } else if bytes.len() < string_from {
        // SAFETY: as the caller promises.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    } else {
        // SAFETY: the caller's promise is the same.
        unsafe { by_string(to, bytes) }
    }
}

/// # Safety
/// As for [`into_shared`].
#[inline(always)]
unsafe fn small(to: *mut u8, bytes: &[u8]) {
    match bytes.len() {
        // SAFETY: the caller's promise is the same, here and below.
        32.. => unsafe { ends::<32>(to, bytes) },
        // SAFETY: see above.
        16.. => unsafe { ends::<16>(to, bytes) },
        // SAFETY: see above.
        8.. => unsafe { ends::<8>(to, bytes) },
        // SAFETY: see above.
        4.. => unsafe { ends::<4>(to, bytes) },
        // SAFETY: see above.
        2.. => unsafe { ends::<2>(to, bytes) },
        // SAFETY: see above.
        _ => unsafe { ends::<1>(to, bytes) },
    }
}

/// Copies `N` to `2 * N` bytes as the first and the last `N`, which may overlap; fewer than `N` not at all.
///
/// # Safety
/// As for [`into_shared`].
#[inline(always)]
unsafe fn ends<const N: usize>(to: *mut u8, bytes: &[u8]) {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<N>(), bytes.last_chunk::<N>()) {
        // SAFETY: `N` is at most the length, so this is inside what `to` is valid for.
        let behind = unsafe { to.add(bytes.len() - N) };
        // SAFETY: the last `N` bytes of the range; no alignment is asked for.
        unsafe { behind.cast::<[u8; N]>().write_unaligned(*last) }
        // SAFETY: `N` bytes from the beginning, as above.
        unsafe { to.cast::<[u8; N]>().write_unaligned(*first) }
    }
}

/// # Safety
/// As for [`into_shared`].
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn by_string(to: *mut u8, bytes: &[u8]) {
    // SAFETY: reads `bytes` and writes as many bytes from `to` on, which is valid for them; the direction flag is clear
    // by the calling convention. Its stores may be seen in any order, but before those of later instructions.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") bytes.len() => _,
            inout("rdi") to => _,
            inout("rsi") bytes.as_ptr() => _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// As for [`into_shared`].
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn by_string(to: *mut u8, bytes: &[u8]) {
    // SAFETY: as the caller promises.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_alignment_is_copied_exactly() {
        let from: Vec<u8> = (0..9_000_u32).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut to = vec![0; from.len() + 256];
        for len in (0..300).chain([1023, 1024, 1025, 2047, 2048, 2049, 4096, 9_000]) {
            for skew in [0, 1, 8, 15, 16, 24, 63, 64, 100] {
                to.fill(0xee);
                let source = &from[from.len() - len..];
                // SAFETY: `skew + len` bytes are less than the vector has, and it does not overlap `from`.
                unsafe { into_shared(to[skew..].as_mut_ptr(), source, string_from(1 << 16)) };
                assert!(to[..skew].iter().all(|byte| *byte == 0xee), "{len} at {skew}: before");
                assert_eq!(&to[skew..skew + len], source, "{len} at {skew}");
                assert!(to[skew + len..].iter().all(|byte| *byte == 0xee), "{len} at {skew}: behind");
            }
        }
    }
}
