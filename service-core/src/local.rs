//! Calls of a service of this process that go straight to its implementation: nothing is written and nothing read.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use rkyv::util::AlignedVec;

use crate::channel::{Channel, Route};
use crate::context::Context;
use crate::handler::MethodIndex;
use crate::message::{Encode, EncodeError, Sink};
use crate::metadata::Metadata;
use crate::scope::{self, Inherited};
use crate::status::{Code, Outcome, Status};
use crate::transport::CallTimes;
use crate::typed::{Message, Readable, Writable, access};

/// A call of a service of this process, about to be made by the thread that wants it.
pub struct LocalCall<'a, T> {
    route: Route,
    method: MethodIndex,
    timeout: Option<Duration>,
    metadata: Option<&'a Metadata>,
    of: PhantomData<fn() -> T>,
}

impl Channel {
    /// Says whether a call may go straight to the implementation, and then where. Other calls go through the transport.
    ///
    /// # Errors
    /// As any call, if the service has to be connected again and cannot.
    #[inline]
    pub fn local_call<'a, T: Any>(
        &self,
        method: MethodIndex,
        timeout: Option<Duration>,
        metadata: Option<&'a Metadata>,
    ) -> Result<Option<LocalCall<'a, T>>, Status> {
        if !self.is_local() {
            return Ok(None);
        }
        self.found_local(method, timeout, metadata)
    }

    fn found_local<'a, T: Any>(
        &self,
        method: MethodIndex,
        mut timeout: Option<Duration>,
        metadata: Option<&'a Metadata>,
    ) -> Result<Option<LocalCall<'a, T>>, Status> {
        let route = self.route(method, &mut timeout)?;
        let is_offered = offered::<T>(&route).is_some();
        Ok(is_offered.then_some(LocalCall { route, method, timeout, metadata, of: PhantomData }))
    }
}

/// What the adapter of the service offers to typed clients of the same program, if it is a `T`.
fn offered<T: Any>(route: &Route) -> Option<&T> {
    route.transport().local()?.downcast_ref()
}

impl<T: Any> LocalCall<'_, T> {
    /// Runs a handler of the service on this thread.
    ///
    /// # Errors
    /// What the handler answers; `Internal` if it panics; what calls inherit from the handler that makes them may refuse
    /// it, not run.
    pub fn run<R>(self, handler: impl FnOnce(&T, &Context<'_>) -> Result<R, Status>) -> Result<R, Status> {
        let mut times = CallTimes::default();
        let result = match scope::current() {
            None => self.run_with(self.timeout, self.metadata, &mut times, handler),
            Some(scope) => Inherited::from(&*scope, self.timeout, self.metadata)
                .and_then(|inherited| self.run_with(inherited.timeout, Some(&inherited.metadata), &mut times, handler)),
        };
        let code = result.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.route.stats().record(self.method, code, times.elapsed_ns());
        result
    }

    fn run_with<R>(
        &self,
        timeout: Option<Duration>,
        metadata: Option<&Metadata>,
        times: &mut CallTimes,
        handler: impl FnOnce(&T, &Context<'_>) -> Result<R, Status>,
    ) -> Result<R, Status> {
        // It was offered when the call was begun.
        let service = offered::<T>(&self.route).ok_or_else(|| Status::internal("the service is no longer here"))?;
        let (mut handler, mut value) = (Some(handler), None);
        let mut run = |ctx: &Context<'_>| {
            let handler = handler.take().ok_or_else(|| Status::internal("a call is run once"))?;
            value = Some(handler(service, ctx)?);
            Ok(())
        };
        self.route.transport().call_local(self.route.index, timeout, metadata, times, &mut run)?;
        value.ok_or_else(|| Status::internal("the transport did not run the call"))
    }
}

impl<T> fmt::Debug for LocalCall<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCall").field("method", &self.method).finish_non_exhaustive()
    }
}

/// An argument as a handler wants it that reads it in place: this is the one form that is written even for a service of
/// the same process.
pub struct InArchive<T> {
    bytes: AlignedVec,
    of: PhantomData<fn(T)>,
}

impl<T> InArchive<T> {
    /// Writes the argument.
    ///
    /// # Errors
    /// `InvalidArgument`, not run, if the value cannot be written.
    pub fn of(value: &T) -> Result<Self, Status>
    where
        T: Writable,
    {
        let refused = |error: EncodeError| error.into_status(Outcome::NotRun);
        let mut count = Sink::count();
        Message(value).encode(&mut count).map_err(refused)?;
        let mut bytes = AlignedVec::new();
        bytes.resize(count.len(), 0);
        Message(value).encode(&mut Sink::slice(&mut bytes)).map_err(refused)?;
        Ok(Self { bytes, of: PhantomData })
    }

    /// Gives the argument.
    ///
    /// # Errors
    /// As [`access`](crate::access).
    pub fn get(&self) -> Result<&T::Archived, Status>
    where
        T: Readable,
    {
        access::<T>(&self.bytes)
    }
}

impl<T> fmt::Debug for InArchive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InArchive({} bytes)", self.bytes.len())
    }
}
