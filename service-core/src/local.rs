//! Calls of a service of this process that go straight to its implementation: nothing is written and nothing read.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::task::{Context as Wakers, Poll};

use crate::call::CallRequest;
use crate::channel::{Channel, Route};
use crate::context::{Caller, CancelProbe, Context, Deadline, monotonic_ns};
use crate::envelope::aligned;
use crate::handler::MethodIndex;
use crate::message::{Encode, EncodeError, Sink};
use crate::metadata::Metadata;
use crate::scope::{self, Scope};
use crate::status::{Code, Outcome, Status};
use crate::typed::{Message, Readable, Writable, access};

/// Most handlers that run one within the other on a thread.
const MOST_NESTED: u8 = 32;

thread_local!(static NESTED: Cell<u8> = const { Cell::new(0) });

/// A call of a service of this process, about to be made by the thread that wants it.
pub struct LocalCall<'a, T> {
    route: Route,
    method: MethodIndex,
    metadata: Option<&'a Metadata>,
    outer: Option<Arc<dyn Scope>>,
    of: PhantomData<fn() -> T>,
}

impl Channel {
    /// Says whether a call may go straight to the implementation, and then where. Other calls go through the transport,
    /// and so do those that have a deadline: a handler on the caller's own thread could not be left behind.
    ///
    /// # Errors
    /// As any call, if the service has to be connected again and cannot.
    #[inline]
    pub fn local_call<'a, T: Any>(&self, call: &CallRequest<'a>) -> Result<Option<LocalCall<'a, T>>, Status> {
        if !self.is_local() || call.timeout.is_some() {
            return Ok(None);
        }
        let outer = scope::current();
        if outer.as_ref().is_some_and(|outer| outer.deadline().is_some()) {
            return Ok(None);
        }
        let route = self.route(call.method, &mut None)?;
        let is_offered = offered::<T>(&route).is_some();
        let local = LocalCall { route, method: call.method, metadata: call.metadata, outer, of: PhantomData };
        Ok(is_offered.then_some(local))
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
    /// What the handler answers; `Internal` if it panics; `FailedPrecondition`, not run, if too many handlers of this
    /// thread wait for each other.
    pub fn run<R>(self, handler: impl FnOnce(&T, &Context<'_>) -> Result<R, Status>) -> Result<R, Status> {
        let started_ns = monotonic_ns();
        // It was offered when the call was begun.
        let service = offered::<T>(&self.route).ok_or_else(|| Status::internal("the service is no longer here"))?;
        let result = self.guarded(|ctx| handler(service, ctx));
        let code = result.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.route.stats().record(self.method, code, monotonic_ns().saturating_sub(started_ns));
        result
    }

    fn guarded<R>(&self, handler: impl FnOnce(&Context<'_>) -> Result<R, Status>) -> Result<R, Status> {
        let _nested = Nested::enter()?;
        let inherited = self.outer.as_ref().and_then(|outer| outer.metadata());
        let metadata = self.metadata.or(inherited.as_deref());
        let _scope = self.metadata.map(|metadata| {
            scope::enter(Arc::new(Inner { outer: self.outer.clone(), metadata: Arc::new(metadata.clone()) }))
        });
        let probe = Probe(self.outer.as_deref());
        let ctx = Context::new(None, this_process(), &probe).with_metadata(metadata);
        let ran = catch_unwind(AssertUnwindSafe(|| handler(&ctx)));
        ran.unwrap_or_else(|panic| Err(self.panicked(&*panic)))
    }

    #[cold]
    fn panicked(&self, panic: &(dyn Any + Send)) -> Status {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no message)");
        let descriptor = self.route.transport().descriptor();
        let name = descriptor.method(self.route.index).map_or("?", |method| &method.name);
        Status::internal(format!("the handler of `{name}` panicked: {text}"))
    }
}

impl<T> fmt::Debug for LocalCall<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCall").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Hands an argument to `read` as a handler wants it that reads it in place: this is the one form that is written even
/// for a service of the same process.
///
/// # Errors
/// `InvalidArgument`, not run, if the value cannot be written; what `read` gives.
pub fn in_archive<T: Writable + Readable, R>(
    value: &T,
    read: impl FnOnce(&T::Archived) -> Result<R, Status>,
) -> Result<R, Status> {
    let mut count = Sink::count();
    let refused = |error: EncodeError| error.into_status(Outcome::NotRun);
    Message(value).encode(&mut count).map_err(refused)?;
    let mut bytes = aligned(&vec![0; count.len()]);
    Message(value).encode(&mut Sink::slice(&mut bytes)).map_err(refused)?;
    read(access::<T>(&bytes)?)
}

/// Counts the handlers that run one within the other on this thread.
struct Nested;

impl Nested {
    fn enter() -> Result<Self, Status> {
        NESTED.with(|nested| match nested.get() {
            MOST_NESTED => Err(too_deep()),
            depth => {
                nested.set(depth + 1);
                Ok(Self)
            }
        })
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        NESTED.with(|nested| nested.set(nested.get().saturating_sub(1)));
    }
}

#[cold]
fn too_deep() -> Status {
    let text = format!("call chain too deep: {MOST_NESTED} handlers of this thread wait for each other");
    Status::new(Code::FailedPrecondition, Outcome::NotRun, text)
}

/// What calls inherit that a handler makes which was called with metadata.
struct Inner {
    outer: Option<Arc<dyn Scope>>,
    metadata: Arc<Metadata>,
}

impl Scope for Inner {
    fn deadline(&self) -> Option<Deadline> {
        self.outer.as_ref().and_then(|outer| outer.deadline())
    }

    fn is_cancelled(&self) -> bool {
        self.outer.as_ref().is_some_and(|outer| outer.is_cancelled())
    }

    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        self.outer.as_ref().map_or(Poll::Pending, |outer| outer.poll_cancelled(cx))
    }

    fn metadata(&self) -> Option<Arc<Metadata>> {
        Some(Arc::clone(&self.metadata))
    }

    fn about_to_wait(&self) -> bool {
        self.outer.as_ref().is_none_or(|outer| outer.about_to_wait())
    }

    fn resumed(&self) {
        if let Some(outer) = &self.outer {
            outer.resumed();
        }
    }
}

/// The caller waits on this very thread; only whoever waits for the caller may have given up.
struct Probe<'a>(Option<&'a dyn Scope>);

impl CancelProbe for Probe<'_> {
    fn is_cancelled(&self) -> bool {
        self.0.is_some_and(Scope::is_cancelled)
    }

    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        self.0.map_or(Poll::Pending, |scope| scope.poll_cancelled(cx))
    }
}

fn this_process() -> Caller {
    static IDS: OnceLock<(u32, u32)> = OnceLock::new();
    let (uid, gid) = *IDS.get_or_init(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
    Caller { uid, gid, pid: std::process::id() }
}
