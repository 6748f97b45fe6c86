//! What a typed client calls through: one address, bound to whichever transport serves it now.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::descriptor::{MethodMap, ServiceDescriptor};
use crate::handler::MethodIndex;
use crate::message::{Decode, Encode};
use crate::names::Address;
use crate::stats::ServiceStats;
use crate::status::{Code, Outcome, Status};
use crate::transport::{CallTimes, Registry, Transport};

/// A transport, and where the client's methods are behind it.
struct Bound {
    transport: Arc<dyn Transport>,
    map: MethodMap,
}

/// Calls the methods of one service at one address. Shared by threads.
///
/// A channel survives the service's restart: a call that finds the transport dead connects again,
/// once, and is then made. A call is never made twice.
pub struct Channel {
    registry: Arc<dyn Registry>,
    address: Address,
    descriptor: &'static ServiceDescriptor,
    bound: ArcSwapOption<Bound>,
    stats: Arc<ServiceStats>,
}

impl Channel {
    /// Connects to the service at `address`. May block as the registry does.
    ///
    /// # Errors
    /// Tells an unknown service (`NotFound`) and a method with other types (`FailedPrecondition`)
    /// now, not at the first call. The outcome is `NotRun`.
    pub fn connect(
        registry: Arc<dyn Registry>,
        address: Address,
        descriptor: &'static ServiceDescriptor,
    ) -> Result<Self, Status> {
        let stats = Arc::new(ServiceStats::new(descriptor));
        let channel = Self { registry, address, descriptor, bound: ArcSwapOption::empty(), stats };
        channel.bind()?;
        Ok(channel)
    }

    /// Calls a method by its index in the client's descriptor and waits for the end, at most
    /// `timeout`.
    ///
    /// On a live transport this adds no lock, allocation or system call to what the transport does.
    ///
    /// # Errors
    /// The transport's or the handler's [`Status`]; `Unimplemented`, not run, if the server lacks
    /// the method; what [`connect`](Self::connect) says if the service has to be connected again
    /// and cannot.
    pub fn call(
        &self,
        method: MethodIndex,
        timeout: Option<Duration>,
        request: &dyn Encode,
        reply: &mut dyn Decode,
    ) -> Result<(), Status> {
        let mut times = CallTimes::default();
        let result = self.call_bound(method, timeout, request, reply, &mut times);
        let code = result.as_ref().map_or_else(Status::code, |()| Code::Ok);
        self.stats.record(method, code, times.elapsed_ns());
        result
    }

    fn call_bound(
        &self,
        method: MethodIndex,
        timeout: Option<Duration>,
        request: &dyn Encode,
        reply: &mut dyn Decode,
        times: &mut CallTimes,
    ) -> Result<(), Status> {
        let guard = self.bound.load();
        let rebound;
        let bound = match &*guard {
            Some(bound) if bound.transport.is_alive() => bound,
            _ => {
                rebound = self.bind()?;
                &rebound
            }
        };
        let Some(index) = bound.map.get(method) else {
            return Err(self.not_served(method));
        };
        bound.transport.call(index, timeout, request, reply, times)
    }

    /// Connects and makes the new transport the one of all threads.
    ///
    /// Threads that meet a dead transport together may each connect; the registry gives them the
    /// same connection, and the last one stored stays.
    #[cold]
    fn bind(&self) -> Result<Arc<Bound>, Status> {
        let bind = || {
            let transport = self.registry.connect(&self.address)?;
            let map = self.descriptor.bind(transport.descriptor())?;
            Ok(Arc::new(Bound { transport, map }))
        };
        // Whatever failed here failed before the call was handed to anybody.
        let bound = bind().map_err(|status: Status| status.with_outcome(Outcome::NotRun))?;
        self.bound.store(Some(Arc::clone(&bound)));
        Ok(bound)
    }

    #[cold]
    fn not_served(&self, method: MethodIndex) -> Status {
        let name = self.descriptor.method(method).map_or("?", |method| &method.name);
        Status::new(
            Code::Unimplemented,
            Outcome::NotRun,
            format!("`{}` has no method `{name}` (index {method} of `{}`)", self.address, self.descriptor.trait_name),
        )
    }

    /// Says which address is called.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Gives the statistics of the calls made here, seen from the caller.
    pub fn stats(&self) -> &Arc<ServiceStats> {
        &self.stats
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alive = self.bound.load().as_ref().is_some_and(|bound| bound.transport.is_alive());
        f.debug_struct("Channel")
            .field("address", &self.address)
            .field("service", &self.descriptor.trait_name)
            .field("alive", &alive)
            .finish_non_exhaustive()
    }
}
