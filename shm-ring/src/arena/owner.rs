//! The allocating side: free lists, and the blocks in its hands.

use std::fmt;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

#[cfg(not(loom))]
use super::Returned;
use super::{Arena, ArenaLayout, BlockRef, CLASSES};
use crate::error::Error;
use crate::segment::{HEADER_BYTES, Memory, Role, Segment};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

const NONE: u32 = u32::MAX;

/// The allocating side. Lock-free.
pub struct ArenaOwner {
    arena: Arena,
    /// Per class: upper half a count that makes each head unique, lower half the first free block or `NONE`.
    free: [CachePadded<AtomicU64>; CLASSES],
    next: Box<[AtomicU32]>,
    /// The life of each block; zero is never used, so a zeroed `returned` word matches nothing.
    generations: Box<[AtomicU32]>,
    /// Whether a block is with the reader: its generation, or zero.
    lent: Box<[AtomicU32]>,
}

impl fmt::Debug for ArenaOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArenaOwner").field("layout", &self.arena.layout).finish_non_exhaustive()
    }
}

impl ArenaOwner {
    /// The owner of an arena that is a section of another segment.
    pub(crate) fn new(memory: Arc<Memory>, offset: usize, layout: ArenaLayout) -> Self {
        Self::of(Arena::whole(memory, offset, layout))
    }

    pub(crate) fn of(arena: Arena) -> Self {
        let layout = arena.layout;
        let blocks = layout.blocks();
        let zeros = || (0..blocks).map(|_| AtomicU32::new(0)).collect();
        let next: Box<[AtomicU32]> = (0..blocks).map(|i| AtomicU32::new(i + 1)).collect();
        let mut first = 0;
        let free = layout.classes.map(|class| {
            let head = if class.count == 0 { NONE } else { first };
            if let Some(last) = (first + class.count).checked_sub(1).filter(|_| class.count > 0) {
                next[last as usize].store(NONE, Ordering::Relaxed);
            }
            first += class.count;
            CachePadded::new(AtomicU64::new(head.into()))
        });
        Self { arena, free, next, generations: zeros(), lent: zeros() }
    }

    /// The owner of an arena that has a segment to itself. There is one for each segment.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`] if it has, or had, an owner.
    pub fn over(segment: &Segment<ArenaLayout>) -> Result<Self, Error> {
        segment.take_role(Role::Producer)?;
        Ok(Self::new(segment.memory(), HEADER_BYTES, *segment.layout()))
    }

    /// The same, where the reader cannot write the segment and gives blocks back elsewhere.
    ///
    /// # Errors
    /// As [`over`](Self::over); [`Error::BadSegment`] if there are more blocks than words.
    #[cfg(not(loom))]
    pub fn over_with(segment: &Segment<ArenaLayout>, returned: Returned) -> Result<Self, Error> {
        let arena = Arena::beside(segment.memory(), *segment.layout(), returned)?;
        segment.take_role(Role::Producer)?;
        Ok(Self::of(arena))
    }

    /// Bytes of the largest payload that can ever fit.
    pub fn largest(&self) -> usize {
        self.arena.layout.largest()
    }

