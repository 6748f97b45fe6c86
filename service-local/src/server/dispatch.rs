//! From a taken frame to the handler and back: checks, context, panic guard, reply.

use std::collections::TryReserveError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use service_core::envelope::{self, Envelope};
use service_core::{Code, Context, Deadline, Form, Handler, MethodIndex, Outcome, ServerCall, Shape, Status, Style};
use shm_ring::arena::BlockRef;
use shm_ring::clock;
use shm_ring::slot::CallId;

use super::Hub;
use super::call::{Job, LaneCall};
use super::lane::Lane;
use super::reply::Responder;
use super::request::Request;
use super::scope::{SlotProbe, WorkerScope};
use super::tasks::{Live, Work};
use crate::copy::Copy;
use crate::errors::no_memory;
use crate::frame::{Cell, Meta, Payload, SEALED};
use crate::trust::request_in_place;

/// How a frame was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dispatched {
    /// The handler ran; so many nanoseconds from the look that found the frame to the reply.
    Ran { method: MethodIndex, ns: u64 },
    /// Answered without the handler, or begun, or nothing that is answered.
    Settled,
    /// The frame makes no sense: the client is broken.
    Corrupt,
}

/// What a worker brings along to serve a frame with.
pub(super) struct Hands<'a> {
    /// For payloads of isolated clients.
    pub(super) copy: &'a mut Copy,
    /// What the handler's own calls see of the call.
    pub(super) scope: &'a WorkerScope,
    /// When the look began that found the frame.
    pub(super) looked_ns: u64,
    /// There if the method's calls are answered later.
    pub(super) live: Option<Live>,
}

impl Hub {
    /// Serves one frame. Every call whose name makes sense is finished exactly once.
    ///
    /// A payload in a block is read in place, or if the client is isolated, from `copy`; sealed memory always in place.
    pub(super) fn dispatch(self: &Arc<Self>, lane: &Arc<Lane>, cell: &Cell, hands: Hands<'_>) -> Dispatched {
        let Some((meta, payload)) = cell.open() else { return Dispatched::Corrupt };
        let Ok(call) = lane.shared.slots.check(meta.call) else { return Dispatched::Corrupt };
        if meta.cancels {
            // The slot says so too, for handlers that ask; this is for those that sleep.
            lane.watchers.wake(call);
            return Dispatched::Settled;
        }
        let Hands { copy, scope, looked_ns, live } = hands;
        if let Some(live) = live {
            return match Request::keep(lane, cell, payload) {
                Ok(Some(request)) => self.start(lane, meta, request, looked_ns, live),
                Ok(None) => Dispatched::Corrupt,
                Err(status) => self.refuse(lane, meta.method, call, &status),
            };
        }
        let sealed;
        let request = match payload {
            Payload::Inline(len) => &cell.payload()[..len],
            Payload::Block { place: SEALED, at, len } => {
                let Some(found) = lane.sealed.take(at.to_word(), len) else { return Dispatched::Corrupt };
                sealed = found;
                sealed.bytes()
            }
            Payload::Block { place, at, len } => {
                let found = if lane.trust.is_isolated() {
                    match copied_request(lane, place, at, len, copy) {
                        Ok(found) => found,
                        Err(error) => {
                            return self.refuse(lane, meta.method, call, &no_memory(len, &error, Outcome::NotRun));
                        }
                    }
                } else {
                    lane.requests().at(place).and_then(|arena| request_in_place(arena, at, len).ok())
                };
                let Some(bytes) = found else { return Dispatched::Corrupt };
                bytes
            }
        };
        if let Err(status) = self.admit(lane, meta, looked_ns) {
            return self.refuse(lane, meta.method, call, &status);
        }
        let mut responder = Responder::new(lane, call);
        scope.begin(call, meta.deadline_ns);
        let dispatched = self.run(lane, meta, request, &mut responder, scope, looked_ns);
        scope.end(lane);
        dispatched
    }

    /// Whether a call may begin.
    #[inline]
    fn admit(&self, lane: &Lane, meta: Meta, looked_ns: u64) -> Result<(), Status> {
        if lane.trust.is_isolated() {
            lane.note_served();
        }
        match meta.deadline_ns {
            Some(deadline_ns) if looked_ns >= deadline_ns => Err(self.expired(looked_ns - deadline_ns)),
            _ => Ok(()),
        }
    }

    fn run(
        &self,
        lane: &Lane,
        meta: Meta,
        request: &[u8],
        responder: &mut Responder<'_>,
        scope: &WorkerScope,
        looked_ns: u64,
    ) -> Dispatched {
        let probe = SlotProbe { lane, call: meta.call, scope };
        let deadline = meta.deadline_ns.map(Deadline::from_monotonic_ns);
        let ctx = Context::new(deadline, lane.caller, &probe).assured(lane.assurance);
        let ran = catch_unwind(AssertUnwindSafe(|| match meta.enveloped {
            false => self.handler.call(&ctx, meta.method, request, responder),
            true => self.run_enveloped(&ctx, meta.method, request, responder, scope),
        }));
        if !responder.is_prepared() {
            let status = match ran {
                Ok(Err(status)) => status,
                Ok(Ok(())) => self.bad_handler(meta.method, "returned without a reply"),
                Err(panic) => self.bad_handler(meta.method, &panicked(&*panic)),
            };
            responder.prepare_failure(&status);
        }
        let code = responder.finish();
        // The reply is on its way; what follows delays nobody but the next call of this worker.
        let ns = clock::now_ns().saturating_sub(looked_ns);
        self.stats.record(meta.method, code, ns);
        Dispatched::Ran { method: meta.method, ns }
    }

