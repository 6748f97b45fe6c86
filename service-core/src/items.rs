//! The typed ends of streams: [`Outgoing`] sends items, [`Incoming`] receives them. Handlers get them as arguments, clients
//! by calling a method that has streams.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Wakers, Poll, ready};

use futures_core::Stream;

use crate::context::Deadline;
use crate::handler::ServerCall;
use crate::status::{Code, Outcome, Status};
use crate::stream::{StreamReceiver, StreamSender};
use crate::typed::{Message, Owned, Reply, Writable};

/// Sends the items of one direction of a call.
///
/// A direction that is full holds whoever sends until the other side has received, the call's deadline passes, or the call
/// ends. In a handler the direction ends by itself when the handler succeeds, whether or not [`finish`](Self::finish) was
/// called; when it fails or panics, the other side is told instead of seeing an end. On the client's side it is broken off
/// when it is dropped without `finish`.
pub struct Outgoing<T> {
    /// `None` once the direction has ended.
    sender: Option<Box<dyn StreamSender>>,
    deadline: Option<Deadline>,
    lender: Option<Arc<Mutex<Returned>>>,
    of: PhantomData<fn(T)>,
}

impl<T> Outgoing<T> {
    pub(crate) fn new(sender: Box<dyn StreamSender>, deadline: Option<Deadline>) -> Self {
        Self { sender: Some(sender), deadline, lender: None, of: PhantomData }
    }

    /// Ends the direction: the other side receives what was sent, then the end.
    ///
    /// # Errors
    /// As [`send`](Self::send); then the other side sees no end.
    pub fn finish(mut self) -> Result<(), Status> {
        self.end()
    }

    pub(crate) fn end(&mut self) -> Result<(), Status> {
        self.sender.take().map_or(Ok(()), |mut sender| sender.finish())
    }
}

impl<T: Writable + Sync> Outgoing<T> {
    /// Sends an item; blocks while the direction is full.
    ///
    /// # Errors
    /// `Cancelled` if the other side takes no more, `DeadlineExceeded`, `Unavailable` if it is dead, `ResourceExhausted`
    /// if the item is longer than any that can be carried.
    pub fn send(&mut self, item: &T) -> Result<(), Status> {
        let sender = self.sender.as_mut().ok_or_else(has_ended)?;
        sender.send(&Message(item), self.deadline)
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_async<'a>(&'a mut self, item: &'a T) -> SendItem<'a, T> {
        SendItem { out: self, item, is_pending: false }
    }
}

impl<T> Drop for Outgoing<T> {
    fn drop(&mut self) {
        let (Some(mut sender), Some(lender)) = (self.sender.take(), &self.lender) else { return };
        let mut returned = lender.lock().unwrap_or_else(PoisonError::into_inner);
        match *returned {
            // The handler succeeded long ago and left the end to somebody else.
            Returned::Succeeded => drop(sender.finish()),
            _ => *returned = Returned::Here(sender),
        }
    }
}

impl<T> fmt::Debug for Outgoing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("ended", &self.sender.is_none()).finish_non_exhaustive()
    }
}

#[cold]
fn has_ended() -> Status {
    Status::failed_precondition("an item was sent behind the end of its stream")
}

/// An item on its way. Dropped before it is sent, the other side never sees it.
#[must_use = "a future does nothing before it is polled"]
pub struct SendItem<'a, T> {
    out: &'a mut Outgoing<T>,
    item: &'a T,
    is_pending: bool,
}

impl<T: Writable + Sync> Future for SendItem<'_, T> {
    type Output = Result<(), Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Wakers<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(sender) = &mut this.out.sender else { return Poll::Ready(Err(has_ended())) };
        let sent = sender.poll_send(cx, &Message(this.item));
        this.is_pending = sent.is_pending();
        match sent {
            Poll::Pending if this.out.deadline.is_some_and(Deadline::has_passed) => Poll::Ready(Err(too_late())),
            sent => sent,
        }
    }
}

impl<T> Drop for SendItem<'_, T> {
    fn drop(&mut self) {
        if self.is_pending
            && let Some(sender) = &mut self.out.sender
        {
            sender.give_up();
        }
    }
}

impl<T> fmt::Debug for SendItem<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendItem").field("pending", &self.is_pending).finish_non_exhaustive()
    }
}

#[cold]
fn too_late() -> Status {
    Status::new(Code::DeadlineExceeded, Outcome::MayHaveRun, "the deadline passed while a stream stood still")
}

/// Receives the items of one direction of a call, in the order in which they were sent.
///
/// Threads use [`recv`](Self::recv) or a `for` loop, tasks [`recv_async`](Self::recv_async) or the
/// [`Stream`](futures_core::Stream) that this is. Dropped before the end, it tells the sender that nobody takes more.
pub struct Incoming<T> {
    /// `None` once the direction has ended.
    receiver: Option<Box<dyn StreamReceiver>>,
    deadline: Option<Deadline>,
    of: PhantomData<fn() -> T>,
}

impl<T> Incoming<T> {
    pub(crate) fn new(receiver: Box<dyn StreamReceiver>, deadline: Option<Deadline>) -> Self {
        Self { receiver: Some(receiver), deadline, of: PhantomData }
    }
}

