//! Slots that are waited for, and slots that were given up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shm_ring::arena::BlockRef;
use shm_ring::clock;
use shm_ring::slot::{Abandoned, Call, ClientSlots, ReplyHeader};

/// A waiter looks again after this long even if nobody told it: a slot may come free without a notice (see
/// [`Waiting::tell`]).
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A call that timed out, and the request block that the server may still read.
#[derive(Debug)]
struct Given {
    up: Abandoned,
    block: Option<(u8, BlockRef)>,
}

/// Calls that were given up while the server may still write their slots.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    calls: Mutex<Vec<Given>>,
    /// Read on each call, so that the lock is not.
    count: AtomicUsize,
}

impl GivenUp {
    fn calls(&self) -> MutexGuard<'_, Vec<Given>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, up: Abandoned, block: Option<(u8, BlockRef)>) {
        let mut calls = self.calls();
        calls.push(Given { up, block });
        self.count.store(calls.len(), Ordering::Relaxed);
    }

    /// Takes back the slots that the server is done with. One load if there are none.
    #[inline]
    pub(super) fn sweep(&self, slots: &ClientSlots, discard: impl Fn(ReplyHeader, u64), free: impl Fn(u8, BlockRef)) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut calls = self.calls();
        calls.retain(|given| {
            let back = given.up.reclaim(slots, &discard);
            if back && let Some((place, block)) = given.block {
                free(place, block);
            }
            !back
        });
        self.count.store(calls.len(), Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// Threads that found all slots in flight.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    threads: AtomicUsize,
    lock: Mutex<()>,
    freed: Condvar,
}

impl Waiting {
    /// Waits for a slot until `until_ns`; `None` if none came free, or the connection ended.
    #[cold]
    pub(super) fn acquire<'a>(
        &self,
        slots: &'a ClientSlots,
        until_ns: Option<u64>,
        sweep: impl Fn(),
    ) -> Option<Call<'a>> {
        self.threads.fetch_add(1, Ordering::Relaxed);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let call = loop {
            sweep();
            if let Some(call) = slots.acquire() {
                break Some(call);
            }
            if slots.has_ended() || until_ns.is_some_and(|until| clock::kernel_ns() >= until) {
                break None;
            }
            let waited = self.freed.wait_timeout(guard, LOOK_AGAIN);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(guard);
        self.threads.fetch_sub(1, Ordering::Relaxed);
        call
    }

    /// To be called after a slot came free. One load if nobody waits. A thread that only starts to wait may be
    /// overlooked; it looks again by itself.
    #[inline]
    pub(super) fn tell(&self) {
        if self.threads.load(Ordering::Relaxed) > 0 {
            self.freed.notify_one();
        }
    }
}
