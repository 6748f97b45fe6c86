//! The workers: who polls, who sleeps, who takes which frame.
//!
//! One worker at a time has the *role*: it polls the hot lanes and the ready bits, and it alone takes frames. It gives
//! the role back before a handler runs and tries to have it again afterwards. While the handlers are short nobody else
//! notices: to wake another worker for each call would cost more than the call. Another one is woken
//! - before a handler that is not known to be short,
//! - before any handler while a lane that rang still has a frame: its caller sleeps and will not ring again,
//! - by a caller that gave up polling and found its request untaken: a short handler has once taken long.
//!
//! So a slow handler delays nobody while a worker is free.

use std::cell::Cell as Private;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::thread::JoinHandle;

use async_task::Runnable;
use service_core::{MethodIndex, Style, scope};
use shm_ring::Woken;
use shm_ring::cells::Consumer;
use shm_ring::clock;
use shm_ring::ready::{Bell, Park};
use try_lock::Locked;

use super::Hub;
use super::dispatch::{Dispatched, Hands};
use super::lane::{Lane, Take, scan, try_take};
use super::scope::WorkerScope;
use super::tasks::Live;
use crate::copy::Copy;
use crate::frame::Cell;

/// Most lanes that are polled before polling others ends.
const MAX_HOT: usize = 8;

/// Of so many looks at the hot lanes one goes past held claims. Rare (some ten microseconds), because such a look reads
/// every cell, and the lines of the free ones are where their producers want them.
const THOROUGH: u32 = 4096;

/// How long a look into every lane, for a ring without a ready bit, keeps others from following.
const SWEEP_NS: u64 = 50_000_000;

/// Up to this mean duration a handler runs without another worker being woken: about what a wake-up costs.
const SHORT_NS: u32 = 20_000;

/// How long a spare worker sleeps before it leaves.
const SPARE_NS: u64 = 10_000_000_000;

/// What workers know of a method.
#[derive(Debug)]
pub(super) struct MethodTraits {
    style: Style,
    /// How long its handler keeps the worker: a running mean, in nanoseconds. Starts as "long".
    mean_ns: AtomicU32,
}

impl MethodTraits {
    pub(super) fn new(style: Style) -> Self {
        Self { style, mean_ns: AtomicU32::new(u32::MAX) }
    }

    fn is_short(&self) -> bool {
        // What is answered later is only begun here.
        self.is_answered_later() || self.mean_ns.load(Ordering::Relaxed) <= SHORT_NS
    }

    fn is_answered_later(&self) -> bool {
        self.style != Style::Plain
    }

    fn note(&self, ns: u64) {
        let ns = u32::try_from(ns).unwrap_or(u32::MAX - 1);
        let mean = match self.mean_ns.load(Ordering::Relaxed) {
            u32::MAX => ns,
            mean => mean - mean / 8 + ns / 8,
        };
        // Two workers may overwrite each other's update: it is an estimate.
        self.mean_ns.store(mean, Ordering::Relaxed);
    }
}

/// A lane whose producer knows that it is polled.
#[derive(Debug)]
struct Hot {
    lane: Arc<Lane>,
    consumer: Consumer,
    /// It rang: until a scan finds it empty its callers may be asleep.
    rang: bool,
}

/// What goes with the role.
#[derive(Debug, Default)]
pub(super) struct Poller {
    /// The order is that of the last frame, oldest first.
    hot: Vec<Hot>,
    announced: Vec<u32>,
    looks: u32,
    /// Clients were told that we sleep.
    asleep: bool,
    /// Somebody has rung, and nothing was found since.
    woken: bool,
    /// No look into every lane before this time.
    sweep_at_ns: u64,
    /// Futures that were woken come before frames at the next look.
    tasks_first: bool,
}

/// What a look has found.
enum Found {
    /// A frame of the lane with this index in `hot`.
    Frame(usize),
    /// A future that was woken.
    Task(Runnable),
}

impl Poller {
    /// Looks at everything once. Frames and futures take turns.
    #[inline]
    fn look(&mut self, hub: &Hub, cell: &mut Cell) -> Option<Found> {
        if self.tasks_first
            && let Some(task) = hub.tasks.take()
        {
            self.tasks_first = false;
            return Some(Found::Task(task));
        }
        let frame = self.look_for_frame(hub, cell);
        self.tasks_first = true;
        frame.map(Found::Frame)
    }

