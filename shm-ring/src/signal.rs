//! One waiting side of a ring, and how the other side wakes it: threads by futex, event loops and tasks by eventfd.
//!
//! A signal is a section of [`SIGNAL_BYTES`] in the ring's segment:
//!
//! | byte | word | written by |
//! |---|---|---|
//! | 0 | `want`: who sleeps (a bit for threads, one for the eventfd), zero if nobody does | both |
//! | 8 | `bell`: count of rings; its low half is the futex | the waking side |
//! | 64 | wakes: how often somebody was woken | the waking side |
//! | 72 | rescues: sleeps that ended by the safety time-out although something was there; expected 0 | the sleeping side |
//!
//! The sleeper says `want`, fences, looks once more, sleeps. The other side publishes, fences (see
//! [`Fencing`](crate::barrier)), loads `want`, and only if somebody sleeps swaps it to zero, counts the bell on and
//! wakes. So an awake peer costs a load of a line that nobody writes, and a sleeper costs one system call per sleep,
//! not per frame. There is no count of sleepers that a kill could leave too high: the bits are set anew for each sleep.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::barrier::Fencing;
#[cfg(not(loom))]
use crate::error::Error;
use crate::event::EventFd;
use crate::futex::Woken;
use crate::peer::PeerWord;
use crate::raw::{LINE, LINE_PAIR, Section};
use crate::segment::Memory;
use crate::sync::Ordering;
use crate::tasks::{CannotWait, Place, Sleeper, Tasks};
#[cfg(not(loom))]
use crate::tasks::{Pollable, Reactor};
use crate::wait::SpinBudget;

/// Bytes of a signal's section.
pub(crate) const SIGNAL_BYTES: usize = LINE_PAIR;

const WANT_AT: usize = 0;
const BELL_AT: usize = 8;
const WAKES_AT: usize = LINE;
const RESCUES_AT: usize = LINE + 8;

// The table above, byte for byte: the other side's load of `want` is not disturbed by the counts.
const _: () = assert!(WANT_AT + 8 == BELL_AT && WAKES_AT == 64 && RESCUES_AT == 72 && SIGNAL_BYTES == 128);

const THREADS: u64 = 1;
const EVENT: u64 = 2;

/// First interval of the safety time-out; it doubles up to [`SAFETY_LAST_NS`] while nothing happens.
const SAFETY_FIRST_NS: u64 = 100_000_000;
const SAFETY_LAST_NS: u64 = 1_000_000_000;

/// What a signal at some place tells whoever looks on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalStats {
    pub(crate) asleep: bool,
    pub(crate) wakes: u64,
    pub(crate) rescues: u64,
}

impl SignalStats {
    pub(crate) fn read(offset: usize, value: impl Fn(usize) -> u64) -> Self {
        Self {
            asleep: value(offset + WANT_AT) != 0,
            wakes: value(offset + WAKES_AT),
            rescues: value(offset + RESCUES_AT),
        }
    }
}

/// One side of a ring that may wait. Both sides hold it; which of them waits is the ring's business.
#[derive(Clone)]
pub(crate) struct Signal {
    words: Section<SIGNAL_BYTES>,
    offset: usize,
    fencing: Fencing,
    tasks: Option<Arc<Tasks>>,
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("offset", &self.offset).field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

impl Signal {
    /// The signal at `offset`, a multiple of 128. Without `event` only threads can wait.
    pub(crate) fn new(memory: Arc<Memory>, offset: usize, fencing: Fencing, event: Option<EventFd>) -> Self {
        Self { words: Section::new(memory, offset), offset, fencing, tasks: event.map(Tasks::new) }
    }

    #[inline(always)]
    fn word<const AT: usize>(&self) -> PeerWord<'_> {
        PeerWord::of(self.words.word::<AT>())
    }

    /// The descriptor that is signalled for event loops and tasks.
    pub(crate) fn event(&self) -> Option<&EventFd> {
        self.tasks.as_ref().map(|tasks| tasks.event())
    }

