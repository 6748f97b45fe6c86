//! Calls that a task waits for: a future each, which needs no thread and no runtime.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as Wakers, Poll, ready};

use crate::call::{CallRequest, Ticket};
use crate::channel::{Channel, Route};
use crate::context::{Deadline, monotonic_ns};
use crate::handler::MethodIndex;
use crate::line::Place;
use crate::message::Decode;
use crate::scope;
use crate::status::{Code, Outcome, Status};
use crate::typed::{Owned, Reply};

/// A call that its transport took. Its end is seen once; dropped before, the call is given up and its handler told.
pub(crate) struct InFlight {
    route: Route,
    /// By the client's index.
    method: MethodIndex,
    /// Gone with the end of the call.
    ticket: Option<Ticket>,
}

impl InFlight {
    pub(crate) fn new(route: Route, method: MethodIndex, ticket: Ticket) -> Self {
        Self { route, method, ticket: Some(ticket) }
    }

    /// Waits for the end as a task.
    pub(crate) fn poll(&mut self, cx: &mut Wakers<'_>, reply: &mut (dyn Decode + Send)) -> Poll<Result<(), Status>> {
        let Some(ticket) = &self.ticket else { return Poll::Ready(Err(seen_before())) };
        let result = match self.route.transport().poll(cx, ticket, reply) {
            Poll::Ready(result) => result,
            Poll::Pending => match scope::current() {
                // In a task that answers a call: as long as that is waited for.
                Some(scope) if scope.poll_cancelled(cx).is_ready() => {
                    self.route.transport().cancel(*ticket);
                    Err(not_waited_for())
                }
                _ => return Poll::Pending,
            },
        };
        self.ended(&result);
        Poll::Ready(result)
    }

    /// Waits for the end as a thread.
    pub(crate) fn wait<R: Owned>(&mut self, reply: &mut Reply<R>) -> Result<(), Status> {
        let Some(ticket) = &self.ticket else { return Err(seen_before()) };
        let result = self.route.transport().wait(*ticket, reply);
        self.ended(&result);
        result
    }

    fn ended(&mut self, result: &Result<(), Status>) {
        if let Some(ticket) = self.ticket.take() {
            let code = result.as_ref().map_or_else(Status::code, |()| Code::Ok);
            self.route.stats().record(self.method, code, monotonic_ns().saturating_sub(ticket.started_ns));
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.route.stats().record(self.method, Code::Cancelled, monotonic_ns().saturating_sub(ticket.started_ns));
            self.route.transport().cancel(ticket);
        }
    }
}

#[cold]
fn not_waited_for() -> Status {
    let text = "given up: nobody waits any more for the call that made this one";
    Status::new(Code::Cancelled, Outcome::MayHaveRun, text)
}

#[cold]
fn seen_before() -> Status {
    Status::internal("the call's end was seen before")
}

/// One call of a task. Does nothing before it is polled; dropped at any time, it leaves nothing behind, and the handler is
/// told that nobody waits.
///
/// A task waits without a thread. Only a service that has to be connected again holds the thread that polls, for as long
/// as connecting takes.
#[must_use = "a future does nothing before it is polled"]
pub struct Calling<'a, R> {
    channel: &'a Channel,
    call: CallRequest<'a>,
    reply: Reply<R>,
    state: State,
}

enum State {
    New,
    /// There was no room for it yet. It has until the deadline, whichever room it waits for.
    Routed(Route, Option<Deadline>, Place),
    Sent(InFlight),
}

/// Nothing of it is ever pinned: the reply only passes through.
impl<R> Unpin for Calling<'_, R> {}

impl Channel {
    /// Makes a call, by the client's index of its method, that a task waits for.
    pub fn call_async<'a, R: Owned + Send>(&'a self, call: CallRequest<'a>) -> Calling<'a, R> {
        Calling { channel: self, call, reply: Reply::new(), state: State::New }
    }

    fn not_started(&self, method: MethodIndex, status: Status) -> Status {
        self.stats().record(method, status.code(), 0);
        status
    }
}

impl<R: Owned + Send> Calling<'_, R> {
    fn poll_start(&mut self, cx: &mut Wakers<'_>) -> Poll<Result<InFlight, Status>> {
        let Self { channel, call, state, .. } = self;
        let mut timeout = call.timeout;
        if let State::New = state {
            let deadline = timeout.map(Deadline::after);
            *state = State::Routed(channel.route(call.method, &mut timeout)?, deadline, Place::default());
        } else if let State::Routed(_, Some(deadline), _) = state {
            timeout = Some(deadline.remaining().ok_or_else(no_room_in_time)?);
        }
        let State::Routed(route, _, place) = state else { return Poll::Pending };
        let request = CallRequest { method: route.index, timeout, ..*call };
        let ticket = ready!(route.poll_start(cx, &request, place))?;
        Poll::Ready(Ok(InFlight::new(route.clone(), call.method, ticket)))
    }
}

impl<R: Owned + Send> Future for Calling<'_, R> {
    type Output = Result<R, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Wakers<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !matches!(this.state, State::Sent(_)) {
            let started = ready!(this.poll_start(cx));
            this.state = State::Sent(started.map_err(|status| this.channel.not_started(this.call.method, status))?);
        }
        let State::Sent(in_flight) = &mut this.state else { return Poll::Pending };
        ready!(in_flight.poll(cx, &mut this.reply))?;
        Poll::Ready(std::mem::take(&mut this.reply).into_value())
    }
}

#[cold]
pub(crate) fn no_room_in_time() -> Status {
    let text = "the deadline passed before there was room for the call";
    Status::new(Code::DeadlineExceeded, Outcome::NotRun, text)
}

impl<R> fmt::Debug for Calling<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::New => "new",
            State::Routed(..) => "waits for room",
            State::Sent(_) => "sent",
        };
        f.debug_struct("Calling").field("call", &self.call).field("state", &state).finish()
    }
}
