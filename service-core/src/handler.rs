//! The seam between a transport and the code that answers calls.

use std::fmt;

use crate::context::Context;
use crate::descriptor::ServiceDescriptor;
use crate::message::Encode;
use crate::status::Status;

/// A method's place in its service's descriptor, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodIndex(pub u16);

impl fmt::Display for MethodIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a handler puts its reply: straight into the transport's memory.
pub trait ReplySink {
    /// Writes the reply. At most once per call.
    ///
    /// # Errors
    /// A [`Status`] if the reply cannot be written, for example because it is too long; the handler
    /// returns it.
    fn send(&mut self, message: &dyn Encode) -> Result<(), Status>;
}

/// Answers the calls of one service; `#[service]` writes it for a trait.
///
/// A transport calls it from several threads at once and catches its panics.
pub trait Handler: Send + Sync + 'static {
    /// Says which methods there are; the same descriptor each time.
    fn descriptor(&self) -> &ServiceDescriptor;

    /// Answers one call. May block as long as the service's own code does.
    ///
    /// `request` begins at a multiple of 16 and is untrusted: the handler checks it. `Ok(())` is
    /// returned only after the reply was sent.
    ///
    /// # Errors
    /// A [`Status`] that becomes the caller's: [`Outcome::NotRun`](crate::Outcome::NotRun) if the
    /// method is unknown or the request is not of its type, else what the service's own code says.
    fn call(
        &self,
        ctx: &Context<'_>,
        method: MethodIndex,
        request: &[u8],
        reply: &mut dyn ReplySink,
    ) -> Result<(), Status>;
}
