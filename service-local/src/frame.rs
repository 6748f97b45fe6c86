//! What a request and a reply look like in a lane.
//!
//! A request is one cell: header word (written by the ring), then
//!
//! | word | content |
//! |---|---|
//! | 1 | call: slot (lower half) and its generation |
//! | 2 | deadline, nanoseconds on the monotonic clock; zero if there is none |
//! | 3 | from the bottom: method (16), place (8), flags (8; bit 0: an envelope is behind the message, bit 1: this is no request, see below), length of the payload in the upper half |
//! | 4.. | payload, or the reference of the block that holds it |
//!
//! A frame with bit 1 says that the caller of the call that it names has given up, for handlers that sleep; it has no
//! payload and no reply. It is a hint: the slot's cancel word says the same.
//!
//! A reply is a slot: tag (code, outcome, and whether a failure has details), length, place, and the same choice of payload or reference.
//! *Place* zero is the cell or slot itself, one is the lane's arena, two and more are segments added later. A request can
//! also be sealed memory that the client announced; its number stands where the reference would.

use service_core::{Code, MethodIndex, Outcome};
use shm_ring::arena::BlockRef;
use shm_ring::cells::BODY_WORDS;
use shm_ring::slot::{CallId, REPLY_WORDS};

/// The ring's kind of a request frame.
pub(crate) const KIND_CALL: u8 = 1;

/// The place of a request that was announced as sealed memory; no segment has it.
pub(crate) const SEALED: u8 = u8::MAX;

const META_WORDS: usize = 3;

const ENVELOPED: u64 = 1 << 24;
const CANCELS: u64 = 1 << 25;

/// In a reply's tag.
const DETAILED: u32 = 1 << 16;

/// Longest request that fits its cell, in bytes.
pub(crate) const REQUEST_INLINE: usize = (BODY_WORDS - META_WORDS) * 8;

/// Longest reply that fits its slot, in bytes.
pub(crate) const REPLY_INLINE: usize = REPLY_WORDS * 8;

/// Where a payload lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// In the cell or slot; so many bytes.
    Inline(usize),
    /// In a block of the arena `place`.
    Block { place: u8, at: BlockRef, len: usize },
}

/// A cell's private copy: the header's word first, so that the payload begins at a multiple of 16.
#[derive(Debug, Clone)]
#[repr(C, align(16))]
pub(crate) struct Cell {
    _header: u64,
    pub(crate) body: [u64; BODY_WORDS],
}

const _: () = assert!((1 + META_WORDS).is_multiple_of(2));

/// What stands before a request's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) call: CallId,
    pub(crate) deadline_ns: Option<u64>,
    pub(crate) method: MethodIndex,
    /// The payload is a message and an envelope behind it.
    pub(crate) enveloped: bool,
    /// No request: the call's caller has given up.
    pub(crate) cancels: bool,
}

impl Meta {
    /// What says that a call was given up.
    pub(crate) fn cancelling(call: CallId) -> Self {
        Self { call, deadline_ns: None, method: MethodIndex(0), enveloped: false, cancels: true }
    }
}

impl Cell {
    pub(crate) const fn new() -> Self {
        Self { _header: 0, body: [0; BODY_WORDS] }
    }

    /// The inline payload's bytes.
    pub(crate) fn payload(&self) -> &[u8] {
        bytemuck::cast_slice(&self.body[META_WORDS..])
    }

    pub(crate) fn payload_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.body[META_WORDS..])
    }

    /// Completes the body around a payload that is in place already; gives the words to be sent.
    #[inline]
    pub(crate) fn seal(&mut self, meta: Meta, payload: Payload) -> &[u64] {
        let (place, len, words) = match payload {
            Payload::Inline(len) => (0, len, len.div_ceil(8)),
            Payload::Block { place, at, len } => {
                self.body[META_WORDS] = at.to_word();
                (place, len, 1)
            }
        };
        self.body[0] = meta.call.to_word();
        self.body[1] = meta.deadline_ns.unwrap_or(0);
        // Lengths are below 2^31 (`service_core::MAX_MESSAGE_LEN`).
        let flags = if meta.enveloped { ENVELOPED } else { 0 } | if meta.cancels { CANCELS } else { 0 };
        self.body[2] = u64::from(meta.method.0) | u64::from(place) << 16 | flags | (len as u64) << 32;
        &self.body[..META_WORDS + words]
    }

    /// Bytes that a body has by its own words; the ring's length must say the same, or what lies behind it is of an
    /// earlier frame, perhaps another client's.
    #[inline]
    pub(crate) fn len_by_content(&self) -> Option<usize> {
        let words = match self.open()? {
            (_, Payload::Inline(len)) => len.div_ceil(8),
            (_, Payload::Block { .. }) => 1,
        };
        Some((META_WORDS + words) * 8)
    }

    /// Reads a peer's body, already copied; `None` if an inline length exceeds the cell.
    #[inline]
    pub(crate) fn open(&self) -> Option<(Meta, Payload)> {
        let target = self.body[2];
        let meta = Meta {
            call: CallId::from_word(self.body[0]),
            deadline_ns: Some(self.body[1]).filter(|ns| *ns != 0),
            method: MethodIndex(target as u16),
            enveloped: target & ENVELOPED != 0,
            cancels: target & CANCELS != 0,
        };
        let len = (target >> 32) as usize;
        match (target >> 16) as u8 {
            0 if len > REQUEST_INLINE => None,
            0 => Some((meta, Payload::Inline(len))),
            place => Some((meta, Payload::Block { place, at: BlockRef::from_word(self.body[META_WORDS]), len })),
        }
    }
}

