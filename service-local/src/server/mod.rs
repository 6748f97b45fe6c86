//! One instance of a service: its workers, its lanes, its door.

mod call;
mod crew;
mod departed;
mod dispatch;
mod door;
mod growing;
mod in_hand;
mod lane;
mod pace;
mod poller;
mod quota;
mod reply;
mod request;
mod role;
mod rope;
mod scope;
mod sealed;
mod segments;
mod streams;
mod tasks;
mod threads;
mod watchers;
mod worker;

pub(crate) use dispatch::{bad_handler, panicked};
pub(crate) use reply::BlockSink;
pub(crate) use tasks::Errand;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::thread::JoinHandle;
use std::time::Duration;

use service_core::{Address, Code, Handler, MethodIndex, Outcome, ServiceStats, Spawn, Status, Style};
use shm_ring::arena::{ArenaLayout, Class};
use shm_ring::lane::{LaneLayout, MAX_CALLS};
use shm_ring::ready::{ReadyLayout, ReadySet};
use shm_ring::rendezvous::{Access, Listener, RuntimeDir, Watch, own_uid, watch_at_leisure};
use shm_ring::wait::SpinBudget;
use shm_ring::{Home, Segment, Trust};

use try_lock::TryLock;

use self::crew::Crew;
use self::departed::Departed;
use self::door::{Door, Visitors};
use self::lane::{Lane, LaneTable};
use self::pace::{Parties, Time};
use self::poller::Poller;
use self::quota::Quota;
use self::tasks::Tasks;
use self::threads::Threads;
use self::worker::MethodTraits;
use crate::errors;
use crate::growth;
use crate::inside::{Guests, Inside, Place};
use crate::names::{address_of, socket_name};
use crate::runtime::LocalRuntime;

/// Calls in flight of one connection.
const CALLS: u32 = 128;

/// Sizes and numbers of blocks in a lane's own arenas: together with cells and slots, a connection begins with less
/// than 96 KiB. Larger payloads get segments of their own.
const BLOCKS: [Class; 3] =
    [Class { block: 1 << 10, count: 4 }, Class { block: 4 << 10, count: 2 }, Class { block: 16 << 10, count: 1 }];

const MAX_CONNECTIONS: u32 = 1024;

/// Of each other user, unless said otherwise: a stranger must not be able to take all that there are, nor the descriptors
/// that they need.
const MAX_CONNECTIONS_OF_OTHERS: u32 = 64;

/// Bytes for large payloads of a connection of another user, unless said otherwise.
const MAX_BYTES_OF_OTHERS: usize = 64 << 20;

/// Streams of all connections of the own user, and of each other. A stream both ways takes six descriptors.
const MAX_STREAMS: u32 = 4096;
const MAX_STREAMS_OF_OTHERS: u32 = 128;

/// Connections of the own user that have said nothing yet; of others as many as they may have connections by default. Each
/// has five seconds for its greeting.
const MAX_SILENT: u32 = 256;

/// Sets a service up; made by [`LocalRuntime::serve`].
#[must_use = "nothing is served until it is started"]
pub struct Serve {
    runtime: LocalRuntime,
    address: Address,
    handler: Arc<dyn Handler>,
    spawner: Option<Arc<dyn Spawn>>,
    limits: Limits,
}

/// What a service gives at most.
#[derive(Debug, Clone, Copy)]
struct Limits {
    workers: usize,
    connections: u32,
    connections_per_user: Option<u32>,
    calls: u32,
    bytes: Option<usize>,
    sealed: bool,
    trust: Trust,
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("address", &self.address).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Serve {
    pub(crate) fn new(runtime: LocalRuntime, address: Address, handler: Arc<dyn Handler>) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let limits = Limits {
            workers,
            connections: MAX_CONNECTIONS,
            connections_per_user: None,
            calls: CALLS,
            bytes: None,
            sealed: false,
            trust: runtime.trust(),
        };
        Self { runtime, address, handler, spawner: None, limits }
    }

    /// Worker threads, 1 to 1,024; default: one per processor. So many handlers run at once, asynchronous ones aside. A
    /// worker whose handler waits for the answer of another service is stood in for, up to 64 times.
    pub fn workers(mut self, workers: usize) -> Self {
        self.limits.workers = workers.clamp(1, 1024);
        self
    }

