//! A received frame, in place.
#![allow(unsafe_code)] // One function gives the payload in place: the one soundness assumption of `Checked`.

use std::fmt;

use crate::arena::{ArenaReader, BlockRef};
use crate::spsc::consumer::{Core, Found};

/// Where a frame's payload is. Checked: it lies inside the ring or in a block of its arena.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload {
    /// At an offset in the ring.
    Inline { at: usize, len: usize },
    /// In an arena block.
    Block { at: BlockRef, len: usize },
}

impl Payload {
    /// Whether the arena has such a block, and it is long enough.
    pub(super) fn is_in(&self, arena: &ArenaReader) -> bool {
        let Self::Block { at, len } = *self else { return false };
        arena.check(at, len).is_ok()
    }

    fn len(&self) -> usize {
        let (Self::Inline { len, .. } | Self::Block { len, .. }) = *self;
        len
    }
}

/// A frame in the consumer's hands. Dropped, its room is given back.
#[must_use = "a frame that is dropped is given back"]
pub struct Frame<'a> {
    core: &'a mut Core,
    found: Found,
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<'a> Frame<'a> {
    #[inline]
    pub(super) fn new(core: &'a mut Core, found: Found) -> Self {
        Self { core, found }
    }
}

impl Frame<'_> {
    /// Bytes of the payload.
    #[inline]
    pub fn len(&self) -> usize {
        self.found.payload.len()
    }

    /// Whether the payload has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload in place, aligned to 8 bytes (in an arena to 128). Trusts the producer not to write what it has
    /// sent: the assumption stated on the crate's front page.
    #[cfg(not(loom))]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self.found.payload {
            // SAFETY: by the assumption of `Checked` the producer, of our own user, does not write a frame between its
            // publication and its release, and `self` holds the release back.
            Payload::Inline { at, len } => unsafe { self.core.ring.frames.bytes(at, len) },
            // The block was checked when the frame was found, and lives as long as the arena.
            Payload::Block { at, len } => {
                self.core.arena.as_ref().and_then(|arena| arena.read(at, len).ok()).unwrap_or(&[])
            }
        }
    }

    /// Copies the payload, or as much of it as `to` takes; gives the number of bytes.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        let len = self.len().min(to.len());
        #[cfg(not(loom))]
        to[..len].copy_from_slice(&self.bytes()[..len]);
        #[cfg(loom)]
        if let Payload::Inline { at, .. } = self.found.payload {
            self.core.ring.frames.copy_out(at, &mut to[..len]);
        }
        len
    }
}

impl Drop for Frame<'_> {
    #[inline]
    fn drop(&mut self) {
        self.core.release(self.found);
    }
}
