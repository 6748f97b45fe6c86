//! The reading side: payloads in place or copied out, and blocks given back.
#![allow(unsafe_code)] // One function gives a payload in place: the one soundness assumption of `Checked`.

#[cfg(not(loom))]
use std::ops::Deref;
use std::sync::Arc;

use super::{Arena, ArenaLayout, BlockRef};
#[cfg(not(loom))]
use super::{Returned, Spot};
use crate::error::Error;
#[cfg(not(loom))]
use crate::segment::ReadOnly;
use crate::segment::{HEADER_BYTES, Memory, Role, Segment};
use crate::sync::{AtomicBool, Ordering};

/// Reads blocks that were lent, and gives them back.
#[derive(Debug)]
pub struct ArenaReader {
    arena: Arena,
    /// Blocks that are being read in place: they are not given back meanwhile, nor read a second time.
    reading: Box<[AtomicBool]>,
}

impl ArenaReader {
    pub(crate) fn new(segment: Arc<Memory>, offset: usize, layout: ArenaLayout) -> Self {
        Self::of(Arena::whole(segment, offset, layout))
    }

    /// The reader of blocks in one place that are given back in another.
    #[cfg(not(loom))]
    pub(crate) fn apart(blocks: Spot, returned: Spot, layout: ArenaLayout) -> Self {
        Self::of(Arena { returned, blocks, layout })
    }

    fn of(arena: Arena) -> Self {
        let reading = (0..arena.layout.blocks()).map(|_| AtomicBool::new(false)).collect();
        Self { arena, reading }
    }

    /// The reader of an arena that has a segment to itself. There is one for each segment.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`] if it has, or had, a reader.
    pub fn over(segment: &Segment<ArenaLayout>) -> Result<Self, Error> {
        segment.take_role(Role::Consumer)?;
        Ok(Self::new(segment.memory(), HEADER_BYTES, *segment.layout()))
    }

    /// The same for memory that this process cannot write: blocks are given back elsewhere. What its maker does with it
    /// is not known, so payloads are to be copied out.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if there are more blocks than words.
    #[cfg(not(loom))]
    pub fn over_read_only(segment: &ReadOnly<ArenaLayout>, returned: Returned) -> Result<Self, Error> {
        Ok(Self::of(Arena::beside(segment.memory(), *segment.layout(), returned)?))
    }

