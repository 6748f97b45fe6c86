//! From a taken frame to the handler and back: checks, context, panic guard, reply.

use std::collections::TryReserveError;
use std::panic::{AssertUnwindSafe, catch_unwind};

use service_core::envelope::{self, Envelope};
use service_core::{
    BlockWriter, CancelProbe, Code, Context, Deadline, Encode, Encoded, Failure, Form, Handler, MethodIndex, Outcome,
    ReplySink, ServiceStats, SinkFull, Status, encode_block, encode_small,
};
use shm_ring::arena::{Block, BlockRef};
use shm_ring::clock;
use shm_ring::slot::{CallId, Finished, ReplyHeader};

use super::lane::Lane;
use crate::copy::Copy;
use crate::errors::no_memory;
use crate::frame::{Cell, Ending, Meta, Payload, REPLY_INLINE, Reply, SEALED};
use crate::trust::request_in_place;

/// How a frame was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dispatched {
    /// The handler ran; so many nanoseconds from the look that found the frame to the reply.
    Ran { method: MethodIndex, ns: u64 },
    /// Answered without the handler.
    Answered,
    /// The frame makes no sense: the client is broken.
    Corrupt,
}

/// What is needed to serve a frame, whichever lane it comes from.
pub(super) struct Dispatcher<'a> {
    pub(super) handler: &'a dyn Handler,
    pub(super) stats: &'a ServiceStats,
    /// The instance, for texts.
    pub(super) instance: &'a str,
}

impl Dispatcher<'_> {
    /// Serves one frame, found by a look at `started_ns`. Every call whose name makes sense is finished exactly once.
    ///
    /// A payload in a block is read in place, or if the client is isolated, from `copy`; sealed memory always in place.
    pub(super) fn serve(&self, lane: &Lane, cell: &Cell, copy: &mut Copy, started_ns: u64) -> Dispatched {
        let Some((meta, payload)) = cell.open() else { return Dispatched::Corrupt };
        let Ok(call) = lane.shared.slots.check(meta.call) else { return Dispatched::Corrupt };
        if meta.cancels {
            // The slot says so by now, for handlers that ask.
            return Dispatched::Answered;
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
        if lane.trust.is_isolated() {
            lane.note_served();
        }
        if meta.deadline_ns.is_some_and(|deadline| started_ns >= deadline) {
            return self.refuse(lane, meta.method, call, &self.expired(meta, started_ns));
        }
        let mut responder = Responder::new(lane, call);
        self.run(meta, request, &mut responder, started_ns)
    }

    fn run(&self, meta: Meta, request: &[u8], responder: &mut Responder<'_>, started_ns: u64) -> Dispatched {
        let probe = SlotProbe { lane: responder.lane, call: responder.call };
        let deadline = meta.deadline_ns.map(Deadline::from_monotonic_ns);
        let ctx = Context::new(deadline, responder.lane.caller, &probe).assured(responder.lane.assurance);
        let ran = catch_unwind(AssertUnwindSafe(|| match meta.enveloped {
            false => self.handler.call(&ctx, meta.method, request, responder),
            true => self.run_enveloped(&ctx, meta.method, request, responder),
        }));
        if responder.prepared.is_none() {
            let status = match ran {
                Ok(Err(status)) => status,
                Ok(Ok(())) => bad_handler(self.handler, self.instance, meta.method, "returned without a reply"),
                Err(panic) => bad_handler(self.handler, self.instance, meta.method, &panicked(&*panic)),
            };
            responder.prepare_failure(&status);
        }
        let code = responder.finish();
        // The reply is on its way; what follows delays nobody but the next call of this worker.
        let ns = clock::now_ns().saturating_sub(started_ns);
        self.stats.record(meta.method, code, ns);
        Dispatched::Ran { method: meta.method, ns }
    }

    /// The same of a request that something comes with beside the arguments.
    fn run_enveloped(
        &self,
        ctx: &Context<'_>,
        method: MethodIndex,
        payload: &[u8],
        reply: &mut Responder<'_>,
    ) -> Result<(), Status> {
        let (request, Envelope { metadata, form, .. }) = envelope::split(payload)?;
        let ctx = ctx.with_metadata(Some(&metadata));
        match form {
            Form::Typed => self.handler.call(&ctx, method, request, reply),
            Form::Dynamic => self.handler.call_dynamic(&ctx, method, request, reply),
        }
    }

    /// Answers a call without its handler.
    #[cold]
    fn refuse(&self, lane: &Lane, method: MethodIndex, call: CallId, status: &Status) -> Dispatched {
        let mut responder = Responder::new(lane, call);
        responder.prepare_failure(status);
        responder.finish();
        self.stats.record(method, status.code(), 0);
        Dispatched::Answered
    }

    #[cold]
    fn expired(&self, meta: Meta, now_ns: u64) -> Status {
        let late = now_ns.saturating_sub(meta.deadline_ns.unwrap_or(now_ns));
        let text = format!("deadline passed {late} ns before `{}` took the call", self.instance);
        Status::new(Code::DeadlineExceeded, Outcome::NotRun, text)
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
fn copied_request<'a>(
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

/// The cancel flag in the call's slot, read only when the handler asks.
struct SlotProbe<'a> {
    lane: &'a Lane,
    call: CallId,
}

impl CancelProbe for SlotProbe<'_> {
    fn is_cancelled(&self) -> bool {
        self.lane.shared.slots.is_cancelled(self.call) || self.lane.is_leaving()
    }
}

