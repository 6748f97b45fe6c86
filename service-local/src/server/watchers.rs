//! Tasks that wait for the end of somebody's patience: the caller gives up or dies, or the deadline passes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use service_core::Deadline;
use shm_ring::slot::CallId;

use super::lane::Lane;
use crate::timers::{self, Key};

/// Who is to be woken when a call of one lane is given up.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<HashMap<u32, Watched>>);

/// The tasks that watch the call in one slot.
#[derive(Debug)]
struct Watched {
    generation: u32,
    wakers: Vec<Waker>,
}

impl Watchers {
    fn by_slot(&self) -> MutexGuard<'_, HashMap<u32, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be followed by a look whether the call was given up: who gives it up says so before he has them woken.
    fn add(&self, call: CallId, waker: &Waker) {
        let mut by_slot = self.by_slot();
        let watched =
            by_slot.entry(call.slot).or_insert_with(|| Watched { generation: call.generation, wakers: Vec::new() });
        if watched.generation != call.generation {
            // Of an earlier call, whose end nobody saw to.
            *watched = Watched { generation: call.generation, wakers: Vec::new() };
        }
        if !watched.wakers.iter().any(|known| known.will_wake(waker)) {
            watched.wakers.push(waker.clone());
        }
    }

    fn take(&self, call: CallId) -> Option<Watched> {
        let mut by_slot = self.by_slot();
        by_slot.get(&call.slot).is_some_and(|watched| watched.generation == call.generation).then_some(())?;
        by_slot.remove(&call.slot)
    }

    /// Wakes those who watch a call. The name is a peer's word.
    #[cold]
    pub(super) fn wake(&self, call: CallId) {
        // Woken outside the lock: they may come here again.
        self.take(call).into_iter().flat_map(|watched| watched.wakers).for_each(Waker::wake);
    }

    /// Wakes all.
    pub(super) fn wake_all(&self) {
        let all = std::mem::take(&mut *self.by_slot());
        all.into_values().flat_map(|watched| watched.wakers).for_each(Waker::wake);
    }
}

/// What one call has set, to be woken by.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    /// There may be something to be taken back.
    is_set: AtomicBool,
    timers: Mutex<Vec<Key>>,
}

/// Whether nobody waits for the call any more, whatever its deadline.
pub(super) fn is_given_up(lane: &Lane, call: CallId) -> bool {
    lane.shared.slots.is_cancelled(call) || lane.is_leaving()
}

impl Alarms {
    fn timers(&self) -> MutexGuard<'_, Vec<Key>> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when nobody waits for the call any more; pending, the task is woken when that comes about.
    pub(super) fn poll_cancelled(
        &self,
        lane: &Lane,
        call: CallId,
        deadline: Option<Deadline>,
        waker: &Waker,
    ) -> Poll<()> {
        let is_over = || is_given_up(lane, call) || deadline.is_some_and(Deadline::has_passed);
        if is_over() {
            return Poll::Ready(());
        }
        self.is_set.store(true, Ordering::Relaxed);
        lane.watchers.add(call, waker);
        if let Some(deadline) = deadline {
            self.wake_at(deadline.as_monotonic_ns(), waker);
        }
        if is_over() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Wakes a task at a time, unless the call has ended by then.
    pub(super) fn wake_at(&self, at_ns: u64, waker: &Waker) {
        self.is_set.store(true, Ordering::Relaxed);
        let key = timers::wake_at(at_ns, waker);
        let now_ns = shm_ring::clock::kernel_ns();
        let mut timers = self.timers();
        // What is over needs no taking back.
        timers.retain(|known| *known != key && known.at_ns() > now_ns);
        timers.push(key);
    }

    /// Takes everything back when the call has ended. One load if there is nothing.
    #[inline]
    pub(super) fn settle(&self, lane: &Lane, call: CallId) {
        if self.is_set.load(Ordering::Relaxed) {
            self.take_back(lane, call);
        }
    }

    #[cold]
    fn take_back(&self, lane: &Lane, call: CallId) {
        self.is_set.store(false, Ordering::Relaxed);
        drop(lane.watchers.take(call));
        let timers = std::mem::take(&mut *self.timers());
        timers.into_iter().for_each(timers::forget);
    }
}
