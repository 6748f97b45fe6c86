//! The reading side: payloads in place or copied out, and blocks given back.
#![allow(unsafe_code)] // Payloads in place: the one soundness assumption of `Checked`, which callers from outside give.

#[cfg(not(loom))]
use std::ops::Deref;
use std::sync::Arc;

#[cfg(not(loom))]
use super::Returned;
use super::{Arena, ArenaLayout, BlockRef};
use crate::error::Error;
#[cfg(not(loom))]
use crate::segment::ReadOnly;
use crate::segment::{HEADER_BYTES, Memory, Role, Segment};
use crate::sync::{AtomicU32, Ordering};

/// Reads blocks that were lent, and gives them back.
#[derive(Debug)]
pub struct ArenaReader {
    arena: Arena,
    /// The life of each block that was read or discarded last: each is once, or somebody could still be reading a block
    /// that was given back. Zero is no life.
    used: Box<[AtomicU32]>,
}

impl ArenaReader {
    /// The reader of an arena that is a section of another segment.
    pub(crate) fn new(memory: Arc<Memory>, offset: usize, layout: ArenaLayout) -> Self {
        Self::of(Arena::whole(memory, offset, layout))
    }

    pub(crate) fn of(arena: Arena) -> Self {
        let used = (0..arena.layout.blocks()).map(|_| AtomicU32::new(0)).collect();
        Self { arena, used }
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

    /// A payload in place, for the modes in which the peer is taken to keep the protocol. The name and the length are
    /// checked whatever the peer does. The block is given back when this is dropped.
    ///
    /// # Safety
    /// Nobody writes those bytes until this is dropped, in this process or another: the block of that name was handed over
    /// by [`Block::lend`](super::Block::lend), and its owner neither reclaims it nor writes it before it is given back. Of
    /// a peer that is isolated nobody can know that: [`copy_out`](Self::copy_out) assumes nothing.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no such block, the length exceeds it, or this life of it was read already.
    #[cfg(not(loom))]
    pub unsafe fn lent(&self, at: BlockRef, len: usize) -> Result<Lent<'_>, Error> {
        // SAFETY: the caller promises the same of the same bytes.
        let bytes = unsafe { self.in_place(at, len) }?;
        if !self.use_up(at) {
            return Err(Error::Corrupt { what: "block that was read already", found: at.to_word(), at: 0 });
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

    /// Gives a block back that is not read, or was copied out. A name that is no block of this arena is ignored, and so is
    /// one that was read already.
    pub fn discard(&self, at: BlockRef) {
        if self.use_up(at) {
            self.give_back(at);
        }
    }

    /// Says whether this is the first use of this life of a block.
    fn use_up(&self, at: BlockRef) -> bool {
        // ORDERING: Relaxed: the exchange decides between two users of one name; nothing is published by it.
        let used = self.used.get(at.index as usize).map(|used| used.swap(at.generation, Ordering::Relaxed));
        used.is_some_and(|used| used != at.generation)
    }

    /// Whether there is such a block and it is as long as that: for who makes room for a copy.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if not.
    pub fn admit(&self, at: BlockRef, len: usize) -> Result<(), Error> {
        self.check(at, len).map(drop)
    }

    /// The payload of a frame in place, for the frame that keeps its block lent. Whoever holds the frame gives the block
    /// back when it has read it.
    #[cfg(not(loom))]
    pub(crate) fn bytes(&self, at: BlockRef, len: usize) -> Result<&[u8], Error> {
        // SAFETY: by the assumption of `Checked` the producer, of our own user, does not write a block between the frame's
        // publication and the block's return. One in this process cannot: its claim is used up when the frame is there.
        unsafe { self.in_place(at, len) }
    }

    /// A payload in place.
    ///
    /// # Safety
    /// Nobody writes those bytes while they are read.
    #[cfg(not(loom))]
    unsafe fn in_place(&self, at: BlockRef, len: usize) -> Result<&[u8], Error> {
        let offset = self.check(at, len)?;
        let blocks = &self.arena.blocks;
        // SAFETY: the caller promises that nobody writes them.
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

    /// A payload in place, for the modes in which the peer is taken to keep the protocol. The name and the length are
    /// checked whatever the peer does.
    ///
    /// # Safety
    /// Nobody writes those bytes as long as they are read, in this process or another: the call for which the block was
    /// filled is not finished before, and its owner writes it no more until then. Of a peer that is isolated nobody can
    /// know that: [`copy_out`](Self::copy_out) assumes nothing.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no such block or the length exceeds it.
    #[cfg(not(loom))]
    pub unsafe fn read(&self, at: BlockRef, len: usize) -> Result<&[u8], Error> {
        // SAFETY: the caller promises the same of the same bytes.
        unsafe { self.0.in_place(at, len) }
    }

    /// Whether there is such a block; see [`ArenaReader::admit`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] if not.
    pub fn admit(&self, at: BlockRef, len: usize) -> Result<(), Error> {
        self.0.admit(at, len)
    }

    /// Copies a payload out; see [`ArenaReader::copy_out`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no such block or it is shorter.
    #[cfg(not(loom))]
    pub fn copy_out(&self, at: BlockRef, to: &mut [u8]) -> Result<(), Error> {
        self.0.copy_out(at, to)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::arena::small;

    #[test]
    fn what_the_owner_appends_the_reader_sees_in_place() {
        let (owner, reader) = small();
        let mut block = owner.allocate(300).unwrap();
        assert!(block.append(&[1; 100]) && block.append(&[2; 200]));
        assert!(!block.append(&[3]), "one byte over what was asked for");
        let len = block.len();
        let at = block.lend();
        // SAFETY: the block was lent, and its owner does nothing more with it.
        let bytes = unsafe { reader.lent(at, len) }.unwrap();
        assert_eq!((bytes.len(), bytes[99], bytes[100], bytes[299]), (300, 1, 2, 2));
    }

    #[test]
    fn a_life_of_a_block_is_read_or_given_back_once() {
        let (owner, reader) = small();
        // SAFETY: in this test the owner writes nothing at all.
        let lent = |at| unsafe { reader.lent(at, 1000) };
        let at = owner.allocate(1000).unwrap().lend();
        let reading = lent(at).unwrap();
        assert!(matches!(lent(at), Err(Error::Corrupt { .. })));
        reader.discard(at);
        assert!(owner.allocate(1000).is_none(), "it is with its reader");
        drop(reading);
        let again = owner.allocate(1000).unwrap().lend();
        assert!(lent(at).is_err(), "a former life");
        assert!(lent(again).is_ok());
    }

    #[test]
    fn a_reference_outside_the_arena_or_a_length_over_its_block_is_corrupt() {
        let (_owner, reader) = small();
        for (index, len) in [(3, 1), (u32::MAX, 1), (0, 129), (2, 1025), (1, usize::MAX)] {
            let read = reader.bytes(BlockRef { index, generation: 1 }, len);
            assert!(matches!(read, Err(Error::Corrupt { .. })), "{index} {len}: {read:?}");
        }
        reader.discard(BlockRef { index: u32::MAX, generation: 1 });
    }

    #[test]
    fn blocks_do_not_overlap_each_other_or_the_words_before_them() {
        let (owner, reader) = small();
        let mut blocks: Vec<_> = [128, 128, 1024].map(|len| (owner.allocate(len).unwrap(), len)).into();
        for (i, (block, len)) in blocks.iter_mut().enumerate() {
            assert!(block.append(&vec![i as u8 + 1; *len]));
        }
        for (i, (block, len)) in blocks.iter().enumerate() {
            assert!(reader.bytes(block.at(), *len).unwrap().iter().all(|byte| *byte == i as u8 + 1));
        }
    }
}
