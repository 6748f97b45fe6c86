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

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use service_core::MethodIndex;
use shm_ring::cells::Consumer;
use shm_ring::clock;
use shm_ring::ready::{Bell, Park};
use try_lock::Locked;

use super::Hub;
use super::dispatch::{Dispatched, Dispatcher};
use super::lane::{Lane, Take, scan, try_take};
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

/// How long a method's handler takes: a running mean, in nanoseconds. Starts as "long".
#[derive(Debug)]
pub(super) struct MethodCost(AtomicU32);

impl MethodCost {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(u32::MAX))
    }

    fn is_short(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= SHORT_NS
    }

    fn note(&self, ns: u64) {
        let ns = u32::try_from(ns).unwrap_or(u32::MAX - 1);
        let mean = match self.0.load(Ordering::Relaxed) {
            u32::MAX => ns,
            mean => mean - mean / 8 + ns / 8,
        };
        // Two workers may overwrite each other's update: it is an estimate.
        self.0.store(mean, Ordering::Relaxed);
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
}

impl Poller {
    /// Looks at everything once; the index in `hot` of the lane that a frame was taken from.
    #[inline]
    fn look(&mut self, hub: &Hub, cell: &mut Cell) -> Option<usize> {
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
}

impl Seat {
    #[inline]
    fn hold(&mut self, lane: &Arc<Lane>) {
        if !self.lane.as_ref().is_some_and(|held| Arc::ptr_eq(held, lane)) {
            self.lane = Some(Arc::clone(lane));
        }
    }
}

impl Hub {
    /// A worker's life: until the service stops.
    pub(super) fn work(&self) {
        let mut seat = Seat { cell: Cell::new(), lane: None, looked_ns: 0, copy: Copy::new() };
        loop {
            // Counted before the bell is read: a worker that gives up the role after this either sees the sleeper or
            // has rung a bell that the sleeper's count is older than.
            self.idle.fetch_add(1, Ordering::Relaxed);
            // ORDERING: SeqCst fence between the count and the look at the bell, pairs with the fence in `wake_another`
            // between the bump of the bell and the look at the count.
            fence(Ordering::SeqCst);
            let bell = self.ready.bell();
            let role = self.role.try_lock().filter(|_| !self.is_stopping());
            let sleep = match role {
                Some(role) => {
                    self.idle.fetch_sub(1, Ordering::Relaxed);
                    let parked = self.poll(role, &mut seat);
                    self.idle.fetch_add(1, Ordering::Relaxed);
                    parked
                }
                None => Some(bell),
            };
            seat.lane = None;
            seat.copy.settle();
            if !self.is_stopping()
                && let Some(bell) = sleep
            {
                self.ready.sleep(bell, None);
            }
            self.idle.fetch_sub(1, Ordering::Relaxed);
            if self.is_stopping() {
                return;
            }
        }
    }

    /// With the role: polls and serves until there is nothing (then gives the bell to sleep on), or until another
    /// worker has the role.
    fn poll<'a>(&'a self, mut role: Locked<'a, Poller>, seat: &mut Seat) -> Option<Bell> {
        while !self.is_stopping() {
            if role.asleep {
                role.asleep = false;
                role.woken = true;
                self.ready.awake();
            }
            let Seat { cell, looked_ns, .. } = &mut *seat;
            let found = self.spin.poll(None, || {
                *looked_ns = clock::now_ns();
                role.look(self, cell)
            });
            let index = match found {
                Some(index) => index,
                None => match role.park(self, cell) {
                    Parked::Frame(index) => {
                        *looked_ns = clock::now_ns();
                        index
                    }
                    Parked::Again => continue,
                    Parked::Sleep(bell) => return Some(bell),
                },
            };
            role.woken = false;
            seat.hold(&role.hot[index].lane);
            if self.workers == 1 {
                self.serve(seat);
                continue;
            }
            let wake = !self.is_short(&seat.cell) || role.owes(self);
            drop(role);
            if wake {
                self.wake_another();
            }
            self.serve(seat);
            role = self.role.try_lock()?;
        }
        None
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

    fn is_short(&self, cell: &Cell) -> bool {
        cell.open().is_none_or(|(meta, _)| self.cost(meta.method).is_none_or(MethodCost::is_short))
    }

    fn cost(&self, method: MethodIndex) -> Option<&MethodCost> {
        self.costs.get(usize::from(method.0))
    }

    /// Lets another worker have the role, if one is idle.
    #[cold]
    fn wake_another(&self) {
        self.ready.bump();
        // ORDERING: SeqCst fence, pairs with the fence in `work`: either we see the idle worker, or it reads the bell
        // after our bump and finds the role free.
        fence(Ordering::SeqCst);
        if self.idle.load(Ordering::Relaxed) > 0 {
            self.ready.wake_one();
        }
    }

    fn serve(&self, seat: &mut Seat) {
        let Some(lane) = &seat.lane else { return };
        let dispatcher = Dispatcher { handler: &*self.handler, stats: &self.stats, instance: &self.instance };
        match dispatcher.serve(lane, &seat.cell, &mut seat.copy, seat.looked_ns) {
            Dispatched::Ran { method, ns } => {
                if let Some(cost) = self.cost(method) {
                    cost.note(ns);
                }
            }
            Dispatched::Answered => {}
            Dispatched::Corrupt => lane.throw_out(),
        }
    }
}
