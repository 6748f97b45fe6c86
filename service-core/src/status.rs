//! How a call ended: a code, what may have run, and a message.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::descriptor::short_name;
use crate::details::{Extras, Value};
use crate::typed::{Owned, Writable};

/// The class of an ended call: gRPC's seventeen codes with gRPC's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    /// The call succeeded.
    Ok = 0,
    /// The caller gave the call up.
    Cancelled = 1,
    /// Nothing better is known.
    Unknown = 2,
    /// The request is wrong whatever the state of the service.
    InvalidArgument = 3,
    /// The deadline passed first.
    DeadlineExceeded = 4,
    /// The named thing does not exist.
    NotFound = 5,
    /// The thing to be made exists already.
    AlreadyExists = 6,
    /// The caller is known and may not do this.
    PermissionDenied = 7,
    /// A quota, a queue or memory is used up.
    ResourceExhausted = 8,
    /// The service is not in the state that the request needs.
    FailedPrecondition = 9,
    /// The call was ended by a conflict with another one.
    Aborted = 10,
    /// The request goes past the end of what exists.
    OutOfRange = 11,
    /// The service does not have this method.
    Unimplemented = 12,
    /// The service broke its own rules, for example by a panic.
    Internal = 13,
    /// The service cannot be reached now.
    Unavailable = 14,
    /// Data is lost or damaged for good.
    DataLoss = 15,
    /// The caller did not say, or prove, who it is.
    Unauthenticated = 16,
}

impl Code {
    /// How many codes there are; every code's number is below it.
    pub const COUNT: usize = 17;

    /// All codes in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// Gives the number that travels on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Gives gRPC's number.
    pub const fn to_grpc(self) -> i32 {
        self as i32
    }

    /// Reads gRPC's number; what gRPC does not have is [`Code::Unknown`], as its own libraries do it.
    pub fn from_grpc(number: i32) -> Self {
        u8::try_from(number).ok().and_then(Self::from_u8).unwrap_or(Self::Unknown)
    }

    /// Reads the number that travels on the wire; `None` for a number that no code has.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Code {
    /// Writes gRPC's name, such as `DEADLINE_EXCEEDED`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        })
    }
}

/// What a failed call may have done.
///
/// `NotRun` and `Ran` are promises; `MayHaveRun` is what is left when neither can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// No handler saw the request, and none will: it may be sent again.
    NotRun = 0,
    /// A handler may have seen the request: only an idempotent method may be sent again.
    MayHaveRun = 1,
    /// A handler ran and gave this answer.
    Ran = 2,
}

impl Outcome {
    /// Gives the number that travels on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Reads the number that travels on the wire; `None` for a number that no outcome has.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::NotRun),
            1 => Some(Self::MayHaveRun),
            2 => Some(Self::Ran),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotRun => "not run",
            Self::MayHaveRun => "may have run",
            Self::Ran => "ran",
        })
    }
}

/// How a call failed: a code, an outcome and a sentence.
///
/// One pointer wide, so that a `Result<T, Status>` costs a successful call nothing; only failures
/// allocate.
///
/// ```
/// use service_core::{Code, Outcome, Status};
///
/// let status = Status::invalid_argument("the image has 63 pixels, not 64");
/// assert_eq!(status.code(), Code::InvalidArgument);
/// assert_eq!(status.outcome(), Outcome::Ran);
/// assert_eq!(status.to_string(), "INVALID_ARGUMENT (ran): the image has 63 pixels, not 64");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Status(Box<Parts>);

#[derive(Clone, PartialEq, Eq)]
struct Parts {
    code: Code,
    outcome: Outcome,
    message: Box<str>,
    extras: Option<Box<Extras>>,
}

impl Status {
    /// Makes a status from its three parts.
    ///
    /// A failure cannot be [`Code::Ok`]: that code becomes [`Code::Unknown`].
    #[cold]
    pub fn new(code: Code, outcome: Outcome, message: impl Into<String>) -> Self {
        let code = if code == Code::Ok { Code::Unknown } else { code };
        Self(Box::new(Parts { code, outcome, message: message.into().into_boxed_str(), extras: None }))
    }

    /// Says which class of failure this is; never [`Code::Ok`].
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Says in words what happened.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Says what the call may have done.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Changes the outcome, for a layer that knows better what ran than the one below.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// Adds a value that callers get back by [`details`](Self::details); one longer than 64 KiB is left out.
    #[must_use]
    pub fn with_details<T: Writable>(mut self, value: &T) -> Self {
        self.extras_mut().value = Value::of(value);
        self
    }

    /// Gives the value that came with the failure, if it is a `T`.
    pub fn details<T: Owned>(&self) -> Option<T> {
        self.extras()?.value.as_ref()?.read()
    }

