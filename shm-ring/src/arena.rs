//! Room for payloads that are too large for a cell or a slot.
//!
//! An arena is a row of blocks in a few size classes. One process allocates from it: the one that writes the payloads.
//! Its free lists and generations are private to it, so no peer can break them. The other side reads a block in place,
//! by its name ([`BlockRef`]), or copies it out, and gives it back by one store into a word that only it writes
//! (`returned`); the owner sweeps these words when a class has run dry. There is no shared free list and no read-modify-write between
//! processes; what a killed reader had lent dies with the segment.
//!
//! An arena in a segment of its own has one owner and one reader for life: each is taken once. The two sides keep one
//! promise that nothing here can check: a name is used for the payload that it was given for, and that is written no more.
//! So to copy a payload out is safe, and whoever breaks the promise gets other bytes; to read it in place takes the word of
//! the caller that it is kept ([`ArenaReader::lent`], [`RequestBlocks::read`]).

mod layout;
mod owner;
mod reader;

use std::sync::Arc;

pub use layout::{ArenaLayout, CLASSES, Class, MAX_BLOCK};
pub use owner::{ArenaOwner, Block};
#[cfg(not(loom))]
pub use reader::Lent;
pub use reader::{ArenaReader, RequestBlocks};

#[cfg(not(loom))]
use crate::error::Error;
use crate::peer::PeerWord;
#[cfg(not(loom))]
use crate::segment::HEADER_BYTES;
use crate::segment::Memory;

/// Names a block and which of its lives, towards the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRef {
    index: u32,
    generation: u32,
}

impl BlockRef {
    /// Both halves in one word.
    pub fn to_word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// From a peer's word; [`ArenaReader`] checks it at use.
    pub fn from_word(word: u64) -> Self {
        Self { index: word as u32, generation: (word >> 32) as u32 }
    }
}

/// Where something begins in shared memory.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    pub(crate) memory: Arc<Memory>,
    pub(crate) offset: usize,
}

/// Words in which a reader gives blocks back that lie in a segment which it cannot write.
#[derive(Debug, Clone)]
pub struct Returned {
    pub(crate) at: Spot,
    pub(crate) words: u32,
}

/// Where an arena's words and blocks are: what either side is made of.
#[derive(Debug, Clone)]
pub(crate) struct Arena {
    returned: Spot,
    blocks: Spot,
    layout: ArenaLayout,
}

impl Arena {
    /// `returned` words and blocks, one behind the other.
    pub(crate) fn whole(memory: Arc<Memory>, offset: usize, layout: ArenaLayout) -> Self {
        let blocks = Spot { memory: Arc::clone(&memory), offset: offset + layout.returned_bytes() };
        Self { returned: Spot { memory, offset }, blocks, layout }
    }

    /// Blocks in one place and their `returned` words in another.
    #[cfg(not(loom))]
    pub(crate) fn apart(blocks: Spot, returned: Spot, layout: ArenaLayout) -> Self {
        Self { returned, blocks, layout }
    }

    /// The blocks of a segment whose own `returned` words are not used.
    #[cfg(not(loom))]
    fn beside(memory: Arc<Memory>, layout: ArenaLayout, returned: Returned) -> Result<Self, Error> {
        if layout.blocks() > returned.words {
            let (found, expected) = (layout.blocks().into(), returned.words.into());
            return Err(Error::BadSegment { what: "number of blocks", found, expected });
        }
        let blocks = Spot { memory, offset: HEADER_BYTES + layout.returned_bytes() };
        Ok(Self { returned: returned.at, blocks, layout })
    }

    fn returned(&self, index: u32) -> PeerWord<'_> {
        PeerWord::at(self.returned.memory.region(), self.returned.offset + index as usize * 8)
    }
}

/// Both sides of an arena of two small blocks and one larger one.
#[cfg(all(test, not(loom)))]
fn small() -> (ArenaOwner, ArenaReader) {
    let segment = small_segment();
    (ArenaOwner::over(&segment).unwrap(), ArenaReader::over(&segment).unwrap())
}

#[cfg(all(test, not(loom)))]
fn small_segment() -> crate::segment::Segment<ArenaLayout> {
    let classes = [Class { block: 128, count: 2 }, Class { block: 1024, count: 1 }, Class::default()];
    crate::segment::Segment::heap(ArenaLayout::new(classes).unwrap(), 1)
}
