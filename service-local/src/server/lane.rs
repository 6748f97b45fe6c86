//! One client's lane as the server holds it, and the table of all of them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use service_core::{Assurance, Caller};
use shm_ring::Trust;
use shm_ring::arena::{ArenaOwner, RequestBlocks};
use shm_ring::cells::{Consumer, Taken};
use shm_ring::lane::ServerLane;
use shm_ring::rendezvous::Connection;

use super::in_hand::InHand;
use super::pace::Party;
use super::quota::{Quota, Share};
use super::sealed::SealedRequests;
use super::streams::{Client, Streams};
use super::watchers::Watchers;
use crate::errors::OF_CLIENTS;
use crate::frame::{Cell, KIND_CALL};
use crate::growth::{Added, Owners, Readers};
use crate::stream::Peer;
use crate::trust::assurance;

/// What a look at a lane gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    Frame,
    Nothing,
    /// The client wrote what it must not.
    Corrupt,
}

/// Takes the frame at the head.
#[inline]
pub(super) fn try_take(consumer: &mut Consumer, cell: &mut Cell) -> Take {
    let taken = consumer.try_take(&mut cell.body);
    read(taken, cell)
}

/// Takes the first frame anywhere in the lane, past held claims.
pub(super) fn scan(consumer: &mut Consumer, cell: &mut Cell) -> Take {
    let taken = consumer.scan(&mut cell.body);
    read(taken, cell)
}

#[inline]
fn read(taken: Result<Option<Taken>, shm_ring::Error>, cell: &Cell) -> Take {
    match taken {
        Ok(None) => Take::Nothing,
        Ok(Some(Taken { kind: KIND_CALL, len })) if cell.len_by_content() == Some(len.into()) => Take::Frame,
        Ok(Some(_)) | Err(_) => Take::Corrupt,
    }
}

/// Segments that are still to be made, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Growth {
    pub(super) asked: std::collections::VecDeque<u64>,
    /// A thread is at the first one, which is large.
    pub(super) busy: bool,
}

/// What was agreed with a client.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) trust: Trust,
    /// Most bytes of added segments in each direction.
    pub(super) bytes: usize,
    /// Whether requests may be sealed memory of the client's.
    pub(super) sealed: bool,
    /// What it counts as among the connections of its user.
    pub(super) share: Share,
    /// Who answers for what it causes.
    pub(super) party: Arc<Party>,
    /// Of streams, by user.
    pub(super) streams: Quota,
    /// How long threads at streams poll before they sleep.
    pub(super) spin: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Lane {
    /// The lane's bit in the ready set.
    pub(super) index: u32,
    pub(super) shared: ServerLane,
    /// How far the client is trusted.
    pub(super) trust: Trust,
    /// On what its requests are read.
    pub(super) assurance: Option<Assurance>,
    pub(super) caller: Caller,
    pub(super) connection: Connection,
    pub(super) added_requests: Added<RequestBlocks>,
    pub(super) added_replies: Added<ArenaOwner>,
    pub(super) sealed: SealedRequests,
    pub(super) streams: Arc<Streams>,
    /// Handlers that wait for the end of their callers' patience.
    pub(super) watchers: Watchers,
    pub(super) in_hand: InHand,
    /// Here while the lane is cold; else with the polling worker.
    consumer: Mutex<Option<Consumer>>,
    /// Segments that the client asked for and has not got yet.
    pub(super) growth: Mutex<Growth>,
    /// The client is gone: what it committed is still served, then the lane is retired.
    leaving: AtomicBool,
    /// The client wrote what it must not, or was sent away: nothing of it is served any more.
    broken: AtomicBool,
    /// Out of the table.
    retired: AtomicBool,
    /// Frames served; counted for an isolated client only, whose rings are held against it.
    served: AtomicU64,
    /// Who answers for what the client causes.
    pub(super) party: Arc<Party>,
    #[allow(dead_code, reason = "held for its drop, which gives it back")]
    share: Share,
}

impl Lane {
    pub(super) fn new(
        index: u32,
        (shared, consumer): (ServerLane, Consumer),
        caller: Caller,
        connection: Connection,
        Terms { trust, bytes, sealed, share, party, streams, spin }: Terms,
    ) -> Self {
        let client =
            Client { uid: caller.uid, trust, assurance: assurance(trust), spin, peer: Peer::of_process(caller.pid) };
        Self {
            index,
            shared,
            trust,
            assurance: assurance(trust),
            caller,
            connection,
            added_requests: Added::up_to(bytes),
            added_replies: Added::up_to(bytes),
            sealed: SealedRequests::new(sealed),
            streams: Streams::new(client, streams),
            watchers: Watchers::default(),
            in_hand: InHand::default(),
            consumer: Mutex::new(Some(consumer)),
            growth: Mutex::default(),
            leaving: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            served: AtomicU64::new(0),
            party,
            share,
        }
    }

    /// Takes the consumer out, for a worker that begins to poll the lane.
    pub(super) fn take_consumer(&self) -> Option<Consumer> {
        self.consumer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Puts it back when the polling ends.
    pub(super) fn put_consumer(&self, consumer: Consumer) {
        *self.consumer.lock().unwrap_or_else(PoisonError::into_inner) = Some(consumer);
    }

    pub(super) fn note_served(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    pub(super) fn requests(&self) -> Readers<'_, RequestBlocks> {
        Readers { own: &self.shared.request_blocks, added: &self.added_requests }
    }

    pub(super) fn replies(&self) -> Owners<'_> {
        Owners { own: &self.shared.reply_blocks, added: &self.added_replies }
    }

