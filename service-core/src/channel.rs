//! What a typed client calls through: one address, bound to whichever transport serves it now.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Wakers, Poll};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use try_lock::{Locked, TryLock};

use crate::call::{CallRequest, Ticket};
use crate::context::Deadline;
use crate::descriptor::{MethodMap, ServiceDescriptor};
use crate::handler::MethodIndex;
use crate::line::Place;
use crate::lock::lock_until;
use crate::message::Decode;
use crate::names::Address;
use crate::scope::{self, Inherited};
use crate::stats::ServiceStats;
use crate::status::{Code, Outcome, Status};
use crate::transport::{CallTimes, Registry, Transport};

/// A transport, and where the client's methods are behind it.
struct Bound {
    transport: Arc<dyn Transport>,
    map: MethodMap,
    /// The channel's; for calls that outlive their use of it.
    stats: Arc<ServiceStats>,
}

/// How many threads call at once without sharing the count of references to the transport.
const SEATS: usize = 16;

/// Where a thread keeps its reference to the transport between calls.
///
/// A call holds its seat, so that the transport lives as long as the call without its reference count being touched:
/// one exchange and one plain store a call, where a counted reference costs two exchanges of a word that all threads
/// share.
type Seat = CachePadded<TryLock<Option<Arc<Bound>>>>;

/// Calls the methods of one service at one address. Shared by threads.
///
/// A channel survives the service's restart: a call that finds the transport dead, or that nobody took before the
/// transport ended, connects again, once, and is then made. A call is never run twice.
pub struct Channel {
    registry: Arc<dyn Registry>,
    address: Address,
    descriptor: &'static ServiceDescriptor,
    /// The transport of all threads; seats take their references from here.
    bound: Mutex<Option<Arc<Bound>>>,
    seats: Box<[Seat]>,
    stats: Arc<ServiceStats>,
    /// The transport leads to a handler of this process.
    is_local: AtomicBool,
}

/// Where a call of a method goes; holds the transport as long as the call is under way.
#[derive(Clone)]
pub(crate) struct Route {
    bound: Arc<Bound>,
    /// The method by the server's index.
    pub(crate) index: MethodIndex,
}

impl Route {
    pub(crate) fn transport(&self) -> &dyn Transport {
        &*self.bound.transport
    }

    /// Says whether both ways lead over the same connection.
    pub(crate) fn is_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bound, &other.bound)
    }

    pub(crate) fn stats(&self) -> &ServiceStats {
        &self.bound.stats
    }

    /// Makes a call by the server's index, and waits for its end.
    pub(crate) fn call(&self, call: &CallRequest<'_>, reply: &mut dyn Decode) -> Result<(), Status> {
        call_inheriting(self.transport(), call, reply, &mut CallTimes::default())
    }

    /// Sends a call by the server's index off, for a task.
    pub(crate) fn poll_start(
        &self,
        cx: &mut Wakers<'_>,
        call: &CallRequest<'_>,
        place: &mut Place,
    ) -> Poll<Result<Ticket, Status>> {
        match scope::current() {
            None => self.transport().poll_start(cx, call, place),
            Some(scope) => {
                let Inherited { timeout, metadata } = Inherited::from(&*scope, call.timeout, call.metadata)?;
                self.transport().poll_start(cx, &CallRequest { timeout, metadata: Some(&metadata), ..*call }, place)
            }
        }
    }
}

