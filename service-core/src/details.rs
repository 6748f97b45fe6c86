//! What a failure carries beside its code and its sentence: a typed value, a hint when to try again, the kind of the error
//! that it was made of.

use std::time::Duration;

use rkyv::{Archive, Deserialize, Serialize};

use crate::descriptor::{Fingerprint, TypeInfo};
use crate::envelope::aligned;
use crate::message::{Encode, EncodeError, Sink};
use crate::status::{Code, Outcome, Status};
use crate::typed::{Message, Owned, Writable, access, deserialize};

/// Longest value that travels with a failure, in bytes; a longer one stays behind.
pub const MAX_DETAILS_LEN: usize = 64 << 10;

/// An error of a service's own, which travels as itself: clients get it back as a value.
///
/// ```
/// use service_core::{Code, ServiceError};
///
/// #[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// enum KeyError {
///     Missing { key: String },
///     TooLong { bytes: u32, most: u32 },
/// }
///
/// impl std::fmt::Display for KeyError {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         match self {
///             Self::Missing { key } => write!(f, "there is no key `{key}`"),
///             Self::TooLong { bytes, most } => write!(f, "the key has {bytes} bytes, {most} at most"),
///         }
///     }
/// }
///
/// impl ServiceError for KeyError {
///     fn code(&self) -> Code {
///         match self {
///             Self::Missing { .. } => Code::NotFound,
///             Self::TooLong { .. } => Code::InvalidArgument,
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a service's error",
    note = "a method answers `Result<T, Status>`, or `Result<T, E>` with an `E` that implements `ServiceError`"
)]
pub trait ServiceError: std::fmt::Display + Writable + Owned {
    /// Says which class of failure this is, for those who do not know the type.
    fn code(&self) -> Code;
}

/// How a call failed whose service has errors of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError<E> {
    /// The service's answer.
    Service(E),
    /// Everything else that can happen to a call.
    Status(Status),
}

impl<E: ServiceError> CallError<E> {
    /// Says which class of failure this is.
    pub fn code(&self) -> Code {
        match self {
            Self::Service(error) => error.code(),
            Self::Status(status) => status.code(),
        }
    }

    /// Says what the call may have done.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Service(_) => Outcome::Ran,
            Self::Status(status) => status.outcome(),
        }
    }
}

impl<E: ServiceError> From<Status> for CallError<E> {
    /// Takes the service's own error out of the status, if it is in it.
    fn from(status: Status) -> Self {
        match status.details::<E>() {
            Some(error) if status.outcome() == Outcome::Ran => Self::Service(error),
            _ => Self::Status(status),
        }
    }
}

impl<E: std::fmt::Display> std::fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(error) => error.fmt(f),
            Self::Status(status) => status.fmt(f),
        }
    }
}

impl<E: std::fmt::Debug + std::fmt::Display> std::error::Error for CallError<E> {}

/// What a status carries beside its parts. Most have nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extras {
    pub(crate) value: Option<Value>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) kind: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    fingerprint: Fingerprint,
    bytes: Box<[u8]>,
}

impl Value {
    pub(crate) fn of<T: Writable>(value: &T) -> Option<Self> {
        let mut count = Sink::count();
        Message(value).encode(&mut count).ok()?;
        let len = Some(count.len()).filter(|len| *len <= MAX_DETAILS_LEN)?;
        let mut bytes = vec![0; len];
        Message(value).encode(&mut Sink::slice(&mut bytes)).ok()?;
        Some(Self { fingerprint: TypeInfo::of::<T>().fingerprint, bytes: bytes.into_boxed_slice() })
    }

    pub(crate) fn read<T: Owned>(&self) -> Option<T> {
        if self.fingerprint != TypeInfo::of::<T>().fingerprint {
            return None;
        }
        let bytes = aligned(&self.bytes);
        deserialize::<T>(access::<T>(&bytes).ok()?).ok()
    }
}

