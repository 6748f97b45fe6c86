//! Calls to a service of the same process: no socket, no lane, no copy between the two.
//!
//! A plain handler runs on the caller's own thread, between the encoding of the request and the decoding of the reply; a
//! client of the same program that knows the handler's trait does not even encode ([`Transport::call_local`]). Nobody can
//! end such a call from outside: the handler sees the deadline in its context, and a reply that comes later than the
//! deadline is `DeadlineExceeded`, ran.

mod guests;
mod places;
mod probe;
mod sitting;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context as Wakers, Poll};
use std::time::Duration;

use service_core::{
    CallFuture, CallRequest, CallTimes, Code, Context, Decode, Encode, Encoded, Form, Handler, Metadata, MethodIndex,
    Opened, Outcome, ReplySink, ServerCall, ServiceDescriptor, Shape, Sink, Status, Style, Ticket, Transport,
    encode_small, scope,
};
use shm_ring::clock;

pub(crate) use self::guests::Guests;
pub(crate) use self::places::{Place, find};
use self::probe::{InsideScope, Probe, own_caller};
use self::sitting::{HandlersEnds, Sitting, SittingCall, SittingWork, Sittings};
use crate::copy::{Copy, with_callers_room};
use crate::errors;
use crate::server::{Hub, bad_handler, panicked};
use crate::stream::{Ends, Peer, Rings};

/// Longest message that is kept on the stack, in bytes.
const SMALL: usize = 256;

/// A service of this process, as its clients here call it.
pub(crate) struct Inside {
    hub: Arc<Hub>,
    sittings: Sittings,
}

impl Inside {
    pub(crate) fn new(hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Self { hub, sittings: Sittings::default() })
    }

    /// What every call has around it: the service stays while it runs, panics end here, it is counted, and what it calls
    /// itself inherits from it.
    fn around(
        &self,
        method: MethodIndex,
        timeout: Option<Duration>,
        metadata: Option<&Metadata>,
        times: &mut CallTimes,
        run: impl FnOnce(&Context<'_>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let _guest = self.hub.guests.enter(&self.hub).ok_or_else(|| self.gone())?;
        times.started_ns = clock::now_ns();
        times.ended_ns = times.started_ns;
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            let text = format!("no time was left to call `{}`", self.hub.instance);
            return Err(Status::new(Code::DeadlineExceeded, Outcome::NotRun, text));
        }
        let scope = Arc::new(InsideScope::new(times.started_ns, timeout, metadata));
        let deadline = scope.deadline_of_call();
        let probe = Probe(&scope);
        let ctx = Context::new(deadline, own_caller(), &probe).with_metadata(metadata);
        let ran = {
            let _entered = scope::enter(Arc::clone(&scope) as Arc<dyn scope::Scope>);
            catch_unwind(AssertUnwindSafe(|| run(&ctx)))
        };
        let result = ran.unwrap_or_else(|panic| Err(self.bad_handler(method, &panicked(&*panic))));
        times.ended_ns = clock::now_ns();
        let result = match deadline {
            Some(deadline) if result.is_ok() && times.ended_ns >= deadline.as_monotonic_ns() => {
                Err(self.late(times.ended_ns - deadline.as_monotonic_ns()))
            }
            _ => result,
        };
        let code = result.as_ref().map_or_else(Status::code, |()| Code::Ok);
        self.hub.stats.record(method, code, times.elapsed_ns());
        result
    }

    /// Begins a call that is answered later; gives the client's ends of its streams.
    fn begin(&self, call: &CallRequest<'_>, shape: Shape) -> Result<(Arc<Sitting>, Ends), Status> {
        // The service stays until the call is known to it.
        let _guest = self.hub.guests.enter(&self.hub).ok_or_else(|| self.gone())?;
        let sitting = Sitting::new(&self.hub, call)?;
        let rings = Rings::heap(shape).and_then(|rings| {
            let trust = shm_ring::Trust::CHECKED;
            Ok((rings.client_ends(trust, None)?, rings.server_ends(trust, None)?))
        });
        let (ours, theirs) = rings.map_err(|error| errors::not_run(&error))?;
        let peer = Peer::of_process(std::process::id());
        let (sender, receiver) = theirs.of_call(sitting.deadline(), None, &peer, None);
        let ends = HandlersEnds { receiver, sender };
        let call = Box::new(SittingCall::new(&sitting, ends));
        let style = self.hub.style(call.method());
        let handler = Arc::clone(&self.hub.handler);
        let code: CallFuture = match style {
            Style::Plain => Box::pin(async move { run_plain(&*handler, call) }),
            // The handler's own code may begin here, so it does when it is polled.
            Style::Task | Style::Thread => Box::pin(async move { handler.start(call).await }),
        };
        self.hub.run_for_guest(SittingWork::new(code, Arc::clone(&sitting)), style);
        Ok((sitting, ours))
    }

    #[cold]
    fn bad_handler(&self, method: MethodIndex, what: &str) -> Status {
        bad_handler(&*self.hub.handler, &self.hub.instance, method, what)
    }

    #[cold]
    fn gone(&self) -> Status {
        let text = format!("`{}` of this process is not served any more", self.hub.instance);
        Status::new(Code::Unavailable, Outcome::NotRun, text)
    }

    #[cold]
    fn late(&self, ns: u64) -> Status {
        let text = format!("`{}` answered {ns} ns after the deadline", self.hub.instance);
        Status::new(Code::DeadlineExceeded, Outcome::Ran, text)
    }
}

