//! The lanes of a queue: who comes in, and what becomes of them when they leave. On the watcher thread, but for what the
//! consumer takes out and puts back.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::super::layout::{DownLayout, MpscLayout};
use super::super::ring::{CLOSED, Ring, Role};
use super::super::taking::Taking;
use super::options::Terms;
use super::table::{Full, Table};
use super::welcome::{self, Given};
use super::{DOWN_NAME, LANE_NAME, READY_NAME};
use crate::account::{self, Account};
use crate::error::Error;
use crate::event::EventFd;
use crate::fork::Home;
use crate::ready::{Pulled, ReadyLayout, ReadySet, Relay};
use crate::rendezvous::{Connection, Event, Next, Watched, watch};
use crate::segment::{Layout, Segment, SegmentOptions};

/// Rings beyond those that its frames account for, after which a producer with a rope of its own is thrown out: threads
/// that were about to ring when their lane became hot, and the end.
const RINGS_FOR_NOTHING: u64 = 64;

/// What the consumer and the watcher thread share.
#[derive(Debug)]
pub(super) struct Hub {
    /// Where the memory is: not in a forked child.
    pub(super) home: Home,
    pub(super) ready: ReadySet,
    ready_fd: OwnedFd,
    pub(super) event: EventFd,
    /// For whoever looks on.
    pub(super) account: Account,
    layout: MpscLayout,
    terms: Terms,
    tag: Box<[u8]>,
    epoch: u64,
    /// Producers that broke the protocol.
    thrown_out: AtomicU64,
    table: Mutex<Table>,
    /// One above the highest lane in use.
    used: AtomicU32,
}

/// What a lane's producer is sent, beside what all have.
enum LaneFds {
    Shared { lane: OwnedFd, space: EventFd },
    Isolated { up: OwnedFd, down: OwnedFd, rope: OwnedFd },
}

/// One producing process, as the consumer knows it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) index: u32,
    ring: Ring,
    connection: Connection,
    /// By which a producer rings that shares nothing with the others.
    relay: Option<Relay>,
    rings: AtomicU64,
    /// Frames given back when the lane was last with the consumer.
    received: AtomicU64,
    /// The producer is gone, by the kernel's word: nothing more is committed.
    ended: AtomicBool,
}

