//! The reactor of async-io (smol, async-std and others) as the one that waits for the eventfds of rings.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_io::Async;

use super::reactor::{Enter, Reactor, Source};
use crate::error::Error;

impl Reactor {
    /// The reactor of async-io, which the whole process shares.
    pub fn async_io() -> Self {
        Self::runtime(AsyncIo)
    }
}

struct AsyncIo;

impl Enter for AsyncIo {
    fn enter(&self, event: Arc<OwnedFd>) -> Result<Arc<dyn Source>, Error> {
        let registered = Async::new_nonblocking(event);
        let source = registered.map_err(|source| Error::System { what: "place in the reactor of async-io", source })?;
        Ok(Arc::new(source))
    }
}

impl Source for Async<Arc<OwnedFd>> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Async::poll_readable(self, cx)
    }
}
