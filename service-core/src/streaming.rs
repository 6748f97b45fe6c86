//! Calls with streams, seen from the client: items, and at the end the reply.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as Wakers, Poll, ready};

use futures_core::Stream;

use crate::call::CallRequest;
use crate::calling::InFlight;
use crate::channel::Channel;
use crate::context::Deadline;
use crate::items::{Incoming, Items, Outgoing, SendItem};
use crate::scope::{self, Inherited};
use crate::status::{Code, Outcome, Status};
use crate::stream::{Opened, Shape};
use crate::typed::{Owned, Reply, Writable};

/// The reply of a call in flight, and its way to end. Dropped before the end is seen, the call is given up and its handler
/// told.
struct Answer<R> {
    call: InFlight,
    reply: Reply<R>,
    /// What was seen of the end, until it is taken.
    end: Option<Result<R, Status>>,
}

impl<R: Owned + Send> Answer<R> {
    fn wait(&mut self) -> &Result<R, Status> {
        if self.end.is_none() {
            let result = self.call.wait(&mut self.reply);
            self.seen(result);
        }
        self.end.get_or_insert_with(|| Err(taken()))
    }

    fn poll(&mut self, cx: &mut Wakers<'_>) -> Poll<&Result<R, Status>> {
        if self.end.is_none() {
            let result = ready!(self.call.poll(cx, &mut self.reply));
            self.seen(result);
        }
        Poll::Ready(self.end.get_or_insert_with(|| Err(taken())))
    }

    fn seen(&mut self, result: Result<(), Status>) {
        self.end = Some(result.and_then(|()| std::mem::take(&mut self.reply).into_value()));
    }

    fn take(&mut self) -> Result<R, Status> {
        self.end.take().unwrap_or_else(|| Err(taken()))
    }
}

#[cold]
fn taken() -> Status {
    Status::internal("the call's reply was taken before")
}

/// A call whose handler sends items, then the reply.
///
/// Threads use [`recv`](Self::recv) or a `for` loop, tasks [`recv_async`](Self::recv_async) or the
/// [`Stream`](futures_core::Stream) that this is; both then get the reply by [`finish`](Self::finish) or
/// [`finish_async`](Self::finish_async). A call that fails gives its failure as the last item. Dropped before the end, the
/// call is given up: its handler is told, and what it sends goes nowhere.
///
/// `B` is what an item is, `R` the reply, `E` how the call fails.
#[must_use = "a call that is dropped is given up"]
pub struct ServerStream<B, R = (), E = Status> {
    items: Incoming<B>,
    answer: Answer<R>,
    /// The end was given as the last item, or as none.
    has_ended: bool,
    of: PhantomData<fn() -> E>,
}

impl<B: Owned + Send, R: Owned + Send, E: From<Status>> ServerStream<B, R, E> {
    /// Receives the next item; blocks until there is one. `None` once the call has succeeded and all items are received.
    ///
    /// # Errors
    /// Why the call failed; then nothing more comes.
    pub fn recv(&mut self) -> Option<Result<B, E>> {
        if self.has_ended {
            return None;
        }
        let item = self.items.recv();
        if !is_the_end(&item) {
            return item.map(|item| item.map_err(E::from));
        }
        self.has_ended = true;
        let end = self.answer.wait().as_ref().err().cloned();
        last(end, item)
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_async(&mut self) -> impl Future<Output = Option<Result<B, E>>> + Send + '_ {
        std::future::poll_fn(|cx| self.poll_recv(cx))
    }

    fn poll_recv(&mut self, cx: &mut Wakers<'_>) -> Poll<Option<Result<B, E>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        // Once the items have ended, each further look finds their end again.
        let item = ready!(self.items.poll_recv(cx));
        if !is_the_end(&item) {
            return Poll::Ready(item.map(|item| item.map_err(E::from)));
        }
        let end = ready!(self.answer.poll(cx)).as_ref().err().cloned();
        self.has_ended = true;
        Poll::Ready(last(end, item))
    }

