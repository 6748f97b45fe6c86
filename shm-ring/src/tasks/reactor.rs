//! Who waits for the eventfd of a side where tasks wait: by default the process's watcher thread, or a runtime's own.
//!
//! Whichever it is, it only calls [`Tasks::turn`] when the eventfd is readable. The safety look is the watcher thread's
//! in every case: 100 ms after somebody began to wait, doubling to 1 s while no event comes, not at all while nobody
//! waits.

use std::fmt;
use std::io;
#[cfg(any(feature = "tokio", feature = "async-io"))]
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard, Weak};
use std::task::{Context, Poll, Wake, Waker};

use super::{CannotWait, State, Tasks};
use crate::clock::kernel_ns;
use crate::error::Error;
use crate::event::EventFd;
use crate::rendezvous::{Event, Next, Watch, Watched, watch};

/// How long until the first safety look; it doubles up to [`SAFETY_LAST_NS`] while nothing happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct SafetyInterval {
    pub(super) first_ns: u64,
}

impl Default for SafetyInterval {
    fn default() -> Self {
        Self { first_ns: 100_000_000 }
    }
}

const SAFETY_LAST_NS: u64 = 1_000_000_000;

/// Whose thread learns from the kernel that tasks at an end of a ring are to look again.
///
/// The default is the watcher thread of this process, which serves every runtime and none. A runtime's own reactor
/// saves the change of threads from there to the runtime.
#[derive(Clone, Default)]
pub struct Reactor(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Watcher,
    /// An event loop of the caller's; see [`Pollable`](super::Pollable).
    Loop,
    #[cfg(any(feature = "tokio", feature = "async-io"))]
    Runtime(Arc<dyn Enter>),
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Watcher => "Reactor::watcher",
            Kind::Loop => "Reactor of an event loop",
            #[cfg(any(feature = "tokio", feature = "async-io"))]
            Kind::Runtime(_) => "Reactor of a runtime",
        })
    }
}

impl Reactor {
    /// The watcher thread of this process: one thread for all rings, started by the first that needs it.
    pub fn watcher() -> Self {
        Self::default()
    }

    #[cfg(any(feature = "tokio", feature = "async-io"))]
    pub(super) fn runtime(runtime: impl Enter + 'static) -> Self {
        Self(Kind::Runtime(Arc::new(runtime)))
    }

    fn source(&self, event: &EventFd) -> Result<Option<Arc<dyn Source>>, Error> {
        match &self.0 {
            Kind::Watcher | Kind::Loop => {
                let _ = event;
                Ok(None)
            }
            #[cfg(any(feature = "tokio", feature = "async-io"))]
            Kind::Runtime(runtime) => runtime.enter(event.descriptor()).map(Some),
        }
    }
}

/// A runtime's reactor.
#[cfg(any(feature = "tokio", feature = "async-io"))]
pub(super) trait Enter: Send + Sync {
    /// Registers the eventfd with the runtime.
    fn enter(&self, event: Arc<OwnedFd>) -> Result<Arc<dyn Source>, Error>;
}

/// An eventfd that is registered with a runtime; dropped, it is so no more.
pub(super) trait Source: Send + Sync {
    /// Ready once for each time that the eventfd became readable; pending, the waker is kept, the latest one only.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What is registered for one side while tasks wait there, and until somebody else takes over.
pub(super) struct Registration {
    watch: Watch,
    source: Option<Arc<dyn Source>>,
    /// Whether a safety look is due.
    timed: bool,
    interval_ns: u64,
    turns_before: u64,
}

impl Registration {
    fn start(tasks: &Arc<Tasks>, reactor: &Reactor, safety: SafetyInterval) -> Result<Self, Error> {
        let source = reactor.source(&tasks.event)?;
        let first = kernel_ns().saturating_add(safety.first_ns);
        let news = Arc::new(News(Arc::downgrade(tasks)));
        let readable = matches!(reactor.0, Kind::Watcher);
        let watch = watch(tasks.event.descriptor(), readable, Some(first), news)?;
        Ok(Self { watch, source, timed: true, interval_ns: safety.first_ns, turns_before: 0 })
    }

    fn keep_timed(&mut self, safety: SafetyInterval) {
        if !self.timed {
            self.timed = true;
            self.interval_ns = safety.first_ns;
            self.watch.expire_at(kernel_ns().saturating_add(safety.first_ns));
        }
    }
}

impl Tasks {
    /// Before somebody stands in the line; gives whether [`pump`](Self::pump) is due after the lock.
    pub(super) fn keep_registered(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) -> Result<bool, CannotWait> {
        let safety = state.safety;
        if let Some(registration) = &mut state.registration {
            registration.keep_timed(safety);
            return Ok(false);
        }
        let registration = Registration::start(self, &state.reactor, safety).map_err(|error| match error {
            Error::ResourceExhausted { what, .. } | Error::System { what, .. } => CannotWait(what),
            _ => CannotWait("reactor"),
        })?;
        let has_source = registration.source.is_some();
        state.registration = Some(registration);
        Ok(has_source)
    }

