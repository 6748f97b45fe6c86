//! Tokio's reactor as the one that waits for the eventfds of rings.
#![allow(unsafe_code)] // Tokio asks for a promise that the descriptor stays open; one call gives it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::reactor::{Enter, Reactor, Source};
use crate::error::Error;

impl Reactor {
    /// The reactor of the tokio runtime that this is called in. When the runtime shuts down, the watcher thread takes
    /// over for tasks that wait elsewhere.
    ///
    /// # Errors
    /// [`Error::System`] if there is no tokio runtime here.
    ///
    /// # Panics
    /// Not here, but where it is set, if the runtime was built without its I/O driver.
    pub fn tokio() -> Result<Self, Error> {
        let here = Handle::try_current();
        let missing = |error| Error::System { what: "finding the tokio runtime", source: io::Error::other(error) };
        here.map(Self::runtime).map_err(missing)
    }
}

impl Enter for Handle {
    fn enter(&self, event: Arc<OwnedFd>) -> Result<Arc<dyn Source>, Error> {
        let _inside = Handle::enter(self);
        // SAFETY: an `OwnedFd` behind an `Arc` keeps its descriptor open, and the same, until the last clone is dropped;
        // the `AsyncFd` holds one, and nothing here takes it out.
        let registered = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) };
        let source = registered
            .map_err(|error| Error::System { what: "place in the tokio reactor", source: error.into_parts().1 })?;
        Ok(Arc::new(source))
    }
}

impl Source for AsyncFd<Arc<OwnedFd>> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Cleared before the eventfd is emptied: what comes in between is then told again.
        ready!(self.poll_read_ready(cx))?.clear_ready();
        Poll::Ready(Ok(()))
    }
}
