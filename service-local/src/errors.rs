//! From what the memory and socket layer says to what a caller is told.

use std::collections::TryReserveError;

use service_core::{Code, Outcome, Status};
use shm_ring::{Error, Throttle};

/// Lines of each second about what clients do to their own connections.
pub(crate) static OF_CLIENTS: Throttle = Throttle::per_second(5);

/// A status for a failure before the request was handed over.
pub(crate) fn not_run(error: &Error) -> Status {
    Status::new(code_of(error), Outcome::NotRun, error.to_string())
}

/// A status for a message of so many bytes that there is no private memory for.
#[cold]
pub(crate) fn no_memory(len: usize, error: &TryReserveError, outcome: Outcome) -> Status {
    let text = format!("no memory for a private copy of a message of {len} bytes: {error}");
    Status::new(Code::ResourceExhausted, outcome, text)
}

fn code_of(error: &Error) -> Code {
    match error {
        Error::ResourceExhausted { .. } | Error::TooLarge { .. } => Code::ResourceExhausted,
        Error::LayoutVersion { .. } | Error::ForkedHandle { .. } => Code::FailedPrecondition,
        Error::NotFound { .. } => Code::NotFound,
        Error::AlreadyServed { .. } => Code::AlreadyExists,
        Error::RuntimeDir { .. } => Code::FailedPrecondition,
        Error::Closed { .. } => Code::Unavailable,
        Error::System { source, .. } if source.kind() == std::io::ErrorKind::TimedOut => Code::Unavailable,
        Error::System { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => Code::PermissionDenied,
        _ => Code::Internal,
    }
}