/// How a call ends, ready to be published.
#[derive(Debug, Clone, Copy)]
struct Prepared {
    code: Code,
    outcome: Outcome,
    is_detailed: bool,
    place: u8,
    len: usize,
    /// Words of `Responder::reply` in use.
    words: usize,
}

/// Finishes a call: once, by a reply or by a status.
///
/// The handler's reply is encoded when it sends it and published when the handler has returned: from the publication
/// on the client may use the request's block again, and the handler could still be reading it.
struct Responder<'a> {
    lane: &'a Lane,
    call: CallId,
    reply: Reply,
    prepared: Option<Prepared>,
    finished: bool,
}

impl<'a> Responder<'a> {
    fn new(lane: &'a Lane, call: CallId) -> Self {
        Self { lane, call, reply: Reply::new(), prepared: None, finished: false }
    }

    fn prepare(&mut self, code: Code, outcome: Outcome, message: &dyn Encode) -> Result<(), Status> {
        let encoded = encode_small(message, self.reply.bytes_mut()).map_err(|error| error.into_status(Outcome::Ran))?;
        let (place, len, words) = match encoded {
            Encoded::Inline(len) => (0, len, len.div_ceil(8)),
            Encoded::Large(len) => {
                let (place, at, written) = self.fill_block(message, len)?;
                self.reply.words[0] = at.to_word();
                (place, written, 1)
            }
        };
        self.prepared = Some(Prepared { code, outcome, is_detailed: false, place, len, words });
        Ok(())
    }

    fn fill_block(&self, message: &dyn Encode, len: usize) -> Result<(u8, BlockRef, usize), Status> {
        let (place, mut block) = match self.lane.replies().allocate(len) {
            Some(found) => found,
            None => super::segments::grow_replies(self.lane, len)?,
        };
        encode_block(message, &mut BlockSink(&mut block)).map_err(|error| error.into_status(Outcome::Ran))?;
        let written = block.len();
        Ok((place, block.lend(), written))
    }

    #[cold]
    fn prepare_failure(&mut self, status: &Status) {
        let (code, outcome) = (status.code(), status.outcome());
        let failure = Failure(status);
        if self.prepare(code, outcome, &failure).is_ok() {
            if let Some(prepared) = &mut self.prepared {
                prepared.is_detailed = failure.is_detailed();
            }
        } else {
            // No room for the whole sentence: its beginning fits the slot.
            let _ = self.prepare(code, outcome, &Text(head(status.message(), REPLY_INLINE)));
        }
    }

    /// Publishes what was prepared; gives its code.
    #[inline]
    fn finish(&mut self) -> Code {
        self.finished = true;
        // Nothing prepared: not even the beginning of a sentence could be encoded, which a slice of bytes always can.
        let nothing =
            Prepared { code: Code::Internal, outcome: Outcome::Ran, is_detailed: false, place: 0, len: 0, words: 0 };
        let Prepared { code, outcome, is_detailed, place, len, words } = self.prepared.unwrap_or(nothing);
        let tag = Ending { code, outcome, is_detailed }.to_tag();
        let header = ReplyHeader { tag, len: len as u32, place };
        let finished = self.lane.shared.slots.finish(self.call, header, &self.reply.words[..words]);
        if place != 0
            && finished == Finished::Stale
            && let Some(arena) = self.lane.replies().at(place)
        {
            // The caller never learns of the block, so it cannot give it back.
            arena.reclaim(BlockRef::from_word(self.reply.words[0]));
        }
        code
    }
}

impl Drop for Responder<'_> {
    fn drop(&mut self) {
        // Only a panic of our own comes here: the caller is answered all the same.
        if !self.finished {
            self.finish();
        }
    }
}

impl ReplySink for Responder<'_> {
    #[inline]
    fn send(&mut self, message: &dyn Encode) -> Result<(), Status> {
        if self.prepared.is_some() {
            return Err(Status::internal("a call is answered once; the handler tried again"));
        }
        self.prepare(Code::Ok, Outcome::Ran, message)
    }
}

struct Text<'a>(&'a str);

impl Encode for Text<'_> {
    fn encode(&self, sink: &mut service_core::Sink<'_>) -> Result<(), service_core::EncodeError> {
        Ok(sink.write(self.0.as_bytes())?)
    }
}

/// The longest beginning of at most `len` bytes that ends between characters.
fn head(text: &str, len: usize) -> &str {
    let mut end = len.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A block of an arena, as the encoder sees it.
pub(crate) struct BlockSink<'a, 'b>(pub(crate) &'a mut Block<'b>);

impl BlockWriter for BlockSink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        if self.0.append(bytes) { Ok(()) } else { Err(SinkFull) }
    }
}
