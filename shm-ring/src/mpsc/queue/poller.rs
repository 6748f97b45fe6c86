//! Which lane is looked at next: the hot ones in turn, the cold ones when they ring.

use std::sync::Arc;

use super::super::ring::{DIED, Role};
use super::super::taking::{Found, Taking};
use super::lanes::{Hub, Lane};
use crate::ready::{Bell, Park};

/// Most lanes that are polled before polling others ends.
const MAX_HOT: usize = 8;

/// Frames from one lane before the next one's turn.
const TURN: u32 = 64;

/// Of so many looks at an empty lane, one goes past held claims; see [`Taking::search`].
const THOROUGH: u32 = 64;

/// A lane whose producer knows that it is polled.
#[derive(Debug)]
struct Hot {
    lane: Arc<Lane>,
    taking: Taking,
    /// Looks that found nothing, since the last frame.
    misses: u32,
    /// It rang: the next look goes past held claims.
    rang: bool,
}

/// What the consumer polls.
#[derive(Debug, Default)]
pub(super) struct Poller {
    /// In turn from `next` on.
    hot: Vec<Hot>,
    next: usize,
    /// Frames taken in this turn.
    taken: u32,
    announced: Vec<u32>,
    /// Producers were told that the consumer sleeps.
    asleep: bool,
    /// Nothing is to be claimed any more: lanes go as they are emptied.
    closing: bool,
}

/// What came of an attempt to sleep.
pub(super) enum Parked {
    Found(At),
    Again,
    Sleep(Bell),
}

/// A frame, and the hot lane that it is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    hot: usize,
    pub(super) found: Found,
}

impl Poller {
    /// The lane of a frame.
    pub(super) fn taking(&mut self, at: &At) -> &mut Taking {
        &mut self.hot[at.hot].taking
    }

    /// Looks at everything once. While a lane's turn lasts, at that lane only.
    #[inline]
    pub(super) fn look(&mut self, hub: &Hub) -> Option<At> {
        if self.taken < TURN
            && let Some(hot) = self.hot.get_mut(self.next)
            && let Ok(Some(found)) = hot.taking.look()
        {
            self.taken += 1;
            hot.misses = 0;
            return Some(At { hot: self.next, found });
        }
        self.look_around(hub)
    }

    fn look_around(&mut self, hub: &Hub) -> Option<At> {
        self.awake(hub);
        let announced = &mut self.announced;
        hub.ready.take_ready(hub.used(), |index| announced.push(index));
        if !self.announced.is_empty() {
            self.heat_announced(hub);
        }
        self.taken = 0;
        let mut left = self.hot.len();
        while left > 0 {
            left -= 1;
            self.next = if self.next + 1 < self.hot.len() { self.next + 1 } else { 0 };
            if let Some(found) = self.look_at(hub, self.next) {
                self.taken = 1;
                return Some(At { hot: self.next, found });
            }
        }
        None
    }

    /// Looks at one lane; takes it out of the polled ones if there is nothing more to come.
    fn look_at(&mut self, hub: &Hub, i: usize) -> Option<Found> {
        let hot = self.hot.get_mut(i)?;
        hot.misses = hot.misses.wrapping_add(1);
        // Asked before the look: what was committed before the end is then seen.
        let leaving = hot.lane.has_ended();
        if leaving {
            hot.taking.ring().finish(Role::Producers, DIED);
        }
        let rang = std::mem::take(&mut hot.rang);
        let thorough = leaving || self.closing || rang || hot.misses.is_multiple_of(THOROUGH);
        match if thorough { hot.taking.search() } else { hot.taking.look() } {
            Ok(Some(found)) => {
                hot.misses = 0;
                Some(found)
            }
            Ok(None) => {
                if hot.misses == 1 {
                    hot.taking.tell_producers();
                }
                if leaving || (self.closing && hot.taking.is_finished()) {
                    let gone = self.hot.swap_remove(i);
                    hub.remove(&gone.lane);
                }
                None
            }
            Err(_) => {
                let gone = self.hot.swap_remove(i);
                hub.throw_out(&gone.lane);
                hub.remove(&gone.lane);
                None
            }
        }
    }

    #[cold]
    fn heat_announced(&mut self, hub: &Hub) {
        let mut announced = std::mem::take(&mut self.announced);
        for index in announced.drain(..) {
            // The table knows whose bit it is now: a hot lane may have left it, and its bit be another's.
            let Some((lane, taking)) = hub.take(index) else {
                self.hot.iter_mut().filter(|hot| hot.lane.index == index).for_each(|hot| hot.rang = true);
                continue;
            };
            if self.hot.len() >= MAX_HOT {
                self.cool_idlest(hub);
            }
            taking.ring().watch().heat();
            self.hot.push(Hot { lane, taking, misses: 0, rang: true });
        }
        // Kept for its memory.
        self.announced = announced;
    }

