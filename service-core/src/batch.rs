//! Calls of one client that are announced to the service together.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Wakers, Poll};
use std::time::Duration;

use crate::call::{CallRequest, Form, Ticket};
use crate::calling::InFlight;
use crate::channel::{Channel, Route};
use crate::handler::MethodIndex;
use crate::message::{Decode, Encode, EncodeError, Sink};
use crate::metadata::Metadata;
use crate::scope::{self, Inherited};
use crate::status::Status;
use crate::typed::{Message, Owned, Reply, Writable};

/// Most calls that are in flight of a batch before the replies of earlier ones are fetched: a transport has room for as
/// many, whoever else calls.
const MOST_TOGETHER: usize = 64;

/// Calls that are not sent yet. Those of 64 are announced together; a longer batch is sent in parts, each when the one
/// before has been answered.
pub struct Batch<'a> {
    channel: &'a Channel,
    number: u64,
    calls: Vec<Kept<'a>>,
}

/// One call of a batch.
struct Kept<'a> {
    method: MethodIndex,
    timeout: Option<Duration>,
    metadata: Option<Cow<'a, Metadata>>,
    message: Box<dyn Encode + Send + Sync + 'a>,
    place: Box<dyn ReplyPlace>,
}

/// Names a call of a batch; the reply is had once.
#[derive(Debug)]
#[must_use = "the reply is asked for by this"]
pub struct Queued<R, E = Status> {
    batch: u64,
    place: usize,
    of: PhantomData<fn() -> (R, E)>,
}

/// A request that is owned until it is sent.
struct Request<T>(T);

impl<T: Writable> Encode for Request<T> {
    fn encode(&self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        Message(&self.0).encode(sink)
    }
}

/// Where a reply goes whose type the batch does not know.
trait ReplyPlace: Decode + Send {
    /// Waits for the reply of a call in flight.
    fn wait(&mut self, call: &mut InFlight) -> Result<(), Status>;

    /// The same for a task.
    fn poll(&mut self, cx: &mut Wakers<'_>, call: &mut InFlight) -> Poll<Result<(), Status>>;

    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<R: Owned + Send + 'static> ReplyPlace for Reply<R> {
    fn wait(&mut self, call: &mut InFlight) -> Result<(), Status> {
        call.wait(self)
    }

    fn poll(&mut self, cx: &mut Wakers<'_>, call: &mut InFlight) -> Poll<Result<(), Status>> {
        call.poll(cx, self)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl<'a> Batch<'a> {
    /// Has no calls yet.
    pub fn new(channel: &'a Channel) -> Self {
        static BATCHES: AtomicU64 = AtomicU64::new(0);
        Self { channel, number: BATCHES.fetch_add(1, Ordering::Relaxed), calls: Vec::new() }
    }

    /// Takes a call into the batch.
    pub fn add<T, R, E>(
        &mut self,
        method: MethodIndex,
        timeout: Option<Duration>,
        metadata: Option<Cow<'a, Metadata>>,
        request: T,
    ) -> Queued<R, E>
    where
        T: Writable + Send + Sync + 'a,
        R: Owned + Send + 'static,
    {
        let place = self.calls.len();
        let (message, reply) = (Box::new(Request(request)), Box::new(Reply::<R>::new()));
        self.calls.push(Kept { method, timeout, metadata, message, place: reply });
        Queued { batch: self.number, place, of: PhantomData }
    }

    /// Sends the calls; blocks while there is no room for them.
    pub fn send(self) -> Sent {
        let Self { channel, number, mut calls } = self;
        let mut sent = Sent { number, calls: Vec::with_capacity(calls.len()) };
        while !calls.is_empty() {
            // What is answered makes room.
            sent.calls.iter_mut().for_each(Answered::fetch);
            let rest = calls.split_off(calls.len().min(MOST_TOGETHER));
            let left = start(channel, calls, &mut sent.calls);
            calls = left.into_iter().chain(rest).collect();
        }
        sent
    }
}

/// Sends some calls together; gives those back for which there was no room yet.
fn start<'a>(channel: &Channel, mut calls: Vec<Kept<'a>>, answered: &mut Vec<Answered>) -> Vec<Kept<'a>> {
    let (mut routes, mut failed): (Vec<Route>, _) = (Vec::with_capacity(calls.len()), None);
    for call in &mut calls {
        match call.prepare(channel) {
            // Behind a service that was connected again: the next time.
            Ok(route) if routes.first().is_some_and(|first| !first.is_with(&route)) => break,
            Ok(route) => routes.push(route),
            Err(status) => {
                failed = Some(status);
                break;
            }
        }
    }
    let requests: Vec<_> = calls.iter().zip(&routes).map(|(call, route)| call.request(route)).collect();
    let mut tickets: Vec<Ticket> = Vec::with_capacity(requests.len());
    if let Some(route) = routes.first() {
        let result = route.transport().start_all(&requests, &mut tickets);
        let is_stuck = result.is_ok() && tickets.is_empty();
        if let Err(status) = result {
            failed = Some(status);
        } else if is_stuck {
            failed = Some(Status::internal("the transport took no call"));
        } else if tickets.len() < requests.len() {
            // There was no room yet for one that comes before the one that failed.
            failed = None;
        }
    }
    let left = calls.split_off(tickets.len());
    for (Kept { method, place, .. }, (route, ticket)) in calls.into_iter().zip(routes.into_iter().zip(tickets)) {
        answered.push(Answered::InFlight(InFlight::new(route, method, ticket), place));
    }
    let Some(status) = failed else { return left };
    // The first of them was not taken, and those behind it were not tried.
    for Kept { method, .. } in left {
        channel.stats().record(method, status.code(), 0);
        answered.push(Answered::Ended(Err(status.clone())));
    }
    Vec::new()
}

impl Kept<'_> {
    /// Finds the call's way, and adds what it inherits.
    fn prepare(&mut self, channel: &Channel) -> Result<Route, Status> {
        let route = channel.route(self.method, &mut self.timeout)?;
        if let Some(scope) = scope::current() {
            let inherited = Inherited::from(&*scope, self.timeout, self.metadata.as_deref())?;
            self.timeout = inherited.timeout;
            self.metadata = Some(Cow::Owned(inherited.metadata));
        }
        Ok(route)
    }