    /// The index in `hot` of the lane that a frame was taken from.
    #[inline]
    fn look_for_frame(&mut self, hub: &Hub, cell: &mut Cell) -> Option<usize> {
        let announced = &mut self.announced;
        hub.ready.take_ready(hub.lanes.used(), |index| announced.push(index));
        self.looks = self.looks.wrapping_add(1);
        let mut thorough = self.looks.is_multiple_of(THOROUGH);
        if !self.announced.is_empty() {
            self.heat_announced(hub);
            thorough = true;
        }
        let mut i = 0;
        while let Some(hot) = self.hot.get_mut(i) {
            match if thorough { scan(&mut hot.consumer, cell) } else { try_take(&mut hot.consumer, cell) } {
                Take::Frame if hot.lane.is_broken() => hub.let_go(self.hot.remove(i)),
                Take::Frame => return Some(self.last(i)),
                Take::Nothing if !hot.lane.is_leaving() => {
                    hot.rang &= !thorough;
                    i += 1;
                }
                // Not a frame of the departed may be missed behind a claim that it held when it died.
                Take::Nothing if scan(&mut hot.consumer, cell) == Take::Frame => return Some(self.last(i)),
                Take::Nothing => hub.let_go(self.hot.remove(i)),
                Take::Corrupt => {
                    hot.lane.throw_out();
                    hub.let_go(self.hot.remove(i));
                }
            }
        }
        None
    }

    /// Moves a lane behind the others, which come first next time.
    fn last(&mut self, i: usize) -> usize {
        self.hot[i..].rotate_left(1);
        self.hot.len() - 1
    }

    #[cold]
    fn heat_announced(&mut self, hub: &Hub) {
        let mut announced = std::mem::take(&mut self.announced);
        for index in announced.drain(..) {
            let Some(lane) = hub.lanes.get(index) else { continue };
            if let Some(hot) = self.hot.iter_mut().find(|hot| Arc::ptr_eq(&hot.lane, &lane)) {
                hot.rang = true;
                continue;
            }
            for _ in MAX_HOT..=self.hot.len() {
                self.cool_oldest(hub);
            }
            // Whoever has the role is the only one who takes it out or puts it back.
            let Some(consumer) = lane.take_consumer() else { continue };
            lane.shared.watch().heat();
            self.hot.push(Hot { lane, consumer, rang: true });
        }
        // Kept for its memory.
        self.announced = announced;
    }

    /// Makes room among the hot lanes; if the oldest has work just now it stays, and there is one more for a while.
    fn cool_oldest(&mut self, hub: &Hub) {
        let Hot { lane, consumer, .. } = &self.hot[0];
        let busy = hub.ready.cool(lane.shared.watch(), || consumer.has_committed().then_some(()));
        if busy.is_none() {
            hub.let_go(self.hot.remove(0));
        } else {
            self.hot.rotate_left(1);
        }
    }

    /// Whether a caller may be asleep behind a frame that is not taken yet.
    #[inline]
    fn owes(&mut self, hub: &Hub) -> bool {
        hub.ready.any_ready(hub.lanes.used())
            || self.hot.iter_mut().any(|hot| {
                hot.rang = hot.rang && hot.consumer.has_committed();
                hot.rang
            })
    }

    /// Looks into every lane, whatever the ready bits say; tells whether one has a frame. A client that rings and finds
    /// its bit cleared by another one, which can write the ready set too, is served by this.
    #[cold]
    fn sweep(&mut self, hub: &Hub) -> bool {
        for lane in hub.lanes.all() {
            if self.hot.len() >= MAX_HOT {
                break;
            }
            let Some(consumer) = lane.take_consumer() else { continue };
            if consumer.has_committed() {
                lane.shared.watch().heat();
                self.hot.push(Hot { lane, consumer, rang: true });
            } else {
                hub.let_go(Hot { lane, consumer, rang: false });
            }
        }
        !self.hot.is_empty()
    }

