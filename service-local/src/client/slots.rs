//! Slots that are waited for, and slots that were given up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shm_ring::arena::BlockRef;
use shm_ring::clock;
use shm_ring::slot::{Abandoned, Call, CallId, ClientSlots, ReplyHeader};

/// How long a thread waits if all slots are those of calls that were given up. Calls that were cancelled end soon, of a
/// service that is well.
const GRACE: Duration = Duration::from_millis(100);

/// A waiter (for a slot, or for a cell) looks again after this long even if nobody told it: a slot may come free without a notice (see
/// [`Waiting::tell`]).
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A call that timed out, and the request block that the server may still read.
#[derive(Debug)]
struct Given {
    up: Abandoned,
    request: Option<(u8, BlockRef)>,
    /// The server knows, or need not be told.
    is_told: bool,
}

/// What a call that was given up left behind, each with its place.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) request: Option<(u8, BlockRef)>,
    pub(super) reply: Option<(u8, BlockRef)>,
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

    pub(super) fn add(&self, up: Abandoned, request: Option<(u8, BlockRef)>, is_told: bool) {
        let mut calls = self.calls();
        calls.push(Given { up, request, is_told });
        self.count.store(calls.len(), Ordering::Relaxed);
    }

    /// Gives the slots back that the server is done with, and tells what their calls left. Of the others, those that the
    /// server has to be told of are handed to `tell`, until that says that it could not.
    pub(super) fn take_finished(&self, slots: &ClientSlots, tell: impl Fn(CallId) -> bool) -> Vec<Left> {
        let mut finished = Vec::new();
        let mut calls = self.calls();
        for Given { up, request, is_told } in std::mem::take(&mut *calls) {
            let mut reply = None;
            let note = |header: ReplyHeader, word| {
                reply = (header.place != 0).then(|| (header.place, BlockRef::from_word(word)));
            };
            match up.reclaim(slots, note) {
                Ok(()) => finished.push(Left { request, reply }),
                Err(up) => {
                    let is_told = is_told || tell(up.id());
                    calls.push(Given { up, request, is_told });
                }
            }
        }
        self.count.store(calls.len(), Ordering::Relaxed);
        finished
    }

    /// How many there are. One load.
    #[inline]
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
        given_up: &GivenUp,
    ) -> Option<Call<'a>> {
        self.threads.fetch_add(1, Ordering::Relaxed);
        let mut hopeless_since = None;
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let call = loop {
            sweep();
            if let Some(call) = slots.acquire() {
                break Some(call);
            }
            // Slots that were all given up may never come back, whatever the deadline: nobody in flight will free one.
            let hopeless = if given_up.count() >= slots.count() {
                hopeless_since.get_or_insert_with(Instant::now).elapsed() >= GRACE
            } else {
                hopeless_since = None;
                false
            };
            if slots.has_ended() || hopeless || until_ns.is_some_and(|until| clock::kernel_ns() >= until) {
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
