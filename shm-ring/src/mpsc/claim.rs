//! Frames between claim and commit: one, or several in a row.

use std::fmt;
use std::io;

use super::position::{Kind, Position};
use super::sender::Sending;
use crate::arena::{Block, BlockRef};
use crate::error::ClaimError;

/// A frame that nobody sees yet, to be filled in place. Dropped without [`commit`](Self::commit), it is taken back.
///
/// [`commit`](Self::commit) sends what was written, which may be less than was claimed.
///
/// It keeps its cell until then: a claim that is held for long makes the ring [`Full`](ClaimError::Full) once the other
/// cells have gone round. One that is forgotten (`mem::forget`) does so for ever.
#[must_use = "a claim that is dropped is taken back"]
pub struct Claim<'a> {
    sending: &'a Sending,
    position: Position,
    len: usize,
    written: usize,
    block: Option<Block<'a>>,
    open: bool,
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("len", &self.len).field("written", &self.written).finish_non_exhaustive()
    }
}

impl<'a> Claim<'a> {
    #[inline]
    pub(super) fn new(sending: &'a Sending, position: Position, len: usize, block: Option<Block<'a>>) -> Self {
        Self { sending, position, len, written: 0, block, open: true }
    }

    /// Bytes that the payload may have: what was claimed.
    #[inline]
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

    /// How far behind a multiple of 16 bytes the payload begins in everybody's memory: 8 in a cell, 0 in the arena.
    pub fn skew(&self) -> usize {
        if self.block.is_some() { 0 } else { 8 }
    }