    /// A payload in place, for the trust mode `Checked`: the peer is taken to keep the protocol and not to write a
    /// block that it has lent. The name and the length are checked whatever the peer does. The block is given back when
    /// this is dropped.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no such block, the length exceeds it, or it is being read.
    #[cfg(not(loom))]
    pub fn lent(&self, at: BlockRef, len: usize) -> Result<Lent<'_>, Error> {
        let bytes = self.bytes(at, len)?;
        // ORDERING: Acquire, pairs with the Release in the drop of `Lent`: an earlier reader of the block is done.
        if self.reading[at.index as usize].swap(true, Ordering::Acquire) {
            return Err(Error::Corrupt { what: "block that is being read", found: at.to_word(), at: 0 });
        }
        Ok(Lent { reader: self, at, bytes })
    }

    /// Copies the first bytes of a payload out, as many as `to` has. Nothing is assumed of the peer: it may be writing the
    /// block meanwhile, but not what is in `to` afterwards.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no such block or it is shorter.
    #[cfg(not(loom))]
    pub fn copy_out(&self, at: BlockRef, to: &mut [u8]) -> Result<(), Error> {
        let offset = self.check(at, to.len())?;
        self.arena.blocks.memory.region().copy_out(self.arena.blocks.offset + offset, to);
        Ok(())
    }

    /// Gives a block back that is not read, or was copied out. One store. A name that is no block of this arena is
    /// ignored, and so is one that is being read.
    pub fn discard(&self, at: BlockRef) {
        // ORDERING: Acquire, as in `lent`.
        if self.reading.get(at.index as usize).is_some_and(|reading| !reading.load(Ordering::Acquire)) {
            self.give_back(at);
        }
    }

    /// Whether there is such a block and it is as long as that: for who makes room for a copy.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if not.
    pub fn admit(&self, at: BlockRef, len: usize) -> Result<(), Error> {
        self.check(at, len).map(drop)
    }

    /// A payload in place. The caller gives the block back when it has read it.
    #[cfg(not(loom))]
    pub(crate) fn bytes(&self, at: BlockRef, len: usize) -> Result<&[u8], Error> {
        let offset = self.check(at, len)?;
        let blocks = &self.arena.blocks;
        // SAFETY: by the assumption of `Checked` the peer, of our own user, does not write the block between its
        // publication and its return; the caller holds the slot, the frame or the reply, which is what keeps it lent.
        Ok(unsafe { blocks.memory.region().bytes(blocks.offset + offset, len) })
    }

    /// Where a block begins behind the first one, if there is such a block and it is as long as that.
    pub(crate) fn check(&self, at: BlockRef, len: usize) -> Result<usize, Error> {
        let Some((offset, size)) = self.arena.layout.block(at.index) else {
            return Err(Error::Corrupt { what: "block index", found: at.index.into(), at: 0 });
        };
        if len > size {
            return Err(Error::Corrupt { what: "block length", found: len as u64, at: at.index.into() });
        }
        Ok(offset)
    }

    /// Gives a block back after its last read. One store. A name that is no block of this arena is ignored.
    pub(crate) fn give_back(&self, at: BlockRef) {
        if at.index < self.arena.layout.blocks() {
            // ORDERING: Release, pairs with the Acquire load in `ArenaOwner::sweep`: our reads are over.
            self.arena.returned(at.index).store(at.generation.into(), Ordering::Release);
        }
    }
}

/// A lent payload, read in place. Dropped, its block goes back to the owner.
#[cfg(not(loom))]
#[must_use = "dropped, the block is given back unread"]
#[derive(Debug)]
pub struct Lent<'a> {
    reader: &'a ArenaReader,
    at: BlockRef,
    bytes: &'a [u8],
}

#[cfg(not(loom))]
impl Deref for Lent<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

#[cfg(not(loom))]
impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.reader.give_back(self.at);
        // ORDERING: Release, pairs with the Acquire in `lent` and `discard`: our reads are over.
        self.reader.reading[self.at.index as usize].store(false, Ordering::Release);
    }
}

/// Reads blocks that their owner takes back by itself, when the call is done that they were filled for.
#[derive(Debug)]
pub struct RequestBlocks(ArenaReader);

impl RequestBlocks {
    pub(crate) fn new(segment: Arc<Memory>, offset: usize, layout: ArenaLayout) -> Self {
        Self(ArenaReader::new(segment, offset, layout))
    }

    /// The reader of an arena that has a segment to itself. There is one for each segment.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`] if it has, or had, a reader.
    pub fn over(segment: &Segment<ArenaLayout>) -> Result<Self, Error> {
        ArenaReader::over(segment).map(Self)
    }

    /// A payload in place, for the trust mode `Checked`: to be read until the call is finished and not longer. By the
    /// assumption of that mode its owner does not write it before.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no such block or the length exceeds it.
    #[cfg(not(loom))]
    pub fn read(&self, at: BlockRef, len: usize) -> Result<&[u8], Error> {
        self.0.bytes(at, len)
    }

    /// Whether there is such a block; see [`ArenaReader::admit`].
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn admit(&self, at: BlockRef, len: usize) -> Result<(), Error> {
        self.0.admit(at, len)
    }

    /// Copies a payload out; see [`ArenaReader::copy_out`].
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[cfg(not(loom))]
    pub fn copy_out(&self, at: BlockRef, to: &mut [u8]) -> Result<(), Error> {
        self.0.copy_out(at, to)
    }
}
