//! The header word of a frame: its first eight bytes, and the store by which it becomes visible.
//!
//! ```text
//! header word   63        36  35   32  31            0
//!               lap (28 bits) | kind   | payload bytes |
//! ```
//!
//! Zero is "nothing here yet". The lap is an extra check: what makes the ring right is that a header is cleared before
//! its predecessor is published.

use crate::spsc::cursor::frame_bytes;

const KIND_SHIFT: u32 = 32;
const KIND_BITS: u64 = 0xf;
const LAP_SHIFT: u32 = 36;
const LAP_BITS: u64 = (1 << 28) - 1;

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

/// A header word that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Bytes of the payload in the ring.
    pub(super) len: u32,
}

impl Header {
    #[inline(always)]
    pub(super) fn to_word(self, lap: u64) -> u64 {
        (lap & LAP_BITS) << LAP_SHIFT | (self.kind as u64) << KIND_SHIFT | u64::from(self.len)
    }

    /// Bytes of payload of an inline frame of this lap, if the word is the header of one; its length is unchecked.
    #[inline(always)]
    pub(super) fn inline_len(word: u64, lap: u64) -> Option<usize> {
        (word >> KIND_SHIFT == (lap & LAP_BITS) << (LAP_SHIFT - KIND_SHIFT) | Kind::Inline as u64)
            .then_some(word as u32 as usize)
    }

    /// From a peer's word: `None` unless it is of this lap and its frame ends within `to_end` bytes.
    #[inline(always)]
    pub(super) fn from_word(word: u64, lap: u64, to_end: usize) -> Option<Self> {
        let kind = match word >> KIND_SHIFT & KIND_BITS {
            1 => Kind::Inline,
            2 => Kind::Pad,
            3 => Kind::Block,
            _ => return None,
        };
        let header = Self { kind, len: word as u32 };
        (word >> LAP_SHIFT == lap & LAP_BITS && header.bytes() <= to_end).then_some(header)
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
    fn a_word_gives_back_what_it_was_made_of_in_its_own_lap_only() {
        for (kind, len, lap) in [(Kind::Inline, 0, 0), (Kind::Pad, 8, 1), (Kind::Block, 16, u64::MAX >> 12)] {
            let header = Header { kind, len };
            assert_eq!(Header::from_word(header.to_word(lap), lap, header.bytes()), Some(header));
            assert_eq!(Header::from_word(header.to_word(lap), lap.wrapping_add(1), header.bytes()), None);
        }
    }

    #[test]
    fn impossible_words_are_refused() {
        let short = Header { kind: Kind::Inline, len: 25 }.to_word(0);
        assert_eq!(Header::from_word(short, 0, 32), None, "48 bytes before an end that is 32 away");
        for word in [UNPUBLISHED, 4 << KIND_SHIFT, u64::MAX, 1 << KIND_SHIFT | u64::from(u32::MAX)] {
            assert_eq!(Header::from_word(word, 0, 1 << 30), None, "{word:#x}");
        }
    }
}
