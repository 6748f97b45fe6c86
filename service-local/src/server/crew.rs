//! How many workers there are, which of them wait for other services, and who stands in for those.
//!
//! A handler that makes a call and waits for its end keeps its worker. If no worker were left, a call that comes back to
//! this service could not be answered. So a worker that is about to wait sees to it that another one is there.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Hub;
use super::{role, worker};

/// Most workers beyond those that the service was started with.
const MAX_SPARE: usize = 64;

/// How long a service that stops waits for handlers that wait themselves: for other services, or as tasks.
pub(super) const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Crew {
    state: Mutex<State>,
    /// Somebody who was waited for at the stop is done.
    stirred: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Threads that take frames, or will when their handlers have ended.
    workers: usize,
    /// Those of them that wait for another service.
    waiting: usize,
    spares: Vec<JoinHandle<()>>,
    spawned: usize,
}

impl Crew {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One worker more, who is about to begin.
    pub(super) fn add(&self) {
        self.state().workers += 1;
    }

    /// One less; tells whether nobody takes frames any more.
    pub(super) fn remove(&self) -> bool {
        let mut state = self.state();
        state.workers -= 1;
        state.workers == 0
    }

    /// Whether nobody takes frames any more who had not stopped before.
    pub(super) fn is_at_rest(&self) -> bool {
        let state = self.state();
        state.workers == state.waiting
    }

    /// One less, if there are more than `wanted` who do not wait.
    pub(super) fn dismiss(&self, wanted: usize) -> bool {
        let mut state = self.state();
        let is_dispensable = state.workers - state.waiting > wanted;
        state.workers -= usize::from(is_dispensable);
        is_dispensable
    }

    /// The spare workers' threads, to be waited for.
    pub(super) fn take_spares(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.state().spares)
    }
}

impl Hub {
    /// A worker is about to wait for another service; see [`service_core::scope::Scope::about_to_wait`]. Other threads may.
    pub(crate) fn about_to_wait(self: &Arc<Self>) -> bool {
        if !worker::works_for(self) {
            return true;
        }
        role::let_go(self);
        let mut state = self.crew.state();
        state.waiting += 1;
        let free = state.workers - state.waiting;
        // Those that are idle can be called. If there are none, the service shall not have fewer hands than it began with.
        let is_short = free == 0 || (free < self.workers && self.idle.load(Ordering::Relaxed) == 0);
        if is_short && !self.is_stopping() && !self.add_spare(&mut state) && free == 0 {
            state.waiting -= 1;
            return false;
        }
        drop(state);
        self.wake_another();
        true
    }

    /// The wait is over.
    pub(crate) fn resumed(&self) {
        if worker::works_for(self) {
            self.crew.state().waiting -= 1;
            if self.is_stopping() {
                self.stir();
            }
        }
    }

    #[cold]
    fn add_spare(self: &Arc<Self>, state: &mut State) -> bool {
        if state.workers >= self.workers + MAX_SPARE {
            return false;
        }
        state.spares.retain(|spare| !spare.is_finished());
        state.spawned += 1;
        match worker::spawn(self, format!("{}-spare-{}", self.instance, state.spawned), true) {
            Ok(spare) => {
                state.workers += 1;
                state.spares.push(spare);
                true
            }
            Err(error) => {
                tracing::warn!(service = self.instance, %error, "no thread for a spare worker");
                false
            }
        }
    }

    /// Tells whoever stops the service that something has ended, and workers that nothing may be left to do.
    pub(super) fn stir(&self) {
        // Under the lock: whoever looks and then sleeps is told.
        drop(self.crew.state());
        self.crew.stirred.notify_all();
        self.ready.ring_all();
    }

    /// Waits until no call is in hand whose handler waits, but for `own` calls of this thread; at most [`GRACE`]. Tells
    /// whether that came about.
    pub(super) fn settle_down(&self, own: usize) -> bool {
        let until = Instant::now() + GRACE;
        let mut state = self.crew.state();
        loop {
            if state.waiting == 0 && self.tasks.live() <= own {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.crew.stirred.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