/// A failure as it travels when it carries more than a sentence.
#[derive(Archive, Serialize, Deserialize)]
struct Written {
    message: String,
    retry_after_ms: Option<u64>,
    kind: Option<String>,
    value: Option<(Fingerprint, Vec<u8>)>,
}

/// A status as the payload of a failed call's reply.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a>(pub &'a Status);

impl Failure<'_> {
    /// Says whether the payload is more than the sentence, which the transport has to tell.
    pub fn is_detailed(&self) -> bool {
        self.0.extras().is_some()
    }
}

impl Encode for Failure<'_> {
    fn encode(&self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let Some(Extras { value, retry_after, kind }) = self.0.extras() else {
            return Ok(sink.write(self.0.message().as_bytes())?);
        };
        let written = Written {
            message: self.0.message().to_owned(),
            retry_after_ms: retry_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            kind: kind.as_deref().map(str::to_owned),
            value: value.as_ref().map(|value| (value.fingerprint, value.bytes.to_vec())),
        };
        Message(&written).encode(sink)
    }
}

impl Status {
    /// Reads the payload of a failed call's reply, which is a stranger's and begins at a multiple of 16. What cannot be
    /// read is left out: code and outcome are known anyway.
    pub fn from_failure(code: Code, outcome: Outcome, is_detailed: bool, payload: &[u8]) -> Self {
        let read = || deserialize::<Written>(access::<Written>(payload).ok()?).ok();
        let Some(written) = is_detailed.then(read) else {
            return Self::new(code, outcome, String::from_utf8_lossy(payload));
        };
        let Some(Written { message, retry_after_ms, kind, value }) = written else {
            return Self::new(code, outcome, "(the failure's details cannot be read)");
        };
        let extras = Extras {
            value: value.map(|(fingerprint, bytes)| Value { fingerprint, bytes: bytes.into_boxed_slice() }),
            retry_after: retry_after_ms.map(Duration::from_millis),
            kind: kind.map(String::into_boxed_str),
        };
        Self::new(code, outcome, message).with_extras(extras)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn travelled(status: &Status) -> Status {
        let failure = Failure(status);
        let mut bytes = vec![0; 1 << 12];
        let mut sink = Sink::slice(&mut bytes);
        failure.encode(&mut sink).unwrap();
        let len = sink.len();
        Status::from_failure(status.code(), status.outcome(), failure.is_detailed(), &aligned(&bytes[..len]))
    }

    #[test]
    fn a_plain_failure_travels_as_its_sentence() {
        let status = Status::not_found("no such key");
        assert!(!Failure(&status).is_detailed());
        assert_eq!(travelled(&status), status);
    }

    #[test]
    fn details_a_hint_and_the_kind_travel_with_a_failure() {
        let details = ("disk".to_owned(), 17_u32);
        let status = Status::unavailable("full")
            .with_details(&details)
            .with_retry_after(Duration::from_millis(250))
            .with_kind("StorageFull");
        let back = travelled(&status);
        assert_eq!(back, status);
        assert_eq!(back.details::<(String, u32)>(), Some(details));
        assert_eq!(back.details::<u64>(), None, "of another type");
        assert_eq!(back.retry_after(), Some(Duration::from_millis(250)));
        assert_eq!(back.kind(), Some("StorageFull"));
    }

    #[test]
    fn details_that_are_too_long_stay_behind_and_the_sentence_does_not() {
        let status = Status::internal("see the log").with_details(&vec![0_u8; MAX_DETAILS_LEN + 1]);
        assert_eq!(status.message(), "see the log");
        assert_eq!(status.details::<Vec<u8>>(), None);
    }

    #[test]
    fn a_detailed_failure_that_cannot_be_read_keeps_code_and_outcome() {
        let status = Status::from_failure(Code::Aborted, Outcome::Ran, true, &[0xff; 16]);
        assert_eq!((status.code(), status.outcome()), (Code::Aborted, Outcome::Ran));
    }
}