    /// Waits for the end of the call and gives its reply. Items that were not received are dropped.
    ///
    /// # Errors
    /// Why the call failed.
    pub fn finish(mut self) -> Result<R, E> {
        while self.recv().is_some() {}
        self.answer.wait();
        self.answer.take().map_err(E::from)
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub async fn finish_async(mut self) -> Result<R, E> {
        while self.recv_async().await.is_some() {}
        std::future::poll_fn(|cx| self.answer.poll(cx).map(drop)).await;
        self.answer.take().map_err(E::from)
    }
}

/// Says whether what was received leads to the call's end: the items' own, or that the other side broke off. An item that
/// cannot be read is the client's own business.
fn is_the_end<B>(item: &Option<Result<B, Status>>) -> bool {
    match item {
        None => true,
        Some(Err(status)) => status.code() != Code::Internal,
        Some(Ok(_)) => false,
    }
}

/// The last item: how the call failed, which says more than how its items ended.
fn last<B, E: From<Status>>(end: Option<Status>, item: Option<Result<B, Status>>) -> Option<Result<B, E>> {
    let broken = item.and_then(Result::err);
    end.or(broken).map(|status| Err(E::from(status)))
}

/// Nothing of it is ever pinned.
impl<B, R, E> Unpin for ServerStream<B, R, E> {}

impl<B: Owned + Send, R: Owned + Send, E: From<Status>> Stream for ServerStream<B, R, E> {
    type Item = Result<B, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Wakers<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }
}

impl<B: Owned + Send, R: Owned + Send, E: From<Status>> IntoIterator for ServerStream<B, R, E> {
    type Item = Result<B, E>;
    type IntoIter = Items<Self>;

    fn into_iter(self) -> Items<Self> {
        Items(self)
    }
}

impl<B: Owned + Send, R: Owned + Send, E: From<Status>> IntoIterator for &mut ServerStream<B, R, E> {
    type Item = Result<B, E>;
    type IntoIter = Items<Self>;

    fn into_iter(self) -> Items<Self> {
        Items(self)
    }
}

impl<B: Owned + Send, R: Owned + Send, E: From<Status>> Iterator for Items<ServerStream<B, R, E>> {
    type Item = Result<B, E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv()
    }
}

impl<B: Owned + Send, R: Owned + Send, E: From<Status>> Iterator for Items<&mut ServerStream<B, R, E>> {
    type Item = Result<B, E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv()
    }
}

impl<B, R, E> fmt::Debug for ServerStream<B, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerStream").field("ended", &self.has_ended).finish_non_exhaustive()
    }
}

/// A call whose client sends items, and whose handler then replies. Dropped before the end, the call is given up and its
/// handler told.
///
/// `A` is what an item is, `R` the reply, `E` how the call fails.
#[must_use = "a call that is dropped is given up"]
pub struct ClientStream<A, R = (), E = Status> {
    out: Outgoing<A>,
    answer: Answer<R>,
    of: PhantomData<fn() -> E>,
}

impl<A: Writable + Sync, R: Owned + Send, E: From<Status>> ClientStream<A, R, E> {
    /// Sends an item; blocks while the stream is full.
    ///
    /// # Errors
    /// As [`Outgoing::send`]. `Cancelled` says that the handler takes no more: [`finish`](Self::finish) then gives its
    /// reply, or its failure.
    pub fn send(&mut self, item: &A) -> Result<(), Status> {
        self.out.send(item)
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_async<'a>(&'a mut self, item: &'a A) -> SendItem<'a, A> {
        self.out.send_async(item)
    }

    /// Ends the items and waits for the reply.
    ///
    /// # Errors
    /// Why the call failed.
    pub fn finish(mut self) -> Result<R, E> {
        // A handler that took no more has its say all the same.
        let _ = self.out.end();
        self.answer.wait();
        self.answer.take().map_err(E::from)
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub async fn finish_async(mut self) -> Result<R, E> {
        let _ = self.out.end();
        std::future::poll_fn(|cx| self.answer.poll(cx).map(drop)).await;
        self.answer.take().map_err(E::from)
    }
}

impl<A, R, E> fmt::Debug for ClientStream<A, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream").field("out", &self.out).finish_non_exhaustive()
    }
}

/// A call with items both ways. Dropped before the end, the call is given up and its handler told.
///
/// `A` is what the client sends, `B` what the handler sends, `R` the reply, `E` how the call fails.
#[must_use = "a call that is dropped is given up"]
pub struct BothWays<A, B, R = (), E = Status> {
    out: Outgoing<A>,
    stream: ServerStream<B, R, E>,
}

impl<A: Writable + Sync, B: Owned + Send, R: Owned + Send, E: From<Status>> BothWays<A, B, R, E> {
    /// Sends an item; blocks while this direction is full, whatever the other one is.
    ///
    /// # Errors
    /// As [`ClientStream::send`].
    pub fn send(&mut self, item: &A) -> Result<(), Status> {
        self.out.send(item)
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_async<'a>(&'a mut self, item: &'a A) -> SendItem<'a, A> {
        self.out.send_async(item)
    }

    /// Ends the client's items; the handler's go on.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn close(&mut self) -> Result<(), Status> {
        self.out.end()
    }