    /// How often this side was woken, and how often only the safety time-out found what was there.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u64, u64) {
        let stats = SignalStats::read(self.offset, crate::peer::values(self.words.memory().region()));
        (stats.wakes, stats.rescues)
    }

    /// The other side, after a publication. While this side is awake: a load, no system call.
    #[inline]
    pub(crate) fn notify(&self) {
        self.fencing.publisher();
        if self.word::<WANT_AT>().load(Ordering::Relaxed).decode(|want| want != 0) {
            self.wake();
        }
    }

    /// As [`notify`](Self::notify), but of many threads that sleep it wakes one, the one that has slept longest: there is
    /// not room for all. By one thread at a time; the next call wakes the next one.
    #[inline]
    pub(crate) fn notify_one(&self) {
        self.fencing.publisher();
        if self.word::<WANT_AT>().load(Ordering::Relaxed).decode(|want| want != 0) {
            self.wake_threads(1);
        }
    }

    /// Wakes whoever sleeps. One system call for the threads, one for the eventfd.
    pub(crate) fn wake(&self) {
        // All: a peer may wait on the same word, and one wake must not be eaten by it.
        self.wake_threads(i32::MAX as u32);
    }

    #[cold]
    fn wake_threads(&self, most: u32) {
        // ORDERING: AcqRel: two publishers that see the same sleeper wake it once, and the publication of the one that
        // finds zero here is visible to the sleeper through the other's bell.
        let want = self.word::<WANT_AT>().swap(0, Ordering::AcqRel).decode(|want| want);
        if want & THREADS != 0 {
            // ORDERING: Release, pairs with the Acquire in `bell`: who sees the new count sees the publication.
            self.word::<BELL_AT>().fetch_add(1, Ordering::Release);
            let woken = self.words.memory().region().futex_wake(self.offset + BELL_AT, most);
            if woken == most && cfg!(not(weaken = "one_wake_for_all")) {
                // Others may sleep on, with a bell that is older than this ring. A thread that read the new count sets
                // the bit by itself, after the swap.
                self.word::<WANT_AT>().fetch_or(THREADS, Ordering::Relaxed);
            }
        }
        if want & EVENT != 0
            && let Some(event) = self.event()
        {
            event.signal();
        }
        if want != 0 {
            self.word::<WAKES_AT>().fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes this side whatever it said: after a close, or for a process that died before it could.
    pub(crate) fn wake_all(&self) {
        self.word::<WANT_AT>().fetch_or(THREADS | EVENT, Ordering::Relaxed);
        self.wake();
    }

    fn bell(&self) -> u32 {
        // ORDERING: Acquire, pairs with the Release in `wake`.
        self.word::<BELL_AT>().load(Ordering::Acquire).decode(|count| count as u32)
    }

    /// Says that this side sleeps, so that a publication from now on wakes it; the caller must look once more.
    fn arm(&self, who: u64) {
        // ORDERING: AcqRel keeps the chain of swaps and ors in one order; what matters is the fence that follows.
        self.word::<WANT_AT>().fetch_or(who, Ordering::AcqRel);
        self.fencing.sleeper();
    }

    pub(crate) fn tasks(&self) -> Result<&Arc<Tasks>, CannotWait> {
        self.tasks.as_ref().ok_or(CannotWait("eventfd"))
    }

    /// This side, for a task: ready when `look` gives something; else the task is woken when it is to poll again. `need`
    /// says how much it waits for, see [`Tasks::poll`].
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        place: &mut Place,
        need: usize,
        mut look: impl FnMut() -> Option<T>,
    ) -> Poll<Result<T, CannotWait>> {
        match self.tasks() {
            Ok(tasks) => tasks.poll(self, cx, place, need, look),
            Err(cannot) => Poll::Ready(look().ok_or(cannot)),
        }
    }

    /// As [`wait`](Self::wait), for a task. Dropped, it leaves nothing behind.
    pub(crate) async fn wait_async<T>(
        &self,
        need: usize,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, CannotWait> {
        let mut place = Place::default();
        poll_fn(|cx| self.poll(cx, &mut place, need, &mut look)).await
    }

    /// The reactor's part in a model.
    #[cfg(loom)]
    pub(crate) fn turn(&self) {
        if let Ok(tasks) = self.tasks() {
            tasks.turn();
        }
    }

    /// This side, for an event loop.
    #[cfg(not(loom))]
    pub(crate) fn pollable(&self) -> Result<Pollable, Error> {
        Pollable::new(self.tasks()?, self.clone())
    }

    /// Who waits for the eventfd when tasks do.
    #[cfg(not(loom))]
    pub(crate) fn set_reactor(&self, reactor: Reactor) -> Result<(), Error> {
        self.tasks()?.set_reactor(reactor)
    }

    /// This side: waits until `look` gives something or `until_ns` passes. Polls within the budget, then sleeps.
    pub(crate) fn wait<T>(
        &self,
        spin: &SpinBudget,
        until_ns: Option<u64>,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        if let Some(found) = spin.poll(until_ns, &mut look) {
            return Some(found);
        }
        self.sleep(until_ns, look)
    }

    #[cold]
    fn sleep<T>(&self, until_ns: Option<u64>, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let mut interval_ns = SAFETY_FIRST_NS;
        loop {
            let bell = self.bell();
            self.arm(THREADS);
            if let Some(found) = look() {
                // `want` stays set: others of this side may sleep. It costs the other side one wake for nothing.
                return Some(found);
            }
            let now_ns = now_ns();
            if until_ns.is_some_and(|until| now_ns >= until) {
                return None;
            }
            let safety_ns = now_ns.saturating_add(interval_ns);
            let slice_ns = until_ns.map_or(safety_ns, |until| until.min(safety_ns));
            let woken = self.words.memory().region().futex_wait(self.offset + BELL_AT, bell, Some(slice_ns));
            if let Some(found) = look() {
                if woken == Woken::TimedOut && self.bell() == bell {
                    self.word::<RESCUES_AT>().fetch_add(1, Ordering::Relaxed);
                }
                return Some(found);
            }
            if woken == Woken::TimedOut {
                interval_ns = (interval_ns * 2).min(SAFETY_LAST_NS);
            }
        }
    }
}

impl Sleeper for Signal {
    fn arm_event(&self) {
        self.arm(EVENT);
    }

    fn count_rescue(&self) {
        self.word::<RESCUES_AT>().fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(not(loom))]
fn now_ns() -> u64 {
    crate::clock::kernel_ns()
}

/// Models have no time: their sleeps end by a wake only.
#[cfg(loom)]
fn now_ns() -> u64 {
    0
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::segment::Segment;
    use crate::spsc::SpscLayout;

    const SOMEWHERE: usize = 1024;

    fn signal(event: Option<EventFd>) -> Signal {
        let segment = Segment::heap(SpscLayout::new(4096).unwrap(), 1);
        Signal::new(segment.memory(), SOMEWHERE, Fencing::Both, event)
    }

    fn want(signal: &Signal) -> u64 {
        signal.word::<WANT_AT>().load(Ordering::Relaxed).decode(|want| want)
    }

    /// A bell that rings past 2^32, of which the sleeper compares the low half only, wakes it each time.
    #[test]
    fn bell_wrap_u32() {
        const LAST: u64 = u32::MAX as u64;
        let signal = signal(None);
        let bell = || signal.word::<BELL_AT>().load(Ordering::Relaxed).decode(|count| count);
        signal.word::<BELL_AT>().store(LAST - 7, Ordering::Relaxed);
        let (sent, seen) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut next = 1;
                while bell() <= LAST + 8 {
                    let found = signal.wait(&SpinBudget::none(), None, || {
                        // ORDERING: Acquire, pairs with the Release below, as a frame's header does in a ring.
                        (sent.load(Ordering::Acquire) >= next).then_some(())
                    });
                    assert!(found.is_some());
                    seen.store(next, Ordering::Relaxed);
                    next += 1;
                }
                seen.store(u64::MAX, Ordering::Relaxed);
            });
            for turn in 1_u64.. {
                // The other side sleeps, or is about to: it has said so.
                while seen.load(Ordering::Relaxed) != u64::MAX && want(&signal) == 0 {
                    std::thread::yield_now();
                }
                if seen.load(Ordering::Relaxed) == u64::MAX {
                    break;
                }
                // ORDERING: Release, pairs with the Acquire above.
                sent.store(turn, Ordering::Release);
                signal.notify();
            }
        });
        assert!(bell() > LAST);
        assert_eq!(signal.word::<RESCUES_AT>().load(Ordering::Relaxed).decode(|count| count), 0);
    }

    #[test]
    fn whoever_said_that_it_sleeps_is_woken_once_and_in_its_own_way() {
        let event = EventFd::new().unwrap();
        let signal = signal(Some(event.clone()));
        signal.notify();
        assert_eq!((signal.bell(), event.drain(), signal.counts()), (0, false, (0, 0)), "nobody sleeps");
        signal.arm(EVENT);
        signal.notify();
        assert_eq!((signal.bell(), event.drain(), signal.counts()), (0, true, (1, 0)));
        signal.arm(THREADS);
        signal.notify();
        assert_eq!((signal.bell(), event.drain(), signal.counts()), (1, false, (2, 0)));
        signal.notify();
        assert_eq!((signal.bell(), event.drain(), signal.counts()), (1, false, (2, 0)), "it was woken");
        assert_eq!(want(&signal), 0, "as many as there were have been woken");
    }

    #[test]
    fn an_end_wakes_all_even_if_nobody_said_that_it_sleeps() {
        let event = EventFd::new().unwrap();
        let signal = signal(Some(event.clone()));
        signal.wake_all();
        assert_eq!((signal.bell(), event.drain(), want(&signal)), (1, true, 0));
    }

    #[test]
    fn what_only_the_safety_look_finds_is_counted_as_a_rescue() {
        let signal = signal(None);
        let mut looks = 0;
        let found = signal.wait(&SpinBudget::none(), None, || {
            // The first look behind the arming is the last one before the sleep.
            looks += u32::from(want(&signal) != 0);
            (looks == 2).then_some(())
        });
        assert!(found.is_some());
        assert_eq!(signal.counts(), (0, 1));
    }

    #[test]
    fn a_wait_whose_time_is_over_looks_and_ends() {
        let signal = signal(None);
        let mut looks = 0;
        let found: Option<()> = signal.wait(&SpinBudget::none(), Some(now_ns()), || {
            looks += 1;
            None
        });
        assert!(found.is_none() && (1..3).contains(&looks), "{looks}");
        assert_eq!(signal.counts(), (0, 0));
    }
}