    /// Takes a block of at least `len` bytes, the smallest that is free. `None` if all that would fit are lent.
    pub fn allocate(&self, len: usize) -> Option<Block<'_>> {
        let mut first = 0;
        for (class, free) in self.arena.layout.classes.iter().zip(&self.free) {
            let range = first..first + class.count;
            first = range.end;
            if class.count == 0 || (class.block as usize) < len {
                continue;
            }
            let popped = self.pop(free).or_else(|| {
                self.sweep(free, range);
                self.pop(free)
            });
            if let Some(index) = popped {
                let generation = self.generations[index as usize].load(Ordering::Relaxed).wrapping_add(1).max(1);
                self.generations[index as usize].store(generation, Ordering::Relaxed);
                return Some(Block { owner: self, at: BlockRef { index, generation }, written: 0, limit: len });
            }
        }
        None
    }

    /// A block again that was suspended, with what was written to it and may be.
    pub(crate) fn resume(&self, at: BlockRef, written: usize, limit: usize) -> Block<'_> {
        Block { owner: self, at, written, limit }
    }

    /// Bytes of the largest block that could be had at this moment; zero if all are lent. Sweeps every class.
    pub(crate) fn largest_free(&self) -> usize {
        let mut first = 0;
        let mut largest = 0;
        for (class, free) in self.arena.layout.classes.iter().zip(&self.free) {
            self.sweep(free, first..first + class.count);
            first += class.count;
            if free.load(Ordering::Relaxed) as u32 != NONE {
                largest = largest.max(class.block as usize);
            }
        }
        largest
    }

    fn pop(&self, free: &AtomicU64) -> Option<u32> {
        // ORDERING: Acquire, pairs with the Release in `push`: the last holder is done with the block.
        let mut head = free.load(Ordering::Acquire);
        loop {
            let index = head as u32;
            if index == NONE {
                return None;
            }
            let next = self.next[index as usize].load(Ordering::Relaxed);
            let after = (head >> 32).wrapping_add(1) << 32 | u64::from(next);
            // ORDERING: Acquire, as for the load above: a failed exchange gives the head that is tried next.
            match free.compare_exchange(head, after, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(found) => head = found,
            }
        }
    }

    fn push(&self, free: &AtomicU64, index: u32) {
        let mut head = free.load(Ordering::Relaxed);
        loop {
            self.next[index as usize].store(head as u32, Ordering::Relaxed);
            let after = (head >> 32).wrapping_add(1) << 32 | u64::from(index);
            // ORDERING: Release, pairs with the Acquire in `pop`.
            match free.compare_exchange(head, after, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(found) => head = found,
            }
        }
    }

    /// Takes back the lent blocks that the reader returned. Costs a load per lent block of the class.
    fn sweep(&self, free: &AtomicU64, blocks: std::ops::Range<u32>) {
        for index in blocks {
            let lent = self.lent[index as usize].load(Ordering::Relaxed);
            if lent == 0 {
                continue;
            }
            // ORDERING: Acquire, pairs with the Release store in `ArenaReader::give_back`: the reader's reads of the
            // block are over before we write it again.
            let back = self.arena.returned(index).load(Ordering::Acquire).decode(|word| {
                // Weakened (`arena_any_life`), what was returned once is taken back for ever.
                word == u64::from(lent) || (cfg!(weaken = "arena_any_life") && word != 0)
            });
            // ORDERING: Relaxed: the exchange decides between two threads that sweep at once, `push` orders the rest.
            if back && self.lent[index as usize].compare_exchange(lent, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                self.push(free, index);
            }
        }
    }

    fn free_list(&self, index: u32) -> &AtomicU64 {
        let mut end = 0;
        let class = self.arena.layout.classes.iter().position(|class| {
            end += class.count;
            index < end
        });
        &self.free[class.expect("blocks belong to a class")]
    }

    /// Takes back a block by its name: one whose reader is done with it, or never learnt of it. Once; a second time, or
    /// with the name of another life, does nothing.
    ///
    /// # Panics
    /// If the block is not ours.
    pub fn reclaim(&self, at: BlockRef) {
        let lent = &self.lent[at.index as usize];
        // ORDERING: Relaxed: the exchange decides between this and a sweep, so that a block is freed once; `push` orders
        // the rest.
        let ours = lent.compare_exchange(at.generation, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if at.generation != 0 && ours {
            self.push(self.free_list(at.index), at.index);
        }
    }
}

/// A block in the allocator's hands, filled by appending. Dropped without being lent, it goes back at once.
pub struct Block<'a> {
    owner: &'a ArenaOwner,
    at: BlockRef,
    written: usize,
    limit: usize,
}

impl fmt::Debug for Block<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("at", &self.at).field("written", &self.written).finish_non_exhaustive()
    }
}