    /// Says that a new try may succeed after this time. It travels in milliseconds.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.extras_mut().retry_after = Some(after);
        self
    }

    /// Says after which time a new try may succeed, if the service said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.extras()?.retry_after
    }

    /// Names the kind of the error that this was made of, such as `KeyError`.
    #[must_use]
    pub fn with_kind(mut self, kind: &str) -> Self {
        self.extras_mut().kind = Some(kind.into());
        self
    }

    /// Gives the kind of the error that this was made of, if it is known.
    pub fn kind(&self) -> Option<&str> {
        self.extras()?.kind.as_deref()
    }

    /// Makes the status of a handler whose own error is `error`: its kind is the type's name, its message the error's,
    /// followed by those of its causes. An [`io::Error`] has a better one by `From`.
    #[cold]
    pub fn from_error<E: Error>(code: Code, error: &E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        // Causes that go in a circle end here.
        for _ in 0..16 {
            let Some(error) = cause else { break };
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(code, Outcome::Ran, text).with_kind(&short_name(std::any::type_name::<E>()))
    }

    pub(crate) fn extras(&self) -> Option<&Extras> {
        self.0.extras.as_deref()
    }

    pub(crate) fn with_extras(mut self, extras: Extras) -> Self {
        self.0.extras = Some(Box::new(extras));
        self
    }

    fn extras_mut(&mut self) -> &mut Extras {
        self.0.extras.get_or_insert_default()
    }
}

/// Which code stands for which kind of input and output error; others are [`Code::Unknown`].
const KINDS: [(io::ErrorKind, Code); 17] = [
    (io::ErrorKind::NotFound, Code::NotFound),
    (io::ErrorKind::PermissionDenied, Code::PermissionDenied),
    (io::ErrorKind::AlreadyExists, Code::AlreadyExists),
    (io::ErrorKind::InvalidInput, Code::InvalidArgument),
    (io::ErrorKind::TimedOut, Code::DeadlineExceeded),
    (io::ErrorKind::OutOfMemory, Code::ResourceExhausted),
    (io::ErrorKind::Unsupported, Code::Unimplemented),
    (io::ErrorKind::ConnectionRefused, Code::Unavailable),
    (io::ErrorKind::InvalidData, Code::DataLoss),
    (io::ErrorKind::Interrupted, Code::Cancelled),
    (io::ErrorKind::StorageFull, Code::ResourceExhausted),
    (io::ErrorKind::ConnectionReset, Code::Unavailable),
    (io::ErrorKind::ConnectionAborted, Code::Unavailable),
    (io::ErrorKind::BrokenPipe, Code::Unavailable),
    (io::ErrorKind::NotConnected, Code::Unavailable),
    (io::ErrorKind::UnexpectedEof, Code::OutOfRange),
    (io::ErrorKind::ResourceBusy, Code::FailedPrecondition),
];

impl From<io::Error> for Status {
    /// For handlers: says [`Outcome::Ran`]; the kind is that of the error.
    #[cold]
    fn from(error: io::Error) -> Self {
        let found = KINDS.iter().find(|(kind, _)| *kind == error.kind());
        let code = found.map_or(Code::Unknown, |(_, code)| *code);
        Self::new(code, Outcome::Ran, error.to_string()).with_kind(&format!("{:?}", error.kind()))
    }
}

impl From<Status> for io::Error {
    /// The error's kind is the nearest; the status is what it was made of.
    fn from(status: Status) -> Self {
        let found = KINDS.iter().find(|(_, code)| *code == status.code());
        Self::new(found.map_or(io::ErrorKind::Other, |(kind, _)| *kind), status)
    }
}

macro_rules! handler_constructors {
    ($($name:ident, $code:ident;)*) => {
        /// What a handler answers with: each constructor says [`Outcome::Ran`], because the handler
        /// runs.
        impl Status {
            $(
                #[doc = concat!("Makes a [`Code::", stringify!($code), "`] status of a call that ran.")]
                #[cold]
                pub fn $name(message: impl Into<String>) -> Self {
                    Self::new(Code::$code, Outcome::Ran, message)
                }
            )*
        }
    };
}

handler_constructors! {
    cancelled, Cancelled;
    unknown, Unknown;
    invalid_argument, InvalidArgument;
    deadline_exceeded, DeadlineExceeded;
    not_found, NotFound;
    already_exists, AlreadyExists;
    permission_denied, PermissionDenied;
    resource_exhausted, ResourceExhausted;
    failed_precondition, FailedPrecondition;
    aborted, Aborted;
    out_of_range, OutOfRange;
    unimplemented, Unimplemented;
    internal, Internal;
    unavailable, Unavailable;
    data_loss, DataLoss;
    unauthenticated, Unauthenticated;
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("code", &self.0.code)
            .field("outcome", &self.0.outcome)
            .field("message", &self.0.message)
            .finish()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.0.code, self.0.outcome, self.0.message)
    }
}

impl Error for Status {}
