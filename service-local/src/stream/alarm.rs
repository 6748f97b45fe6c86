//! The times at which a task at a stream looks again by itself.

use std::task::{Context as Wakers, Poll, Waker};

use service_core::Deadline;
use shm_ring::clock;

use crate::timers::{self, Key};

/// A ring of a peer that is not trusted has no eventfd: both sides would hold the same open file, and either could make it
/// block the other's next write. Tasks look again after this long, then after twice as long each time.
const PAUSE_FIRST_NS: u64 = 50_000;
const PAUSE_LAST_NS: u64 = 2_000_000;

/// One end's alarm.
pub(super) struct Alarm {
    deadline: Option<Deadline>,
    pause_ns: u64,
    set: Option<(Key, Waker)>,
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Alarm {
    /// For a stream of a call with this deadline.
    pub(super) fn new(deadline: Option<Deadline>) -> Self {
        Self { deadline, pause_ns: PAUSE_FIRST_NS, set: None }
    }

    /// Whether the call's time is up.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(Deadline::has_passed)
    }

    /// The task found what it waited for.
    #[inline]
    pub(super) fn found(&mut self) {
        self.pause_ns = PAUSE_FIRST_NS;
    }

    /// The task has to wait: it is woken when its time is up, or, if nobody else can wake it, soon. Ready when the time is
    /// up.
    pub(super) fn poll(&mut self, cx: &Wakers<'_>, is_alone: bool) -> Poll<()> {
        let until_ns = self.deadline.map_or(u64::MAX, Deadline::as_monotonic_ns);
        if is_alone || until_ns != u64::MAX {
            let now_ns = clock::kernel_ns();
            if now_ns >= until_ns {
                return Poll::Ready(());
            }
            self.set(if is_alone { until_ns.min(now_ns.saturating_add(self.pause_ns)) } else { until_ns }, cx.waker());
            if is_alone {
                self.pause_ns = (self.pause_ns * 2).min(PAUSE_LAST_NS);
            }
        }
        Poll::Pending
    }

    fn set(&mut self, at_ns: u64, waker: &Waker) {
        if let Some((key, known)) = &self.set
            && key.at_ns() == at_ns
            && known.will_wake(waker)
        {
            return;
        }
        self.forget();
        self.set = Some((timers::wake_at(at_ns, waker), waker.clone()));
    }

    fn forget(&mut self) {
        if let Some((key, _)) = self.set.take() {
            timers::forget(key);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.forget();
    }
}
