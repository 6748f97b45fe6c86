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
use shm_ring::clock;
use shm_ring::ready::Bell;

use super::Hub;
use super::dispatch::{Dispatched, Hands};
use super::lane::Lane;
use super::poller::{Found, Parked};
use super::role::{self, Role};
use super::scope::WorkerScope;
use super::tasks::Live;
use crate::copy::Copy;
use crate::frame::Cell;

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

    /// Whether its calls are answered later than they are taken.
    pub(super) fn is_answered_later(&self) -> bool {
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

thread_local! {
    /// The address of the hub whose worker this thread is.
    static WORKS_FOR: Private<usize> = const { Private::new(0) };
}

/// Whether the calling thread is a worker of this service.
pub(super) fn works_for(hub: &Hub) -> bool {
    WORKS_FOR.get() == std::ptr::from_ref(hub).addr()
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
    /// A worker's life: until the service stops, or until it is not needed any more if it is a spare one.
    fn work(self: &Arc<Self>, is_spare: bool) {
        self.give_kept_role_back();
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
            if self.answers_later {
                self.tasks.begin_polling();
            }
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
                        self.stop_polling();
                        return Some(bell);
                    }
                },
            };
            poller.woken = false;
            seat.hold(&poller.hot[index].lane);
            // Counted while nobody else has the role.
            let live = if self.answers_later { self.count_if_later(&seat.cell) } else { None };
            if self.workers == 1 {
                role::keep(role);
                self.serve(seat, live);
                role = self.role_kept()?;
                continue;
            }
            let is_short = self.traits_of(&seat.cell).is_none_or(MethodTraits::is_short);
            let wake = !is_short || poller.owes(self);
            let wake = self.stop_polling() || wake;
            drop(role);
            if wake {
                self.wake_another();
            }
            self.serve(seat, live);
            role = self.take_role()?;
        }
        self.stop_polling();
        None
    }

    #[inline]
    fn stop_polling(&self) -> bool {
        self.answers_later && self.tasks.stop_polling()
    }

    fn count_if_later(self: &Arc<Self>, cell: &Cell) -> Option<Live> {
        self.traits_of(cell).filter(|traits| traits.is_answered_later()).map(|_| Live::new(self))
    }

    /// Polls a future that was woken. To be awake for other things meanwhile costs more than most polls take, so another
    /// worker is woken only if there is more to do.
    #[cold]
    fn run_task<'a>(&'a self, mut role: Role<'a>, task: Runnable) -> Option<Role<'a>> {
        if self.workers == 1 {
            role::keep(role);
            task.run();
            return self.role_kept();
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
