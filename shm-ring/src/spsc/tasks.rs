//! The ends of a ring for tasks and event loops.
//!
//! They can wait if the end was attached with [`Events`](crate::Events). A future that is dropped has claimed and received
//! nothing. Nothing here polls for a while before it sleeps: that would hold up the other tasks of a thread.

#[cfg(not(loom))]
use std::task::{Context, Poll, ready};

#[cfg(not(loom))]
use crate::error::Error;
use crate::error::{ClaimError, RecvError};
use crate::spsc::claim::Claim;
use crate::spsc::consumer::{Consumer, Core, Found};
use crate::spsc::frame::Frame;
use crate::spsc::producer::{Look, Producer};
#[cfg(not(loom))]
use crate::tasks::{Messages, Place, Pollable, Reactor, Receive};

/// The place in line of whoever polls one end again and again, empty until it has to wait. Dropped, the place is given up.
#[cfg(not(loom))]
#[derive(Debug, Default)]
pub struct Turn(Place);

impl Producer {
    /// As [`claim`](Self::claim), for a task. While there is room: no system call, no lock.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), and [`ClaimError::CannotWait`].
    pub async fn claim_async(&mut self, len: usize) -> Result<Claim<'_>, ClaimError> {
        let Self { core, arena, space, .. } = self;
        let arena = arena.as_ref();
        // The task is woken for what the consumer gives back. It may stop for good with less than that received, so every
        // look, the safety look's as well, counts every byte.
        let look = || core.room_at_last(arena, len, Look::Received);
        let room = space.wait_async(len, look).await??;
        Ok(Claim::new(core, arena, None, room, len))
    }

    /// As [`claim_async`](Self::claim_async), one poll of it: for futures that hold the end themselves. Pending, the task
    /// is woken when it is to poll again.
    ///
    /// # Errors
    /// As [`claim_async`](Self::claim_async).
    #[cfg(not(loom))]
    pub fn poll_claim(&mut self, cx: &Context<'_>, turn: &mut Turn, len: usize) -> Poll<Result<Claim<'_>, ClaimError>> {
        let Self { core, arena, space, .. } = self;
        let arena = arena.as_ref();
        // Every look counts every byte, as in `claim_async`.
        let look = || core.room_at_last(arena, len, Look::Received);
        let room = ready!(space.poll(cx, &mut turn.0, len, look))??;
        Poll::Ready(Ok(Claim::new(core, arena, None, room, len)))
    }

    /// As [`send`](Self::send), for a task.
    ///
    /// # Errors
    /// As [`claim_async`](Self::claim_async).
    pub async fn send_async(&mut self, payload: &[u8]) -> Result<(), ClaimError> {
        self.claim_async(payload.len()).await.map(|claim| claim.send(payload))
    }

    /// A descriptor by which an event loop waits for room.
    ///
    /// # Errors
    /// [`Error::CannotWait`] without [`Events`](crate::Events), [`Error::AlreadyPolled`] if there is one.
    #[cfg(not(loom))]
    pub fn pollable(&self) -> Result<Pollable, Error> {
        self.space.pollable()
    }

    /// Chooses the reactor of tasks that wait for room; by default the watcher thread.
    ///
    /// # Errors
    /// [`Error::CannotWait`] without [`Events`](crate::Events); what the reactor answers, then it is the watcher thread.
    #[cfg(not(loom))]
    pub fn set_reactor(&self, reactor: Reactor) -> Result<(), Error> {
        self.space.set_reactor(reactor)
    }
}

/// The frame at the head or the end of all frames; `None` if neither is there yet.
fn look(core: &mut Core) -> Option<Result<Found, RecvError>> {
    match core.find() {
        None if core.missed == RecvError::Empty => None,
        found => Some(found.ok_or(core.missed)),
    }
}

impl Consumer {
    /// As [`recv`](Self::recv), for a task. While there are frames: no system call, no lock.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::CannotWait`].
    pub async fn recv_async(&mut self) -> Result<Frame<'_>, RecvError> {
        let Self { core, data, .. } = self;
        let found = data.wait_async(0, || look(core)).await??;
        Ok(Frame::new(core, found))
    }

    /// As [`recv_async`](Self::recv_async), one poll of it: for futures that hold the end themselves. Pending, the task is
    /// woken when it is to poll again.
    ///
    /// # Errors
    /// As [`recv_async`](Self::recv_async).
    #[cfg(not(loom))]
    pub fn poll_recv(&mut self, cx: &Context<'_>, turn: &mut Turn) -> Poll<Result<Frame<'_>, RecvError>> {
        let Self { core, data, .. } = self;
        let found = ready!(data.poll(cx, &mut turn.0, 0, || look(core)))??;
        Poll::Ready(Ok(Frame::new(core, found)))
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
impl Receive for Consumer {
    fn poll_message(&mut self, cx: &mut Context<'_>, place: &mut Place) -> Poll<Result<Vec<u8>, RecvError>> {
        let Self { core, data, .. } = self;
        let found = ready!(data.poll(cx, place, 0, || look(core)))??;
        Poll::Ready(Ok(Frame::new(core, found).bytes().to_vec()))
    }
}
