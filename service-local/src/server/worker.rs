//! The workers: who polls, who sleeps, who takes which frame.
//!
//! One worker at a time has the *role*: it polls the hot lanes and the ready bits. The others sleep on the bell. For a
//! method that is known to be short the role is kept while the handler runs, because handing it over would cost a
//! wake-up per call; otherwise it is given up first and another worker is woken. Should a short method once take long,
//! the callers behind it give up polling, find their requests untaken and ring: a standby then takes from the lanes
//! that announced themselves. So a slow handler delays nobody while a worker is free.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, MutexGuard, TryLockError};

use service_core::MethodIndex;
use shm_ring::ready::{Bell, Park};

use super::Hub;
use super::dispatch::{Dispatched, Dispatcher};
use super::lane::{Lane, Take};
use crate::frame::Cell;

/// Most lanes that are polled before polling others ends.
const MAX_HOT: usize = 8;

/// Of so many looks at the hot lanes one goes past held claims.
const THOROUGH: u32 = 64;

/// Up to this mean duration a handler runs while its worker keeps the role: about what a wake-up costs.
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

/// What goes with the role.
#[derive(Debug, Default)]
pub(super) struct Poller {
    /// Lanes whose producers know that they are polled. The order is that of the last frame, oldest first.
    hot: Vec<Arc<Lane>>,
    announced: Vec<u32>,
    looks: u32,
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
        for (i, lane) in self.hot.iter().enumerate() {
            match if thorough { lane.scan(cell) } else { lane.try_take(cell) } {
                Take::Frame => {
                    // Last in the order: the others come first next time.
                    self.hot[i..].rotate_left(1);
                    return Some(self.hot.len() - 1);
                }
                Take::Nothing if lane.is_leaving() => {
                    self.let_go(hub, i);
                    return None;
                }
                Take::Nothing | Take::Busy => {}
                Take::Corrupt => {
                    lane.throw_out();
                    self.let_go(hub, i);
                    return None;
                }
            }
        }
        None
    }

    /// A lane at its end: broken, or gone and drained.
    #[cold]
    fn let_go(&mut self, hub: &Hub, i: usize) {
        let lane = &self.hot[i];
        // Not a frame of the departed may be missed behind a claim that it held when it died.
        if lane.has_work() && !lane.is_broken() {
            return;
        }
        hub.lanes.retire(lane);
        self.hot.remove(i);
    }

    #[cold]
    fn heat_announced(&mut self, hub: &Hub) {
        for index in std::mem::take(&mut self.announced) {
            let Some(lane) = hub.lanes.get(index) else { continue };
            if self.hot.iter().any(|hot| Arc::ptr_eq(hot, &lane)) {
                continue;
            }
            if self.hot.len() >= MAX_HOT {
                self.cool_oldest(hub);
            }
            lane.shared.watch().heat();
            self.hot.push(lane);
        }
    }

    /// Makes room among the hot lanes; if the oldest has work just now it stays, and there is one more for a while.
    fn cool_oldest(&mut self, hub: &Hub) {
        let oldest = &self.hot[0];
        let busy = hub.ready.cool(oldest.shared.watch(), || oldest.has_work().then_some(()));
        if busy.is_none() {
            self.hot.remove(0);
        }
    }

    /// Tries to leave all lanes cold and nothing behind; see [`shm_ring::ready::ReadySet::park`].
    fn park(&mut self, hub: &Hub, cell: &mut Cell) -> Parked {
        let hot = std::mem::take(&mut self.hot);
        let parked = hub.ready.park(
            || hot.iter().for_each(|lane| lane.shared.watch().cool()),
            || {
                let found = hot.iter().find(|lane| match lane.scan(cell) {
                    Take::Frame => true,
                    // The end of these is found by polling.
                    Take::Corrupt => {
                        hub.ready.ring(lane.index);
                        false
                    }
                    Take::Nothing | Take::Busy => false,
                });
                found.map(Arc::clone)
            },
        );
        match parked {
            Park::Found(lane) => {
                lane.shared.watch().heat();
                // Lanes behind the found one were cooled but not looked at: their frames may have come before COLD.
                for other in hot.iter().filter(|other| !Arc::ptr_eq(other, &lane)) {
                    hub.ready.cool(other.shared.watch(), || other.has_work().then_some(())).into_iter().for_each(
                        |()| {
                            self.hot.push(Arc::clone(other));
                        },
                    );
                }
                self.hot.push(lane);
                Parked::Frame(self.hot.len() - 1)
            }
            Park::Ready => Parked::Again,
            Park::Sleep(bell) => Parked::Sleep(bell),
        }
    }
}

