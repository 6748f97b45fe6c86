//! The shape of an arena: classes of blocks, and where each block stands.

use crate::error::Error;
use crate::raw::LINE_PAIR;
use crate::segment::{HEADER_BYTES, Layout};

/// Most size classes of one arena.
pub const CLASSES: usize = 3;

/// Largest block of one arena, in bytes.
pub const MAX_BLOCK: usize = 1 << 30;

/// One size class: how large its blocks are, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Class {
    /// Bytes of a block; a multiple of 128.
    pub block: u32,
    /// Blocks in the class.
    pub count: u32,
}

/// The shape of an arena: classes by growing block size, then one `returned` word per block. By default without blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArenaLayout {
    pub(super) classes: [Class; CLASSES],
}

impl ArenaLayout {
    /// Checks the classes; a class without blocks is allowed.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if block sizes are not multiples of 128, do not grow, or the numbers are absurd.
    pub fn new(classes: [Class; CLASSES]) -> Result<Self, Error> {
        let mut below = 0;
        for class in classes {
            let fits = class.block as usize <= MAX_BLOCK && class.count <= 1 << 20;
            let block = u64::from(class.block);
            if class.count > 0 && (!block.is_multiple_of(LINE_PAIR as u64) || block <= below || !fits) {
                return Err(Error::BadSegment { what: "arena class", found: block, expected: below });
            }
            below = below.max(block);
        }
        Ok(Self { classes })
    }

    pub(crate) fn from_words(words: &[u64]) -> Result<Self, Error> {
        let mut classes = [Class::default(); CLASSES];
        for (class, word) in classes.iter_mut().zip(words) {
            *class = Class { block: *word as u32, count: (*word >> 32) as u32 };
        }
        Self::new(classes)
    }

    pub(crate) fn to_words(self) -> [u64; CLASSES] {
        self.classes.map(|class| u64::from(class.count) << 32 | u64::from(class.block))
    }

    pub(crate) fn blocks(&self) -> u32 {
        self.classes.iter().map(|class| class.count).sum()
    }

    /// Bytes of the `returned` words, which stand before the blocks.
    pub(crate) fn returned_bytes(&self) -> usize {
        (self.blocks() as usize * 8).next_multiple_of(LINE_PAIR)
    }

    /// Bytes of the blocks.
    pub(crate) fn block_bytes(&self) -> usize {
        self.classes.iter().map(|class| class.block as usize * class.count as usize).sum()
    }

    /// Bytes of both, one behind the other.
    pub(crate) fn section_bytes(&self) -> usize {
        self.returned_bytes() + self.block_bytes()
    }

    /// Bytes of the largest payload that can ever fit.
    pub fn largest(&self) -> usize {
        self.classes.iter().filter(|class| class.count > 0).map(|class| class.block as usize).max().unwrap_or(0)
    }

    /// Offset from the first block and size of a block.
    pub(super) fn block(&self, index: u32) -> Option<(usize, usize)> {
        let mut at = 0;
        let mut first = 0;
        for class in self.classes {
            if index - first < class.count {
                return Some((at + (index - first) as usize * class.block as usize, class.block as usize));
            }
            first += class.count;
            at += class.block as usize * class.count as usize;
        }
        None
    }
}

/// A segment of its own that holds one arena and nothing else: how a lane grows.
impl Layout for ArenaLayout {
    const KIND: u64 = 0x0061_7265_6e61; // "arena"

    fn params(&self) -> [u64; 8] {
        let [a, b, c] = self.to_words();
        [a, b, c, 0, 0, 0, 0, 0]
    }

    fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
        Self::from_words(&params[..CLASSES])
    }

    fn bytes(&self) -> usize {
        HEADER_BYTES + self.section_bytes()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn class(block: u32, count: u32) -> Class {
        Class { block, count }
    }

    #[test]
    fn classes_must_grow_and_be_whole_line_pairs() {
        for bad in [[class(100, 1), class(0, 0), class(0, 0)], [class(256, 1), class(128, 1), class(0, 0)]] {
            assert!(matches!(ArenaLayout::new(bad), Err(Error::BadSegment { .. })));
        }
    }
}