    /// Where asynchronous handlers are run; default: on the workers. For handlers that need the reactor of a runtime such as
    /// tokio, of which a handle becomes `move |task| drop(handle.spawn(task))`. Costs what the runtime takes to wake a thread.
    pub fn runtime(mut self, runtime: impl Spawn) -> Self {
        self.spawner = Some(Arc::new(runtime));
        self
    }

    /// Most connections at once, 1 to 16,384; default 1,024. One more is refused with `ResourceExhausted`.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.limits.connections = connections.clamp(1, shm_ring::ready::MAX_LANES);
        self
    }

    /// Most connections of one user at once, 1 to 16,384; default 1,024 for the service's own user, 64 for each other. One
    /// more is refused with `ResourceExhausted`.
    pub fn max_connections_per_user(mut self, connections: u32) -> Self {
        self.limits.connections_per_user = Some(connections.clamp(1, shm_ring::ready::MAX_LANES));
        self
    }

    /// Calls in flight of one connection, rounded up to a power of two, up to 16,384; default 128. One more waits for its
    /// turn in the client. Each costs 256 bytes of shared memory.
    pub fn max_calls(mut self, calls: u32) -> Self {
        self.limits.calls = calls.clamp(1, MAX_CALLS).next_power_of_two();
        self
    }

    /// Most bytes that one connection may have for large payloads in each direction, beyond what every lane has; up to
    /// 1 GiB, which is the default for the service's own user; 64 MiB for each other. A call that needs more is `ResourceExhausted`.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = Some(bytes.min(growth::MAX_BYTES));
        self
    }

    /// Whether isolated clients may hand over large requests as memory of their own, which the kernel has sealed against
    /// writing; off by default. Such a request is read in place: it takes no room of the service's, neither of what
    /// [`max_bytes`](Self::max_bytes) allows nor for a private copy.
    ///
    /// Requests come so from 16 MiB on, where it takes as long as copying, and smaller ones that `max_bytes` has no room for;
    /// up to 1 GiB each. The service then takes descriptors from clients, at most four at a time of each connection, and
    /// ends the connection of whoever sends anything else. Replies are copied as ever.
    pub fn accept_sealed(mut self, accept: bool) -> Self {
        self.limits.sealed = accept;
        self
    }

    /// How far clients are trusted at most; default: as the runtime says. Clients of other users are always isolated, and a
    /// client may want to be trusted less.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.limits.trust = trust;
        self
    }

    /// Starts the workers, then opens the door: from here on the name can be called.
    ///
    /// # Errors
    /// `AlreadyExists` if a live process serves this instance; `FailedPrecondition` if the runtime directory cannot
    /// be used; `ResourceExhausted` if memory, descriptors or threads ran out.
    pub fn start(self) -> Result<RunningService, Status> {
        let Self { runtime, address, handler, spawner, limits } = self;
        let workers = limits.workers;
        let instance = address.instance.clone().unwrap_or_default();
        let dir = runtime.directory_to_serve(address.namespace.as_ref())?;
        let name = socket_name(&address.service, &instance);
        let hub = Arc::new(Hub::new(&runtime, name, handler, spawner, limits)?);
        // From here on a failure drops `running`, which stops what was started.
        let mut running = RunningService {
            address: address_of(runtime.namespace_of(&address), address.service.clone(), instance),
            place: None,
            listener: None,
            hub: Arc::clone(&hub),
            threads: Vec::with_capacity(workers),
            home: Home::here().map_err(|error| errors::not_run(&error))?,
        };
        for index in 0..workers {
            running.threads.push(spawn_worker(&hub, index)?);
        }
        let (door, listener) = open_door(&hub, Arc::clone(&dir), runtime.access())?;
        running.listener = Some(listener);
        hub.departed.are_seen_off_by(door);
        running.place = Some(Place::take(dir.path().to_owned(), hub.instance.clone(), Inside::new(hub)));
        tracing::info!(service = %running.address, workers, "serving");
        Ok(running)
    }
}

fn spawn_worker(hub: &Arc<Hub>, index: usize) -> Result<JoinHandle<()>, Status> {
    hub.crew.add();
    worker::spawn(hub, format!("{}-{index}", hub.instance), false).map_err(|error| {
        hub.one_less();
        Status::new(Code::ResourceExhausted, Outcome::NotRun, format!("no thread for worker {index}: {error}"))
    })
}

fn open_door(hub: &Arc<Hub>, dir: Arc<RuntimeDir>, access: &Access) -> Result<(Watch, Arc<Listener>), Status> {
    let open = || {
        let listener = Arc::new(Listener::bind_for(dir, &hub.instance, access)?);
        let door = Door { hub: Arc::clone(hub), listener: Arc::clone(&listener) };
        Ok((watch_at_leisure(listener.fd(), true, None, Arc::new(door))?, listener))
    };
    open().map_err(|error: shm_ring::Error| errors::not_run(&error))
}

