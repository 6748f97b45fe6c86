//! What travels behind a request's message when there is anything beside the arguments.
//!
//! ```text
//! message | zeros up to a multiple of 16 | envelope | message's length (32) | envelope's length (32)
//! ```
//! A transport says by a bit of its own that a payload has one; most have none and carry their message only.

use std::fmt;

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::call::Form;
use crate::message::{Encode, EncodeError, Sink};
use crate::metadata::{Metadata, Priority, TraceContext};
use crate::status::{Code, Outcome, Status};
use crate::typed::{Message, access, deserialize};

/// Longest envelope, in bytes: what W3C Baggage lets a baggage be, and as much again.
pub const MAX_ENVELOPE_LEN: usize = 16 << 10;

const ALIGN: usize = 16;
const TRAILER: usize = 8;

/// What is in an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// What the caller sends beside the arguments.
    pub metadata: Metadata,
    /// How the message is written.
    pub form: Form,
    /// The transport's number of the call's streams.
    pub streams: Option<u64>,
}

/// The same as it is written.
#[derive(Archive, Serialize, Deserialize)]
struct Written {
    trace: Option<(u128, u64, u8)>,
    baggage: Vec<(String, String)>,
    priority: u8,
    depth: u8,
    is_dynamic: bool,
    streams: Option<u64>,
}

impl Envelope {
    /// Says whether there is nothing in it that would have to travel.
    pub fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.form == Form::Typed && self.streams.is_none()
    }

    /// Writes the envelope, to be sent by [`Enveloped`]. Allocates.
    ///
    /// # Errors
    /// `InvalidArgument`, not run, if it is longer than [`MAX_ENVELOPE_LEN`].
    pub fn seal(&self) -> Result<Sealed, Status> {
        let Metadata { trace, baggage, priority, depth } = &self.metadata;
        let written = Written {
            trace: trace.map(|trace| (trace.trace_id, trace.span_id, trace.flags)),
            baggage: baggage.clone(),
            priority: *priority as u8,
            depth: *depth,
            is_dynamic: self.form == Form::Dynamic,
            streams: self.streams,
        };
        let mut count = Sink::count();
        let refused = |error: EncodeError| error.into_status(Outcome::NotRun);
        Message(&written).encode(&mut count).map_err(refused)?;
        let len = count.len();
        if len > MAX_ENVELOPE_LEN {
            let text = format!("{len} bytes beside the arguments; at most {MAX_ENVELOPE_LEN} can travel with a call");
            return Err(Status::new(Code::InvalidArgument, Outcome::NotRun, text));
        }
        let mut bytes = vec![0; len];
        Message(&written).encode(&mut Sink::slice(&mut bytes)).map_err(refused)?;
        Ok(Sealed(bytes.into_boxed_slice()))
    }
}

/// An envelope that is ready to be sent, any number of times.
#[derive(Clone)]
pub struct Sealed(Box<[u8]>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// A message and the envelope behind it.
#[derive(Clone, Copy)]
pub struct Enveloped<'a> {
    message: &'a (dyn Encode + Sync),
    envelope: &'a Sealed,
}

impl<'a> Enveloped<'a> {
    /// Puts the two together.
    pub fn new(message: &'a (dyn Encode + Sync), envelope: &'a Sealed) -> Self {
        Self { message, envelope }
    }
}

impl fmt::Debug for Enveloped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enveloped").field("envelope", &self.envelope).finish_non_exhaustive()
    }
}

impl Encode for Enveloped<'_> {
    fn encode(&self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        self.message.encode(sink)?;
        let message = sink.len();
        sink.write(&[0; ALIGN][..message.next_multiple_of(ALIGN) - message])?;
        sink.write(&self.envelope.0)?;
        // Lengths of messages are below 2^31.
        sink.write(&(message as u32).to_le_bytes())?;
        Ok(sink.write(&(self.envelope.0.len() as u32).to_le_bytes())?)
    }
}

