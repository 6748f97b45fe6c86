//! Tasks that wait at a ring, tied to no runtime.
//!
//! Wakers cannot cross processes. So each waiting side has an eventfd that the other side makes readable, and the wakers
//! stay in a [`Line`] in private memory; a reactor (see [`reactor`]) turns the one into the other. All of it is a hint,
//! the truth is in the ring:
//!
//! 1. a task that finds nothing stores its waker in the line, says in the ring that the side sleeps, looks once more;
//! 2. the other side publishes, sees that somebody sleeps, takes that back and makes the eventfd readable;
//! 3. the reactor empties the eventfd and calls **one** task, the one that has waited longest;
//! 4. that task looks: found, it calls the next one; not found, it takes its old place and says again that it sleeps.
//!
//! So a call is never lost and never wakes more tasks than find something, plus one: while anybody stands in the line,
//! either the side is said to sleep, or the eventfd is readable, or one task has a call in hand. A future that is
//! dropped with a call in hand passes it on. A future that is kept but not polled keeps its call; others then wait until
//! the safety look calls the next of them.

#[cfg(all(feature = "async-io", not(loom)))]
mod async_io;
#[cfg(any(test, loom))]
pub(crate) mod credits;
mod line;
#[cfg(not(loom))]
mod messages;
#[cfg(not(loom))]
mod pollable;
#[cfg(not(loom))]
mod reactor;
#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(all(feature = "tokio", not(loom)))]
mod tokio;

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{ClaimError, Error, RecvError};
use crate::event::EventFd;
use crate::sync::{Mutex, MutexGuard};

use self::line::{Line, Ticket};
#[cfg(not(loom))]
pub use self::messages::Messages;
#[cfg(not(loom))]
pub(crate) use self::messages::Receive;
#[cfg(not(loom))]
pub use self::pollable::Pollable;
#[cfg(not(loom))]
pub use self::reactor::Reactor;
#[cfg(not(loom))]
use self::reactor::{Registration, SafetyInterval};

/// How one side of a ring is told apart from one that is awake.
pub(crate) trait Sleeper {
    /// From now on a publication makes the eventfd readable, once. Worth something with a look after it.
    fn arm_event(&self);

    /// Counts a sleep that only the safety look ended.
    fn count_rescue(&self);
}

/// Why a task cannot wait: what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CannotWait(pub(crate) &'static str);

impl From<CannotWait> for ClaimError {
    fn from(CannotWait(missing): CannotWait) -> Self {
        Self::CannotWait { missing }
    }
}

impl From<CannotWait> for RecvError {
    fn from(CannotWait(missing): CannotWait) -> Self {
        Self::CannotWait { missing }
    }
}

impl From<CannotWait> for Error {
    fn from(CannotWait(missing): CannotWait) -> Self {
        Self::CannotWait { missing }
    }
}

/// The tasks of this process that wait at one side of one ring.
pub(crate) struct Tasks {
    event: EventFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    line: Line,
    /// How often the eventfd was readable.
    turns: u64,
    /// Whom the safety look called last, and `turns` at that time.
    called_for_safety: Option<(Ticket, u64)>,
    #[cfg(not(loom))]
    reactor: Reactor,
    #[cfg(not(loom))]
    registration: Option<Registration>,
    #[cfg(not(loom))]
    safety: SafetyInterval,
}

impl State {
    /// Whether the safety look called this ticket and no event came since. Asked once.
    fn was_called_for_safety(&mut self, ticket: Ticket) -> bool {
        let turns = self.turns;
        self.called_for_safety.take_if(|(called, _)| *called == ticket).is_some_and(|(_, then)| then == turns)
    }
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// An event, the task's own look, or its end.
    ByItself,
    /// The safety look, although no event came.
    Rescued,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("event", &self.event).finish_non_exhaustive()
    }
}

/// One future's place in the line; empty until it has to wait. Dropped, the place is given up.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<(Arc<Tasks>, Ticket)>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((tasks, ticket)) = self.0.take() {
            // Nothing was found, so nothing was rescued.
            let _ = tasks.leave(ticket, false);
        }
    }
}

