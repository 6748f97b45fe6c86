//! The seam between clients and whatever carries their calls.

use std::any::Any;
use std::sync::Arc;
use std::task::{Context as Wakers, Poll};
use std::time::Duration;

use crate::call::{CallRequest, Ticket};
use crate::context::{Context, Deadline};
use crate::descriptor::ServiceDescriptor;
use crate::handler::MethodIndex;
use crate::line::Place;
use crate::message::Decode;
use crate::metadata::Metadata;
use crate::names::Address;
use crate::status::{Code, Outcome, Status};
use crate::stream::{Opened, Shape};

/// The two time stamps of a call, readings of [`monotonic_ns`](crate::monotonic_ns), shared by all
/// layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallTimes {
    /// When the transport took the call.
    pub started_ns: u64,
    /// When its end was known.
    pub ended_ns: u64,
}

impl CallTimes {
    /// Says how long the call took, in nanoseconds.
    pub fn elapsed_ns(&self) -> u64 {
        self.ended_ns.saturating_sub(self.started_ns)
    }
}

/// Carries calls to one instance of a service. Shared by threads.
pub trait Transport: Send + Sync {
    /// Says which methods the other end has.
    fn descriptor(&self) -> &ServiceDescriptor;

    /// Says whether calls can still be carried; false is final. Costs one relaxed load.
    fn is_alive(&self) -> bool;

    /// Carries one call and waits for its end, at most until the deadline.
    ///
    /// One clock reading gives both `times.started_ns` and the deadline. `reply` gets the answer's bytes. `times` is set
    /// whenever the transport took the call, also if it failed.
    ///
    /// # Errors
    /// The handler's status, or the transport's own with an exact outcome.
    fn call(&self, call: &CallRequest<'_>, reply: &mut dyn Decode, times: &mut CallTimes) -> Result<(), Status>;

    /// Sends a call off without waiting for its end. Pending while there is no room for it: the task is woken when there
    /// may be, or when the call's time is up. `place` is this call's, empty at first, the same at each poll.
    ///
    /// # Errors
    /// As [`call`](Self::call); nothing is in flight then.
    fn poll_start(
        &self,
        cx: &mut Wakers<'_>,
        call: &CallRequest<'_>,
        place: &mut Place,
    ) -> Poll<Result<Ticket, Status>> {
        let _ = (cx, call, place);
        Poll::Ready(Err(not_carried("calls that nobody waits for")))
    }

    /// Sends calls off, announced to the service together: as many as there is room for, the first one at least, which
    /// waits for room until its deadline. `tickets` gets one for each call that was taken, in their order.
    ///
    /// So a thread that has more calls than there is room for sees the end of some before it sends the others, and waits
    /// for nobody but itself.
    ///
    /// # Errors
    /// Why the first call that was not taken was not, other than for want of room; those behind it were not tried.
    fn start_all(&self, calls: &[CallRequest<'_>], tickets: &mut Vec<Ticket>) -> Result<(), Status> {
        let _ = (calls, tickets);
        Err(not_carried("calls that nobody waits for"))
    }

    /// Asks for the end of a call in flight; pending, it wakes the task that asked last. A ready answer ends the ticket.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    fn poll(&self, cx: &mut Wakers<'_>, ticket: &Ticket, reply: &mut (dyn Decode + Send)) -> Poll<Result<(), Status>> {
        let _ = (cx, ticket, reply);
        Poll::Ready(Err(not_carried("calls that nobody waits for")))
    }

    /// Waits for the end of a call in flight, at most until its deadline. Ends the ticket.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    fn wait(&self, ticket: Ticket, reply: &mut dyn Decode) -> Result<(), Status> {
        let _ = (ticket, reply);
        Err(not_carried("calls that nobody waits for"))
    }

    /// Gives a call in flight up: its handler is told. Ends the ticket.
    fn cancel(&self, ticket: Ticket) {
        let _ = ticket;
    }

    /// Sends a call with streams off. Does not wait for the service.
    ///
    /// # Errors
    /// As [`call`](Self::call); nothing is in flight then.
    fn open(&self, call: &CallRequest<'_>, shape: Shape) -> Result<Opened, Status> {
        let _ = (call, shape);
        Err(not_carried("streams"))
    }

    /// What the handler offers to clients of the same program ([`Handler::local`](crate::Handler::local)), if it is in this
    /// process.
    fn local(&self) -> Option<&dyn Any> {
        None
    }

    /// Runs `run` as a call on this thread, around which is all that a call has around it but messages: for transports that
    /// have a [`local`](Self::local) handler.
    ///
    /// # Errors
    /// What `run` answers, or the transport's own, as [`call`](Self::call).
    fn call_local(
        &self,
        method: MethodIndex,
        timeout: Option<Duration>,
        metadata: Option<&Metadata>,
        times: &mut CallTimes,
        run: &mut dyn FnMut(&Context<'_>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let _ = (method, timeout, metadata, times, run);
        Err(not_carried("calls without messages"))
    }
}

#[cold]
fn not_carried(what: &str) -> Status {
    Status::new(Code::Unimplemented, Outcome::NotRun, format!("this transport does not carry {what}"))
}

/// A live instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceInfo {
    /// Its full address, instance included.
    pub address: Address,
    /// The process that serves it.
    pub pid: u32,
}

/// Finds services by name.
pub trait Registry: Send + Sync {
    /// Connects to an instance, or gives the connection that exists. May block while it connects, until the deadline if
    /// there is one.
    ///
    /// # Errors
    /// `DeadlineExceeded` if it took too long, `NotFound` if nothing serves the address, or another [`Status`]; its outcome is `NotRun`.
    fn connect(&self, address: &Address, deadline: Option<Deadline>) -> Result<Arc<dyn Transport>, Status>;

    /// Lists the live instances. May block while it asks them.
    ///
    /// # Errors
    /// A [`Status`] if the list cannot be read.
    fn list(&self) -> Result<Vec<InstanceInfo>, Status>;
}

/// Anything a typed client can be connected through.
pub trait Connector {
    /// Gives the registry in which addresses are looked up.
    fn registry(&self) -> Arc<dyn Registry>;
}
