//! How long a waiter polls before it sleeps.
//!
//! Waking a sleeping processor costs tens of microseconds, polling costs a processor. So a waiter polls for a budget
//! of about what a wake-up costs, giving way now and then, and then parks. Where there is one processor, polling only keeps
//! the other side from running: the budget is zero. A budget that keeps failing shrinks, because then the processor
//! is better used by somebody else; one success restores it.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::sync::{AtomicU32, Ordering, spin_loop, yield_now};

/// Longest polling before a park, where another processor is free.
pub const DEFAULT_SPIN: Duration = Duration::from_micros(50);

/// A budget that failed keeps at least this much, so that it can notice better times.
const FLOOR_NS: u32 = 1_000;

/// How many polls pass between two looks at the clock.
const POLLS_PER_LOOK: u32 = 64;

/// From this long on a poller pauses between polls; before, a pause (24 ns) would only delay the answer.
const EAGER_NS: u64 = 2_000;

/// From this long on a poller gives way now and then, as long as nothing speaks for doing so earlier.
const LATEST_YIELD_NS: u64 = 20_000;

/// And from this long on once giving way has brought the answer several times running.
const EARLIEST_YIELD_NS: u64 = 1_000;

/// How many times that is. More than one, because a server that polls for its next caller may find it after any yield.
const CONVINCED: u32 = 3;

/// A yield that took so long was taken up by another thread.
const TAKEN_UP_NS: u64 = 2_000;

/// The polling budget of one kind of waiter; shared by its threads.
#[derive(Debug)]
pub struct SpinBudget {
    max_ns: u32,
    now_ns: AtomicU32,
    /// How often in a row the answer came right after a yield that somebody took up. The other side may share this
    /// processor, whatever the scheduler's plans, and then runs only if we let it: such answers say so, and one
    /// without a yield says the opposite.
    gave_way: AtomicU32,
}

impl SpinBudget {
    /// A budget of `max`, or of [`DEFAULT_SPIN`] if `None`. Always zero where this process may use one processor only
    /// at this moment; a later change of its affinity is not noticed.
    pub fn new(max: Option<Duration>) -> Self {
        // A fuzz target has nobody to wait for, and asking costs more than most of its inputs.
        let alone = || cfg!(fuzzing) || std::thread::available_parallelism().map_or(1, NonZeroUsize::get) == 1;
        let max =
            if max.is_some_and(|max| max.is_zero()) || alone() { Duration::ZERO } else { max.unwrap_or(DEFAULT_SPIN) };
        let max_ns = u32::try_from(max.as_nanos()).unwrap_or(u32::MAX);
        Self { max_ns, now_ns: AtomicU32::new(max_ns), gave_way: AtomicU32::new(0) }
    }

    /// No polling: for a wait whose polling was done in another way.
    pub(crate) fn none() -> Self {
        Self::new(Some(Duration::ZERO))
    }

    /// The current budget in nanoseconds; at most the maximum.
    pub fn ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed).into()
    }

    fn yield_after_ns(&self) -> u64 {
        if self.gave_way.load(Ordering::Relaxed) >= CONVINCED { EARLIEST_YIELD_NS } else { LATEST_YIELD_NS }
    }

    fn succeeded(&self, after_a_yield: bool) {
        let before = self.gave_way.load(Ordering::Relaxed);
        let gave_way = if after_a_yield { (before + 1).min(CONVINCED) } else { 0 };
        // Written only when they change: the words are shared by threads.
        if gave_way != before {
            self.gave_way.store(gave_way, Ordering::Relaxed);
        }
        if self.now_ns.load(Ordering::Relaxed) != self.max_ns {
            self.now_ns.store(self.max_ns, Ordering::Relaxed);
        }
    }

    fn failed(&self) {
        let now = self.now_ns.load(Ordering::Relaxed);
        let less = (now / 2).max(FLOOR_NS).min(self.max_ns);
        if less != now {
            self.now_ns.store(less, Ordering::Relaxed);
        }
    }

    /// Polls until `poll` gives something or the budget or `until_ns` is used up. No system call in the first
    /// microseconds (20, or one if the other side was seen to need this processor), then a yield about every microsecond.
    #[inline]
    pub fn poll<T>(&self, until_ns: Option<u64>, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
        if let Some(found) = poll() {
            return Some(found);
        }
        let budget = self.ns();
        if budget == 0 {
            return None;
        }
        let yield_after = self.yield_after_ns();
        let mut started = 0;
        let (mut pausing, mut gave_way) = (false, false);
        loop {
            for _ in 0..POLLS_PER_LOOK {
                if let Some(found) = poll() {
                    self.succeeded(gave_way);
                    return Some(found);
                }
                if pausing {
                    spin_loop();
                }
                gave_way = false;
            }
            let now = crate::clock::now_ns();
            if started == 0 {
                started = now;
            }
            let passed = now.saturating_sub(started);
            if until_ns.is_some_and(|until| now >= until) {
                return None;
            }
            if passed >= budget {
                break;
            }
            pausing = passed >= EAGER_NS;
            if passed >= yield_after {
                yield_now();
                // A yield that nobody took up returns in a fraction of this.
                gave_way = crate::clock::now_ns().saturating_sub(now) >= TAKEN_UP_NS;
            }
        }
        self.failed();
        None
    }
}