impl Tasks {
    /// For the side that `event` is signalled for. Nothing is registered anywhere until somebody waits.
    pub(crate) fn new(event: EventFd) -> Arc<Self> {
        Arc::new(Self { event, state: Mutex::default() })
    }

    pub(crate) fn event(&self) -> &EventFd {
        &self.event
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a future's `poll` comes to: ready when `look` gives something. While it is pending the task is woken when
    /// a look is due; `need` says how much it waits for, so that others who need less are not held up by it.
    ///
    /// No lock and no system call if the first look finds something.
    pub(crate) fn poll<T>(
        self: &Arc<Self>,
        sleeper: &impl Sleeper,
        cx: &Context<'_>,
        place: &mut Place,
        need: usize,
        mut look: impl FnMut() -> Option<T>,
    ) -> Poll<Result<T, CannotWait>> {
        let mut found = look();
        let mut was_called = false;
        if found.is_none() {
            if cfg!(weaken = "waker_after_arming") {
                sleeper.arm_event();
                found = look();
            }
            // The waker first: a publication after the arming must find it (`waker_after_arming`).
            was_called = self.stand(place, need, cx.waker())?;
            if cfg!(not(weaken = "waker_after_arming")) {
                sleeper.arm_event();
                if cfg!(not(weaken = "arming_without_look")) {
                    found = look();
                }
            }
        }
        let Some(found) = found else {
            if was_called && let Some((_, ticket)) = &place.0 {
                self.hand_on_to_smaller(*ticket, need);
            }
            return Poll::Pending;
        };
        if let Some((_, ticket)) = place.0.take()
            && self.leave(ticket, was_called) == Left::Rescued
        {
            sleeper.count_rescue();
        }
        Poll::Ready(Ok(found))
    }

    /// Stores the waker; says whether the place was called since it was last stored.
    fn stand(self: &Arc<Self>, place: &mut Place, need: usize, waker: &Waker) -> Result<bool, CannotWait> {
        let waker = waker.clone();
        let mut state = self.state();
        #[cfg(not(loom))]
        let started = self.keep_registered(&mut state)?;
        let fresh = place.0.is_none();
        let (_, ticket) = place.0.get_or_insert_with(|| (Arc::clone(self), state.line.issue()));
        let replaced = state.line.stand(*ticket, need, waker);
        drop(state);
        #[cfg(not(loom))]
        if started {
            self.pump();
        }
        Ok(!fresh && replaced.is_none())
    }

    /// Gives a place up, and passes on the call that it had, if it had one.
    fn leave(&self, ticket: Ticket, was_called: bool) -> Left {
        let mut state = self.state();
        let stood = state.line.leave(ticket);
        // Without this (`call_kept`) those behind sleep on, although there is something for them too.
        let had_a_call = (was_called || stood.is_none()) && cfg!(not(weaken = "call_kept"));
        let next = if had_a_call { state.line.call_first() } else { None };
        let rescued = had_a_call && state.was_called_for_safety(ticket) && !self.event.drain();
        drop(state);
        if let Some((_, waker)) = next {
            waker.wake();
        }
        if rescued { Left::Rescued } else { Left::ByItself }
    }

    /// A call in vain: somebody who asks for less may be luckier.
    fn hand_on_to_smaller(&self, ticket: Ticket, need: usize) {
        let mut state = self.state();
        state.was_called_for_safety(ticket);
        let smaller = state.line.call_smaller(need);
        drop(state);
        if let Some(waker) = smaller {
            waker.wake();
        }
    }

    /// The reactor, when the eventfd is readable: empties it and calls whoever has waited longest.
    pub(crate) fn turn(&self) {
        self.turn_locked(self.state());
    }

    fn turn_locked(&self, mut state: MutexGuard<'_, State>) {
        if !self.event.drain() {
            return; // another reactor, just replaced, was faster
        }
        state.turns += 1;
        let first = state.line.call_first();
        drop(state);
        if let Some((_, waker)) = first {
            waker.wake();
        }
    }
}