    /// Tries to leave all lanes cold and nothing behind; see [`shm_ring::ready::ReadySet::park`].
    fn park(&mut self, hub: &Hub, cell: &mut Cell) -> Parked {
        let hot = &mut self.hot;
        // Both closures of `park` need the lanes, one after the other.
        let watches: Vec<_> = hot.iter().map(|hot| Arc::clone(&hot.lane)).collect();
        let parked = hub.ready.park(
            || watches.iter().for_each(|lane| lane.shared.watch().cool()),
            || {
                hot.iter_mut().position(|hot| match scan(&mut hot.consumer, cell) {
                    Take::Frame => true,
                    Take::Corrupt => {
                        hot.lane.throw_out();
                        hub.ready.ring(hot.lane.index);
                        false
                    }
                    Take::Nothing => false,
                })
            },
        );
        match parked {
            Park::Found(i) => {
                let found = self.hot.swap_remove(i);
                found.lane.shared.watch().heat();
                // The others were cooled, but those behind the found one were not looked at since.
                for hot in std::mem::take(&mut self.hot) {
                    let busy = hub.ready.cool(hot.lane.shared.watch(), || hot.consumer.has_committed().then_some(()));
                    if busy.is_some() {
                        self.hot.push(hot);
                    } else {
                        hub.let_go(hot);
                    }
                }
                self.hot.push(found);
                Parked::Frame(self.hot.len() - 1)
            }
            Park::Ready => {
                // All bits: one of a lane that was never given would be seen here, and nowhere else, for ever.
                let announced = &mut self.announced;
                hub.ready.take_ready(hub.ready.lanes(), |index| announced.push(index));
                self.hot.drain(..).for_each(|hot| hub.let_go(hot));
                Parked::Again
            }
            Park::Sleep(bell) => {
                self.hot.drain(..).for_each(|hot| hub.let_go(hot));
                self.asleep = true;
                let now_ns = clock::now_ns();
                if std::mem::take(&mut self.woken) && now_ns >= self.sweep_at_ns {
                    self.sweep_at_ns = now_ns.saturating_add(SWEEP_NS);
                    if self.sweep(hub) {
                        return Parked::Again;
                    }
                }
                Parked::Sleep(bell)
            }
        }
    }
}

enum Parked {
    Frame(usize),
    Again,
    Sleep(Bell),
}

/// What a worker has in its hands while it serves.
struct Seat {
    cell: Cell,
    /// The lane served last: kept, so that serving it again costs no reference count.
    lane: Option<Arc<Lane>>,
    /// When the look began that found the frame: the call's one time stamp on this side. Read before the look and not
    /// after it, because then the processor reads the clock while it waits for the cell's line.
    looked_ns: u64,
    /// For payloads of isolated clients.
    copy: Copy,
    scope: Arc<WorkerScope>,
}

impl Seat {
    #[inline]
    fn hold(&mut self, lane: &Arc<Lane>) {
        if !self.lane.as_ref().is_some_and(|held| Arc::ptr_eq(held, lane)) {
            self.scope.turn_to(Some(lane));
            self.lane = Some(Arc::clone(lane));
        }
    }

    fn let_go(&mut self) {
        if self.lane.take().is_some() {
            self.scope.turn_to(None);
        }
    }
}

/// The role, in the hands of one worker.
///
/// Where there are several workers the lock is held meanwhile, so that others see at a glance that it is taken. A single
/// one takes out what goes with the role and lets go of the lock: it keeps the role while it serves, and gives it up in
/// the middle of that, if its handler is about to wait.
pub(super) struct Role<'a> {
    hub: &'a Hub,
    poller: Option<Box<Poller>>,
    lock: Option<Locked<'a, Option<Box<Poller>>>>,
}

thread_local! {
    /// The role of a single worker while it serves.
    static HELD: Private<Option<Box<Poller>>> = const { Private::new(None) };
    /// The address of the service's hub that this thread is a worker of.
    static WORKS_FOR: Private<usize> = const { Private::new(0) };
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let Some(poller) = self.poller.take() else { return };
        match &mut self.lock {
            Some(lock) => **lock = Some(poller),
            None => self.hub.put_role_back(poller),
        }
    }
}

/// Whether the calling thread is a worker of this service.
pub(super) fn works_for(hub: &Hub) -> bool {
    WORKS_FOR.get() == std::ptr::from_ref(hub).addr()
}

