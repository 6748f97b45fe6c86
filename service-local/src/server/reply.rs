//! The reply's way into the caller's slot.

use service_core::{
    BlockWriter, Code, Encode, Encoded, Failure, Outcome, ReplySink, SinkFull, Status, encode_block, encode_small,
};
use shm_ring::arena::{Block, BlockRef};
use shm_ring::slot::{CallId, Finished, ReplyHeader};

use super::lane::Lane;
use crate::frame::{Ending, REPLY_INLINE, Reply};

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
pub(super) struct Responder<'a> {
    lane: &'a Lane,
    call: CallId,
    reply: Reply,
    prepared: Option<Prepared>,
    finished: bool,
}

impl<'a> Responder<'a> {
    pub(super) fn new(lane: &'a Lane, call: CallId) -> Self {
        Self { lane, call, reply: Reply::new(), prepared: None, finished: false }
    }

    /// Whether the handler has sent its reply, or a failure stands in for it.
    pub(super) fn is_prepared(&self) -> bool {
        self.prepared.is_some()
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
    pub(super) fn prepare_failure(&mut self, status: &Status) {
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
    pub(super) fn finish(&mut self) -> Code {
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