    /// Receives the next item, as [`ServerStream::recv`] does.
    ///
    /// # Errors
    /// Why the call failed; then nothing more comes.
    pub fn recv(&mut self) -> Option<Result<B, E>> {
        self.stream.recv()
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_async(&mut self) -> impl Future<Output = Option<Result<B, E>>> + Send + '_ {
        self.stream.recv_async()
    }

    /// Ends the client's items, waits for the end of the call and gives its reply. Items that were not received are
    /// dropped.
    ///
    /// # Errors
    /// Why the call failed.
    pub fn finish(mut self) -> Result<R, E> {
        // A handler that took no more has its say all the same.
        let _ = self.out.end();
        self.stream.finish()
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub async fn finish_async(mut self) -> Result<R, E> {
        let _ = self.out.end();
        self.stream.finish_async().await
    }

    /// Takes the two directions apart, for two threads or tasks. The call is the receiving one's.
    pub fn split(self) -> (Outgoing<A>, ServerStream<B, R, E>) {
        (self.out, self.stream)
    }
}

impl<A, B, R, E> fmt::Debug for BothWays<A, B, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BothWays").field("out", &self.out).field("stream", &self.stream).finish()
    }
}

/// Calls with streams by the client's index of the method. None of them waits for the service; they block only if it has
/// to be connected again.
impl Channel {
    /// Opens a call whose handler sends items.
    ///
    /// # Errors
    /// As [`call`](Self::call); nothing has run then.
    pub fn server_stream<B, R: Owned, E>(&self, call: &CallRequest<'_>) -> Result<ServerStream<B, R, E>, Status> {
        let (opened, answer, deadline) = self.opened(call, Shape::ServerStream)?;
        let items = Incoming::new(opened.receiver.ok_or_else(no_way)?, deadline);
        Ok(ServerStream { items, answer, has_ended: false, of: PhantomData })
    }

    /// Opens a call whose client sends items.
    ///
    /// # Errors
    /// As [`call`](Self::call); nothing has run then.
    pub fn client_stream<A, R: Owned, E>(&self, call: &CallRequest<'_>) -> Result<ClientStream<A, R, E>, Status> {
        let (opened, answer, deadline) = self.opened(call, Shape::ClientStream)?;
        let out = Outgoing::new(opened.sender.ok_or_else(no_way)?, deadline);
        Ok(ClientStream { out, answer, of: PhantomData })
    }

    /// Opens a call with items both ways.
    ///
    /// # Errors
    /// As [`call`](Self::call); nothing has run then.
    pub fn both_ways<A, B, R: Owned, E>(&self, call: &CallRequest<'_>) -> Result<BothWays<A, B, R, E>, Status> {
        let (opened, answer, deadline) = self.opened(call, Shape::BothWays)?;
        let out = Outgoing::new(opened.sender.ok_or_else(no_way)?, deadline);
        let items = Incoming::new(opened.receiver.ok_or_else(no_way)?, deadline);
        let stream = ServerStream { items, answer, has_ended: false, of: PhantomData };
        Ok(BothWays { out, stream })
    }

    fn opened<R: Owned>(
        &self,
        call: &CallRequest<'_>,
        shape: Shape,
    ) -> Result<(Opened, Answer<R>, Option<Deadline>), Status> {
        let open = || {
            let mut timeout = call.timeout;
            let route = self.route(call.method, &mut timeout)?;
            let scope = scope::current();
            let inherited = scope.map(|scope| Inherited::from(&*scope, timeout, call.metadata)).transpose()?;
            let (timeout, metadata) = match &inherited {
                None => (timeout, call.metadata),
                Some(inherited) => (inherited.timeout, Some(&inherited.metadata)),
            };
            let deadline = timeout.map(Deadline::after);
            let request = CallRequest { method: route.index, timeout, metadata, ..*call };
            let opened = route.transport().open(&request, shape)?;
            Ok((opened, route, deadline))
        };
        let (opened, route, deadline) =
            open().inspect_err(|status: &Status| self.stats().record(call.method, status.code(), 0))?;
        let in_flight = InFlight::new(route, call.method, opened.ticket);
        Ok((opened, Answer { call: in_flight, reply: Reply::new(), end: None }, deadline))
    }
}

#[cold]
fn no_way() -> Status {
    Status::new(Code::Internal, Outcome::MayHaveRun, "the transport opened a call with streams without one of them")
}
