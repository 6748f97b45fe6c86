//! The header word of a frame: its first eight bytes, and the store by which it becomes visible.
//!
//! ```text
//! header word   63                              36  35   32  31            0
//!               position / 16, its low 28 bits    | kind   | payload bytes |
//! ```
//!
//! Zero is "nothing here yet". The position is an extra check: what makes the ring right is that a header is cleared
//! before its predecessor is published.

use crate::spsc::cursor::{Position, frame_bytes};

const UPPER: u32 = 32;
const KIND_BITS: u64 = 0xf;

/// Nothing here yet.
pub(super) const UNPUBLISHED: u64 = 0;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Kind {
    /// The payload itself.
    Inline = 1,
    /// Nothing: the rest of the memory before a wrap.
    Pad = 2,
    /// The name of an arena block and the payload's length, a word each.
    Block = 3,
}

/// What the upper half of a header is compared with, at once, for the frames that are not looked at any closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Common(u64);

impl Common {
    /// Those with the payload in the ring.
    pub(super) const INLINE: Self = Self(Kind::Inline as u64);
    /// None: no upper half has so many bits.
    pub(super) const NONE: Self = Self(1 << UPPER);
}

/// A header word that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Bytes of the payload in the ring.
    pub(super) len: u32,
}

/// The upper half of a header: positions are multiples of 16, so there is room for the kind below them.
#[inline(always)]
fn stamp(at: Position, kind: Kind) -> u32 {
    at.to_word() as u32 | kind as u32
}

impl Header {
    /// Of a frame with so many bytes of payload in it, which are no more than a ring has.
    #[inline(always)]
    pub(super) fn inline(len: usize) -> Self {
        Self { kind: Kind::Inline, len: len as u32 }
    }

    /// The word for a frame at `at`.
    #[inline(always)]
    pub(super) fn to_word(self, at: Position) -> u64 {
        u64::from(stamp(at, self.kind)) << UPPER | u64::from(self.len)
    }

    /// Bytes of payload, if the word is the header of an inline frame at `at` and those are `common`; unchecked.
    #[inline(always)]
    pub(super) fn inline_len(word: u64, at: Position, common: Common) -> Option<usize> {
        (word >> UPPER == u64::from(at.to_word() as u32) | common.0).then_some(word as u32 as usize)
    }

    /// From a peer's word: `None` unless it belongs to a frame at `at` that ends within `to_end` bytes.
    pub(super) fn from_word(word: u64, at: Position, to_end: usize) -> Option<Self> {
        let kind = match word >> UPPER & KIND_BITS {
            1 => Kind::Inline,
            2 => Kind::Pad,
            3 => Kind::Block,
            _ => return None,
        };
        let header = Self { kind, len: word as u32 };
        ((word >> UPPER) as u32 == stamp(at, kind) && header.bytes() <= to_end).then_some(header)
    }

    /// Bytes of the whole frame.
    #[inline(always)]
    pub(super) fn bytes(self) -> usize {
        frame_bytes(self.len as usize)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_word_gives_back_what_it_was_made_of_at_its_own_position_only() {
        for (kind, len, at) in [(Kind::Inline, 0, 0), (Kind::Pad, 8, 48), (Kind::Block, 16, u64::MAX - 15)] {
            let (header, at) = (Header { kind, len }, Position::from_word(at));
            assert_eq!(Header::from_word(header.to_word(at), at, header.bytes()), Some(header));
            let inline = |common| Header::inline_len(header.to_word(at), at, common);
            assert_eq!(inline(Common::INLINE), (kind == Kind::Inline).then_some(len as usize));
            assert_eq!(inline(Common::NONE), None);
            for other in [16, 64, 1 << 20, 1 << 31].map(|bytes| at.plus(bytes)) {
                assert_eq!(Header::from_word(header.to_word(at), other, 1 << 30), None);
                assert_eq!(Header::inline_len(header.to_word(at), other, Common::INLINE), None);
            }
        }
    }

    #[test]
    fn impossible_words_are_refused() {
        let start = Position::from_word(0);
        let short = Header { kind: Kind::Inline, len: 25 }.to_word(start);
        assert_eq!(Header::from_word(short, start, 32), None, "48 bytes before an end that is 32 away");
        for word in [UNPUBLISHED, 4 << UPPER, u64::MAX, 1 << UPPER | u64::from(u32::MAX)] {
            assert_eq!(Header::from_word(word, start, 1 << 30), None, "{word:#x}");
        }
    }
}
