//! A received frame, in place or as a private copy.
#![allow(unsafe_code)] // One function gives the payload in place: the one soundness assumption of `Checked`.

use std::fmt;

use crate::spsc::consumer::{Core, Found, Place};
use crate::trust::Trust;

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
    #[inline(always)]
    pub(super) fn new(core: &'a mut Core, found: Found) -> Self {
        Self { core, found }
    }
}

impl Frame<'_> {
    /// Bytes of the payload.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.found.len
    }

    /// Whether the payload has no bytes.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How far its producer is trusted.
    #[inline(always)]
    pub fn trust(&self) -> Trust {
        self.core.trust
    }

    /// The payload, aligned to 8 bytes (in an arena to 16). In place, by the assumption of the crate's front page that its
    /// producer does not write what it has sent; with [`Trust::ISOLATED`] a private copy, for which nothing is assumed.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        let Found { at, len, place, .. } = self.found;
        match place {
            // SAFETY: by the assumption of `Checked` the producer, of our own user, does not write a frame between its
            // publication and its release, and `self` holds the release back.
            Place::Ring => unsafe { self.core.ring.frames.bytes(at.to_index(), len) },
            // Checked when the frame was found.
            Place::Block(block) => self.core.block(block, len),
            Place::Private | Place::PrivateOf(_) => self.core.private.bytes(),
        }
    }

    /// Copies the payload, or as much of it as `to` takes; gives the number of bytes. Nothing is assumed of the producer.
    #[inline]
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        let len = self.len().min(to.len());
        let to = &mut to[..len];
        match self.found.place {
            Place::Ring => self.core.ring.frames.copy_out(self.found.at.to_index(), to),
            #[cfg(not(loom))]
            Place::Block(block) => self.core.copy_block(block, to),
            #[cfg(not(loom))]
            Place::Private | Place::PrivateOf(_) => to.copy_from_slice(&self.core.private.bytes()[..len]),
            #[cfg(loom)]
            _ => {}
        }
        len
    }
}

impl Drop for Frame<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.core.release(self.found);
    }
}
