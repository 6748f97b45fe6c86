//! One call as a transport gets it, and what names it while it is in flight.

use std::fmt;
use std::time::Duration;

use crate::handler::MethodIndex;
use crate::message::Encode;
use crate::metadata::Metadata;

/// What a transport is asked to carry.
#[derive(Clone, Copy)]
pub struct CallRequest<'a> {
    /// The method, by the server's index.
    pub method: MethodIndex,
    /// How long the call may take, from the moment when the transport takes it; `None`: as long as the service lives.
    pub timeout: Option<Duration>,
    /// What travels beside the arguments; `None`, the usual case, costs nothing.
    pub metadata: Option<&'a Metadata>,
    /// How the message is written.
    pub form: Form,
    /// The arguments.
    pub message: &'a (dyn Encode + Sync),
}

impl<'a> CallRequest<'a> {
    /// A call of typed messages with nothing beside the arguments.
    pub fn new(method: MethodIndex, timeout: Option<Duration>, message: &'a (dyn Encode + Sync)) -> Self {
        Self { method, timeout, metadata: None, form: Form::Typed, message }
    }
}

impl fmt::Debug for CallRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallRequest")
            .field("method", &self.method)
            .field("timeout", &self.timeout)
            .field("metadata", &self.metadata)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// How a call's messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Form {
    /// As archives of the types in the service's descriptor.
    #[default]
    Typed,
    /// As values that describe themselves.
    Dynamic,
}

/// Names a call in flight that no thread waits for; the transport that gave it out knows what the words mean.
///
/// Whoever has one either sees the call's end by [`Transport::poll`](crate::Transport::poll) or
/// [`Transport::wait`](crate::Transport::wait), or gives it up by [`Transport::cancel`](crate::Transport::cancel).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "a ticket that is dropped leaves its call in flight"]
pub struct Ticket {
    /// The transport's own words.
    pub words: [u64; 3],
    /// When the transport took the call, a reading of [`monotonic_ns`](crate::monotonic_ns).
    pub started_ns: u64,
}