impl<T: Owned + Send> Incoming<T> {
    /// Receives the next item; blocks until there is one. `None` at the end, and after an error.
    ///
    /// # Errors
    /// `Cancelled` if the sender broke off, `DeadlineExceeded`, `Unavailable` if it is dead, `Internal` if its item is none.
    pub fn recv(&mut self) -> Option<Result<T, Status>> {
        let mut item = Reply::new();
        let received = self.receiver.as_mut()?.recv(&mut item, self.deadline);
        self.received(received, item)
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_async(&mut self) -> impl Future<Output = Option<Result<T, Status>>> + Send + '_ {
        std::future::poll_fn(|cx| self.poll_recv(cx))
    }

    pub(crate) fn poll_recv(&mut self, cx: &mut Wakers<'_>) -> Poll<Option<Result<T, Status>>> {
        let Some(receiver) = &mut self.receiver else { return Poll::Ready(None) };
        let mut item = Reply::new();
        let received = match receiver.poll_recv(cx, &mut item) {
            Poll::Pending if self.deadline.is_some_and(Deadline::has_passed) => Err(too_late()),
            received => ready!(received),
        };
        Poll::Ready(self.received(received, item))
    }

    fn received(&mut self, received: Result<bool, Status>, item: Reply<T>) -> Option<Result<T, Status>> {
        let item = match received {
            Ok(true) => item.into_value(),
            Ok(false) => {
                self.receiver = None;
                return None;
            }
            Err(status) => Err(status),
        };
        if item.is_err() {
            self.receiver = None;
        }
        Some(item)
    }
}

impl<T: Owned + Send> Stream for Incoming<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Wakers<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }
}

impl<T: Owned + Send> IntoIterator for Incoming<T> {
    type Item = Result<T, Status>;
    type IntoIter = Items<Self>;

    fn into_iter(self) -> Items<Self> {
        Items(self)
    }
}

impl<T: Owned + Send> IntoIterator for &mut Incoming<T> {
    type Item = Result<T, Status>;
    type IntoIter = Items<Self>;

    fn into_iter(self) -> Items<Self> {
        Items(self)
    }
}

impl<T> fmt::Debug for Incoming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("ended", &self.receiver.is_none()).finish_non_exhaustive()
    }
}

/// Iterates over what a stream receives; blocks for each item. Apart from the stream, because one type that is both an
/// iterator and a `Stream` has two methods `next`.
#[derive(Debug)]
pub struct Items<S>(pub(crate) S);

impl<T: Owned + Send> Iterator for Items<Incoming<T>> {
    type Item = Result<T, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv()
    }
}

impl<T: Owned + Send> Iterator for Items<&mut Incoming<T>> {
    type Item = Result<T, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv()
    }
}

/// Where a handler's [`Outgoing`] leaves its way when it is dropped: only the handler's result tells how it ends.
enum Returned {
    NotYet,
    Here(Box<dyn StreamSender>),
    Succeeded,
}

/// Lends a handler the way of items to its client, and ends that way as the handler ends.
pub struct Lender(Arc<Mutex<Returned>>);

impl Lender {
    /// For one call.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Returned::NotYet)))
    }

    /// Takes the way of items to the client, to be lent to the handler.
    ///
    /// # Errors
    /// `InvalidArgument`, not run, if the call comes without.
    pub fn outgoing<T>(&self, call: &mut dyn ServerCall) -> Result<Outgoing<T>, Status> {
        let deadline = call.context().deadline();
        let mut outgoing = Outgoing::new(call.take_sender().ok_or_else(no_stream)?, deadline);
        outgoing.lender = Some(Arc::clone(&self.0));
        Ok(outgoing)
    }

    /// Answers the call with what its handler answered.
    pub fn answer<R: Writable>(self, call: Box<dyn ServerCall>, answer: Result<R, Status>) {
        if answer.is_ok() {
            let mut returned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Returned::Here(mut sender) = std::mem::replace(&mut *returned, Returned::Succeeded) {
                // A client that takes no more does not need the end either.
                let _ = sender.finish();
            }
        }
        self::answer(call, answer);
    }
}

impl Default for Lender {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lender").finish_non_exhaustive()
    }
}

/// Takes the client's items for a handler.
///
/// # Errors
/// `InvalidArgument`, not run, if the call comes without.
pub fn incoming<T>(call: &mut dyn ServerCall) -> Result<Incoming<T>, Status> {
    let deadline = call.context().deadline();
    call.take_receiver().map(|receiver| Incoming::new(receiver, deadline)).ok_or_else(no_stream)
}

/// Answers a call with what its handler answered.
pub fn answer<R: Writable>(call: Box<dyn ServerCall>, answer: Result<R, Status>) {
    match answer {
        Ok(value) => call.reply(&Message(&value)),
        Err(status) => call.fail(status),
    }
}

#[cold]
fn no_stream() -> Status {
    Status::new(Code::InvalidArgument, Outcome::NotRun, "the method has streams, and the call came without them")
}
