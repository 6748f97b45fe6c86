//! A fence between "publish" and "does anybody sleep?", whose cost is borne by the one who is about to sleep.
//!
//! Whoever publishes must not read a stale "nobody sleeps" after it, and whoever goes to sleep must not miss what was
//! published before. Either both sides put a full fence between their store and their load, or the sleeper alone
//! makes the kernel put one into every running thread of the other side (`membarrier(2)`, expedited, from Linux 4.16
//! on). A fence in each publication holds a stream of small frames to the pace at which cache lines travel; a sleeper
//! has time. Which of the two holds for a ring is decided by its maker and stated in its header.
//!
//! Under loom both are full fences: that is what the kernel's guarantee comes to.

use crate::sync::{Ordering, fence};

/// Who pays for the order between publishing and sleeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fencing {
    /// Both sides execute a fence.
    Both,
    /// The sleeper has one executed everywhere; the publisher only keeps the compiler from reordering.
    Sleeper,
}

impl Fencing {
    /// The cheapest that this process is able to take part in. Registers the process with the kernel, once.
    pub(crate) fn best() -> Self {
        if membarrier::is_registered() { Self::Sleeper } else { Self::Both }
    }

    pub(crate) fn to_param(self) -> u64 {
        match self {
            Self::Both => 0,
            Self::Sleeper => 1,
        }
    }

    /// What a header states; `None` if it is nothing that this process could take part in.
    pub(crate) fn from_param(param: u64) -> Option<Self> {
        match param {
            0 => Some(Self::Both),
            1 if membarrier::is_registered() => Some(Self::Sleeper),
            _ => None,
        }
    }

    /// The publisher's side, between its store and its look for sleepers.
    #[inline(always)]
    pub(crate) fn publisher(self) {
        if cfg!(weaken = "publisher_without_fence") {
            return;
        }
        if cfg!(loom) || self == Self::Both {
            // ORDERING: SeqCst fence between the publication and the load of `want`, pairs with `Fencing::sleeper`
            // between the store to `want` and the last look. Without either, the load can miss the sleeper while the
            // sleeper misses the frame (`publisher_without_fence`).
            fence(Ordering::SeqCst);
        } else {
            // ORDERING: the compiler keeps the order; the processor's part is done by the sleeper's `membarrier`.
            core::sync::atomic::compiler_fence(Ordering::SeqCst);
        }
    }

    /// The sleeper's side, between saying that it sleeps and its last look. Under 1 µs with `membarrier`.
    pub(crate) fn sleeper(self) {
        if cfg!(weaken = "sleeper_without_fence") {
            return;
        }
        // ORDERING: SeqCst fence, pairs with `Fencing::publisher`; with `membarrier` the same in every running thread
        // of the other side. Weakened (`sleeper_without_fence`), a frame is slept over.
        fence(Ordering::SeqCst);
        if !cfg!(loom) && self == Self::Sleeper {
            membarrier::everywhere();
        }
    }
}

#[cfg(any(loom, miri))]
mod membarrier {
    pub(super) fn is_registered() -> bool {
        cfg!(loom)
    }

    pub(super) fn everywhere() {}
}

#[cfg(not(any(loom, miri)))]
mod membarrier {
    use std::sync::OnceLock;

    use rustix::thread::{MembarrierCommand, membarrier};

    use crate::fallback::Feature;

    /// Whether fences issued by others reach the threads of this process, and it may issue them itself.
    pub(super) fn is_registered() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| {
            !Feature::Membarrier.is_disabled() && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
        })
    }

    pub(super) fn everywhere() {
        // It was accepted when this process registered, and has no other way to fail.
        let done = membarrier(MembarrierCommand::GlobalExpedited);
        debug_assert!(done.is_ok(), "membarrier failed after registration: {done:?}");
    }
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use rustix::thread::{MembarrierQuery, membarrier_query};

    use super::*;

    #[test]
    fn the_sleeper_pays_for_the_fence_wherever_the_kernel_can_put_it_into_others() {
        let is_there = membarrier_query().contains(MembarrierQuery::GLOBAL_EXPEDITED);
        assert_eq!(Fencing::best(), if is_there { Fencing::Sleeper } else { Fencing::Both });
        for fencing in [Fencing::best(), Fencing::Both] {
            assert_eq!(Fencing::from_param(fencing.to_param()), Some(fencing));
        }
        assert_eq!(Fencing::from_param(2), None);
    }
}
