//! The lanes of a queue: who comes in, and what becomes of them when they leave. On the watcher thread, but for what the
//! consumer takes out and puts back.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::super::layout::MpscLayout;
use super::super::ring::{Ring, Role, TAKEN};
use super::super::taking::Taking;
use super::welcome::{self, Given};
use super::{LANE_NAME, READY_NAME};
use crate::account::{self, Account};
use crate::error::Error;
use crate::event::EventFd;
use crate::ready::{ReadyLayout, ReadySet};
use crate::rendezvous::{Connection, Event, Listener, Next, Watch, Watched, own_uid, watch};
use crate::segment::{Layout, Segment};

/// Lanes up to this size are made on the watcher thread: about 3 µs for each 4 KiB.
const QUICK_BYTES: usize = 1 << 20;

/// Producers that are let in before the watcher thread sees to its other news: tasks and deaths.
const GUESTS: u32 = 16;

/// What the consumer and the watcher thread share.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) ready: ReadySet,
    ready_fd: OwnedFd,
    pub(super) event: EventFd,
    /// For whoever looks on.
    pub(super) account: Account,
    layout: MpscLayout,
    tag: Box<[u8]>,
    epoch: u64,
    table: Mutex<Table>,
    /// One above the highest lane in use.
    used: AtomicU32,
}

#[derive(Debug)]
struct Table {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    limit: u32,
    /// No lane is given any more.
    closed: bool,
    tally: Tally,
}

/// What onlookers are told of the lanes.
#[derive(Debug, Default)]
struct Tally {
    lanes: u64,
    ever: u64,
    /// Of lanes that were given up.
    given_back: u64,
    aborted: u64,
    full: u64,
}

impl Tally {
    fn note_in(&self, account: &Account) {
        account.note::<{ account::LANES_AT }>(self.lanes);
        account.note::<{ account::LANES_EVER_AT }>(self.ever);
        account.note::<{ account::GONE_GIVEN_BACK_AT }>(self.given_back);
        account.note::<{ account::GONE_ABORTED_AT }>(self.aborted);
        account.note::<{ account::GONE_FULL_AT }>(self.full);
    }
}

#[derive(Debug)]
struct Slot {
    lane: Arc<Lane>,
    /// Here while the lane is cold; else with the consumer.
    taking: Option<Taking>,
    /// Both ends of a producer's life: hang-up and death.
    watches: Vec<Watch>,
}

/// What a lane's producer is sent.
struct LaneFds {
    lane: OwnedFd,
    space: EventFd,
}

/// One producing process, as the consumer knows it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) index: u32,
    ring: Ring,
    connection: Connection,
    /// The producer is gone, by the kernel's word: nothing more is committed.
    ended: AtomicBool,
}

impl Lane {
    pub(super) fn has_ended(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release store in `Hub::leave`: the looks that follow see all that the
        // producer committed.
        self.ended.load(Ordering::Acquire)
    }

    /// Ends the connection of a producer that broke the protocol.
    pub(super) fn throw_out(&self) {
        self.connection.hang_up();
    }
}

