//! Who waits for the eventfd of a side where tasks wait: by default the process's watcher thread, or a runtime's own.
//!
//! Whichever it is, it only calls [`Tasks::turn`] when the eventfd is readable. The safety look is the watcher thread's
//! in every case: 100 ms after somebody began to wait, doubling to 1 s while no event comes, not at all while nobody
//! waits.

use std::fmt;
use std::io;
#[cfg(any(feature = "tokio", feature = "async-io"))]
use std::os::fd::OwnedFd;
use std::sync::{Arc, MutexGuard, Weak};
use std::task::{Context, Poll, Wake, Waker};

use super::{CannotWait, State, Tasks};
use crate::clock::kernel_ns;
use crate::error::Error;
use crate::event::EventFd;
use crate::rendezvous::{Event, Next, Watch, Watched, watch};

/// First interval of the safety look; it doubles up to [`SAFETY_LAST_NS`] while nothing happens.
pub(super) const SAFETY_FIRST_NS: u64 = 100_000_000;
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
    #[cfg(any(feature = "tokio", feature = "async-io"))]
    Runtime(Arc<dyn Enter>),
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Watcher => "Reactor::watcher",
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
            Kind::Watcher => {
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
    fn start(tasks: &Arc<Tasks>, reactor: &Reactor) -> Result<Self, Error> {
        let source = reactor.source(&tasks.event)?;
        let first = kernel_ns().saturating_add(tasks.safety_first_ns);
        let news = Arc::new(News(Arc::downgrade(tasks)));
        let watch = watch(tasks.event.descriptor(), source.is_none(), Some(first), news)?;
        Ok(Self { watch, source, timed: true, interval_ns: tasks.safety_first_ns, turns_before: 0 })
    }

    fn keep_timed(&mut self, first_ns: u64) {
        if !self.timed {
            self.timed = true;
            self.interval_ns = first_ns;
            self.watch.expire_at(kernel_ns().saturating_add(first_ns));
        }
    }
}

impl Tasks {
    /// Before somebody stands in the line; gives whether [`pump`](Self::pump) is due after the lock.
    pub(super) fn keep_registered(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) -> Result<bool, CannotWait> {
        if let Some(registration) = &mut state.registration {
            registration.keep_timed(self.safety_first_ns);
            return Ok(false);
        }
        let registration = Registration::start(self, &state.reactor).map_err(|error| match error {
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
        match Registration::start(self, &reactor) {
            Ok(registration) => {
                state.reactor = reactor;
                state.registration = Some(registration);
                drop(state);
                self.pump();
                Ok(())
            }
            Err(error) => {
                drop(state);
                self.reactor_ended();
                Err(error)
            }
        }
    }

    /// An event loop of the caller's waits for the eventfd from now on: nobody else empties it until a task waits again.
    pub(crate) fn retire(&self) {
        self.state().registration = None;
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
                Poll::Ready(Ok(())) if self.turn() => {}
                Poll::Ready(Ok(())) | Poll::Pending => return,
                Poll::Ready(Err(_)) => return self.reactor_ended(),
            }
        }
    }

    /// The runtime has shut down: whoever still waits registers anew, with the watcher thread.
    fn reactor_ended(&self) {
        let mut state = self.state();
        state.reactor = Reactor::watcher();
        state.registration = None;
        let everybody = state.line.call_all();
        drop(state);
        everybody.into_iter().for_each(Waker::wake);
    }

    /// The safety look: calls one task if no event came since the last one.
    fn expired(&self) -> Next {
        let mut state = self.state();
        let State { line, turns, registration: Some(registration), called_for_safety, .. } = &mut *state else {
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
            registration.interval_ns = self.safety_first_ns;
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
        match event {
            Event::Readable => {
                tasks.turn();
                Next::Keep
            }
            Event::Expired => tasks.expired(),
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