enum Parked {
    Frame(usize),
    Again,
    Sleep(Bell),
}

impl Hub {
    /// A worker's life: until the service stops.
    pub(super) fn work(&self) {
        loop {
            // Counted before the bell is read: a worker that gives up the role after this either sees the sleeper or
            // has rung a bell that the sleeper's count is older than.
            self.idle.fetch_add(1, Ordering::Relaxed);
            // ORDERING: SeqCst fence between the count and the look at the bell, pairs with the fence in `hand_over`
            // between the bump of the bell and the look at the count.
            fence(Ordering::SeqCst);
            let bell = self.ready.bell();
            if self.is_stopping() {
                return;
            }
            match self.role.try_lock() {
                Ok(role) => self.poll(role),
                Err(TryLockError::Poisoned(poisoned)) => self.poll(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => self.stand_by(bell),
            }
        }
    }

    fn stand_by(&self, bell: Bell) {
        match self.take_announced() {
            Some((lane, cell)) => {
                self.idle.fetch_sub(1, Ordering::Relaxed);
                self.serve(&lane, &cell);
            }
            None => {
                self.ready.sleep(bell, None);
                self.idle.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// With the role: polls until there is nothing, or until a handler is reached that may take long.
    fn poll(&self, mut role: MutexGuard<'_, Poller>) {
        self.idle.fetch_sub(1, Ordering::Relaxed);
        self.ready.awake();
        let mut cell = Cell::new();
        while !self.is_stopping() {
            let found = self.spin.poll(None, || {
                // A stop ends the polling through the outer loop; until then it costs one load of a private line.
                role.look(self, &mut cell)
            });
            let index = match found {
                Some(index) => index,
                None => match role.park(self, &mut cell) {
                    Parked::Frame(index) => index,
                    Parked::Again => continue,
                    Parked::Sleep(bell) => {
                        drop(role);
                        self.idle.fetch_add(1, Ordering::Relaxed);
                        if !self.is_stopping() {
                            self.ready.sleep(bell, None);
                        }
                        self.idle.fetch_sub(1, Ordering::Relaxed);
                        return;
                    }
                },
            };
            if self.keeps_role(&cell) {
                self.serve(&role.hot[index], &cell);
            } else {
                let lane = Arc::clone(&role.hot[index]);
                drop(role);
                self.hand_over();
                self.serve(&lane, &cell);
                return;
            }
        }
    }

    fn keeps_role(&self, cell: &Cell) -> bool {
        self.workers == 1 || cell.open().is_none_or(|(meta, _)| self.cost(meta.method).is_none_or(MethodCost::is_short))
    }

    fn cost(&self, method: MethodIndex) -> Option<&MethodCost> {
        self.costs.get(usize::from(method.0))
    }

    /// Lets another worker have the role, if one is idle.
    fn hand_over(&self) {
        self.ready.bump();
        // ORDERING: SeqCst fence, pairs with the fence in `work`: either we see the idle worker, or it reads the bell
        // after our bump and finds the role free.
        fence(Ordering::SeqCst);
        if self.idle.load(Ordering::Relaxed) > 0 {
            self.ready.wake_one();
        }
    }

    /// Without the role: takes one frame of a lane that was announced. What is left over is announced again, before a
    /// handler runs.
    fn take_announced(&self) -> Option<(Arc<Lane>, Cell)> {
        let mut announced = Vec::new();
        self.ready.take_ready(self.lanes.used(), |index| announced.push(index));
        let mut found = None;
        for index in announced {
            let Some(lane) = self.lanes.get(index) else { continue };
            let mut cell = Cell::new();
            let again = match (&found, lane.is_leaving()) {
                (None, false) => match lane.scan(&mut cell) {
                    Take::Frame => {
                        let more = lane.has_work();
                        found = Some((Arc::clone(&lane), cell));
                        more
                    }
                    Take::Corrupt => true,
                    Take::Nothing | Take::Busy => false,
                },
                // The end of a lane is the polling worker's business.
                (_, true) => true,
                (Some(_), false) => lane.has_work(),
            };
            if again {
                self.ready.ring(index);
            }
        }
        found
    }

    fn serve(&self, lane: &Arc<Lane>, cell: &Cell) {
        let dispatcher = Dispatcher { handler: &*self.handler, stats: &self.stats, instance: &self.instance };
        match dispatcher.serve(lane, cell) {
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
