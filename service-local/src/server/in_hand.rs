//! How much of one client's a service holds for calls that are answered later: no more than an honest client can send.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Beside the blocks that a connection may get there are the small ones that it begins with.
const OWN_BYTES: usize = 1 << 20;

/// Counted for each lane.
#[derive(Debug, Default)]
pub(super) struct InHand {
    calls: AtomicU32,
    copied: AtomicUsize,
}

impl InHand {
    /// One call more, of at most `most`; false if that is more than there are slots. An honest client has a slot for each
    /// call, and is answered after the call was [taken out](Self::end) here.
    pub(super) fn begin(&self, most: u32) -> bool {
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        if before >= most {
            self.end();
        }
        before < most
    }

    pub(super) fn end(&self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }

    /// So many bytes of requests more that are copied; false if they are more than the blocks of `most` bytes can hold which
    /// the client has. Twice as much is let through: a block is the client's again a moment before its copy is gone.
    pub(super) fn copy(&self, bytes: usize, most: usize) -> bool {
        let most = most.saturating_add(OWN_BYTES).saturating_mul(2);
        let before = self.copied.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.checked_add(bytes).is_some_and(|all| all <= most);
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.copied.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_calls_are_in_hand_than_there_are_slots() {
        let in_hand = InHand::default();
        assert!((0..3).all(|_| in_hand.begin(3)));
        assert!(!in_hand.begin(3) && !in_hand.begin(3));
        in_hand.end();
        assert!(in_hand.begin(3) && !in_hand.begin(3));
    }

    #[test]
    fn no_more_bytes_are_copied_than_the_blocks_hold_twice() {
        let in_hand = InHand::default();
        let most = 10 << 20;
        assert!(in_hand.copy(most, most) && in_hand.copy(most, most));
        assert!(!in_hand.copy(most, most) && !in_hand.copy(usize::MAX, most));
        in_hand.give_back(most);
        assert!(in_hand.copy(most, most));
    }
}
