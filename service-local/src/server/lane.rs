//! One client's lane as the server holds it, and the table of all of them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use service_core::{Assurance, Caller};
use shm_ring::Trust;
use shm_ring::arena::{ArenaOwner, RequestBlocks};
use shm_ring::cells::{Consumer, Taken};
use shm_ring::lane::ServerLane;
use shm_ring::rendezvous::Connection;

use super::quota::{Quota, Share};
use super::sealed::SealedRequests;
use super::streams::{Client, Streams};
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

/// Large segments that are still to be made, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Growth {
    pub(super) asked: std::collections::VecDeque<u64>,
    /// A thread is at it.
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
    /// Of streams, by user.
    pub(super) streams: Quota,
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
    /// Here while the lane is cold; else with the polling worker.
    consumer: Mutex<Option<Consumer>>,
    /// Segments that the client asked for and that are made on a thread of their own.
    pub(super) growth: Mutex<Growth>,
    /// The client is gone: what it committed is still served, then the lane is retired.
    leaving: AtomicBool,
    /// The client wrote what it must not, or was sent away: nothing of it is served any more.
    broken: AtomicBool,
    /// Out of the table.
    retired: AtomicBool,
    /// Frames served; counted for an isolated client only, whose rings are held against it.
    served: AtomicU64,
    #[allow(dead_code, reason = "held for its drop, which gives it back")]
    share: Share,
}

impl Lane {
    pub(super) fn new(
        index: u32,
        (shared, consumer): (ServerLane, Consumer),
        caller: Caller,
        connection: Connection,
        Terms { trust, bytes, sealed, share, streams }: Terms,
    ) -> Self {
        let client = Client { uid: caller.uid, trust, assurance: assurance(trust), peer: Peer::of_process(caller.pid) };
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
            consumer: Mutex::new(Some(consumer)),
            growth: Mutex::default(),
            leaving: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            served: AtomicU64::new(0),
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
    }

    pub(super) fn is_leaving(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release in `leave`.
        self.leaving.load(Ordering::Acquire)
    }

    /// Ends the connection of a client that broke the protocol; nothing more of it is served.
    #[cold]
    pub(super) fn throw_out(&self) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            tracing::warn!(pid = self.caller.pid, uid = self.caller.uid, "client broke the protocol: connection ended");
        }
        self.end();
    }

    /// Ends the connection, whatever the client still does; nothing more of it is served.
    fn end(&self) {
        self.broken.store(true, Ordering::Relaxed);
        self.leave();
        // The watcher thread hears of it and rings for the lane, so that a worker retires it.
        self.connection.hang_up();
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

/// All lanes of a service, by their bit in the ready set. Looked up when a cold lane announces itself; hot lanes are
/// held by the polling worker.
#[derive(Debug)]
pub(super) struct LaneTable {
    lanes: RwLock<Vec<Option<Arc<Lane>>>>,
    /// One more than the highest bit ever used.
    used: AtomicU32,
    limit: u32,
}

impl LaneTable {
    pub(super) fn new(limit: u32) -> Self {
        Self { lanes: RwLock::default(), used: AtomicU32::new(0), limit }
    }

    /// Bits below this may be set.
    pub(super) fn used(&self) -> u32 {
        // ORDERING: Relaxed: a lane's bit is set by a client that was welcomed after this grew, or found at the next
        // look.
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn get(&self, index: u32) -> Option<Arc<Lane>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).get(index as usize)?.clone()
    }

    /// All lanes at this moment.
    pub(super) fn all(&self) -> Vec<Arc<Lane>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect()
    }

    /// Finds a free bit, makes the lane for it, and keeps it. `None` if all are in use.
    pub(super) fn insert<E>(&self, make: impl FnOnce(u32) -> Result<Lane, E>) -> Option<Result<Arc<Lane>, E>> {
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        let index = lanes.iter().position(Option::is_none).unwrap_or(lanes.len());
        if index >= self.limit as usize {
            return None;
        }
        let lane = match make(index as u32) {
            Ok(lane) => Arc::new(lane),
            Err(error) => return Some(Err(error)),
        };
        if index == lanes.len() {
            lanes.push(None);
        }
        lanes[index] = Some(Arc::clone(&lane));
        self.used.fetch_max(index as u32 + 1, Ordering::Relaxed);
        Some(Ok(lane))
    }

    /// Takes a lane out. Its memory goes when the last worker lets go of it.
    pub(super) fn retire(&self, lane: &Lane) {
        if !lane.retired.swap(true, Ordering::Relaxed) {
            let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
            lanes[lane.index as usize] = None;
        }
    }

    /// Ends the connections of a process; says how many.
    pub(super) fn evict(&self, pid: u32) -> usize {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        let of_the_process = lanes.iter().flatten().filter(|lane| lane.caller.pid == pid && !lane.is_leaving());
        of_the_process.inspect(|lane| lane.end()).count()
    }

    /// Takes all lanes out.
    pub(super) fn take_all(&self) -> Vec<Arc<Lane>> {
        let lanes = std::mem::take(&mut *self.lanes.write().unwrap_or_else(PoisonError::into_inner));
        lanes.into_iter().flatten().inspect(|lane| lane.retired.store(true, Ordering::Relaxed)).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).iter().flatten().count()
    }
}