    fn request(&self, route: &Route) -> CallRequest<'_> {
        let (timeout, metadata) = (self.timeout, self.metadata.as_deref());
        CallRequest { method: route.index, timeout, metadata, form: Form::Typed, message: &*self.message }
    }
}

/// One call of a batch that was sent.
enum Answered {
    InFlight(InFlight, Box<dyn ReplyPlace>),
    Ended(Result<Box<dyn ReplyPlace>, Status>),
    Taken,
}

impl Answered {
    /// Waits for the reply, if it is not there.
    fn fetch(&mut self) {
        if let Self::InFlight(call, place) = self {
            let result = place.wait(call);
            self.ended(result);
        }
    }

    fn poll(&mut self, cx: &mut Wakers<'_>) -> Poll<()> {
        if let Self::InFlight(call, place) = self {
            match place.poll(cx, call) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => self.ended(result),
            }
        }
        Poll::Ready(())
    }

    fn ended(&mut self, result: Result<(), Status>) {
        if let Self::InFlight(_, place) = std::mem::replace(self, Self::Taken) {
            *self = Self::Ended(result.map(|()| place));
        }
    }

    fn into_reply<R: Owned + 'static>(self) -> Result<R, Status> {
        let Self::Ended(ended) = self else { return Err(Status::internal("the reply was taken before")) };
        let place = ended?.into_any().downcast::<Reply<R>>();
        place.map_err(|_| Status::internal("the reply is of another type"))?.into_value()
    }
}

/// A batch whose calls are on their way. Dropped, it gives up those whose replies were not asked for.
#[must_use = "a batch that is dropped gives its calls up"]
pub struct Sent {
    number: u64,
    calls: Vec<Answered>,
}

impl Sent {
    /// Waits for the reply of one call. Replies may be asked for in any order.
    ///
    /// # Errors
    /// Why this call failed; what became of the others does not matter.
    ///
    /// # Panics
    /// If the call is another batch's.
    pub fn take<R, E>(&mut self, call: Queued<R, E>) -> Result<R, E>
    where
        R: Owned + 'static,
        E: From<Status>,
    {
        let call = self.call(&call);
        call.fetch();
        Ok(std::mem::replace(call, Answered::Taken).into_reply()?)
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    ///
    /// # Panics
    /// As [`take`](Self::take).
    pub async fn take_async<R, E>(&mut self, call: Queued<R, E>) -> Result<R, E>
    where
        R: Owned + 'static,
        E: From<Status>,
    {
        let call = self.call(&call);
        std::future::poll_fn(|cx| call.poll(cx)).await;
        Ok(std::mem::replace(call, Answered::Taken).into_reply()?)
    }

    fn call<R, E>(&mut self, call: &Queued<R, E>) -> &mut Answered {
        assert_eq!(call.batch, self.number, "the call is another batch's");
        &mut self.calls[call.place]
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("calls", &self.calls.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent").field("calls", &self.calls.len()).finish_non_exhaustive()
    }
}