    /// Chooses who waits for the eventfd, and has it registered there.
    pub(crate) fn set_reactor(self: &Arc<Self>, reactor: Reactor) -> Result<(), Error> {
        let mut state = self.state();
        // Given up first: the watcher takes a descriptor once. Nothing of ours runs in these drops.
        state.registration = None;
        match Registration::start(self, &reactor, state.safety) {
            Ok(registration) => {
                state.reactor = reactor;
                state.registration = Some(registration);
                drop(state);
                self.pump();
                Ok(())
            }
            Err(error) => {
                drop(state);
                self.back_to_watcher();
                Err(error)
            }
        }
    }

    /// For tests of who is called when: a slow machine may not bring in another call.
    #[cfg(test)]
    pub(super) fn put_off_safety_looks(&self) {
        self.state().safety.first_ns = 3_600_000_000_000;
    }

    /// Leaves the eventfd to an event loop, until a task waits again. Only where one excludes the other.
    pub(crate) fn retire(&self) {
        self.state().registration = None;
    }

    /// Leaves the eventfd to an event loop of the caller's, the first that asks.
    pub(super) fn enter_loop(&self) -> Result<(), Error> {
        let mut state = self.state();
        if matches!(state.reactor.0, Kind::Loop) {
            return Err(Error::AlreadyPolled);
        }
        state.reactor = Reactor(Kind::Loop);
        self.call_everybody(state);
        Ok(())
    }

    /// The event loop is over: the watcher thread again.
    pub(super) fn leave_loop(&self) {
        self.back_to_watcher();
    }

    /// News from the watcher thread or a runtime: false if it is no longer theirs.
    fn told(&self) -> bool {
        let state = self.state();
        if state.registration.is_none() || matches!(state.reactor.0, Kind::Loop) {
            return false;
        }
        self.turn_locked(state);
        true
    }

    /// Asks the runtime's reactor for news until it has none and keeps our waker.
    pub(super) fn pump(self: &Arc<Self>) {
        let Some(source) = self.state().registration.as_ref().and_then(|registration| registration.source.clone())
        else {
            return;
        };
        let waker = Waker::from(Arc::new(News(Arc::downgrade(self))));
        let mut cx = Context::from_waker(&waker);
        loop {
            match source.poll_readable(&mut cx) {
                Poll::Ready(Ok(())) if self.told() => {}
                Poll::Ready(Ok(())) | Poll::Pending => return,
                // The runtime has shut down.
                Poll::Ready(Err(_)) => return self.back_to_watcher(),
            }
        }
    }

    fn back_to_watcher(&self) {
        let mut state = self.state();
        state.reactor = Reactor::watcher();
        self.call_everybody(state);
    }

    /// The reactor has changed: whoever still waits registers anew.
    fn call_everybody(&self, mut state: MutexGuard<'_, State>) {
        state.registration = None;
        let everybody = state.line.call_all();
        drop(state);
        everybody.into_iter().for_each(Waker::wake);
    }

    /// The safety look: calls one task if no event came since the last one.
    fn expired(&self) -> Next {
        let mut state = self.state();
        let State { line, turns, registration: Some(registration), called_for_safety, safety, .. } = &mut *state else {
            return Next::Keep;
        };
        if line.is_empty() {
            registration.timed = false;
            return Next::Keep;
        }
        let mut called = None;
        if registration.turns_before == *turns {
            registration.interval_ns = (registration.interval_ns * 2).min(SAFETY_LAST_NS);
            called = line.call_first();
            *called_for_safety = called.as_ref().map(|(ticket, _)| (*ticket, *turns));
        } else {
            registration.interval_ns = safety.first_ns;
        }
        registration.turns_before = *turns;
        let next = kernel_ns().saturating_add(registration.interval_ns);
        drop(state);
        if let Some((_, waker)) = called {
            waker.wake();
        }
        Next::KeepUntil(next)
    }
}

/// Brings the tasks of one side the news of their eventfd, from the watcher thread or from a runtime's reactor.
struct News(Weak<Tasks>);

impl Watched for News {
    fn on_event(&self, event: Event) -> Next {
        let Some(tasks) = self.0.upgrade() else { return Next::Stop };
        // A waker that panics is one task's affair: the others at this side are still to be called.
        match event {
            Event::Readable => {
                let _ = catch_unwind(AssertUnwindSafe(|| tasks.told()));
                Next::Keep
            }
            Event::Expired => catch_unwind(AssertUnwindSafe(|| tasks.expired()))
                .unwrap_or_else(|_| Next::KeepUntil(kernel_ns().saturating_add(SAFETY_LAST_NS))),
            Event::Ended => Next::Stop,
        }
    }
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.pump();
        }
    }
}
