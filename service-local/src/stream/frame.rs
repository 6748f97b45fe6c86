//! What a frame of a stream is: a word, then an item or a part of one.
//!
//! ```text
//! word   63                               32   31    8   7      0
//!        | bytes of the whole item (first part) | zero | kind   |
//! ```
//! The word is as long as a frame's header in the ring, so that the item behind it begins at a multiple of 16.

/// Bytes before the item.
pub(super) const WORD: usize = 8;

/// What a frame brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole item.
    Item,
    /// The first part of an item of so many bytes; what came of another one before is of no use.
    First(usize),
    /// A further part.
    Further,
    /// Nothing: no more will come.
    End,
}

impl Kind {
    pub(super) fn to_word(self) -> [u8; WORD] {
        let word = match self {
            Self::Item => 1,
            // Items are shorter than 2^32 bytes.
            Self::First(total) => 2 | (total as u64) << 32,
            Self::Further => 3,
            Self::End => 4,
        };
        word.to_le_bytes()
    }

    /// Takes a peer's frame apart; `None` if it is none of these.
    #[inline]
    pub(super) fn split(frame: &[u8]) -> Option<(Self, &[u8])> {
        let (word, item) = frame.split_first_chunk::<WORD>()?;
        let word = u64::from_le_bytes(*word);
        let kind = match word as u32 {
            1 => Self::Item,
            2 => Self::First((word >> 32) as usize),
            3 => Self::Further,
            4 => Self::End,
            _ => return None,
        };
        Some((kind, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_as_it_was_written_and_others_are_refused() {
        for kind in [Kind::Item, Kind::First(1 << 31), Kind::Further, Kind::End] {
            let frame = [&kind.to_word()[..], b"abc"].concat();
            assert_eq!(Kind::split(&frame), Some((kind, &b"abc"[..])));
        }
        for frame in [&[][..], &[1; 7], &[0; 8], &[5, 0, 0, 0, 0, 0, 0, 0], &[1, 1, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Kind::split(frame), None, "{frame:?}");
        }
    }
}