/// A service that can be called. Dropped, it stops.
pub struct RunningService {
    address: Address,
    /// Where clients of this process find it.
    place: Option<Place>,
    /// Closed by the stop itself: the thread that watches it may still have it in hand then.
    listener: Option<Arc<Listener>>,
    hub: Arc<Hub>,
    threads: Vec<JoinHandle<()>>,
    /// Where it is served.
    home: Home,
}

impl fmt::Debug for RunningService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningService").field("address", &self.address).finish_non_exhaustive()
    }
}

impl RunningService {
    /// The full address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Counts, errors and latencies per method, as the service sees them.
    pub fn stats(&self) -> &ServiceStats {
        &self.hub.stats
    }

    /// Connections at this moment.
    pub fn connections(&self) -> usize {
        self.hub.lanes.count()
    }

    /// Ends all connections of a process; says how many. What that process was promised is kept by nobody: requests that
    /// no handler has begun are not run, and replies of handlers that run go nowhere ([`Context::is_cancelled`] tells
    /// them). Its callers are told `Unavailable`, may have run, and its next call connects anew.
    ///
    /// For a process that is stopped, or that takes what it should leave to others; its number is the one that handlers
    /// find in their [`Context`]. Whatever it goes on to write goes to memory that nobody reads. A system call for each
    /// connection; they are gone from [`connections`](Self::connections) a moment later.
    ///
    /// [`Context`]: service_core::Context
    /// [`Context::is_cancelled`]: service_core::Context::is_cancelled
    pub fn evict(&self, pid: u32) -> usize {
        self.hub.lanes.evict(pid)
    }

    /// Stops: no new connections, no further requests taken; waits for the handlers that run. Callers whose requests
    /// were not taken are told `Unavailable`, not run.
    ///
    /// Handlers that wait themselves, asynchronous ones and those that wait for another service, have five seconds. Then the
    /// connections end, asynchronous handlers on the workers are dropped, and their callers are told `Unavailable`.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for RunningService {
    fn drop(&mut self) {
        // A forked child has neither the workers nor the shared memory: there is nothing to stop.
        if !self.home.is_here() {
            return;
        }
        self.place = None;
        if let Some(listener) = &self.listener {
            listener.close();
        }
        let hub = &self.hub;
        hub.departed.close();
        hub.stop();
        // A handler may be what stops its own service; it cannot wait for itself.
        let own = call::runs_for(hub);
        if !hub.settle_down(usize::from(own.is_some())) {
            if hub.crew.is_at_rest() {
                hub.close_lanes();
            }
            hub.visitors.clear();
        }
        hub.tasks.close();
        hub.stir();
        let me = std::thread::current().id();
        for thread in self.threads.drain(..).chain(hub.crew.take_spares()) {
            if thread.thread().id() != me {
                // A worker does not panic: what it runs is caught.
                let _ = thread.join();
            }
        }
        hub.guests.wait();
        hub.visitors.clear();
        hub.threads.close(usize::from(own == Some(Style::Thread)));
        // Of those that were retired since.
        hub.departed.close();
    }
}

/// What workers, door and connections of one instance share.
pub(crate) struct Hub {
    /// `service@instance`.
    pub(crate) instance: String,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) stats: ServiceStats,
    /// Callers of this process.
    pub(crate) guests: Guests,
    methods: Box<[MethodTraits]>,
    /// Whether any of them is answered later than it is taken. If not, workers do without looks for such calls.
    answers_later: bool,
    /// Where asynchronous handlers run, if not on the workers.
    spawner: Option<Arc<dyn Spawn>>,
    tasks: Tasks,
    threads: Arc<Threads>,
    crew: Crew,
    ready: ReadySet,
    /// Sent to each client, so that it can ring.
    ready_fd: OwnedFd,
    lanes: LaneTable,
    lane_layout: LaneLayout,
    /// Calls in flight of one connection at most.
    calls: u32,
    /// Most bytes of added segments in each direction of a lane.
    max_bytes: Option<usize>,
    /// Whether isolated clients may send requests as sealed memory.
    accepts_sealed: bool,
    /// How far clients are trusted at most.
    trust: Trust,
    /// Connections by user.
    connected: Quota,
    /// Those of them that have said nothing yet.
    silent: Quota,
    streams: Quota,
    /// How long threads at streams poll before they sleep.
    stream_spin: Option<Duration>,
    epoch: u64,
    /// Whoever holds it polls.
    role: TryLock<Option<Box<Poller>>>,
    /// Workers that may be asleep.
    idle: AtomicU32,
    workers: usize,
    stopping: AtomicBool,
    spin: SpinBudget,
    visitors: Visitors,
    departed: Departed,
    parties: Parties,
    /// What those cost of whom nothing is known yet.
    doorkeeping: Time,
}