    pub(super) fn leave(&self) {
        // ORDERING: Release, pairs with the Acquire in `is_leaving`: who sees it finds all that the client committed.
        self.leaving.store(true, Ordering::Release);
        self.streams.end();
        self.watchers.wake_all();
    }

    pub(super) fn is_leaving(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release in `leave`.
        self.leaving.load(Ordering::Acquire)
    }

    /// Ends the connection of a client that broke the protocol; nothing more of it is served.
    #[cold]
    pub(super) fn throw_out(&self) {
        if !self.broken.swap(true, Ordering::Relaxed)
            && let Some(left_out) = OF_CLIENTS.admit()
        {
            let (pid, uid) = (self.caller.pid, self.caller.uid);
            tracing::warn!(pid, uid, left_out, "client broke the protocol: connection ended");
        }
        self.end();
    }

    /// Ends the connection, whatever the client still does; nothing more of it is served.
    fn end(&self) {
        self.broken.store(true, Ordering::Relaxed);
        self.leave();
        // The thread of the door hears of it and rings for the lane, so that a worker retires it.
        self.connection.hang_up();
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

/// What a bit of the ready set stands for.
#[derive(Debug)]
enum Place {
    Free,
    /// Somebody makes a lane for it.
    Taken,
    Lane(Arc<Lane>),
}

impl Place {
    fn lane(&self) -> Option<&Arc<Lane>> {
        match self {
            Self::Lane(lane) => Some(lane),
            Self::Free | Self::Taken => None,
        }
    }
}

/// All lanes of a service, by their bit in the ready set. Looked up when a cold lane announces itself; hot lanes are
/// held by the polling worker. Workers come here, so nobody does more under the lock than to put or take.
#[derive(Debug)]
pub(super) struct LaneTable {
    places: RwLock<Vec<Place>>,
    /// One more than the highest bit ever used.
    used: AtomicU32,
    limit: u32,
}

/// A place for a lane that is being made. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct Reserved<'a> {
    table: &'a LaneTable,
    pub(super) index: u32,
}

impl Reserved<'_> {
    /// Puts the lane there, from now on to be found; not if `is_over` by then, which is told.
    pub(super) fn fill(self, lane: &Arc<Lane>, is_over: impl FnOnce() -> bool) -> bool {
        let mut places = self.table.write();
        let is_filled = !is_over();
        if is_filled {
            places[self.index as usize] = Place::Lane(Arc::clone(lane));
            self.table.used.fetch_max(self.index + 1, Ordering::Relaxed);
        }
        // The lock must not be held when this is dropped.
        drop(places);
        is_filled
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut places = self.table.write();
        if let Some(place @ Place::Taken) = places.get_mut(self.index as usize) {
            *place = Place::Free;
        }
    }
}

impl LaneTable {
    pub(super) fn new(limit: u32) -> Self {
        Self { places: RwLock::default(), used: AtomicU32::new(0), limit }
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Place>> {
        self.places.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Place>> {
        self.places.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bits below this may be set.
    pub(super) fn used(&self) -> u32 {
        // ORDERING: Relaxed: a lane's bit is set by a client that was welcomed after this grew, or found at the next
        // look.
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn get(&self, index: u32) -> Option<Arc<Lane>> {
        self.read().get(index as usize)?.lane().cloned()
    }

    /// All lanes at this moment.
    pub(super) fn all(&self) -> Vec<Arc<Lane>> {
        self.read().iter().filter_map(Place::lane).cloned().collect()
    }

    /// A free bit, for a lane that is then made. `None` if all are in use.
    pub(super) fn reserve(&self) -> Option<Reserved<'_>> {
        let mut places = self.write();
        let index = places.iter().position(|place| matches!(place, Place::Free)).unwrap_or(places.len());
        if index >= self.limit as usize {
            return None;
        }
        if index == places.len() {
            places.push(Place::Free);
        }
        places[index] = Place::Taken;
        Some(Reserved { table: self, index: index as u32 })
    }

    /// Takes a lane out; says whether it was there. Its memory goes when the last one lets go of it.
    pub(super) fn retire(&self, lane: &Lane) -> bool {
        let was_there = !lane.retired.swap(true, Ordering::Relaxed);
        if was_there {
            self.write()[lane.index as usize] = Place::Free;
        }
        was_there
    }

    /// Ends the connections of a process; says how many.
    pub(super) fn evict(&self, pid: u32) -> usize {
        let places = self.read();
        let lanes = places.iter().filter_map(Place::lane);
        let of_the_process = lanes.filter(|lane| lane.caller.pid == pid && !lane.is_leaving());
        of_the_process.inspect(|lane| lane.end()).count()
    }

    /// Takes all lanes out. A place that is reserved by now is filled no more: who fills it asks whether all is over.
    pub(super) fn take_all(&self) -> Vec<Arc<Lane>> {
        let mut places = self.write();
        let lanes = places.iter_mut().filter_map(|place| match place {
            Place::Lane(lane) => {
                lane.retired.store(true, Ordering::Relaxed);
                let lane = Arc::clone(lane);
                *place = Place::Free;
                Some(lane)
            }
            Place::Free | Place::Taken => None,
        });
        lanes.collect()
    }

    pub(super) fn count(&self) -> usize {
        self.read().iter().filter(|place| place.lane().is_some()).count()
    }
}
