//! What a handler knows about the call it answers: until when, for whom, and whether anybody still
//! waits.

use std::fmt;
use std::task::{Context as Wakers, Poll};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::assured::Assurance;
use crate::metadata::Metadata;

/// Reads `CLOCK_MONOTONIC` in nanoseconds: the one clock of this crate, the same for all processes
/// of a host.
///
/// Wait-free; no system call where the kernel offers the clock in user space.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The kernel's monotonic clock starts at boot and is never negative.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A point in time on this host's monotonic clock by which a call must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(u64);

impl Deadline {
    /// Takes a reading of [`monotonic_ns`].
    pub const fn from_monotonic_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Gives the deadline as a reading of [`monotonic_ns`].
    pub const fn as_monotonic_ns(self) -> u64 {
        self.0
    }

    /// Sets a deadline `timeout` from now; a time beyond the clock's range (584 years) becomes its
    /// end.
    pub fn after(timeout: Duration) -> Self {
        Self::starting_at(monotonic_ns(), timeout)
    }

    /// Sets a deadline `timeout` behind a clock reading that the caller already has.
    pub fn starting_at(started_ns: u64, timeout: Duration) -> Self {
        Self(started_ns.saturating_add(saturating_ns(timeout)))
    }

    /// Says how long it still is; `None` once the deadline has passed. Reads the clock.
    pub fn remaining(self) -> Option<Duration> {
        match self.0.saturating_sub(monotonic_ns()) {
            0 => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    /// Says whether the deadline has passed. Reads the clock.
    pub fn has_passed(self) -> bool {
        monotonic_ns() >= self.0
    }
}

/// Answers whether the caller has given a call up; a transport implements it over its cancel flag.
pub trait CancelProbe: Sync {
    /// Says whether the caller no longer waits. Called whenever a handler asks, so it must be cheap
    /// and must not block.
    fn is_cancelled(&self) -> bool;

    /// The same for a task: pending, it is woken when the call is given up or its deadline passes. A transport that cannot
    /// tell is asked again only when the task is polled anyway.
    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        let _ = cx;
        if self.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The probe of calls that cannot be cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverCancelled;

impl CancelProbe for NeverCancelled {
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Who calls, as the kernel told the transport when the connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    /// User id of the calling process.
    pub uid: u32,
    /// Group id of the calling process.
    pub gid: u32,
    /// Process id of the caller: for logs only, since the kernel re-uses it after the process's
    /// end.
    pub pid: u32,
}

/// What a handler may ask about the call it answers. Costs no allocation to make.
///
/// The answers are about this one call; the context cannot outlive it.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    deadline: Option<Deadline>,
    caller: Caller,
    cancel: &'a dyn CancelProbe,
    assurance: Option<Assurance>,
    metadata: Option<&'a Metadata>,
}

impl<'a> Context<'a> {
    /// Puts a context together; transports do this once per call.
    pub fn new(deadline: Option<Deadline>, caller: Caller, cancel: &'a dyn CancelProbe) -> Self {
        Self { deadline, caller, cancel, assurance: None, metadata: None }
    }

    /// For a request that somebody vouches for: it is read without being validated.
    #[must_use]
    pub fn assured(self, assurance: Option<Assurance>) -> Self {
        Self { assurance, ..self }
    }

    /// For a call that something came with beside its arguments.
    #[must_use]
    pub fn with_metadata(self, metadata: Option<&'a Metadata>) -> Self {
        Self { metadata, ..self }
    }

    /// Gives what came beside the arguments, if anything did.
    pub fn metadata(&self) -> Option<&'a Metadata> {
        self.metadata
    }

    /// Waits until nobody waits for the answer any more: the caller gave up, is dead, or the deadline has passed.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<'a> {
        let (cancel, deadline) = (self.cancel, self.deadline);
        std::future::poll_fn(move |cx| match deadline.is_some_and(Deadline::has_passed) {
            true => Poll::Ready(()),
            false => cancel.poll_cancelled(cx),
        })
    }

    /// Gives the word of whoever vouches for the request.
    pub fn assurance(&self) -> Option<Assurance> {
        self.assurance
    }

    /// Says by when the caller wants the answer; `None` if it waits for ever.
    pub fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Says how long the caller still waits: zero once the deadline has passed, `None` if it waits
    /// for ever.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.remaining().unwrap_or(Duration::ZERO))
    }

    /// Says whether nobody waits any more: the caller gave up, or the deadline has passed.
    ///
    /// Reads the caller's flag and, if there is a deadline, the clock: tens of nanoseconds, no
    /// system call.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled() || self.deadline.is_some_and(Deadline::has_passed)
    }

    /// Says who calls.
    pub fn caller(&self) -> Caller {
        self.caller
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("deadline", &self.deadline)
            .field("caller", &self.caller)
            .field("cancelled", &self.cancel.is_cancelled())
            .finish()
    }
}