/// Makes a call with what it inherits from the one that is being answered, if it is made by a handler.
#[inline]
fn call_inheriting(
    transport: &dyn Transport,
    call: &CallRequest<'_>,
    reply: &mut dyn Decode,
    times: &mut CallTimes,
) -> Result<(), Status> {
    match scope::current() {
        None => transport.call(call, reply, times),
        Some(scope) => {
            let Inherited { timeout, metadata } = Inherited::from(&*scope, call.timeout, call.metadata)?;
            transport.call(&CallRequest { timeout, metadata: Some(&metadata), ..*call }, reply, times)
        }
    }
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
        let stats = Arc::new(ServiceStats::with_writers(descriptor, SEATS));
        let seats = (0..SEATS).map(|_| CachePadded::new(TryLock::new(None))).collect();
        let (bound, is_local) = (Mutex::new(None), AtomicBool::new(false));
        let channel = Self { registry, address, descriptor, bound, seats, stats, is_local };
        channel.bind(None)?;
        Ok(channel)
    }

    /// Calls a method, by its index in the client's descriptor, and waits for the end, at most as long as the call may
    /// take.
    ///
    /// On a live transport this adds no lock, allocation or system call to what the transport does.
    ///
    /// # Errors
    /// The transport's or the handler's [`Status`]; `Unimplemented`, not run, if the server lacks
    /// the method; what [`connect`](Self::connect) says if the service has to be connected again
    /// and cannot.
    pub fn call(&self, call: &CallRequest<'_>, reply: &mut dyn Decode) -> Result<(), Status> {
        let mut times = CallTimes::default();
        let mut seat = self.seat();
        let held = seat.as_mut().map(|(_, held)| &mut **held);
        let result = self.call_bound(held, call, reply, &mut times);
        let code = result.as_ref().map_or_else(Status::code, |()| Code::Ok);
        match seat {
            // Whoever has the seat is the only one to count as it.
            Some((seat, _held)) => self.stats.record_as(seat, call.method, code, times.elapsed_ns()),
            None => self.stats.record(call.method, code, times.elapsed_ns()),
        }
        result
    }

    #[inline]
    fn call_bound(
        &self,
        seat: Option<&mut Option<Arc<Bound>>>,
        call: &CallRequest<'_>,
        reply: &mut dyn Decode,
        times: &mut CallTimes,
    ) -> Result<(), Status> {
        let mut timeout = call.timeout;
        let counted;
        let bound = match seat {
            Some(Some(bound)) if bound.transport.is_alive() => &*bound,
            Some(empty) => &*empty.insert(self.bind_within(&mut timeout)?),
            // More threads than seats.
            None => {
                counted = self.bind_within(&mut timeout)?;
                &counted
            }
        };
        let Some(index) = bound.map.get(call.method) else {
            return Err(self.not_served(call.method));
        };
        let sent = CallRequest { method: index, timeout, ..*call };
        match call_inheriting(&*bound.transport, &sent, reply, times) {
            Err(status) if status.outcome() == Outcome::NotRun && !bound.transport.is_alive() => {
                self.call_next(call, timeout, status, reply, times)
            }
            ended => ended,
        }
    }

    /// Makes a call that nobody took before its transport ended, as if that had been known when it was made: by the
    /// transport to the service's next process, if there is one.
    #[cold]
    fn call_next(
        &self,
        call: &CallRequest<'_>,
        timeout: Option<Duration>,
        ended: Status,
        reply: &mut dyn Decode,
        times: &mut CallTimes,
    ) -> Result<(), Status> {
        let mut timeout = match timeout.map(|timeout| timeout.checked_sub(Duration::from_nanos(times.elapsed_ns()))) {
            Some(None) => return Err(ended),
            left => left.flatten(),
        };
        // What ended tells more than that there is no other.
        let Ok(bound) = self.bind_within(&mut timeout) else { return Err(ended) };
        let index = bound.map.get(call.method).ok_or_else(|| self.not_served(call.method))?;
        call_inheriting(&*bound.transport, &CallRequest { method: index, timeout, ..*call }, reply, times)
    }

    /// Finds the way of a call that outlives this function. Blocks only if the service has to be connected again; what
    /// that takes is taken from the timeout.
    pub(crate) fn route(&self, method: MethodIndex, timeout: &mut Option<Duration>) -> Result<Route, Status> {
        let bound = self.live(timeout)?;
        let index = bound.map.get(method).ok_or_else(|| self.not_served(method))?;
        Ok(Route { bound, index })
    }

    /// The same for a method that is looked up in the descriptor of the service itself.
    pub(crate) fn route_to(
        &self,
        timeout: &mut Option<Duration>,
        find: impl FnOnce(&ServiceDescriptor) -> Result<MethodIndex, Status>,
    ) -> Result<Route, Status> {
        let bound = self.live(timeout)?;
        let index = find(bound.transport.descriptor())?;
        Ok(Route { bound, index })
    }

    fn live(&self, timeout: &mut Option<Duration>) -> Result<Arc<Bound>, Status> {
        let mut seat = self.seat();
        Ok(match seat.as_mut().map(|(_, held)| &mut **held) {
            Some(Some(bound)) if bound.transport.is_alive() => Arc::clone(bound),
            Some(empty) => Arc::clone(empty.insert(self.bind_within(timeout)?)),
            None => self.bind_within(timeout)?,
        })
    }

    /// What the service says of itself.
    pub(crate) fn served(&self, mut timeout: Option<Duration>) -> Result<ServiceDescriptor, Status> {
        Ok(self.live(&mut timeout)?.transport.descriptor().clone())
    }

    /// Says whether the service was in this process when it was last connected. Costs one relaxed load.
    #[inline]
    pub(crate) fn is_local(&self) -> bool {
        self.is_local.load(Ordering::Relaxed)
    }

    /// A seat that no other call holds, and its number.
    #[inline]
    fn seat(&self) -> Option<(usize, Locked<'_, Option<Arc<Bound>>>)> {
        let first = first_choice();
        (0..SEATS).find_map(|next| {
            let seat = (first + next) % SEATS;
            Some((seat, self.seats[seat].try_lock()?))
        })
    }

    /// Binds as the first part of a call; what it takes is taken from the call's time.
    #[cold]
    fn bind_within(&self, timeout: &mut Option<Duration>) -> Result<Arc<Bound>, Status> {
        let deadline = timeout.map(Deadline::after);
        let bound = self.bind(deadline)?;
        if let Some(deadline) = deadline {
            *timeout = Some(deadline.remaining().ok_or_else(|| self.not_connected_in_time())?);
        }
        Ok(bound)
    }

    #[cold]
    fn not_connected_in_time(&self) -> Status {
        let text = format!("`{}` could not be connected before the deadline", self.address);
        Status::new(Code::DeadlineExceeded, Outcome::NotRun, text)
    }

    /// Gives the live transport that all threads share, connecting if there is none.
    ///
    /// Of threads that meet a dead transport together one connects, and the others wait for it.
    #[cold]
    fn bind(&self, deadline: Option<Deadline>) -> Result<Arc<Bound>, Status> {
        let mut current = lock_until(&self.bound, deadline).ok_or_else(|| self.not_connected_in_time())?;
        if let Some(bound) = current.as_ref().filter(|bound| bound.transport.is_alive()) {
            return Ok(Arc::clone(bound));
        }
        // What the dead one holds goes before the new one's comes. Seats in use let go at their next call.
        *current = None;
        for seat in &self.seats {
            if let Some(mut seat) = seat.try_lock() {
                *seat = None;
            }
        }
        let bind = || {
            let transport = self.registry.connect(&self.address, deadline)?;
            let map = self.descriptor.bind(transport.descriptor())?;
            Ok(Arc::new(Bound { transport, map, stats: Arc::clone(&self.stats) }))
        };
        // Whatever failed here failed before the call was handed to anybody.
        let bound = bind().map_err(|status: Status| status.with_outcome(Outcome::NotRun))?;
        self.is_local.store(bound.transport.local().is_some(), Ordering::Relaxed);
        *current = Some(Arc::clone(&bound));
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
        let current = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = current.as_ref().is_some_and(|bound| bound.transport.is_alive());
        f.debug_struct("Channel")
            .field("address", &self.address)
            .field("service", &self.descriptor.trait_name)
            .field("alive", &alive)
            .finish_non_exhaustive()
    }
}

/// Where this thread begins to look for a seat: threads begin at different ones.
#[inline]
fn first_choice() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static CHOICE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SEATS);
    CHOICE.with(|choice| *choice)
}
