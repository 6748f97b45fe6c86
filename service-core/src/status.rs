//! How a call ended: a code, what may have run, and a message.

use std::fmt;

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
}

impl Status {
    /// Makes a status from its three parts.
    ///
    /// A failure cannot be [`Code::Ok`]: that code becomes [`Code::Unknown`].
    #[cold]
    pub fn new(code: Code, outcome: Outcome, message: impl Into<String>) -> Self {
        let code = if code == Code::Ok { Code::Unknown } else { code };
        Self(Box::new(Parts { code, outcome, message: message.into().into_boxed_str() }))
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

impl std::error::Error for Status {}