    /// The same of a request that something comes with beside the arguments.
    #[inline(never)]
    fn run_enveloped(
        &self,
        ctx: &Context<'_>,
        method: MethodIndex,
        payload: &[u8],
        reply: &mut Responder<'_>,
        scope: &WorkerScope,
    ) -> Result<(), Status> {
        let (request, Envelope { metadata, form, .. }) = envelope::split(payload)?;
        let metadata = Arc::new(metadata);
        scope.set_metadata(Arc::clone(&metadata));
        let ctx = ctx.with_metadata(Some(&metadata));
        match form {
            Form::Typed => self.handler.call(&ctx, method, request, reply),
            Form::Dynamic => self.handler.call_dynamic(&ctx, method, request, reply),
        }
    }

    /// Begins a call that is answered later.
    // Apart from the plain calls' path, whose frame would grow by all that this needs.
    #[inline(never)]
    fn start(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        meta: Meta,
        request: Request,
        looked_ns: u64,
        live: Live,
    ) -> Dispatched {
        if !lane.in_hand.begin(self.calls) {
            return Dispatched::Corrupt;
        }
        let mut envelope = Envelope::default();
        let mut len = request.bytes(lane).len();
        let admitted = self.admit(lane, meta, looked_ns).and_then(|()| {
            if meta.enveloped {
                let (message, read) = envelope::split(request.bytes(lane))?;
                (len, envelope) = (message.len(), read);
            }
            Ok(())
        });
        let Envelope { metadata, form, streams } = envelope;
        let job = Arc::new(Job::new(
            Arc::clone(self),
            Arc::clone(lane),
            (meta.call, meta.method),
            meta.deadline_ns.map(Deadline::from_monotonic_ns),
            meta.enveloped.then(|| Arc::new(metadata)),
            looked_ns,
        ));
        let call = Box::new(LaneCall::new(Arc::clone(&job), request, len, form));
        if let Err(status) = admitted {
            call.fail(status);
            return Dispatched::Settled;
        }
        let handler = Arc::clone(&self.handler);
        let code = match streams {
            // The handler's own code may begin here.
            None => job.run(|| handler.start(call)),
            Some(number) => {
                let shape = handler.descriptor().method(meta.method).map_or(Shape::Unary, |method| method.shape);
                Ok(call.with_streams(lane.streams.take(number, shape, job.deadline), handler))
            }
        };
        let Ok(code) = code else { return Dispatched::Settled };
        let work = Work::new(code, job, live);
        match (self.style(meta.method), &self.spawner) {
            (Style::Thread, _) => self.threads.run(&self.instance, Box::new(work)),
            (_, Some(spawner)) => spawner.spawn(Box::pin(work)),
            (_, None) => self.begin(work),
        }
        Dispatched::Settled
    }

    /// Answers a call without its handler.
    #[cold]
    fn refuse(&self, lane: &Lane, method: MethodIndex, call: CallId, status: &Status) -> Dispatched {
        let mut responder = Responder::new(lane, call);
        responder.prepare_failure(status);
        responder.finish();
        self.stats.record(method, status.code(), 0);
        Dispatched::Settled
    }

    #[cold]
    fn expired(&self, late_ns: u64) -> Status {
        let text = format!("deadline passed {late_ns} ns before `{}` took the call", self.instance);
        Status::new(Code::DeadlineExceeded, Outcome::NotRun, text)
    }

    #[cold]
    pub(super) fn bad_handler(&self, method: MethodIndex, what: &str) -> Status {
        bad_handler(&*self.handler, &self.instance, method, what)
    }
}

/// The status of a call whose handler broke the rules of handlers.
#[cold]
pub(crate) fn bad_handler(handler: &dyn Handler, instance: &str, method: MethodIndex, what: &str) -> Status {
    let name = handler.descriptor().method(method).map_or("?", |method| &method.name);
    tracing::error!(service = instance, method = name, "{what}");
    Status::new(Code::Internal, Outcome::Ran, format!("handler of `{name}` in `{instance}` {what}"))
}

/// A request's block, copied out; `None` if there is no such block, or it is shorter.
///
/// # Errors
/// There is no memory for it.
#[cold]
pub(super) fn copied_request<'a>(
    lane: &Lane,
    place: u8,
    at: BlockRef,
    len: usize,
    copy: &'a mut Copy,
) -> Result<Option<&'a [u8]>, TryReserveError> {
    // A length that no block has makes no room.
    let Some(arena) = lane.requests().at(place).filter(|arena| arena.admit(at, len).is_ok()) else { return Ok(None) };
    let room = copy.room(len)?;
    Ok(arena.copy_out(at, room).is_ok().then_some(&*room))
}

/// Says with what text a handler panicked, if it was a text.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("(no message)"))
}