impl Lane {
    pub(super) fn has_ended(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release store in `Hub::leave`: the looks that follow see all that the
        // producer committed.
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn uid(&self) -> u32 {
        self.connection.peer().uid
    }

    /// Counts a ring by the lane's rope; says whether there are more than the producer can have reason for: one for each
    /// frame, of which no more can be under way than there are cells.
    fn rings_for_nothing(&self) -> bool {
        let rings = self.rings.fetch_add(1, Ordering::Relaxed) + 1;
        rings > self.received.load(Ordering::Relaxed).saturating_add(self.ring.count() + RINGS_FOR_NOTHING)
    }
}

impl Hub {
    pub(super) fn new(layout: MpscLayout, lanes: u32, tag: &[u8], terms: Terms) -> Result<Self, Error> {
        let epoch = crate::clock::kernel_ns() ^ u64::from(std::process::id()).rotate_left(40);
        let (segment, ready_fd) = Segment::memfd(READY_NAME, ReadyLayout::new(lanes).for_streams(), epoch)?;
        let event = EventFd::new()?;
        let ready = ReadySet::new(&segment).with_event(event.clone());
        let table = Table::new(ready.lanes());
        Ok(Self {
            home: segment.home(),
            account: ready.account(),
            ready,
            ready_fd,
            event,
            layout,
            terms,
            tag: tag.into(),
            epoch,
            thrown_out: AtomicU64::new(0),
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

    /// Bytes that a lane takes.
    pub(super) fn lane_bytes(&self) -> usize {
        self.layout.bytes()
    }

    /// Producers that were thrown out because they broke the protocol.
    pub(super) fn thrown_out(&self) -> u64 {
        self.thrown_out.load(Ordering::Relaxed)
    }

    /// Ends the connection of a producer that broke the protocol.
    pub(super) fn throw_out(&self, lane: &Lane) {
        let thrown_out = self.thrown_out.fetch_add(1, Ordering::Relaxed) + 1;
        self.account.note::<{ account::THROWN_OUT_AT }>(thrown_out);
        lane.connection.hang_up();
    }

    /// Lets a producer in: makes its lane and sends it what it needs.
    pub(super) fn admit(self: &Arc<Self>, connection: Connection) -> Result<(), Error> {
        let uid = connection.peer().uid;
        let per_user = self.terms.lanes_of_another(self.lane_bytes());
        let index = match self.table().reserve(uid, per_user) {
            Ok(index) => index,
            Err(Full::OfUser) => return welcome::refuse_user(&connection, per_user, self.lane_bytes()),
            Err(Full::Table) => return welcome::refuse(&connection, self.ready.lanes()),
        };
        let made = self.make_lane(connection, index);
        let (lane, taking, fds) = made.inspect_err(|_| self.table().give_back(index, uid))?;
        // In the table before anybody can ring or leave.
        if !self.table().fill(&lane, taking, &self.account) {
            return Err(Error::Closed { during: "letting a producer in" });
        }
        self.used.fetch_max(index + 1, Ordering::Relaxed);
        self.introduce(&lane, &fds).inspect_err(|_| self.remove(&lane))
    }

    fn make_lane(&self, connection: Connection, index: u32) -> Result<(Arc<Lane>, Taking, LaneFds), Error> {
        let trust = self.terms.trust_in(connection.peer());
        let (segment, fd) = Segment::memfd(LANE_NAME, self.layout, self.epoch)?;
        let (ring, relay, event, fds) = if trust.is_isolated() {
            let options = SegmentOptions::new();
            let (words, down) = Segment::memfd_for_readers(DOWN_NAME, DownLayout, self.epoch, &options)?;
            let (relay, rope) = Relay::new(self.ready.clone(), index)?;
            (Ring::split(&segment, words.memory()), Some(relay), None, LaneFds::Isolated { up: fd, down, rope })
        } else {
            let space = EventFd::new()?;
            (Ring::new(&segment), None, Some(space.clone()), LaneFds::Shared { lane: fd, space })
        };
        ring.take_role(Role::Consumer)?;
        let mut taking = Taking::new(ring.clone(), ring.space_signal(event));
        taking.set_trust(trust);
        let (rings, received) = (AtomicU64::new(0), AtomicU64::new(0));
        let lane = Lane { index, ring, connection, relay, rings, received, ended: AtomicBool::new(false) };
        Ok((Arc::new(lane), taking, fds))
    }

    /// Watches the producer's life, then gives it its lane: who cannot be watched gets none.
    fn introduce(self: &Arc<Self>, lane: &Arc<Lane>, fds: &LaneFds) -> Result<(), Error> {
        let leaver = Arc::new(Leaver { hub: Arc::downgrade(self), lane: Arc::downgrade(lane) });
        let hang_up = watch(lane.connection.fd(), false, None, Arc::clone(&leaver) as Arc<dyn Watched>)?;
        let pidfd = Arc::new(lane.connection.peer().pidfd()?);
        let death = watch(pidfd, true, None, Arc::clone(&leaver) as Arc<dyn Watched>)?;
        let mut watches = vec![hang_up, death];
        if let Some(relay) = &lane.relay {
            let Leaver { hub, lane } = &*leaver;
            let porter = Arc::new(Passes { hub: Weak::clone(hub), lane: Weak::clone(lane) });
            watches.push(watch(relay.fd(), true, None, porter)?);
        }
        self.table().watch(lane, watches);
        let given = match fds {
            LaneFds::Shared { lane, space } => Given::Shared {
                lane: lane.as_fd(),
                ready: self.ready_fd.as_fd(),
                data: self.event.as_fd(),
                space: space.as_fd(),
            },
            LaneFds::Isolated { up, down, rope } => {
                Given::Isolated { up: up.as_fd(), down: down.as_fd(), rope: rope.as_fd() }
            }
        };
        welcome::give(&lane.connection, lane.index, &self.tag, &given)
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

    /// Closes all lanes of a process and hangs up on it; says on how many. What follows is what follows when they hang up.
    pub(super) fn evict(&self, pid: u32) -> usize {
        let table = self.table();
        let lanes = table.slots.iter().flatten().map(|slot| &slot.lane);
        let of_the_process = lanes.filter(|lane| lane.connection.peer().pid == pid && !lane.has_ended());
        let close = |lane: &&Arc<Lane>| {
            // Refused from now on, and not only once it has heard of the hang-up.
            lane.ring.finish(Role::Consumer, CLOSED);
            lane.connection.hang_up();
        };
        of_the_process.inspect(close).count()
    }

    /// Takes the consuming end out of a cold lane.
    pub(super) fn take(&self, index: u32) -> Option<(Arc<Lane>, Taking)> {
        let mut table = self.table();
        let slot = table.slots.get_mut(index as usize)?.as_mut()?;
        Some((Arc::clone(&slot.lane), slot.taking.take()?))
    }

    /// Puts it back, cold.
    pub(super) fn put(&self, lane: &Arc<Lane>, taking: Taking) {
        lane.received.store(taking.head().get(), Ordering::Relaxed);
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

/// Told when a producer pulls its rope.
struct Passes {
    hub: Weak<Hub>,
    lane: Weak<Lane>,
}

impl Watched for Passes {
    fn on_event(&self, _event: Event) -> Next {
        let (Some(hub), Some(lane)) = (self.hub.upgrade(), self.lane.upgrade()) else { return Next::Stop };
        match lane.relay.as_ref().map(Relay::pass) {
            Some(Pulled::Yes) if lane.rings_for_nothing() => {
                hub.throw_out(&lane);
                Next::Stop
            }
            Some(Pulled::Yes | Pulled::No) => Next::Keep,
            // Its connection says what that means.
            Some(Pulled::Ended) | None => Next::Stop,
        }
    }
}