impl Hub {
    /// Most bytes for large payloads of a connection of this user.
    fn max_bytes_of(&self, uid: u32) -> usize {
        let usual = if uid == own_uid() { growth::MAX_BYTES } else { MAX_BYTES_OF_OTHERS };
        self.max_bytes.unwrap_or(usual)
    }

    fn new(
        runtime: &LocalRuntime,
        instance: String,
        handler: Arc<dyn Handler>,
        spawner: Option<Arc<dyn Spawn>>,
        limits: Limits,
    ) -> Result<Self, Status> {
        let epoch = epoch();
        let layout = ReadyLayout::new(limits.connections);
        let make = || {
            let (segment, ready_fd) = Segment::memfd("switchboard-ready", layout, epoch)?;
            let arena = ArenaLayout::new(BLOCKS)?;
            Ok((ReadySet::new(&segment), ready_fd, LaneLayout::new(limits.calls, arena, arena)?))
        };
        let (ready, ready_fd, lane_layout) = make().map_err(|error| errors::not_run(&error))?;
        // A method's number has sixteen bits.
        let methods: Box<[_]> = (0..=u16::MAX)
            .zip(&handler.descriptor().methods)
            .map(|(index, _)| MethodTraits::new(handler.style(MethodIndex(index))))
            .collect();
        Ok(Self {
            instance,
            guests: Guests::default(),
            stats: ServiceStats::new(handler.descriptor()),
            answers_later: methods.iter().any(MethodTraits::is_answered_later),
            methods,
            spawner,
            tasks: Tasks::default(),
            threads: Arc::default(),
            crew: Crew::default(),
            handler,
            ready,
            ready_fd,
            lanes: LaneTable::new(limits.connections),
            lane_layout,
            calls: limits.calls,
            max_bytes: limits.bytes,
            accepts_sealed: limits.sealed,
            trust: limits.trust,
            connected: match limits.connections_per_user {
                Some(each) => Quota::up_to(each, each),
                None => Quota::up_to(MAX_CONNECTIONS, MAX_CONNECTIONS_OF_OTHERS),
            },
            silent: Quota::up_to(MAX_SILENT, MAX_CONNECTIONS_OF_OTHERS),
            streams: Quota::up_to(MAX_STREAMS, MAX_STREAMS_OF_OTHERS),
            epoch,
            role: TryLock::new(Some(Box::default())),
            idle: AtomicU32::new(0),
            workers: limits.workers,
            stopping: AtomicBool::new(false),
            spin: SpinBudget::new(runtime.spin()),
            stream_spin: runtime.spin(),
            visitors: Visitors::default(),
            departed: Departed::default(),
            parties: Parties::default(),
            doorkeeping: Time::default(),
        })
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        // ORDERING: SeqCst fence between the stop and the look at the calls in hand, pairs with the one in the drop of
        // `Live`.
        fence(Ordering::SeqCst);
        // The ring is a read-modify-write with Release: a worker that reads the new count sees the flag.
        self.ready.ring_all();
        if self.crew.is_at_rest() {
            self.close_lanes();
        }
    }

    /// By each worker as the last thing it does with frames.
    fn one_less(&self) {
        // The lock's order is that of the takes: the last worker sees those of all others.
        if self.crew.remove() {
            self.close_lanes();
        }
    }

    /// Takes a lane out of the table for good, if nobody else has.
    #[cold]
    fn retire(&self, lane: Arc<Lane>) {
        if self.lanes.retire(&lane) {
            self.departed.add(lane);
        }
    }

    /// Says on every lane that nothing more is taken. No lane is added after the stop (see `Hub::welcome`).
    fn close_lanes(&self) {
        for lane in self.lanes.take_all() {
            lane.shared.close();
        }
    }
}

/// Tells one life of an instance from the next.
fn epoch() -> u64 {
    shm_ring::clock::kernel_ns() ^ u64::from(std::process::id()).rotate_left(48)
}