impl Transport for Inside {
    fn descriptor(&self) -> &ServiceDescriptor {
        self.hub.handler.descriptor()
    }

    fn is_alive(&self) -> bool {
        !self.hub.is_stopping()
    }

    fn call(&self, call: &CallRequest<'_>, reply: &mut dyn Decode, times: &mut CallTimes) -> Result<(), Status> {
        if self.hub.style(call.method) != Style::Plain {
            let sitting = self.begin(call, Shape::Unary)?.0;
            times.started_ns = sitting.started_ns();
            let result = sitting.wait(reply);
            times.ended_ns = clock::now_ns();
            return result;
        }
        with_encoded(call.message, Outcome::NotRun, |request| {
            let mut answer = Answer { reply, decoded: None };
            self.around(call.method, call.timeout, call.metadata, times, |ctx| {
                match call.form {
                    Form::Typed => self.hub.handler.call(ctx, call.method, request, &mut answer),
                    Form::Dynamic => self.hub.handler.call_dynamic(ctx, call.method, request, &mut answer),
                }?;
                let decoded = answer.decoded.take();
                decoded.unwrap_or_else(|| Err(self.bad_handler(call.method, "returned without a reply")))
            })
        })?
    }

    fn poll_start(
        &self,
        _: &mut Wakers<'_>,
        call: &CallRequest<'_>,
        _: &mut service_core::Place,
    ) -> Poll<Result<Ticket, Status>> {
        Poll::Ready(self.begin(call, Shape::Unary).map(|(sitting, _)| self.sittings.add(sitting)))
    }

