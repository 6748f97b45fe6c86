//! Frames before they are visible: one at a time, or as a batch.

use std::fmt;
use std::io;

use crate::arena::{ArenaOwner, Block, BlockRef};
use crate::error::ClaimError;
use crate::spsc::cursor::{HEADER, Position, UNIT, frame_bytes};
use crate::spsc::producer::{BLOCK_FRAME, Core, Look, Room};
use crate::spsc::word::{Header, Kind};
use crate::sync::Ordering;

/// A frame that nobody sees yet, to be filled in place. Dropped, it was never there.
///
/// [`commit`](Self::commit) sends what was written, which may be less than was claimed.
#[must_use = "a claim that is dropped is taken back"]
pub struct Claim<'a> {
    core: &'a mut Core,
    arena: Option<&'a ArenaOwner>,
    /// Where the commit goes, if not into the ring at once.
    draft: Option<&'a mut Draft>,
    room: Room,
    len: usize,
    written: usize,
    is_open: bool,
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("len", &self.len).field("written", &self.written).finish_non_exhaustive()
    }
}

impl<'a> Claim<'a> {
    #[inline(always)]
    pub(super) fn new(
        core: &'a mut Core,
        arena: Option<&'a ArenaOwner>,
        draft: Option<&'a mut Draft>,
        room: Room,
        len: usize,
    ) -> Self {
        Self { core, arena, draft, room, len, written: 0, is_open: true }
    }

    /// Bytes that the payload may have: what was claimed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing can be written, because nothing was claimed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes written so far: the length of the payload, if it is committed now.
    pub fn written(&self) -> usize {
        self.written
    }

    /// How far behind a multiple of 16 bytes the payload begins in both sides' memory: 8 in the ring, 0 in the arena.
    pub fn skew(&self) -> usize {
        if self.room.block.is_some() { 0 } else { HEADER % UNIT }
    }

    /// Appends to the payload.
    ///
    /// # Panics
    /// If there is no room for it in what was claimed.
    #[inline(always)]
    pub fn write(&mut self, bytes: &[u8]) {
        self.write_at(self.written, bytes);
    }

    /// Writes over part of the payload, and on behind it.
    ///
    /// # Panics
    /// If it leaves a gap behind what was written, or there is no room for it in what was claimed.
    #[inline(always)]
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) {
        assert!(
            at <= self.written && bytes.len() <= self.len - at,
            "{} bytes at {at} of a claim of {}, {} written",
            bytes.len(),
            self.len,
            self.written
        );
        if self.room.block.is_none() {
            let to = self.room.place.start.plus(HEADER + at);
            self.core.ring.frames.copy_in(to.to_index(), bytes);
        } else if let Some(mut block) = self.block() {
            block.write_at(at, bytes);
            block.suspend();
        }
        self.written = self.written.max(at + bytes.len());
    }

    /// Makes the payload visible, as far as it was written. Wait-free; a system call only if the consumer sleeps.
    ///
    /// In a batch it becomes visible with the batch.
    #[inline(always)]
    pub fn commit(mut self) {
        self.is_open = false;
        let header = self.header();
        let place = self.room.place;
        let tail = self.draft.as_ref().map_or(self.core.tail, |draft| draft.tail);
        let first = self.core.link(tail, place, header);
        let end = place.start.plus(header.bytes());
        match &mut self.draft {
            None => {
                self.core.clear(end);
                self.core.publish(first, end, 1);
            }
            Some(draft) => draft.add(self.core, first, end),
        }
    }

    #[inline(always)]
    fn header(&mut self) -> Header {
        let len = if self.room.block.is_none() { self.written } else { self.lend() };
        Header { kind: if self.room.block.is_none() { Kind::Inline } else { Kind::Block }, len: len as u32 }
    }

    /// The block that the payload goes into, if it does.
    fn block(&self) -> Option<Block<'a>> {
        let (arena, at) = self.arena.zip(self.room.block)?;
        Some(arena.resume(at, self.written, self.len))
    }

    /// Lends the block, and makes the frame name it. Gives the bytes that this takes.
    #[cold]
    fn lend(&mut self) -> usize {
        if let Some(block) = self.block() {
            let at = block.lend();
            if let Some(draft) = &mut self.draft {
                draft.blocks.push(at);
            }
            let body = self.room.place.start.plus(HEADER);
            for (i, word) in [at.to_word(), self.written as u64].into_iter().enumerate() {
                self.core.ring.header(body.plus(i * 8)).store(word, Ordering::Relaxed);
            }
        }
        BLOCK_FRAME
    }

    #[cold]
    fn abort(&mut self) {
        drop(self.block());
        self.core.count_aborted(1);
    }

    #[inline(always)]
    pub(super) fn send(mut self, payload: &[u8]) {
        self.write(payload);
        self.commit();
    }
}

