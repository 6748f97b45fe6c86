//! What the polling worker looks at: hot lanes, ready bits, futures that were woken.

use std::sync::Arc;

use async_task::Runnable;
use shm_ring::cells::Consumer;
use shm_ring::clock;
use shm_ring::ready::{Bell, Park};

use super::Hub;
use super::lane::{Lane, Take, scan, try_take};
use crate::frame::Cell;

/// Most lanes that are polled before polling others ends.
const MAX_HOT: usize = 8;

/// Of so many looks at the hot lanes one goes past held claims. Rare (some ten microseconds), because such a look reads
/// every cell, and the lines of the free ones are where their producers want them.
const THOROUGH: u32 = 4096;

/// How long a look into every lane, for a ring without a ready bit, keeps others from following.
const SWEEP_NS: u64 = 50_000_000;

/// A lane whose producer knows that it is polled.
#[derive(Debug)]
pub(super) struct Hot {
    pub(super) lane: Arc<Lane>,
    consumer: Consumer,
    /// It rang: until a scan finds it empty its callers may be asleep.
    rang: bool,
}

/// What goes with the role.
#[derive(Debug, Default)]
pub(super) struct Poller {
    /// The order is that of the last frame, oldest first.
    pub(super) hot: Vec<Hot>,
    announced: Vec<u32>,
    looks: u32,
    /// Clients were told that we sleep.
    pub(super) asleep: bool,
    /// Somebody has rung, and nothing was found since.
    pub(super) woken: bool,
    /// No look into every lane before this time.
    sweep_at_ns: u64,
    /// Futures that were woken come before frames at the next look.
    tasks_first: bool,
}

/// What a look has found.
pub(super) enum Found {
    /// A frame of the lane with this index in `hot`.
    Frame(usize),
    /// A future that was woken.
    Task(Runnable),
}

impl Poller {
    /// Looks at everything once. Frames and futures take turns.
    #[inline]
    pub(super) fn look(&mut self, hub: &Hub, cell: &mut Cell) -> Option<Found> {
        if !hub.answers_later {
            return self.look_for_frame(hub, cell).map(Found::Frame);
        }
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
    pub(super) fn owes(&mut self, hub: &Hub) -> bool {
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
    pub(super) fn park(&mut self, hub: &Hub, cell: &mut Cell) -> Parked {
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

pub(super) enum Parked {
    Frame(usize),
    Again,
    Sleep(Bell),
}

impl Hub {
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
}
