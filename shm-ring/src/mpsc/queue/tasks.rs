//! The receiving end of a queue for tasks. Its producers' ends are [`Sender`](crate::mpsc::Sender)s, as those of any ring.

use std::cell::Cell;
use std::task::{Context, Poll, ready};

use super::lanes::Hub;
use super::poller::{At, Parked, Poller};
use super::{Frame, Queue};
use crate::error::{Error, RecvError};
use crate::tasks::{CannotWait, Messages, Place, Reactor, Receive, Sleeper};

/// How often in a row a task tries to sleep before it lets others go first.
const ATTEMPTS: u32 = 8;

/// Says in the ready set that the consumer sleeps: at the next look, which has to go over the lanes while it does.
#[derive(Default)]
struct Parking {
    is_due: Cell<bool>,
    rescues: Cell<u64>,
}

impl Sleeper for Parking {
    fn arm_event(&self) {
        self.is_due.set(true);
    }

    fn count_rescue(&self) {
        self.rescues.set(self.rescues.get() + 1);
    }
}

/// The next frame or the end of all frames; `None` if neither is there yet.
fn look(poller: &mut Poller, hub: &Hub) -> Option<Result<At, RecvError>> {
    match poller.look(hub).or_else(|| poller.search(hub)) {
        Some(at) => Some(Ok(at)),
        None => poller.is_finished(hub).then_some(Err(RecvError::Closed)),
    }
}

/// The same, and the producers are told that the consumer sleeps.
fn park(poller: &mut Poller, hub: &Hub) -> Option<Result<At, RecvError>> {
    for _ in 0..ATTEMPTS {
        if poller.is_finished(hub) {
            return Some(Err(RecvError::Closed));
        }
        match poller.park(hub, true) {
            Parked::Found(at) => return Some(Ok(at)),
            Parked::Sleep(_) => return None,
            Parked::Again => {
                if let Some(at) = poller.look(hub) {
                    return Some(Ok(at));
                }
            }
        }
    }
    // Somebody rings for nothing: the other tasks of this thread come first.
    hub.event.signal();
    None
}

impl Queue {
    fn poll_at(&mut self, cx: &Context<'_>, place: &mut Place) -> Poll<Result<Result<At, RecvError>, CannotWait>> {
        if !self.hub.home.is_here() {
            return Poll::Ready(Ok(Err(RecvError::ForkedHandle)));
        }
        let Self { poller, hub, tasks, .. } = self;
        let parking = Parking::default();
        let polled = tasks
            .poll(&parking, cx, place, 0, || if parking.is_due.get() { park(poller, hub) } else { look(poller, hub) });
        self.rescues += parking.rescues.get();
        polled
    }

    /// As [`recv`](Self::recv), for a task. While there are frames: no system call, no lock. Dropped, it has received
    /// nothing.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::CannotWait`].
    pub async fn recv_async(&mut self) -> Result<Frame<'_>, RecvError> {
        let mut place = Place::default();
        let at = std::future::poll_fn(|cx| self.poll_at(cx, &mut place)).await??;
        Ok(self.frame(at))
    }

    /// The payloads to come, as a [`Stream`](futures_core::Stream) that ends with the queue.
    pub fn messages(&mut self) -> Messages<'_> {
        Messages::new(self)
    }

    /// Chooses the reactor of tasks that wait for frames; by default the watcher thread.
    ///
    /// # Errors
    /// What the reactor answers, then it is the watcher thread.
    pub fn set_reactor(&self, reactor: Reactor) -> Result<(), Error> {
        self.tasks.set_reactor(reactor)
    }
}

impl Receive for Queue {
    fn poll_message(&mut self, cx: &mut Context<'_>, place: &mut Place) -> Poll<Result<Vec<u8>, RecvError>> {
        let at = ready!(self.poll_at(cx, place))??;
        Poll::Ready(Ok(self.frame(at).bytes().to_vec()))
    }
}
