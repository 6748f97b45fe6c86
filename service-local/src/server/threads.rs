//! Threads for handlers that block for as long as their call lasts, such as those with streams.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Wakers, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use service_core::{Code, Outcome, Status};

use super::tasks::Errand;

/// Most threads of one service, and so most calls of this kind at once.
const MAX_THREADS: usize = 256;

/// How long a thread waits for the next call before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// A pool that grows while all of its threads have work.
#[derive(Default)]
pub(super) struct Threads {
    state: Mutex<State>,
    /// There is work, or will be none.
    called: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Box<dyn Errand>>,
    /// Threads without work.
    idle: usize,
    threads: usize,
    is_closed: bool,
}

impl Threads {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the work of a call done by a thread of its own. Starts one if none is idle. A call for which there is no thread
    /// is answered so.
    pub(super) fn run(self: &Arc<Self>, instance: &str, work: Box<dyn Errand>) {
        let mut state = self.state();
        state.waiting.push_back(work);
        if state.idle >= state.waiting.len() {
            drop(state);
            self.called.notify_one();
            return;
        }
        let refusal = if state.threads >= MAX_THREADS {
            Some(format!("`{instance}` has {MAX_THREADS} calls that take a thread each, its limit"))
        } else {
            state.threads += 1;
            let pool = Arc::clone(self);
            let spawned = std::thread::Builder::new().name(format!("{instance}-call")).spawn(move || pool.live());
            spawned.err().map(|error| {
                state.threads -= 1;
                format!("no thread for a call of `{instance}`: {error}")
            })
        };
        // Nobody has taken it meanwhile: whoever does holds the lock.
        let refused = refusal.and_then(|text| Some((text, state.waiting.pop_back()?)));
        drop(state);
        if let Some((text, work)) = refused {
            work.refuse(&Status::new(Code::ResourceExhausted, Outcome::NotRun, text));
        }
    }

    /// A thread's life.
    fn live(&self) {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut state = self.state();
        let mut until = Instant::now() + IDLE;
        loop {
            if let Some(work) = state.waiting.pop_front() {
                drop(state);
                // Handlers are caught where they run; this is for what panics when it is dropped.
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| see_through(work, &waker)));
                if ended.is_err() {
                    tracing::error!("a call's thread panicked outside of its handler and goes on");
                }
                state = self.state();
                until = Instant::now() + IDLE;
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.is_closed || left.is_zero() {
                break;
            }
            state.idle += 1;
            state = self.called.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
        }
        state.threads -= 1;
        drop(state);
        self.ended.notify_all();
    }

    /// Waits for all threads to end, but for `own` of them. No work may come any more.
    pub(super) fn close(&self, own: usize) {
        let mut state = self.state();
        state.is_closed = true;
        self.called.notify_all();
        while state.threads > own {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Wakes a thread that sleeps over a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future to its end on this thread.
fn see_through(mut work: Box<dyn Errand>, waker: &Waker) {
    let mut wakers = Wakers::from_waker(waker);
    while std::pin::Pin::new(&mut *work).poll(&mut wakers).is_pending() {
        std::thread::park();
    }
}