/// By a worker in the middle of a handler: others may have the role.
pub(super) fn let_go_of_role(hub: &Hub) {
    if let Some(poller) = HELD.take() {
        // Who is woken looks into the queue of tasks.
        hub.tasks.stop_polling();
        hub.put_role_back(poller);
    }
}

/// Starts a worker, which the crew has been told of.
pub(super) fn spawn(hub: &Arc<Hub>, name: String, is_spare: bool) -> std::io::Result<JoinHandle<()>> {
    let hub = Arc::clone(hub);
    std::thread::Builder::new().name(name).spawn(move || {
        WORKS_FOR.set(Arc::as_ptr(&hub).addr());
        // Handlers are caught where they run. This is for what a service brings besides: a panic message that panics
        // when it is dropped, a descriptor that does.
        while std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hub.work(is_spare))).is_err() {
            tracing::error!(service = hub.instance, "a worker panicked outside of a handler and goes on");
        }
    })
}

impl Hub {
    fn take_role(&self) -> Option<Role<'_>> {
        let mut lock = self.role.try_lock()?;
        let poller = Some(lock.take()?);
        Some(Role { hub: self, poller, lock: (self.workers > 1).then_some(lock) })
    }

    /// Where nobody holds the lock for longer than a look takes.
    fn put_role_back(&self, poller: Box<Poller>) {
        loop {
            if let Some(mut role) = self.role.try_lock() {
                *role = Some(poller);
                return;
            }
            std::thread::yield_now();
        }
    }

    /// A worker's life: until the service stops, or until it is not needed any more if it is a spare one.
    fn work(self: &Arc<Self>, is_spare: bool) {
        if let Some(poller) = HELD.take() {
            // From before a panic.
            self.put_role_back(poller);
        }
        let scope = Arc::new(WorkerScope::new(Arc::clone(self)));
        let _inside = scope::enter(Arc::clone(&scope) as Arc<dyn scope::Scope>);
        let mut seat = Seat { cell: Cell::new(), lane: None, looked_ns: 0, copy: Copy::new(), scope };
        while !self.is_stopping() {
            // Counted before the bell is read: a worker that gives up the role after this either sees the sleeper or
            // has rung a bell that the sleeper's count is older than.
            self.idle.fetch_add(1, Ordering::Relaxed);
            // ORDERING: SeqCst fence between the count and the look at the bell, pairs with the fence in `wake_another`
            // between the bump of the bell and the look at the count.
            fence(Ordering::SeqCst);
            let bell = self.ready.bell();
            let role = self.take_role().filter(|_| !self.is_stopping());
            let sleep = match role {
                Some(role) => {
                    self.idle.fetch_sub(1, Ordering::Relaxed);
                    let parked = self.poll(role, &mut seat);
                    self.idle.fetch_add(1, Ordering::Relaxed);
                    // ORDERING: SeqCst fence between the count and the look for tasks below, as above: whoever put one
                    // there after that look sees the count, and rings.
                    fence(Ordering::SeqCst);
                    parked
                }
                None => Some(bell),
            };
            seat.let_go();
            seat.copy.settle();
            let mut woken = Woken::Look;
            if !self.is_stopping()
                && !self.tasks.any_woken()
                && let Some(bell) = sleep
            {
                let until_ns = is_spare.then(|| clock::kernel_ns().saturating_add(SPARE_NS));
                woken = self.ready.sleep(bell, until_ns);
            }
            self.idle.fetch_sub(1, Ordering::Relaxed);
            if woken == Woken::TimedOut && self.crew.dismiss(self.workers) {
                return;
            }
        }
        self.one_less();
        self.finish_tasks();
    }

    /// With the role: polls and serves until there is nothing (then gives the bell to sleep on), or until another
    /// worker has the role.
    fn poll<'a>(self: &'a Arc<Self>, mut role: Role<'a>, seat: &mut Seat) -> Option<Bell> {
        while !self.is_stopping() {
            let Some(poller) = &mut role.poller else { return None };
            if poller.asleep {
                poller.asleep = false;
                poller.woken = true;
                self.ready.awake();
            }
            self.tasks.begin_polling();
            let Seat { cell, looked_ns, .. } = &mut *seat;
            let found = self.spin.poll(None, || {
                *looked_ns = clock::now_ns();
                poller.look(self, cell)
            });
            let index = match found {
                Some(Found::Frame(index)) => index,
                Some(Found::Task(task)) => {
                    role = self.run_task(role, task)?;
                    continue;
                }
                None => match poller.park(self, cell) {
                    Parked::Frame(index) => {
                        *looked_ns = clock::now_ns();
                        index
                    }
                    Parked::Again => continue,
                    Parked::Sleep(bell) => {
                        // What was woken meanwhile is looked for before the sleep.
                        self.tasks.stop_polling();
                        return Some(bell);
                    }
                },
            };
            poller.woken = false;
            seat.hold(&poller.hot[index].lane);
            let traits = self.traits_of(&seat.cell);
            // Counted while nobody else has the role.
            let live = traits.filter(|traits| traits.is_answered_later()).map(|_| Live::new(self));
            if self.workers == 1 {
                HELD.set(role.poller.take());
                self.serve(seat, live);
                role = self.role_held(role)?;
                continue;
            }
            let is_short = traits.is_none_or(MethodTraits::is_short);
            let wake = !is_short || poller.owes(self);
            let wake = self.tasks.stop_polling() || wake;
            drop(role);
            if wake {
                self.wake_another();
            }
            self.serve(seat, live);
            role = self.take_role()?;
        }
        self.tasks.stop_polling();
        None
    }

    /// Polls a future that was woken. To be awake for other things meanwhile costs more than most polls take, so another
    /// worker is woken only if there is more to do.
    #[cold]
    fn run_task<'a>(&'a self, mut role: Role<'a>, task: Runnable) -> Option<Role<'a>> {
        if self.workers == 1 {
            HELD.set(role.poller.take());
            task.run();
            return self.role_held(role);
        }
        let owes = role.poller.as_mut().is_some_and(|poller| poller.owes(self));
        let wake = self.tasks.stop_polling() || owes;
        drop(role);
        if wake {
            self.wake_another();
        }
        task.run();
        self.take_role()
    }

    /// The role of a single worker, which may have given it up meanwhile.
    #[inline]
    fn role_held<'a>(&'a self, role: Role<'a>) -> Option<Role<'a>> {
        match HELD.take() {
            Some(poller) => Some(Role { hub: self, poller: Some(poller), lock: None }),
            None => {
                drop(role);
                self.take_role()
            }
        }
    }

    /// Takes an empty lane out of the polled ones: back to the table, or for good if its client is gone.
    ///
    /// Who leaves says so before it rings: if it is not seen here, the ring will bring it back.
    #[cold]
    fn let_go(&self, Hot { lane, consumer, .. }: Hot) {
        if lane.is_leaving() {
            self.retire(lane);
        } else {
            lane.put_consumer(consumer);
        }
    }

    /// Of the method that a frame calls; `None` if it calls none that there is.
    fn traits_of(&self, cell: &Cell) -> Option<&MethodTraits> {
        cell.open().filter(|(meta, _)| !meta.cancels).and_then(|(meta, _)| self.traits(meta.method))
    }

    fn traits(&self, method: MethodIndex) -> Option<&MethodTraits> {
        self.methods.get(usize::from(method.0))
    }

    /// How a method is run.
    pub(crate) fn style(&self, method: MethodIndex) -> Style {
        self.traits(method).map_or(Style::Plain, |traits| traits.style)
    }

    /// Lets another worker have the role, if one is idle.
    #[cold]
    pub(super) fn wake_another(&self) {
        self.ready.bump();
        // ORDERING: SeqCst fence, pairs with the fence in `work`: either we see the idle worker, or it reads the bell
        // after our bump and finds the role free.
        fence(Ordering::SeqCst);
        if self.idle.load(Ordering::Relaxed) > 0 {
            self.ready.wake_one();
        }
    }

    fn serve(self: &Arc<Self>, seat: &mut Seat, live: Option<Live>) {
        let Seat { cell, lane, looked_ns, copy, scope } = seat;
        let Some(lane) = lane else { return };
        match self.dispatch(lane, cell, Hands { copy, scope, looked_ns: *looked_ns, live }) {
            Dispatched::Ran { method, ns } => {
                if let Some(traits) = self.traits(method) {
                    traits.note(ns);
                }
            }
            Dispatched::Settled => {}
            Dispatched::Corrupt => lane.throw_out(),
        }
    }
}
