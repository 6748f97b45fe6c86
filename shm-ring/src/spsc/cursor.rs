//! All index arithmetic of the ring: positions, which only grow, and offsets, which wrap.

use crate::raw::LINE;

/// Bytes in which everything is counted: frames begin at, and are as long as, multiples of it.
pub(super) const UNIT: usize = 16;

/// Bytes of a header word.
pub(super) const HEADER: usize = 8;

/// Kept free behind every frame, so that the header that follows it can be cleared before the frame is published: a
/// ring is never completely full.
const RESERVE: u64 = if cfg!(weaken = "spsc_no_reserve") { 0 } else { UNIT as u64 };

/// Bytes that a frame with so many bytes of payload takes. No payload over the inline limit gets here.
#[inline(always)]
pub(super) const fn frame_bytes(len: usize) -> usize {
    (len + HEADER + UNIT - 1) & !(UNIT - 1)
}

/// A count of bytes since the ring was made, modulo 2^64. What it names in memory is for the window to say, which takes
/// positions modulo its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position(u64);

impl Position {
    /// From a control word; rounded down to where a frame can begin.
    pub(super) fn from_word(word: u64) -> Self {
        Self(word & !(UNIT as u64 - 1))
    }

    #[inline(always)]
    pub(super) fn to_word(self) -> u64 {
        self.0
    }

    /// For the window, which takes it modulo its length; `usize` has 64 bits here.
    #[inline(always)]
    pub(super) fn to_index(self) -> usize {
        self.0 as usize
    }

    #[inline(always)]
    pub(super) fn plus(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes as u64))
    }

    /// Where the line of this position begins.
    #[inline(always)]
    pub(super) fn line(self) -> Self {
        Self(self.0 & !(LINE as u64 - 1))
    }

    /// Of two positions that are less than half the counter apart.
    #[inline]
    pub(super) fn is_ahead_of(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) as i64 > 0
    }

    /// Bytes from `earlier` to here. Right over the turn of the counter as well.
    #[inline(always)]
    pub(super) fn since(self, earlier: Self) -> u64 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// The capacity, and what follows from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// Capacity less one.
    mask: u64,
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Where its header is.
    pub(super) start: Position,
    /// Bytes left unused before it, up to the end of the memory; zero unless it wraps.
    pub(super) pad: usize,
}

impl Geometry {
    /// For a capacity that is a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        Self { mask: capacity as u64 - 1 }
    }

    #[inline(always)]
    pub(super) fn capacity(self) -> u64 {
        self.mask + 1
    }

    /// Bytes from a position to the end of the memory; at least [`UNIT`].
    #[inline(always)]
    pub(super) fn to_end(self, at: Position) -> usize {
        (self.capacity() - (at.0 & self.mask)) as usize
    }

    /// Where a frame of `bytes` goes that is to follow `tail`: there, or at the beginning if it would not be contiguous.
    #[inline(always)]
    pub(super) fn place(self, tail: Position, bytes: usize) -> Place {
        let to_end = self.to_end(tail);
        if bytes <= to_end { Place { start: tail, pad: 0 } } else { Place { start: tail.plus(to_end), pad: to_end } }
    }

    /// Up to where frames may reach while the consumer needs everything from `head` on.
    #[inline(always)]
    pub(super) fn limit(self, head: Position) -> Position {
        Position(head.0.wrapping_add(self.capacity() - RESERVE))
    }

    /// Frames on their way, by what both ends counted. A producer counts after it publishes, so a frame may be received
    /// an instant before it is counted.
    pub(super) fn queued(self, received: u64, sent: u64) -> u64 {
        u64::try_from(sent.wrapping_sub(received) as i64).unwrap_or(0).min(self.capacity())
    }

    /// Bytes on their way, likewise.
    pub(super) fn used(self, head: Position, tail: Position) -> usize {
        let used = tail.since(head);
        if used > u64::MAX / 2 { 0 } else { used.min(self.capacity()) as usize }
    }

    /// Most bytes that frames ever take.
    pub(super) fn most_used(self) -> usize {
        (self.capacity() - RESERVE) as usize
    }

    /// How far the position that the consumer tells can be behind the tail: it lags by up to a quarter of the ring, and
    /// by one frame more at the moment when that is given back, and a producer that saw the exact head is a ring ahead.
    pub(super) fn most_behind(self) -> u64 {
        2 * (self.capacity() - RESERVE) + self.release_from()
    }

    /// From how many unreleased bytes on the consumer tells the producer: a quarter of the ring.
    #[inline(always)]
    pub(super) fn release_from(self) -> u64 {
        self.capacity() / 4
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_frame_up_to_half_the_ring_fits_an_empty_ring_wherever_it_wraps() {
        for capacity in [64, 128, 4096] {
            let ring = Geometry::new(capacity);
            for start in (0..2 * capacity as u64).step_by(UNIT).map(|at| Position(at.wrapping_sub(capacity as u64))) {
                for bytes in (UNIT..=capacity / 2).step_by(UNIT) {
                    let place = ring.place(start, bytes);
                    let needed = place.start.plus(bytes).since(start);
                    assert!(needed <= ring.limit(start).since(start), "{bytes} at {start:?} of {capacity}");
                    assert!(bytes <= ring.to_end(place.start));
                }
            }
        }
    }

    #[test]
    fn a_frame_is_its_header_and_payload_rounded_up_to_sixteen() {
        let bytes = [0, 1, 8, 9, 24, 25].map(frame_bytes);
        assert_eq!(bytes, [16, 16, 16, 32, 32, 48]);
    }
}