/// Takes a payload apart that has an envelope: the message, and what is in the envelope. The bytes are a stranger's and
/// begin at a multiple of 16.
///
/// # Errors
/// `InvalidArgument`, not run, if there is no envelope in it.
pub fn split(payload: &[u8]) -> Result<(&[u8], Envelope), Status> {
    let (message, envelope) = parts(payload).ok_or_else(no_envelope)?;
    let archived = access::<Written>(envelope).map_err(|_| no_envelope())?;
    let Written { trace, baggage, priority, depth, is_dynamic, streams } = deserialize::<Written>(archived)?;
    let metadata = Metadata {
        trace: trace.map(|(trace_id, span_id, flags)| TraceContext { trace_id, span_id, flags }),
        baggage,
        // What a newer program calls more urgent still is urgent.
        priority: [Priority::Low, Priority::Normal].get(usize::from(priority)).copied().unwrap_or(Priority::High),
        depth,
    };
    let form = if is_dynamic { Form::Dynamic } else { Form::Typed };
    Ok((message, Envelope { metadata, form, streams }))
}

/// The message's bytes and the envelope's.
fn parts(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, trailer) = payload.split_last_chunk::<TRAILER>()?;
    let word = u64::from_le_bytes(*trailer);
    let (message, envelope) = (word as u32 as usize, (word >> 32) as usize);
    let at = message.checked_next_multiple_of(ALIGN)?;
    let is_whole = envelope <= MAX_ENVELOPE_LEN && at.checked_add(envelope)? == rest.len();
    is_whole.then(|| (&rest[..message], &rest[at..]))
}

#[cold]
fn no_envelope() -> Status {
    Status::new(Code::InvalidArgument, Outcome::NotRun, "the request's envelope cannot be read")
}

/// Copies a message to where messages may begin.
pub fn aligned(bytes: &[u8]) -> AlignedVec {
    let mut aligned = AlignedVec::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    aligned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        let metadata = Metadata {
            trace: Some(TraceContext { trace_id: 1 << 100, span_id: 7, flags: 1 }),
            baggage: vec![("user".into(), "ada".into()), ("empty".into(), String::new())],
            priority: Priority::High,
            depth: 3,
        };
        Envelope { metadata, form: Form::Dynamic, streams: Some(9) }
    }

    fn written(message: &(dyn Encode + Sync), envelope: &Envelope) -> AlignedVec {
        let sealed = envelope.seal().unwrap();
        let mut bytes = vec![0; 1 << 12];
        let mut sink = Sink::slice(&mut bytes);
        Enveloped::new(message, &sealed).encode(&mut sink).unwrap();
        let len = sink.len();
        aligned(&bytes[..len])
    }

    #[test]
    fn message_and_envelope_read_back_as_they_were_written() {
        for text in ["", "x", "a text of more than sixteen bytes"] {
            let owned = text.to_owned();
            let bytes = written(&Message(&owned), &envelope());
            let (message, read) = split(&bytes).unwrap();
            assert_eq!(access::<String>(message).unwrap().as_str(), text);
            assert_eq!(read, envelope());
        }
    }

    #[test]
    fn nothing_beside_the_arguments_is_an_empty_envelope() {
        assert!(Envelope::default().is_empty());
        assert!(!envelope().is_empty());
        let deep = Metadata { depth: 1, ..Metadata::default() };
        assert!(!Envelope { metadata: deep, ..Envelope::default() }.is_empty());
    }

    #[test]
    fn any_cut_or_changed_payload_is_an_error_or_an_envelope_and_never_a_panic() {
        let whole = written(&Message(&7_u64), &envelope());
        for cut in 0..whole.len() {
            let _ = split(&aligned(&whole[..cut]));
            for bit in 0..8 {
                let mut flipped = aligned(&whole);
                flipped[cut] ^= 1 << bit;
                let _ = split(&flipped);
            }
        }
        assert!(split(&[]).is_err() && split(&[0xff; 64]).is_err());
    }

    #[test]
    fn too_much_baggage_is_refused_before_it_is_sent() {
        let metadata = Metadata { baggage: vec![("k".into(), "v".repeat(MAX_ENVELOPE_LEN))], ..Metadata::default() };
        let status = Envelope { metadata, ..Envelope::default() }.seal().unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
    }
}
