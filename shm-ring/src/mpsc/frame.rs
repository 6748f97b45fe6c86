//! A received frame, in place.

use std::fmt;

use super::taking::{Found, Taking};

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
        Self { taking, found }
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

    /// The payload in place, for the trust mode `Checked`: its producer is taken to keep the protocol and not to write a
    /// frame that it has committed. It begins at a multiple of 16 bytes, or eight behind one.
    #[cfg(not(loom))]
    #[inline]
    #[allow(unsafe_code)] // The one soundness assumption of `Checked`; see the front page.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the frame was committed and is given back only when `self` is dropped; until then, by the assumption
        // of `Checked`, its producer, of our own user, does not write it.
        unsafe { self.taking.region().bytes(self.found.at, self.found.len) }
    }

    /// Copies the payload out, for whoever does not rely on that: what is copied cannot change any more.
    ///
    /// # Panics
    /// If `to` is not [`len`](Self::len) bytes.
    pub fn copy_to(&self, to: &mut [u8]) {
        assert_eq!(to.len(), self.found.len, "a frame is copied out whole");
        self.taking.region().copy_out(self.found.at, to);
    }
}

impl Drop for Frame<'_> {
    #[inline]
    fn drop(&mut self) {
        self.taking.give_back(&self.found);
    }
}
