//! Lanes whose client is gone. To give back what a lane had (up to gigabytes) takes as long as to make it, so it is done
//! neither by the worker that retires the lane nor by the thread that passes rings on, but by the one that minds the door.

use std::sync::{Arc, Mutex, PoisonError};

use shm_ring::clock;
use shm_ring::rendezvous::Watch;

use super::lane::Lane;

/// When lanes that a handler still used are looked at again.
const AGAIN_NS: u64 = 100_000_000;

#[derive(Debug, Default)]
pub(super) struct Departed {
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// Told when there is something to do. It also is what keeps the door open.
    door: Mutex<Option<Watch>>,
}

impl Departed {
    /// The watch whose handler calls [`let_go`](Self::let_go), from now on.
    pub(super) fn are_seen_off_by(&self, door: Watch) {
        *self.door.lock().unwrap_or_else(PoisonError::into_inner) = Some(door);
    }

    /// Leaves a lane to the thread of the door. A system call, which does not block.
    pub(super) fn add(&self, lane: Arc<Lane>) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).push(lane);
        if let Some(door) = &*self.door.lock().unwrap_or_else(PoisonError::into_inner) {
            door.expire_at(clock::kernel_ns());
        }
    }

    /// Gives back what nobody uses any more; when to come again, if there is more.
    pub(super) fn let_go(&self) -> Option<u64> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody can get hold of a lane that is out of the table, except from somebody who has it.
        let unused: Vec<_> = lanes.extract_if(.., |lane| Arc::strong_count(lane) == 1).collect();
        let again = (!lanes.is_empty()).then(|| clock::kernel_ns().saturating_add(AGAIN_NS));
        drop(lanes);
        for lane in unused {
            let party = Arc::clone(&lane.party);
            party.time.take(|| drop(lane));
        }
        again
    }

    /// Closes the door, and keeps nothing any more.
    pub(super) fn close(&self) {
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Dropped outside of the locks: with the door goes what it holds.
        drop(door);
        let lanes = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        drop(lanes);
    }
}
