//! Copies of payloads into shared memory, by the way that is fastest for their size.
//!
//! Below [`STREAMED_FROM`] an ordinary copy: the bytes stay in this processor's cache and travel to the other one line
//! by line. From there on non-temporal stores, which go past the caches: the reader then finds large payloads in the
//! shared cache or in memory, wherever the two processors are, instead of fetching each dirty line from ours.
#![allow(unsafe_code)] // Non-temporal stores are intrinsics over raw pointers.

/// Bytes from which on a payload is written past the caches.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) const STREAMED_FROM: usize = 4096;

/// Copies `bytes` to `to`, which nobody else touches until it is published.
///
/// Whatever way is chosen, an ordinary release store after the call publishes the bytes.
///
/// # Safety
/// `to` is valid for writes of `bytes.len()` bytes and does not overlap `bytes`.
#[inline]
pub(crate) unsafe fn into_shared(to: *mut u8, bytes: &[u8]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if bytes.len() >= STREAMED_FROM {
        // SAFETY: the caller's promise is the same.
        return unsafe { streamed::copy(to, bytes) };
    }
    if bytes.len() <= 64 {
        // SAFETY: the caller's promise is the same.
        unsafe { small(to, bytes) }
    } else {
        // SAFETY: as the caller promises.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }
}

/// As [`into_shared`], for up to 64 bytes: in place, because a call of the library's copy costs more than the copy.
///
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
        // SAFETY: `N` bytes from the beginning, as above; no alignment is asked for.
        unsafe { to.cast::<[u8; N]>().write_unaligned(*first) }
        // SAFETY: the last `N` bytes of the range.
        unsafe { behind.cast::<[u8; N]>().write_unaligned(*last) }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod streamed {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    const LINE: usize = crate::raw::LINE;
    const LANE: usize = size_of::<__m128i>();

    /// As [`super::into_shared`], by whole lines past the caches; the ends, which share their lines, as usual.
    ///
    /// SSE2, which every x86-64 processor has: wider stores fill the same line buffer and measured the same.
    ///
    /// # Safety
    /// As for [`super::into_shared`].
    #[inline(never)]
    pub(super) unsafe fn copy(to: *mut u8, bytes: &[u8]) {
        let before = to.align_offset(LINE).min(bytes.len());
        let (head, rest) = bytes.split_at(before);
        let (lines, tail) = rest.split_at(rest.len() / LINE * LINE);
        // SAFETY: `head` is the first part of what `to` is valid for.
        unsafe { core::ptr::copy_nonoverlapping(head.as_ptr(), to, head.len()) };
        // SAFETY: `before` is at most `bytes.len()`.
        let mut at = unsafe { to.add(before) };
        for lane in lines.chunks_exact(LANE) {
            // SAFETY: a lane has as many bytes, and the load asks for no alignment.
            let bytes = unsafe { _mm_loadu_si128(lane.as_ptr().cast()) };
            // SAFETY: `at` began at a line and went on by whole lanes, inside what `to` is valid for.
            unsafe { _mm_stream_si128(at.cast(), bytes) };
            // SAFETY: at most the end of the range, since `lines` is part of `bytes`.
            at = unsafe { at.add(LANE) };
        }
        // SAFETY: `at` is where `tail` belongs, the last part of what `to` is valid for.
        unsafe { core::ptr::copy_nonoverlapping(tail.as_ptr(), at, tail.len()) };
        // Such stores are not ordered by a later release store; this fence makes them so.
        // SAFETY: SSE, which every x86-64 processor has.
        unsafe { _mm_sfence() }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #[test]
    fn every_length_and_alignment_is_copied_exactly() {
        let from: Vec<u8> = (0..20_000_u32).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut to = vec![0; from.len() + 256];
        for len in (0..300).chain([4095, 4096, 4097, 4159, 4160, 8191, 8192, 12_345, 20_000]) {
            for skew in [0, 1, 8, 15, 16, 24, 63, 64, 100] {
                to.fill(0xee);
                let source = &from[from.len() - len..];
                // SAFETY: `skew + len` bytes are less than the vector has, and it does not overlap `from`.
                #[allow(unsafe_code)]
                unsafe {
                    super::into_shared(to[skew..].as_mut_ptr(), source);
                }
                assert!(to[..skew].iter().all(|byte| *byte == 0xee), "{len} at {skew}: before");
                assert_eq!(&to[skew..skew + len], source, "{len} at {skew}");
                assert!(to[skew + len..].iter().all(|byte| *byte == 0xee), "{len} at {skew}: behind");
            }
        }
    }
}