    /// Appends to the payload.
    ///
    /// # Panics
    /// If there is no room for it in what was claimed.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        self.write_at(self.written, bytes);
    }

    /// Writes over part of the payload, and on behind it.
    ///
    /// # Panics
    /// If it leaves a gap behind what was written, or there is no room for it in what was claimed.
    #[inline]
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) {
        assert!(
            at <= self.written && bytes.len() <= self.len - at,
            "{} bytes at {at} of a claim of {}, {} written",
            bytes.len(),
            self.len,
            self.written
        );
        match &mut self.block {
            None => self.sending.producing.ring.write_body(self.position, at, bytes),
            Some(block) => block.write_at(at, bytes),
        }
        self.written = self.written.max(at + bytes.len());
    }

    /// Makes the payload visible, as far as it was written, and wakes the consumer if it sleeps. Wait-free; no system
    /// call while the consumer is awake.
    #[inline]
    pub fn commit(mut self) {
        self.open = false;
        let producing = &self.sending.producing;
        match self.block.take() {
            None => producing.publish(self.position, Kind::Inline, self.written as u16),
            Some(block) => {
                producing.write_block_body(self.position, block.lend(), self.written);
                producing.publish(self.position, Kind::Block, 0);
            }
        }
        self.sending.frame_is_there();
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.open && self.sending.producing.ring.is_here() {
            // The block first: whoever waits for one is woken when the consumer has seen the claim go.
            self.block = None;
            self.sending.producing.publish(self.position, Kind::Aborted, 0);
            // It may be what the consumer waits for: behind it, or for the end of a closed ring.
            self.sending.frame_is_there();
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

/// Several frames in a row, claimed by one step and announced by one. They become visible in their order; frames of
/// other threads may come between them, and of a commit in which the process is killed only the first ones may arrive.
///
/// Dropped without [`commit`](Self::commit), none of them is sent.
#[must_use = "a batch that is dropped is taken back"]
pub struct Batch<'a> {
    sending: &'a Sending,
    first: Position,
    frames: u64,
    filled: u64,
    /// Blocks of the filled frames that have one. Allocates with the first.
    large: Vec<BlockRef>,
    open: bool,
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("frames", &self.frames).field("filled", &self.filled).finish_non_exhaustive()
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(sending: &'a Sending, first: Position, frames: u64) -> Self {
        Self { sending, first, frames, filled: 0, large: Vec::new(), open: true }
    }

    /// Frames that were claimed.
    pub fn capacity(&self) -> usize {
        self.frames as usize
    }

    /// Frames that were filled.
    pub fn len(&self) -> usize {
        self.filled as usize
    }

    /// Whether no frame was filled yet.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Fills the next frame.
    ///
    /// # Errors
    /// [`ClaimError::Full`] if all frames of the batch are filled, or no block of the arena is free for a payload that
    /// needs one; [`ClaimError::TooLarge`]. The batch stays as it was.
    #[inline]
    pub fn try_send(&mut self, payload: &[u8]) -> Result<(), ClaimError> {
        let producing = &self.sending.producing;
        if self.filled == self.frames {
            return Err(ClaimError::Full { needed: producing.layout().cell_bytes(), free: 0 });
        }
        let position = self.first.plus(self.filled);
        if payload.len() <= producing.layout().inline_limit() {
            producing.ring.write_body(position, 0, payload);
            producing.stage(position, Kind::Inline, payload.len() as u16);
        } else {
            self.push_large(position, payload)?;
        }
        self.filled += 1;
        Ok(())
    }

    #[cold]
    fn push_large(&mut self, position: Position, payload: &[u8]) -> Result<(), ClaimError> {
        let producing = &self.sending.producing;
        let mut block = producing.claim_block(payload.len())?;
        let fitted = block.append(payload);
        debug_assert!(fitted, "the block was taken for the payload's length");
        let block = block.lend();
        self.large.push(block);
        producing.write_block_body(position, block, payload.len());
        producing.stage(position, Kind::Block, 0);
        Ok(())
    }

    /// Makes the filled frames visible, in their order, and wakes the consumer if it sleeps; the others are taken back.
    pub fn commit(mut self) {
        self.open = false;
        let producing = &self.sending.producing;
        (0..self.filled).for_each(|i| producing.publish_staged(self.first.plus(i)));
        self.take_back(self.filled);
        self.sending.frame_is_there();
    }

    fn take_back(&self, from: u64) {
        (from..self.frames).for_each(|i| self.sending.producing.publish(self.first.plus(i), Kind::Aborted, 0));
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.open && self.sending.producing.ring.is_here() {
            self.large.iter().for_each(|block| self.sending.producing.reclaim(*block));
            self.take_back(0);
            self.sending.frame_is_there();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::Write;

    use crate::error::RecvError;
    use crate::mpsc::{MpscLayout, Receiver, Sender, pair};
    use crate::segment::Segment;

    fn ring() -> (Sender, Receiver) {
        pair(&Segment::heap(MpscLayout::new(4).unwrap(), 1)).unwrap()
    }

    fn next(receiver: &mut Receiver) -> Result<Vec<u8>, RecvError> {
        receiver.try_recv().map(|frame| frame.bytes().to_vec())
    }

    #[test]
    fn what_does_not_fit_into_a_claim_is_not_written() {
        let (sender, mut receiver) = ring();
        let mut claim = sender.try_claim(6).unwrap();
        claim.write(b"abcd");
        assert_eq!(Write::write(&mut claim, b"efgh").unwrap(), 2);
        assert_eq!(Write::write(&mut claim, b"i").unwrap(), 0);
        claim.commit();
        assert_eq!(next(&mut receiver).unwrap(), b"abcdef");
    }

    #[test]
    fn a_payload_is_as_long_as_it_was_written_also_if_parts_are_written_over() {
        let (sender, mut receiver) = ring();
        let mut claim = sender.try_claim(20).unwrap();
        claim.write_at(0, b"a head and");
        claim.write_at(2, b"tail");
        assert_eq!(claim.written(), 10);
        claim.write(b".");
        assert_eq!(claim.written(), 11);
        claim.commit();
        assert_eq!(next(&mut receiver).unwrap(), b"a tail and.");
    }

    #[test]
    fn of_a_batch_what_was_filled_is_sent_and_the_rest_holds_nobody_up() {
        let (sender, mut receiver) = ring();
        let mut batch = sender.try_batch(3).unwrap();
        assert_eq!((batch.capacity(), batch.len(), batch.is_empty()), (3, 0, true));
        batch.try_send(b"one").unwrap();
        batch.try_send(b"two").unwrap();
        assert_eq!((batch.len(), batch.is_empty()), (2, false));
        sender.try_send(b"behind").unwrap();
        batch.commit();
        let seen: Vec<_> = std::iter::from_fn(|| next(&mut receiver).ok()).collect();
        assert_eq!(seen, [&b"one"[..], b"two", b"behind"]);
    }

    #[test]
    fn a_batch_that_is_dropped_sends_nothing_and_holds_nobody_up() {
        let (sender, mut receiver) = ring();
        let mut batch = sender.try_batch(3).unwrap();
        batch.try_send(b"one").unwrap();
        drop(batch);
        sender.try_send(b"behind").unwrap();
        assert_eq!(next(&mut receiver).unwrap(), b"behind");
        assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
        let again = sender.try_batch(4).unwrap();
        assert_eq!(again.capacity(), 4, "all cells are free again");
    }
}
