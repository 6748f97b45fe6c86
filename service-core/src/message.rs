//! How a message gets into a transport's memory, and out of it, without an allocation.
//!
//! A transport offers memory, a message writes itself there: [`Encode`] is the message's side,
//! [`Sink`] the place it writes to. A transport that has both a small and a large place asks
//! [`encode_small`] first; a message that does not fit says how long it is, and [`encode_block`]
//! writes it into a block of just that length. Nothing here knows how messages are laid out; that
//! is the business of [`crate::typed`].

use std::fmt;

use crate::assured::Assurance;
use crate::status::{Code, Outcome, Status};

/// Longest message, in bytes: offsets inside a message are signed and 32 bits wide.
pub const MAX_MESSAGE_LEN: usize = i32::MAX as usize;

/// A place for bytes has no room for the next ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for the rest of the message")]
pub struct SinkFull;

/// Why a message could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The place is too short for the message.
    #[error(transparent)]
    Full(#[from] SinkFull),
    /// The message is longer than any place could be.
    #[error("the message is longer than {MAX_MESSAGE_LEN} bytes")]
    TooLong,
    /// The type's own serialisation refused the value.
    #[error("the value cannot be serialised: {0}")]
    Refused(Box<str>),
}

impl EncodeError {
    /// Turns the error into a status; the caller knows what has run by now.
    pub fn into_status(self, outcome: Outcome) -> Status {
        let code = match self {
            Self::Full(_) | Self::TooLong => Code::ResourceExhausted,
            Self::Refused(_) => Code::InvalidArgument,
        };
        Status::new(code, outcome, self.to_string())
    }
}

/// A message that can write itself, the same bytes each time.
///
/// A transport may run it twice: first to learn the length, then to write.
pub trait Encode {
    /// Writes the whole message into `sink`.
    ///
    /// # Errors
    /// [`EncodeError::Full`] if the sink ends first; what was written until then is of no use.
    fn encode(&self, sink: &mut Sink<'_>) -> Result<(), EncodeError>;
}

/// A place that can take a message out of a transport's memory.
pub trait Decode {
    /// Takes the message; called at most once per call.
    ///
    /// `bytes` begins at a multiple of 16, comes from a peer and is to be checked. It must not be
    /// kept.
    ///
    /// # Errors
    /// A [`Status`] if the bytes are not a message of the expected type.
    fn decode(&mut self, bytes: &[u8]) -> Result<(), Status>;

    /// The same of bytes that somebody vouches for: they need not be checked. By default they are.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    fn decode_assured(&mut self, bytes: &[u8], assurance: Assurance) -> Result<(), Status> {
        let _ = assurance;
        self.decode(bytes)
    }
}

/// A large place for one message, written from its start to its end.
pub trait BlockWriter {
    /// Appends bytes.
    ///
    /// # Errors
    /// [`SinkFull`] if they do not fit; nothing of them is then written.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull>;
}

/// Where a message's bytes go: a slice, a block of a transport, or nowhere, just to be counted.
pub struct Sink<'a> {
    place: Place<'a>,
    /// Bytes taken so far; at most [`MAX_MESSAGE_LEN`].
    len: usize,
}

enum Place<'a> {
    Slice(&'a mut [u8]),
    /// A slice that turns into `Count` when it is full, so that one pass tells the length as well.
    SliceThenCount(&'a mut [u8]),
    Count,
    Block(&'a mut dyn BlockWriter),
}

impl<'a> Sink<'a> {
    /// Writes into a slice; the message ends at [`len`](Self::len).
    pub fn slice(buf: &'a mut [u8]) -> Self {
        Self::at(Place::Slice(buf))
    }

    /// Writes nowhere and only counts.
    pub fn count() -> Self {
        Self::at(Place::Count)
    }

    /// Writes into a block.
    pub fn block(writer: &'a mut dyn BlockWriter) -> Self {
        Self::at(Place::Block(writer))
    }

    fn at(place: Place<'a>) -> Self {
        Self { place, len: 0 }
    }

    /// Says how many bytes have been written or counted.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Says whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes back what was written behind `len`; false if the place cannot do that.
    pub(crate) fn rewind(&mut self, len: usize) -> bool {
        if matches!(self.place, Place::Block(_)) {
            return self.len == len;
        }
        self.len = len;
        true
    }

    /// Says whether bytes are counted and no longer kept.
    pub(crate) fn is_counting(&self) -> bool {
        matches!(self.place, Place::Count)
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`SinkFull`] if they do not fit, or if the message would become longer than
    /// [`MAX_MESSAGE_LEN`].
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        let end = self.len.saturating_add(bytes.len());
        if end > MAX_MESSAGE_LEN {
            return Err(SinkFull);
        }
        match &mut self.place {
            Place::Slice(buf) => buf.get_mut(self.len..end).ok_or(SinkFull)?.copy_from_slice(bytes),
            Place::SliceThenCount(buf) => match buf.get_mut(self.len..end) {
                Some(room) => room.copy_from_slice(bytes),
                None => self.place = Place::Count,
            },
            Place::Count => {}
            Place::Block(writer) => writer.write(bytes)?,
        }
        self.len = end;
        Ok(())
    }
}

impl fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::Slice(_) | Place::SliceThenCount(_) => "slice",
            Place::Count => "count",
            Place::Block(_) => "block",
        };
        f.debug_struct("Sink").field("place", &place).field("len", &self.len).finish()
    }
}

/// What became of a message that was offered a small place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Encoded {
    /// It is written; so many bytes of the place are used.
    Inline(usize),
    /// It does not fit and needs a block of so many bytes; what the place holds is of no use.
    Large(usize),
}

/// Writes a message into `inline` if it fits, else says how many bytes a block needs.
///
/// One pass in both cases; no allocation of its own.
///
/// # Errors
/// [`EncodeError::TooLong`] if no place could hold it, [`EncodeError::Refused`] if its type refuses
/// the value.
#[inline]
pub fn encode_small(message: &dyn Encode, inline: &mut [u8]) -> Result<Encoded, EncodeError> {
    let mut sink = Sink::at(Place::SliceThenCount(inline));
    message.encode(&mut sink).map_err(|error| match error {
        // This sink goes on counting when the slice is full; only the limit of all messages ends
        // it.
        EncodeError::Full(SinkFull) => EncodeError::TooLong,
        other => other,
    })?;
    Ok(match sink.place {
        Place::Count => Encoded::Large(sink.len),
        _ => Encoded::Inline(sink.len),
    })
}

/// Writes a message into a block of just the length that [`encode_small`] told.
///
/// To be called by the thread that measured the message, before it measures another.
///
/// # Errors
/// [`EncodeError::Full`] if the message has become longer since it was measured, or another
/// [`EncodeError`].
pub fn encode_block(message: &dyn Encode, writer: &mut dyn BlockWriter) -> Result<(), EncodeError> {
    message.encode(&mut Sink::block(writer))
}
