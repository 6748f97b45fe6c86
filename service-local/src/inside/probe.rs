//! What a handler that runs on its caller's thread knows of its caller, and what its own calls inherit.

use std::sync::{Arc, OnceLock};
use std::task::{Context as Wakers, Poll};
use std::time::Duration;

use service_core::scope::{self, Scope};
use service_core::{Caller, CancelProbe, Deadline, Metadata};
use shm_ring::rendezvous::{own_gid, own_uid};

/// This process as a caller.
pub(super) fn own_caller() -> Caller {
    static OWN: OnceLock<(u32, u32)> = OnceLock::new();
    let (uid, gid) = *OWN.get_or_init(|| (own_uid(), own_gid()));
    Caller { uid, gid, pid: std::process::id() }
}

/// One call, and the one that it was made for, if it was made by a handler.
pub(super) struct InsideScope {
    deadline: Option<Deadline>,
    metadata: Option<Arc<Metadata>>,
    outer: Option<Arc<dyn Scope>>,
}

impl InsideScope {
    pub(super) fn new(started_ns: u64, timeout: Option<Duration>, metadata: Option<&Metadata>) -> Self {
        Self {
            deadline: timeout.map(|timeout| Deadline::starting_at(started_ns, timeout)),
            metadata: metadata.map(|metadata| Arc::new(metadata.clone())),
            outer: scope::current(),
        }
    }

    pub(super) fn deadline_of_call(&self) -> Option<Deadline> {
        self.deadline
    }

    fn outer_is_cancelled(&self) -> bool {
        self.outer.as_ref().is_some_and(|outer| outer.is_cancelled())
    }
}

impl Scope for InsideScope {
    fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    fn is_cancelled(&self) -> bool {
        self.deadline.is_some_and(Deadline::has_passed) || self.outer_is_cancelled()
    }

    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        match &self.outer {
            _ if self.deadline.is_some_and(Deadline::has_passed) => Poll::Ready(()),
            Some(outer) => outer.poll_cancelled(cx),
            None => Poll::Pending,
        }
    }

    fn metadata(&self) -> Option<Arc<Metadata>> {
        self.metadata.clone()
    }

    fn about_to_wait(&self) -> bool {
        self.outer.as_ref().is_none_or(|outer| outer.about_to_wait())
    }

    fn resumed(&self) {
        if let Some(outer) = &self.outer {
            outer.resumed();
        }
    }
}

/// The caller stands behind its own call and cannot give it up; whoever called the caller can.
pub(super) struct Probe<'a>(pub(super) &'a InsideScope);

impl CancelProbe for Probe<'_> {
    fn is_cancelled(&self) -> bool {
        self.0.outer_is_cancelled()
    }

    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        self.0.poll_cancelled(cx)
    }
}
