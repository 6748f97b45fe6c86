//! The seam between clients and whatever carries their calls.

use std::sync::Arc;
use std::time::Duration;

use crate::context::Deadline;
use crate::descriptor::ServiceDescriptor;
use crate::handler::MethodIndex;
use crate::message::{Decode, Encode};
use crate::names::Address;
use crate::status::Status;

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
    /// `method` is the server's index. `timeout` is relative, so that one clock reading gives both
    /// `times.started_ns` and the deadline. `reply` gets the answer's bytes. `times` is set
    /// whenever the transport took the call, also if it failed.
    ///
    /// # Errors
    /// The handler's status, or the transport's own with an exact outcome.
    fn call(
        &self,
        method: MethodIndex,
        timeout: Option<Duration>,
        request: &dyn Encode,
        reply: &mut dyn Decode,
        times: &mut CallTimes,
    ) -> Result<(), Status>;
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
