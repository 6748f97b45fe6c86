//! Frames before they are visible: one at a time, or as a batch.

use std::fmt;
use std::io;

use crate::arena::{ArenaOwner, BlockRef};
use crate::error::ClaimError;
use crate::spsc::cursor::{HEADER, Place, Position, UNIT};
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
        let Self { len, written, room, .. } = *self;
        if at > written || bytes.len() > len - at {
            overrun(bytes.len(), at, len, written);
        }
        match room.block {
            None => self.core.ring.frames.copy_in(room.place.start.plus(HEADER + at).to_index(), bytes),
            Some(block) => write_block(self.arena, block, written, len, at, bytes),
        }
        self.written = self.written.max(at + bytes.len());
    }

    /// Makes the payload visible, as far as it was written. Wait-free; a system call only if the consumer sleeps.
    ///
    /// In a batch it becomes visible with the batch.
    #[inline(always)]
    pub fn commit(mut self) {
        self.is_open = false;
        let Self { room: Room { place, block }, len, written, .. } = self;
        let header = match block {
            None => Header::inline(written),
            Some(block) => {
                let block = lend(self.core, self.arena, place, block, written, len);
                if let Some(draft) = &mut self.draft {
                    draft.blocks.extend(block);
                }
                Header { kind: Kind::Block, len: BLOCK_FRAME as u32 }
            }
        };
        let end = place.start.plus(header.bytes());
        match &mut self.draft {
            None => {
                self.core.clear(end);
                let first = self.core.link(self.core.tail, place, header);
                self.core.publish(self.core.tail, first, end, 1);
            }
            Some(draft) => {
                let first = self.core.link(draft.tail, place, header);
                draft.add(self.core, first, end);
            }
        }
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
            abort(self.core, self.arena, self.room.block);
        }
    }
}

// These take a claim apart, because one whose address is given away is kept in memory: then each commit would wait until
// all that was stored before has left for the other side's cache.

#[cold]
#[inline(never)]
fn overrun(bytes: usize, at: usize, len: usize, written: usize) -> ! {
    panic!("{bytes} bytes at {at} of a claim of {len}, {written} written");
}

#[cold]
#[inline(never)]
fn write_block(arena: Option<&ArenaOwner>, at: BlockRef, written: usize, len: usize, offset: usize, bytes: &[u8]) {
    if let Some(arena) = arena {
        let mut block = arena.resume(at, written, len);
        block.write_at(offset, bytes);
        block.suspend();
    }
}

/// Lends the block to the consumer and writes its name into the frame.
#[cold]
#[inline(never)]
fn lend(
    core: &Core,
    arena: Option<&ArenaOwner>,
    place: Place,
    at: BlockRef,
    written: usize,
    len: usize,
) -> Option<BlockRef> {
    let at = arena?.resume(at, written, len).lend();
    let body = place.start.plus(HEADER);
    for (i, word) in [at.to_word(), written as u64].into_iter().enumerate() {
        core.ring.header(body.plus(i * 8)).store(word, Ordering::Relaxed);
    }
    Some(at)
}

#[cold]
#[inline(never)]
fn abort(core: &mut Core, arena: Option<&ArenaOwner>, block: Option<BlockRef>) {
    if let Some((arena, at)) = arena.zip(block) {
        drop(arena.resume(at, 0, 0));
    }
    core.count_aborted(1);
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
        let tail = self.draft.tail;
        let Some(end) = self.core.fill(tail, payload, false) else { return self.send_late(payload) };
        self.draft.add(self.core, Header::inline(payload.len()).to_word(tail), end);
        Ok(())
    }

    #[inline(never)]
    fn send_late(&mut self, payload: &[u8]) -> Result<(), ClaimError> {
        self.try_claim(payload.len()).map(|claim| claim.send(payload))
    }

    /// Makes all frames visible; gives their number. Wait-free; a system call only if the consumer sleeps.
    #[inline(always)]
    pub fn commit(mut self) -> u64 {
        let frames = std::mem::take(&mut self.draft.frames);
        if frames > 0 {
            self.draft.blocks.clear();
            self.core.clear(self.draft.tail);
            self.core.publish(self.core.tail, self.draft.first, self.draft.tail, frames);
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