    /// Makes room among the hot lanes; if even the idlest has work it stays, and there is one more for a while.
    fn cool_idlest(&mut self, hub: &Hub) {
        let idlest = self.hot.iter().enumerate().max_by_key(|(_, hot)| hot.misses).map(|(i, _)| i);
        let Some(i) = idlest else { return };
        let hot = &mut self.hot[i];
        let ring = hot.taking.ring().clone();
        let closing = self.closing;
        let mut has_news = || hot.taking.has_committed() || (closing && hot.taking.is_finished());
        let busy = hub.ready.cool(ring.watch(), || has_news().then_some(()));
        if busy.is_none() {
            let Hot { lane, mut taking, .. } = self.hot.swap_remove(i);
            taking.tell_all_producers();
            hub.put(&lane, taking);
        }
    }

    /// Tries to leave all lanes cold and nothing behind; see [`crate::ready::ReadySet::park`].
    pub(super) fn park(&mut self, hub: &Hub, on_event: bool) -> Parked {
        // Who sleeps gives back first: producers may wait for just that.
        self.hot.iter_mut().for_each(|hot| hot.taking.tell_all_producers());
        let rings: Vec<_> = self.hot.iter().map(|hot| hot.taking.ring().clone()).collect();
        let cool = || rings.iter().for_each(|ring| ring.watch().cool());
        let (hot, closing) = (&mut self.hot, self.closing);
        let scan = || {
            hot.iter_mut().enumerate().find_map(|(i, hot)| match hot.taking.search() {
                // Its producer has nothing to ring for any more: cold, it would stay for ever.
                Ok(None) if closing && hot.taking.is_finished() => Some((i, None)),
                Ok(found) => found.map(|found| (i, Some(found))),
                // Whoever looks at it again will find out.
                Err(_) => Some((i, None)),
            })
        };
        let parked = if on_event { hub.ready.park_on_event(cool, scan) } else { hub.ready.park(cool, scan) };
        match parked {
            Park::Found((i, found)) => {
                self.heat_all();
                self.hot[i].rang = found.is_none();
                found.map_or(Parked::Again, |found| Parked::Found(At { hot: i, found }))
            }
            Park::Ready => {
                self.heat_all();
                // All bits: one of a lane that was never given would be seen here, and nowhere else, for ever.
                let announced = &mut self.announced;
                hub.ready.take_ready(hub.ready.lanes(), |index| announced.push(index));
                Parked::Again
            }
            Park::Sleep(bell) => {
                for Hot { lane, taking, .. } in std::mem::take(&mut self.hot) {
                    hub.put(&lane, taking);
                }
                self.asleep = true;
                Parked::Sleep(bell)
            }
        }
    }

    /// After an attempt to sleep that came to nothing: the lanes were cooled, and are polled on.
    fn heat_all(&self) {
        self.hot.iter().for_each(|hot| hot.taking.ring().watch().heat());
    }

    /// Takes all lanes in, for the last time: they go as they are emptied.
    pub(super) fn close(&mut self, lanes: Vec<(Arc<Lane>, Taking)>) {
        self.closing = true;
        for (lane, taking) in lanes {
            taking.ring().watch().heat();
            self.hot.push(Hot { lane, taking, misses: 0, rang: true });
        }
        for hot in &mut self.hot {
            hot.taking.close();
        }
    }

    /// Whether nothing is left of a queue that was closed.
    pub(super) fn is_finished(&self, hub: &Hub) -> bool {
        self.closing && hub.count() == 0
    }

    /// Looks at everything once, past held claims.
    pub(super) fn search(&mut self, hub: &Hub) -> Option<At> {
        self.hot.iter_mut().for_each(|hot| hot.rang = true);
        self.look_around(hub)
    }

    /// Takes back that the consumer sleeps.
    pub(super) fn awake(&mut self, hub: &Hub) {
        if self.asleep {
            self.asleep = false;
            hub.ready.awake();
        }
    }

    /// Gives back what is held back, on the lane whose turn it is.
    pub(super) fn tell_producers(&mut self) {
        if let Some(hot) = self.hot.get_mut(self.next) {
            hot.taking.tell_producers();
        }
    }

    /// Frames on their way in the hot lanes.
    pub(super) fn hot_len(&self) -> usize {
        self.hot.iter().map(|hot| hot.taking.ring().len() as usize).sum()
    }

    /// See [`Taking::breath`]; of the lane whose turn it is.
    pub(super) fn breath(&mut self) -> u32 {
        self.hot.get_mut(self.next).map_or(0, |hot| hot.taking.breath())
    }
}
