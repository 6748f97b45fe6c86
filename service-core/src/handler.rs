//! The seam between a transport and the code that answers calls.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;

use crate::call::Form;
use crate::context::Context;
use crate::descriptor::ServiceDescriptor;
use crate::dynamic::not_dynamic;
use crate::message::Encode;
use crate::status::Status;
use crate::stream::{StreamReceiver, StreamSender};

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

    /// Says how a method wants to be run; the same each time.
    fn style(&self, method: MethodIndex) -> Style {
        let _ = method;
        Style::Plain
    }

    /// Takes a call over whose method is no [`Style::Plain`] one. The transport sees to it that the future is run to its
    /// end; dropped before, the call ends as if the handler had panicked.
    fn start(self: Arc<Self>, call: Box<dyn ServerCall>) -> CallFuture {
        Box::pin(async move {
            let status = self.descriptor().unknown_method(call.method());
            call.fail(status);
        })
    }

    /// Answers one call whose messages are values that describe themselves.
    ///
    /// # Errors
    /// As [`call`](Self::call); `Unimplemented`, not run, for a method that takes typed messages only.
    fn call_dynamic(
        &self,
        ctx: &Context<'_>,
        method: MethodIndex,
        request: &[u8],
        reply: &mut dyn ReplySink,
    ) -> Result<(), Status> {
        let _ = (ctx, request, reply);
        Err(not_dynamic(self.descriptor(), method))
    }

    /// What typed clients of the same program may call without messages; what it is, is between the two.
    fn local(&self) -> Option<&dyn Any> {
        None
    }
}

/// How a method wants to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Style {
    /// By [`Handler::call`], on a worker.
    Plain,
    /// By [`Handler::start`]: the future never blocks, and is polled by whoever is free.
    Task,
    /// By [`Handler::start`]: the future blocks its thread, perhaps for as long as the call lasts, and gets one of its own.
    Thread,
}

/// What [`Handler::start`] gives: the work of one call.
pub type CallFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One call as its transport hands it over, to be answered at any time and from any thread.
///
/// Dropped unanswered, it is answered as `Internal`.
pub trait ServerCall: Send + Sync {
    /// The method that is called.
    fn method(&self) -> MethodIndex;

    /// What may be asked about the call.
    fn context(&self) -> Context<'_>;

    /// The request, as [`Handler::call`] gets it.
    fn request(&self) -> &[u8];

    /// How its messages are written.
    fn form(&self) -> Form;

    /// Items from the client, if the call has any; once.
    fn take_receiver(&mut self) -> Option<Box<dyn StreamReceiver>>;

    /// The way of items to the client, if the call has one; once.
    fn take_sender(&mut self) -> Option<Box<dyn StreamSender>>;

    /// Wakes a task at a time, a reading of [`monotonic_ns`](crate::monotonic_ns), or a little later.
    fn wake_at(&self, at_ns: u64, waker: &Waker);

    /// Answers. A message that cannot be written becomes the caller's status.
    fn reply(self: Box<Self>, message: &dyn Encode);

    /// Answers with a failure.
    fn fail(self: Box<Self>, status: Status);
}
