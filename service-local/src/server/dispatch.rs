//! From a taken frame to the handler and back: checks, context, panic guard, reply.

use std::panic::{AssertUnwindSafe, catch_unwind};

use service_core::{
    BlockWriter, CancelProbe, Code, Context, Deadline, Encode, Encoded, Handler, MethodIndex, Outcome, ReplySink,
    ServiceStats, SinkFull, Status, encode_block, encode_small,
};
use shm_ring::arena::Block;
use shm_ring::clock;
use shm_ring::slot::{CallId, Finished, ReplyHeader};

use super::lane::Lane;
use crate::frame::{Cell, Meta, Payload, REPLY_INLINE, Reply, tag};

/// How a frame was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dispatched {
    /// The handler ran for so many nanoseconds.
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
    /// Serves one frame. Every call whose name makes sense is finished exactly once.
    pub(super) fn serve(&self, lane: &Lane, cell: &Cell) -> Dispatched {
        let started_ns = clock::now_ns();
        let Some((meta, payload)) = cell.open() else { return Dispatched::Corrupt };
        let Ok(call) = lane.shared.slots.check(meta.call) else { return Dispatched::Corrupt };
        lane.shared.slots.prefetch(call);
        let request = match payload {
            Payload::Inline(len) => &cell.payload()[..len],
            Payload::Block { place, at, len } => {
                let Some(Ok(bytes)) = lane.requests().at(place).map(|arena| arena.read(at, len)) else {
                    return Dispatched::Corrupt;
                };
                bytes
            }
        };
        let mut responder = Responder { lane, call, code: None };
        if meta.deadline_ns.is_some_and(|deadline| started_ns >= deadline) {
            let status = self.expired(meta, started_ns);
            responder.fail(&status);
            self.stats.record(meta.method, status.code(), 0);
            return Dispatched::Answered;
        }
        self.run(meta, request, &mut responder, started_ns)
    }

    fn run(&self, meta: Meta, request: &[u8], responder: &mut Responder<'_>, started_ns: u64) -> Dispatched {
        let probe = SlotProbe { lane: responder.lane, call: responder.call };
        let deadline = meta.deadline_ns.map(Deadline::from_monotonic_ns);
        let ctx = Context::new(deadline, responder.lane.caller, &probe);
        let ran = catch_unwind(AssertUnwindSafe(|| self.handler.call(&ctx, meta.method, request, responder)));
        if responder.code.is_none() {
            let status = match ran {
                Ok(Err(status)) => status,
                Ok(Ok(())) => self.bad_handler(meta.method, "returned without a reply"),
                Err(panic) => self.bad_handler(meta.method, &format!("panicked: {}", panic_text(&*panic))),
            };
            responder.fail(&status);
        }
        // The reply is on its way; what follows delays nobody but the next call of this worker.
        let ns = clock::now_ns().saturating_sub(started_ns);
        self.stats.record(meta.method, responder.code.unwrap_or(Code::Unknown), ns);
        Dispatched::Ran { method: meta.method, ns }
    }

    #[cold]
    fn expired(&self, meta: Meta, now_ns: u64) -> Status {
        let late = now_ns.saturating_sub(meta.deadline_ns.unwrap_or(now_ns));
        let text = format!("deadline passed {late} ns before `{}` took the call", self.instance);
        Status::new(Code::DeadlineExceeded, Outcome::NotRun, text)
    }

    #[cold]
    fn bad_handler(&self, method: MethodIndex, what: &str) -> Status {
        let name = self.handler.descriptor().method(method).map_or("?", |method| &method.name);
        let text = format!("handler of `{name}` in `{}` {what}", self.instance);
        tracing::error!(service = self.instance, method = name, "{what}");
        Status::new(Code::Internal, Outcome::Ran, text)
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
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

/// Finishes a call: once, by a reply or by a status.
struct Responder<'a> {
    lane: &'a Lane,
    call: CallId,
    /// How it was finished.
    code: Option<Code>,
}

impl Responder<'_> {
    fn finish(&mut self, code: Code, outcome: Outcome, place: u8, len: usize, words: &[u64]) -> Finished {
        self.code = Some(code);
        let header = ReplyHeader { tag: tag(code, outcome), len: len as u32, place };
        self.lane.shared.slots.finish(self.call, header, words)
    }

    fn send_as(&mut self, code: Code, outcome: Outcome, message: &dyn Encode) -> Result<(), Status> {
        let mut reply = Reply::new();
        match encode_small(message, reply.bytes_mut()).map_err(|error| error.into_status(Outcome::Ran))? {
            Encoded::Inline(len) => {
                self.finish(code, outcome, 0, len, &reply.words[..len.div_ceil(8)]);
                Ok(())
            }
            Encoded::Large(len) => self.send_block(code, outcome, message, len),
        }
    }

    fn send_block(&mut self, code: Code, outcome: Outcome, message: &dyn Encode, len: usize) -> Result<(), Status> {
        let lane = self.lane;
        let (place, mut block) = match lane.replies().allocate(len) {
            Some(found) => found,
            None => super::segments::grow_replies(lane, len)?,
        };
        encode_block(message, &mut BlockSink(&mut block)).map_err(|error| error.into_status(Outcome::Ran))?;
        let written = block.len();
        let at = block.lend();
        if self.finish(code, outcome, place, written, &[at.to_word()]) == Finished::Stale
            && let Some(arena) = lane.replies().at(place)
        {
            // The caller never learns of the block, so it cannot give it back.
            arena.reclaim(at);
        }
        Ok(())
    }

    #[cold]
    fn fail(&mut self, status: &Status) {
        let (code, outcome) = (status.code(), status.outcome());
        let text = Text(status.message());
        if self.code.is_none() && self.send_as(code, outcome, &text).is_err() {
            // No room for the whole sentence: its beginning fits the slot.
            let short = Text(head(status.message(), REPLY_INLINE));
            let _ = self.send_as(code, outcome, &short);
        }
    }
}

impl ReplySink for Responder<'_> {
    #[inline]
    fn send(&mut self, message: &dyn Encode) -> Result<(), Status> {
        if self.code.is_some() {
            return Err(Status::internal("a call is answered once; the handler tried again"));
        }
        self.send_as(Code::Ok, Outcome::Ran, message)
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