impl Drop for Claim<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Nothing was published and the tail has not moved: the ring is as it was.
        if self.is_open {
            self.abort();
        }
    }
}

impl io::Write for Claim<'_> {
    /// Appends what fits.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.len - self.written);
        Claim::write(self, &bytes[..fits]);
        Ok(fits)
    }

    /// Does nothing: only a commit sends.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Frames of a batch that were committed to it.
#[derive(Debug)]
pub(super) struct Draft {
    /// Behind the last of them.
    tail: Position,
    frames: u64,
    /// The first header, held back.
    first: u64,
    /// Arena blocks that they name.
    blocks: Vec<BlockRef>,
}

impl Draft {
    #[inline(always)]
    fn add(&mut self, core: &Core, first: u64, end: Position) {
        if self.frames == 0 {
            self.first = first;
            if cfg!(weaken = "spsc_batch_first_header_first") {
                // ORDERING: Release, in a weakened twin only.
                core.ring.header(self.tail).store(first, Ordering::Release);
            }
        } else {
            // ORDERING: Relaxed: nobody looks here before the first header is published.
            core.ring.header(self.tail).store(first, Ordering::Relaxed);
        }
        self.tail = end;
        self.frames += 1;
    }
}

/// Frames that become visible together, by one store. Dropped, none of them was ever there.
#[must_use = "a batch that is dropped is taken back"]
pub struct Batch<'a> {
    core: &'a mut Core,
    arena: Option<&'a ArenaOwner>,
    draft: Draft,
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("frames", &self.draft.frames).finish_non_exhaustive()
    }
}

impl<'a> Batch<'a> {
    #[inline(always)]
    pub(super) fn new(core: &'a mut Core, arena: Option<&'a ArenaOwner>) -> Self {
        // A vector without elements allocates nothing.
        let draft = Draft { tail: core.tail, frames: 0, first: 0, blocks: Vec::new() };
        Self { core, arena, draft }
    }

    /// Frames in the batch.
    pub fn len(&self) -> u64 {
        self.draft.frames
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.draft.frames == 0
    }

    /// Claims the next frame; committed, it joins the batch. Wait-free.
    ///
    /// # Errors
    /// As [`Producer::try_claim`](super::Producer::try_claim). Full: the batch so far can be committed, and another
    /// begun when there is room.
    #[inline(always)]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, ClaimError> {
        match self.core.room(self.arena, self.draft.tail, len, Look::Received) {
            Some(room) => Ok(Claim::new(self.core, self.arena, Some(&mut self.draft), room, len)),
            None => Err(self.core.refused),
        }
    }

    /// Adds a frame with this payload. Wait-free.
    ///
    /// # Errors
    /// As [`try_claim`](Self::try_claim).
    #[inline(always)]
    pub fn try_send(&mut self, payload: &[u8]) -> Result<(), ClaimError> {
        let len = payload.len();
        if len > self.core.ring.inline_limit {
            return self.try_send_block(payload);
        }
        let tail = self.draft.tail;
        let Some(place) = self.core.reserve(tail, frame_bytes(len), Look::Received) else {
            return Err(self.core.refused);
        };
        let (first, end) = self.core.fill(tail, place, payload);
        self.draft.add(self.core, first, end);
        Ok(())
    }

    #[cold]
    fn try_send_block(&mut self, payload: &[u8]) -> Result<(), ClaimError> {
        self.try_claim(payload.len()).map(|claim| claim.send(payload))
    }

    /// Makes all frames visible; gives their number. Wait-free; a system call only if the consumer sleeps.
    #[inline(always)]
    pub fn commit(mut self) -> u64 {
        let frames = std::mem::take(&mut self.draft.frames);
        if frames > 0 {
            self.draft.blocks.clear();
            self.core.clear(self.draft.tail);
            self.core.publish(self.draft.first, self.draft.tail, frames);
        }
        frames
    }
}

impl Drop for Batch<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.draft.frames > 0 {
            self.core.count_aborted(self.draft.frames);
            if let Some(arena) = self.arena {
                self.draft.blocks.drain(..).for_each(|at| arena.reclaim(at));
            }
        }
    }
}