    fn start_all(&self, calls: &[CallRequest<'_>], tickets: &mut Vec<Ticket>) -> Result<(), Status> {
        for call in calls {
            let (sitting, _) = self.begin(call, Shape::Unary)?;
            tickets.push(self.sittings.add(sitting));
        }
        Ok(())
    }

    fn poll(&self, cx: &mut Wakers<'_>, ticket: &Ticket, reply: &mut (dyn Decode + Send)) -> Poll<Result<(), Status>> {
        let sitting = self.sittings.get(ticket).ok_or_else(is_over)?;
        let polled = sitting.poll(cx, reply);
        if polled.is_ready() {
            self.sittings.take(ticket);
        }
        polled
    }

    fn wait(&self, ticket: Ticket, reply: &mut dyn Decode) -> Result<(), Status> {
        self.sittings.take(&ticket).ok_or_else(is_over)?.wait(reply)
    }

    fn cancel(&self, ticket: Ticket) {
        if let Some(sitting) = self.sittings.take(&ticket) {
            sitting.give_up();
        }
    }

    fn open(&self, call: &CallRequest<'_>, shape: Shape) -> Result<Opened, Status> {
        let (sitting, ends) = self.begin(call, shape)?;
        let peer = Peer::new(self.hub.instance.as_str());
        let (sender, receiver) = ends.of_call(sitting.deadline(), None, &peer, None);
        Ok(Opened { ticket: self.sittings.add(sitting), sender, receiver })
    }

    fn local(&self) -> Option<&dyn Any> {
        self.hub.handler.local()
    }

    fn call_local(
        &self,
        method: MethodIndex,
        timeout: Option<Duration>,
        metadata: Option<&Metadata>,
        times: &mut CallTimes,
        run: &mut dyn FnMut(&Context<'_>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        self.around(method, timeout, metadata, times, run)
    }
}

/// Runs a plain handler for a caller who is not there.
fn run_plain(handler: &dyn Handler, call: Box<SittingCall>) {
    struct Keep(Option<rkyv::util::AlignedVec>);
    impl ReplySink for Keep {
        fn send(&mut self, message: &dyn Encode) -> Result<(), Status> {
            if self.0.is_some() {
                return Err(Status::internal("a call is answered once; the handler tried again"));
            }
            self.0 = Some(with_encoded(message, Outcome::Ran, service_core::envelope::aligned)?);
            Ok(())
        }
    }
    let mut kept = Keep(None);
    let ctx = call.context();
    let result = match call.form() {
        Form::Typed => handler.call(&ctx, call.method(), call.request(), &mut kept),
        Form::Dynamic => handler.call_dynamic(&ctx, call.method(), call.request(), &mut kept),
    };
    match (result, kept.0) {
        (Ok(()), Some(reply)) => call.reply(&Written(&reply)),
        // Dropped, it is answered as one whose handler gave no answer.
        (Ok(()), None) => drop(call),
        (Err(status), _) => call.fail(status),
    }
}

/// A message that is written already.
struct Written<'a>(&'a [u8]);

impl Encode for Written<'_> {
    fn encode(&self, sink: &mut Sink<'_>) -> Result<(), service_core::EncodeError> {
        Ok(sink.write(self.0)?)
    }
}

#[cold]
fn is_over() -> Status {
    Status::internal("the call's end was seen before")
}

/// Takes a handler's reply to its caller at once: both are the same thread.
struct Answer<'a> {
    reply: &'a mut dyn Decode,
    decoded: Option<Result<(), Status>>,
}

impl ReplySink for Answer<'_> {
    fn send(&mut self, message: &dyn Encode) -> Result<(), Status> {
        if self.decoded.is_some() {
            return Err(Status::internal("a call is answered once; the handler tried again"));
        }
        let decoded = with_encoded(message, Outcome::Ran, |bytes| self.reply.decode(bytes))?;
        self.decoded = Some(decoded.map_err(|status| status.with_outcome(Outcome::Ran)));
        Ok(())
    }
}

/// Runs `with` on a message's bytes, which begin at a multiple of 16.
fn with_encoded<T>(message: &dyn Encode, outcome: Outcome, with: impl FnOnce(&[u8]) -> T) -> Result<T, Status> {
    #[repr(C, align(16))]
    struct Small([u8; SMALL]);
    let mut small = Small([0; SMALL]);
    let refused = |error: service_core::EncodeError| error.into_status(outcome);
    match encode_small(message, &mut small.0).map_err(refused)? {
        Encoded::Inline(len) => Ok(with(&small.0[..len])),
        Encoded::Large(len) => with_callers_room(|copy: &mut Copy| {
            let room = copy.room(len).map_err(|error| errors::no_memory(len, &error, outcome))?;
            let mut sink = Sink::slice(room);
            message.encode(&mut sink).map_err(refused)?;
            let written = sink.len();
            Ok(with(&room[..written]))
        }),
    }
}