impl Block<'_> {
    /// Appends; says whether there was room.
    #[must_use = "a refused write is a shorter payload"]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.limit - self.written {
            return false;
        }
        self.copy_in(self.written, bytes);
        self.written += bytes.len();
        true
    }

    /// Writes over part of what was appended, and on behind it.
    ///
    /// # Panics
    /// If it leaves a gap, or there is no room for it.
    pub(crate) fn write_at(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.written && bytes.len() <= self.limit - at, "{} bytes at {at} of a block", bytes.len());
        self.copy_in(at, bytes);
        self.written = self.written.max(at + bytes.len());
    }

    fn copy_in(&mut self, at: usize, bytes: &[u8]) {
        let Arena { blocks, layout, .. } = &self.owner.arena;
        let (offset, _) = layout.block(self.at.index).expect("the block is ours");
        blocks.memory.region().copy_in(blocks.offset + offset + at, bytes);
    }

    /// Bytes appended so far.
    pub fn len(&self) -> usize {
        self.written
    }

    /// Whether nothing was appended yet.
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// Leaves the block to be taken up again by its name: [`ArenaOwner::resume`].
    pub(crate) fn suspend(self) -> BlockRef {
        let at = self.at;
        std::mem::forget(self);
        at
    }

    /// The block's name, for the frame. The block stays ours: it goes back when this is dropped. For requests, whose
    /// block is free again once the reply is there.
    pub fn at(&self) -> BlockRef {
        self.at
    }

    /// Hands the block to the reader: it comes back when that drops its [`Lent`](super::Lent) or discards it, or by [`ArenaOwner::reclaim`].
    pub fn lend(self) -> BlockRef {
        let at = self.at;
        self.owner.lent[at.index as usize].store(at.generation, Ordering::Relaxed);
        std::mem::forget(self);
        at
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        self.owner.push(self.owner.free_list(self.at.index), self.at.index);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::arena::{ArenaReader, RequestBlocks, small, small_segment};

    #[test]
    fn lent_blocks_come_back_only_by_the_readers_word_for_this_life() {
        let (owner, reader) = small();
        let lent = owner.allocate(1000).unwrap().lend();
        assert!(owner.allocate(1000).is_none());
        reader.discard(BlockRef { generation: lent.generation + 1, ..lent });
        assert!(owner.allocate(1000).is_none());
        reader.discard(lent);
        let again = owner.allocate(1000).unwrap();
        assert_eq!(again.at().index, lent.index);
        assert_ne!(again.at().generation, lent.generation);
    }

    #[test]
    fn an_arena_has_one_owner_and_one_reader_for_life() {
        let segment = small_segment();
        drop((ArenaOwner::over(&segment).unwrap(), ArenaReader::over(&segment).unwrap()));
        let ours = std::process::id();
        assert!(matches!(ArenaOwner::over(&segment), Err(Error::AlreadyAttached { pid, .. }) if pid == ours));
        assert!(matches!(ArenaReader::over(&segment), Err(Error::AlreadyAttached { .. })));
        assert!(matches!(RequestBlocks::over(&segment), Err(Error::AlreadyAttached { .. })));
    }

    #[test]
    fn a_block_is_freed_once_however_often_it_is_claimed_back() {
        let (owner, reader) = small();
        let lent = owner.allocate(1000).unwrap().lend();
        reader.discard(lent);
        owner.reclaim(lent);
        owner.reclaim(lent);
        let held = owner.allocate(1000).unwrap();
        assert!(owner.allocate(1000).is_none(), "one block, one holder");
        owner.reclaim(lent);
        assert!(owner.allocate(1000).is_none(), "the name of a former life frees nothing");
        drop(held);
    }

    #[test]
    fn a_small_payload_takes_a_larger_block_when_its_class_is_used_up() {
        let (owner, _reader) = small();
        let held = [owner.allocate(1).unwrap(), owner.allocate(128).unwrap(), owner.allocate(1).unwrap()];
        assert!(owner.allocate(1).is_none());
        drop(held);
        assert!(owner.allocate(1).is_some());
        assert!(owner.allocate(1025).is_none());
        assert_eq!(owner.largest(), 1024);
    }

    #[test]
    fn threads_never_hold_the_same_block() {
        let (owner, _reader) = small();
        let holders: [AtomicU32; 3] = Default::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..if cfg!(miri) { 20 } else { 20_000 } {
                        if let Some(block) = owner.allocate(1) {
                            let holder = &holders[block.at().index as usize];
                            assert_eq!(holder.swap(1, Ordering::Relaxed), 0);
                            holder.store(0, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn a_block_and_its_life_travel_in_one_word() {
        let at = BlockRef { index: 3, generation: 7 };
        assert_eq!(at.to_word(), 7 << 32 | 3);
        assert_eq!(BlockRef::from_word(at.to_word()), at);
    }

    #[test]
    fn the_largest_block_that_could_be_had_is_told_as_it_is_now() {
        let (owner, reader) = small();
        assert_eq!(owner.largest_free(), 1024);
        let lent = owner.allocate(1000).unwrap().lend();
        assert_eq!(owner.largest_free(), 128);
        let held = [owner.allocate(1), owner.allocate(1)];
        assert_eq!(owner.largest_free(), 0);
        reader.discard(lent);
        assert_eq!(owner.largest_free(), 1024, "what was given back counts at once");
        drop(held);
    }

    #[test]
    fn a_block_is_written_over_where_it_was_written_and_on_behind_that() {
        let (owner, reader) = small();
        let mut block = owner.allocate(1000).unwrap();
        assert!(block.append(&[1; 100]));
        block.write_at(90, &[2; 20]);
        block.write_at(0, &[3; 10]);
        assert_eq!(block.len(), 110);
        let mut copy = [0; 110];
        reader.copy_out(block.at(), &mut copy).unwrap();
        assert_eq!((copy[9], copy[10], copy[89], copy[90], copy[109]), (3, 1, 1, 2, 2));
    }

    /// Or a thread that was stopped in the middle of taking a block would take one that is in use.
    #[test]
    fn a_free_list_never_looks_as_it_did_before() {
        let (owner, _reader) = small();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            assert!(seen.insert(owner.free[0].load(Ordering::Relaxed)));
            let block = owner.allocate(1).unwrap();
            assert!(seen.insert(owner.free[0].load(Ordering::Relaxed)));
            drop(block);
        }
    }
}