impl Hub {
    pub(super) fn new(layout: MpscLayout, lanes: u32, tag: &[u8]) -> Result<Self, Error> {
        let epoch = crate::clock::kernel_ns() ^ u64::from(std::process::id()).rotate_left(40);
        let (segment, ready_fd) = Segment::memfd(READY_NAME, ReadyLayout::new(lanes).for_streams(), epoch)?;
        let event = EventFd::new()?;
        let ready = ReadySet::new(&segment).with_event(event.clone());
        let (limit, tally) = (ready.lanes(), Tally::default());
        let table = Table { slots: Vec::new(), free: Vec::new(), limit, closed: false, tally };
        Ok(Self {
            account: ready.account(),
            ready,
            ready_fd,
            event,
            layout,
            tag: tag.into(),
            epoch,
            table: Mutex::new(table),
            used: AtomicU32::new(0),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One above the highest lane that may have its ready bit set.
    pub(super) fn used(&self) -> u32 {
        // ORDERING: Relaxed: a lane's first ring follows the store, through its producer and the kernel's socket.
        self.used.load(Ordering::Relaxed)
    }

    /// Lanes at this moment.
    pub(super) fn count(&self) -> usize {
        self.table().slots.iter().flatten().count()
    }

    /// Lets a producer in: makes its lane and sends it what it needs.
    fn admit(self: &Arc<Self>, connection: Connection) -> Result<(), Error> {
        if connection.peer().uid != own_uid() {
            let what = format!("user {}", connection.peer().uid);
            return Err(Error::BadMessage { during: "letting a producer in", what });
        }
        let Some(index) = self.table().reserve() else {
            return welcome::refuse(&connection, self.ready.lanes());
        };
        let made = self.make_lane(connection, index);
        let (lane, taking, fds) = made.inspect_err(|_| self.table().free.push(index))?;
        // In the table before anybody can ring or leave.
        if !self.table().fill(&lane, taking, &self.account) {
            return Err(Error::Closed { during: "letting a producer in" });
        }
        self.used.fetch_max(index + 1, Ordering::Relaxed);
        self.introduce(&lane, &fds).inspect_err(|_| self.remove(&lane))
    }

    fn make_lane(&self, connection: Connection, index: u32) -> Result<(Arc<Lane>, Taking, LaneFds), Error> {
        let (segment, fd) = Segment::memfd(LANE_NAME, self.layout, self.epoch)?;
        let space = EventFd::new()?;
        let ring = Ring::new(&segment);
        ring.take_role(Role::Consumer)?;
        let taking = Taking::new(ring.clone(), ring.space_signal(Some(space.clone())));
        let lane = Lane { index, ring, connection, ended: AtomicBool::new(false) };
        Ok((Arc::new(lane), taking, LaneFds { lane: fd, space }))
    }

    /// Watches the producer's life, then gives it its lane: who cannot be watched gets none.
    fn introduce(self: &Arc<Self>, lane: &Arc<Lane>, fds: &LaneFds) -> Result<(), Error> {
        let leaver = Arc::new(Leaver { hub: Arc::downgrade(self), lane: Arc::downgrade(lane) });
        let hang_up = watch(lane.connection.fd(), false, None, Arc::clone(&leaver) as Arc<dyn Watched>)?;
        let pidfd = Arc::new(lane.connection.peer().pidfd()?);
        let death = watch(pidfd, true, None, leaver)?;
        self.table().watch(lane, [hang_up, death]);
        let given = Given {
            lane: fds.lane.as_fd(),
            ready: self.ready_fd.as_fd(),
            data: self.event.as_fd(),
            space: fds.space.as_fd(),
        };
        welcome::give(&lane.connection, lane.index, &self.tag, given)
    }

    /// The producer of a lane is gone. What it committed is still there for the consumer; a lane without anything goes at
    /// once, so that visitors who say nothing leave nothing behind, even if the consumer never looks.
    fn leave(&self, lane: &Arc<Lane>) {
        // ORDERING: Release, pairs with the Acquire load in `Lane::has_ended`.
        lane.ended.store(true, Ordering::Release);
        let mut table = self.table();
        let gone = table.remove_if_empty(lane, &self.account);
        // The last one to leave a closed queue is its end, which the consumer may sleep for.
        let is_news = gone.is_none() || table.closed;
        drop(table);
        if is_news {
            self.ready.ring(lane.index);
        }
        // Unmaps and hangs up: outside the lock.
        drop(gone);
    }

    /// Hangs up on all producers of a process; says on how many. What follows is what follows when they hang up.
    pub(super) fn evict(&self, pid: u32) -> usize {
        let table = self.table();
        let lanes = table.slots.iter().flatten().map(|slot| &slot.lane);
        let of_the_process = lanes.filter(|lane| lane.connection.peer().pid == pid && !lane.has_ended());
        of_the_process.inspect(|lane| lane.connection.hang_up()).count()
    }

    /// Takes the consuming end out of a cold lane.
    pub(super) fn take(&self, index: u32) -> Option<(Arc<Lane>, Taking)> {
        let mut table = self.table();
        let slot = table.slots.get_mut(index as usize)?.as_mut()?;
        Some((Arc::clone(&slot.lane), slot.taking.take()?))
    }

    /// Puts it back, cold.
    pub(super) fn put(&self, lane: &Arc<Lane>, taking: Taking) {
        if let Some(slot) = self.table().slot(lane) {
            slot.taking = Some(taking);
        }
        // Who left meanwhile has rung, but for a lane that was polled. Either this sees that it has left, or it finds the
        // lane here.
        if lane.has_ended() {
            self.ready.ring(lane.index);
        }
    }

    /// Gives up a lane. Its memory is never used again; its bit may be, for the lane of another.
    pub(super) fn remove(&self, lane: &Arc<Lane>) {
        let gone = self.table().remove(lane, &self.account);
        // Unmaps, hangs up and ends the watches: outside the lock, which the watcher may want.
        drop(gone);
    }

    /// Closes the door, and gives all lanes that are not with the consumer.
    pub(super) fn close(&self) -> Vec<(Arc<Lane>, Taking)> {
        let mut table = self.table();
        table.closed = true;
        let cold = table.slots.iter_mut().flatten();
        cold.filter_map(|slot| Some((Arc::clone(&slot.lane), slot.taking.take()?))).collect()
    }

    /// Frames on their way, in the lanes that are not with the consumer.
    pub(super) fn cold_len(&self) -> usize {
        let table = self.table();
        table.slots.iter().flatten().filter_map(|slot| slot.taking.as_ref()).map(|it| it.ring().len() as usize).sum()
    }
}

impl Table {
    fn reserve(&mut self) -> Option<u32> {
        if self.closed {
            return None;
        }
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        let index = u32::try_from(self.slots.len()).ok().filter(|index| *index < self.limit)?;
        self.slots.push(None);
        Some(index)
    }

    fn fill(&mut self, lane: &Arc<Lane>, taking: Taking, account: &Account) -> bool {
        if !self.closed {
            let slot = Slot { lane: Arc::clone(lane), taking: Some(taking), watches: Vec::new() };
            self.slots[lane.index as usize] = Some(slot);
            self.tally.lanes += 1;
            self.tally.ever += 1;
            self.tally.note_in(account);
        }
        !self.closed
    }

    fn slot(&mut self, lane: &Arc<Lane>) -> Option<&mut Slot> {
        self.slots[lane.index as usize].as_mut().filter(|slot| Arc::ptr_eq(&slot.lane, lane))
    }

    /// Attaches the watches to a lane; if it is gone already they end.
    fn watch(&mut self, lane: &Arc<Lane>, watches: [Watch; 2]) {
        if let Some(slot) = self.slot(lane) {
            slot.watches.extend(watches);
        }
    }

    /// Removes a cold lane in which nothing is committed.
    fn remove_if_empty(&mut self, lane: &Arc<Lane>, account: &Account) -> Option<Slot> {
        let taking = self.slot(lane)?.taking.as_mut()?;
        if matches!(taking.search(), Ok(None)) { self.remove(lane, account) } else { None }
    }

    fn remove(&mut self, lane: &Arc<Lane>, account: &Account) -> Option<Slot> {
        self.slot(lane)?;
        self.free.push(lane.index);
        let counts = lane.ring.counts();
        let tally = &mut self.tally;
        tally.lanes = tally.lanes.saturating_sub(1);
        tally.given_back = tally.given_back.wrapping_add(counts.given_back);
        tally.aborted = tally.aborted.wrapping_add(counts.aborted);
        tally.full = tally.full.wrapping_add(counts.full);
        tally.note_in(account);
        self.slots[lane.index as usize].take()
    }
}

/// Where producers come in. Dropped, nobody does any more.
#[derive(Debug)]
pub(super) struct Door {
    listener: Arc<Listener>,
    _watch: Watch,
}

impl Door {
    pub(super) fn open(hub: &Arc<Hub>, listener: Listener) -> Result<Self, Error> {
        if let Some(socket) = listener.socket() {
            hub.account.note::<{ account::CONSUMER_AT }>(TAKEN | u64::from(std::process::id()));
            hub.account.note::<{ account::DEVICE_AT }>(socket.device);
            hub.account.note::<{ account::INODE_AT }>(socket.inode);
        }
        let listener = Arc::new(listener);
        let porter = Porter { hub: Arc::clone(hub), listener: Arc::clone(&listener) };
        Ok(Self { _watch: watch(listener.fd(), true, None, Arc::new(porter))?, listener })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // The watcher thread may be letting somebody in at this moment, and hold the listener.
        self.listener.close();
    }
}

/// Lets producers in.
struct Porter {
    hub: Arc<Hub>,
    listener: Arc<Listener>,
}

impl Watched for Porter {
    fn on_event(&self, _event: Event) -> Next {
        // An error is one visitor's, or too few descriptors: it sees its connection end, and who still waits is news
        // again.
        for _ in 0..GUESTS {
            let Ok(Some(connection)) = self.listener.accept() else { break };
            if self.hub.layout.bytes() <= QUICK_BYTES {
                let _ = self.hub.admit(connection);
                continue;
            }
            let hub = Arc::clone(&self.hub);
            let made = std::thread::Builder::new().name("switchboard-lane".into());
            // Without a thread the connection ends, and the visitor knows.
            let _ = made.spawn(move || hub.admit(connection));
        }
        Next::Keep
    }
}

/// Told when a producer's socket hangs up or its process dies, whichever is first.
struct Leaver {
    hub: Weak<Hub>,
    lane: Weak<Lane>,
}

impl Watched for Leaver {
    fn on_event(&self, _event: Event) -> Next {
        if let (Some(hub), Some(lane)) = (self.hub.upgrade(), self.lane.upgrade())
            && !lane.has_ended()
        {
            hub.leave(&lane);
        }
        Next::Stop
    }
}