/// A slot's payload in private memory, at a multiple of 16.
#[repr(C, align(16))]
pub(crate) struct Reply {
    pub(crate) words: [u64; REPLY_WORDS],
}

impl Reply {
    pub(crate) const fn new() -> Self {
        Self { words: [0; REPLY_WORDS] }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.words)
    }
}

/// How a call ended, as it stands in a reply's tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) code: Code,
    pub(crate) outcome: Outcome,
    /// The payload is a failure with more than a sentence.
    pub(crate) is_detailed: bool,
}

impl Ending {
    pub(crate) fn to_tag(self) -> u32 {
        let detailed = if self.is_detailed { DETAILED } else { 0 };
        u32::from(self.code.as_u8()) | u32::from(self.outcome.as_u8()) << 8 | detailed
    }

    /// Reads a peer's tag; `None` for numbers that no code or outcome has.
    pub(crate) fn from_tag(tag: u32) -> Option<Self> {
        let (code, outcome) = (Code::from_u8(tag as u8)?, Outcome::from_u8((tag >> 8) as u8)?);
        Some(Self { code, outcome, is_detailed: tag & DETAILED != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: Meta = Meta {
        call: CallId { slot: 7, generation: 9 },
        deadline_ns: Some(5),
        method: MethodIndex(3),
        enveloped: false,
        cancels: false,
    };

    #[test]
    fn a_request_reads_back_as_it_was_sealed() {
        let mut cell = Cell::new();
        cell.payload_mut()[..3].copy_from_slice(&[1, 2, 3]);
        assert_eq!(cell.seal(META, Payload::Inline(3)).len(), META_WORDS + 1);
        assert_eq!(cell.open(), Some((META, Payload::Inline(3))));
        assert_eq!(cell.len_by_content(), Some((META_WORDS + 1) * 8));
        assert_eq!(cell.payload()[..3], [1, 2, 3]);
        let block = Payload::Block { place: 200, at: BlockRef::from_word(77 << 32 | 5), len: 1 << 30 };
        let forever = Meta { deadline_ns: None, enveloped: true, ..META };
        cell.seal(forever, block);
        assert_eq!(cell.open(), Some((forever, block)));
        let cancelling = Meta::cancelling(META.call);
        assert_eq!(cell.seal(cancelling, Payload::Inline(0)).len(), META_WORDS);
        assert_eq!(cell.open(), Some((cancelling, Payload::Inline(0))));
    }

    #[test]
    fn payloads_begin_at_a_multiple_of_sixteen() {
        assert_eq!(Cell::new().payload().as_ptr() as usize % 16, 0);
        assert_eq!(Reply::new().bytes().as_ptr() as usize % 16, 0);
    }

    #[test]
    fn an_inline_length_beyond_the_cell_is_refused() {
        let mut cell = Cell::new();
        cell.body[2] = (REQUEST_INLINE as u64 + 1) << 32;
        assert_eq!(cell.open(), None);
    }

    #[test]
    fn every_code_and_outcome_survives_its_tag_and_other_numbers_do_not() {
        for is_detailed in [false, true] {
            let ending = Ending { code: Code::Unauthenticated, outcome: Outcome::Ran, is_detailed };
            assert_eq!(Ending::from_tag(ending.to_tag()), Some(ending));
        }
        assert_eq!(Ending::from_tag(17), None);
        assert_eq!(Ending::from_tag(3 << 8), None);
    }
}
