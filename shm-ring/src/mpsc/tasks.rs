//! The ends of a ring for tasks and event loops.
//!
//! They can wait if the end was attached with [`Events`](crate::Events). A future that is dropped has claimed and received
//! nothing. Nothing here polls for a while before it sleeps: that would hold up the other tasks of a thread.
//!
//! Any number of tasks may wait for room. They are called in the order in which they came, as many as there is room for.

#[cfg(not(loom))]
use std::task::{Context, Poll, ready};

use super::claim::{Batch, Claim};
use super::frame::Frame;
use super::receiver::Receiver;
use super::sender::Sender;
use super::taking::{Found, Taking};
#[cfg(not(loom))]
use crate::error::Error;
use crate::error::{ClaimError, RecvError};
#[cfg(not(loom))]
use crate::tasks::{Messages, Place, Pollable, Reactor, Receive};

/// What a claim of a block is said to need, to which its bytes are added: more than any number of cells.
const BLOCK_NEED: usize = usize::MAX / 2;

impl Sender {
    /// As [`claim`](Self::claim), for a task. While there is room: no system call, no lock.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), and [`ClaimError::CannotWait`].
    pub async fn claim_async(&self, len: usize) -> Result<Claim<'_>, ClaimError> {
        let is_inline = len <= self.shared.producing.layout().inline_limit();
        let need = if is_inline { 1 } else { BLOCK_NEED.saturating_add(len) };
        self.wait_async(need, || self.shared.try_claim(len)).await
    }

    /// As [`batch`](Self::batch), for a task.
    ///
    /// # Errors
    /// As [`batch`](Self::batch), and [`ClaimError::CannotWait`].
    pub async fn batch_async(&self, frames: usize) -> Result<Batch<'_>, ClaimError> {
        self.wait_async(frames, || self.shared.try_batch(frames as u64)).await
    }

    /// As [`send`](Self::send), for a task.
    ///
    /// # Errors
    /// As [`claim_async`](Self::claim_async).
    pub async fn send_async(&self, payload: &[u8]) -> Result<(), ClaimError> {
        let mut claim = self.claim_async(payload.len()).await?;
        claim.write(payload);
        claim.commit();
        Ok(())
    }

    async fn wait_async<T>(
        &self,
        need: usize,
        mut attempt: impl FnMut() -> Result<T, ClaimError>,
    ) -> Result<T, ClaimError> {
        let look = || match attempt() {
            Err(ClaimError::Full { .. }) => None,
            settled => Some(settled),
        };
        self.shared.space.wait_async(need, look).await?
    }

    /// A descriptor by which an event loop waits for room. One for all clones of a sender.
    ///
    /// # Errors
    /// [`Error::CannotWait`] without [`Events`](crate::Events), [`Error::AlreadyPolled`] if there is one.
    #[cfg(not(loom))]
    pub fn pollable(&self) -> Result<Pollable, Error> {
        self.shared.space.pollable()
    }

    /// Chooses the reactor of tasks that wait for room, for all clones; by default the watcher thread.
    ///
    /// # Errors
    /// [`Error::CannotWait`] without [`Events`](crate::Events); what the reactor answers, then it is the watcher thread.
    #[cfg(not(loom))]
    pub fn set_reactor(&self, reactor: Reactor) -> Result<(), Error> {
        self.shared.space.set_reactor(reactor)
    }
}

/// The next frame or the end of all frames; `None` if neither is there yet.
fn look(taking: &mut Taking) -> Option<Result<Found, RecvError>> {
    match taking.look() {
        Ok(None) => {}
        settled => return settled.transpose(),
    }
    // Who finds nothing gives back first: the producers may wait for just that.
    taking.tell_all_producers();
    match taking.search() {
        Ok(None) if taking.is_finished() => Some(Err(RecvError::Closed)),
        found => found.transpose(),
    }
}

impl Receiver {
    /// As [`recv`](Self::recv), for a task. While there are frames: no system call, no lock.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::CannotWait`].
    pub async fn recv_async(&mut self) -> Result<Frame<'_>, RecvError> {
        self.at_home()?;
        let Self { taking, data, .. } = self;
        let found = data.wait_async(0, || look(taking)).await??;
        Ok(Frame::new(taking, found))
    }

    /// The payloads to come, as a [`Stream`](futures_core::Stream) that ends with the ring.
    #[cfg(not(loom))]
    pub fn messages(&mut self) -> Messages<'_> {
        Messages::new(self)
    }

    /// A descriptor by which an event loop waits for frames.
    ///
    /// # Errors
    /// [`Error::CannotWait`] without [`Events`](crate::Events), [`Error::AlreadyPolled`] if there is one.
    #[cfg(not(loom))]
    pub fn pollable(&self) -> Result<Pollable, Error> {
        self.data.pollable()
    }

    /// Chooses the reactor of tasks that wait for frames; by default the watcher thread.
    ///
    /// # Errors
    /// [`Error::CannotWait`] without [`Events`](crate::Events); what the reactor answers, then it is the watcher thread.
    #[cfg(not(loom))]
    pub fn set_reactor(&self, reactor: Reactor) -> Result<(), Error> {
        self.data.set_reactor(reactor)
    }
}

#[cfg(not(loom))]
impl Receive for Receiver {
    fn poll_message(&mut self, cx: &mut Context<'_>, place: &mut Place) -> Poll<Result<Vec<u8>, RecvError>> {
        self.at_home()?;
        let Self { taking, data, .. } = self;
        let found = ready!(data.poll(cx, place, 0, || look(taking)))??;
        Poll::Ready(Ok(Frame::new(taking, found).bytes().to_vec()))
    }
}
