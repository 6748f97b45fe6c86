//! A received frame, in place or as a private copy.

use std::fmt;

use super::taking::{Found, Taking};
use crate::trust::Trust;

/// A received frame. Dropped, its memory goes back to the producers; one that is forgotten (`mem::forget`) is received
/// again.
#[must_use = "a frame that is dropped is gone"]
pub struct Frame<'a> {
    taking: &'a mut Taking,
    found: Found,
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("len", &self.found.len).finish_non_exhaustive()
    }
}

impl<'a> Frame<'a> {
    #[inline]
    pub(super) fn new(taking: &'a mut Taking, found: Found) -> Self {
        #[cfg(not(loom))]
        if taking.trust().is_isolated() {
            taking.isolate(&found);
        }
        Self { taking, found }
    }

    /// How far its producers are trusted.
    #[inline]
    pub fn trust(&self) -> Trust {
        self.taking.trust()
    }

    /// Bytes of payload.
    #[inline]
    pub fn len(&self) -> usize {
        self.found.len
    }

    /// Whether the payload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.found.len == 0
    }

    /// Position of the frame since its ring began: what errors and logs name it by.
    pub fn position(&self) -> u64 {
        self.found.position.get()
    }

    /// The payload, aligned to 8 bytes (in an arena to 16). In place, by the assumption that its producer keeps the
    /// protocol and does not write a frame that it has committed; with [`Trust::ISOLATED`] a private copy, for which nothing
    /// is assumed.
    #[cfg(not(loom))]
    #[inline]
    #[allow(unsafe_code)] // The one soundness assumption of `Checked`; see the front page.
    pub fn bytes(&self) -> &[u8] {
        if self.trust().is_isolated() {
            return self.taking.private();
        }
        match self.found.block {
            None => {
                let (cells, at) = self.taking.ring().body(self.found.position);
                // SAFETY: the frame was committed and is given back only when `self` is dropped; until then, by the
                // assumption of `Checked`, its producer, of our own user, does not write it.
                unsafe { cells.bytes(at, self.found.len) }
            }
            // Name and length were checked when the frame was found, and an arena never changes.
            Some(block) => self.taking.blocks().bytes(block, self.found.len).unwrap_or(&[]),
        }
    }

    /// Copies the payload, or as much of it as `to` takes; gives the number of bytes. Nothing is assumed of the producer.
    #[inline]
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        let len = self.len().min(to.len());
        let to = &mut to[..len];
        #[cfg(not(loom))]
        if self.trust().is_isolated() {
            to.copy_from_slice(&self.taking.private()[..len]);
            return len;
        }
        match self.found.block {
            None => {
                let (cells, at) = self.taking.ring().body(self.found.position);
                cells.copy_out(at, to);
            }
            #[cfg(not(loom))]
            Some(block) => {
                let _ = self.taking.blocks().copy_out(block, to);
            }
            #[cfg(loom)]
            Some(_) => {}
        }
        len
    }
}

impl Drop for Frame<'_> {
    #[inline]
    fn drop(&mut self) {
        self.taking.give_back(&self.found);
    }
}
