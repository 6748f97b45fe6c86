//! From what the memory and socket layer says to what a caller is told.

use service_core::{Code, Outcome, Status};
use shm_ring::Error;

/// A status for a failure before the request was handed over.
pub(crate) fn not_run(error: &Error) -> Status {
    Status::new(code_of(error), Outcome::NotRun, error.to_string())
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
