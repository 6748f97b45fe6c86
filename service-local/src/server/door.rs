//! Who comes in, and what becomes of them: accept, handshake, growth, the end.
//!
//! All on a thread on which nobody's ring waits (see [`watch_at_leisure`]), because much of it takes long. What a party has
//! had too much of waits for its own time; see [`pace`](super::pace).

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use service_core::{Caller, Code, Shape};
use shm_ring::cells::Consumer;
use shm_ring::lane::ServerLane;
use shm_ring::ready::{Relay, Ringer};
use shm_ring::rendezvous::{Connection, Event, Listener, Next, Watch, Watched, watch_at_leisure};
use shm_ring::{Segment, SegmentOptions, Trust, clock};

use super::Hub;
use super::growing::{ask, make_due};
use super::lane::{Lane, Terms};
use super::pace::Party;
use super::quota::Share;
use super::rope::Rope;
use crate::errors::OF_CLIENTS;
use crate::handshake::{FromClient, FromServer};
use crate::trust;

/// How long a client may take from connecting to its first message.
const HELLO_NS: u64 = 5_000_000_000;

/// How long the news that somebody has spoken may take, on a loaded machine.
const SPEAKS_NS: u64 = 100_000_000;

/// Visitors that are let in before the thread sees to its other news, however fast more of them come.
const GUESTS: u32 = 16;

/// The listening socket under watch.
pub(super) struct Door {
    pub(super) hub: Arc<Hub>,
    pub(super) listener: Arc<Listener>,
}

impl Watched for Door {
    fn on_event(&self, _event: Event) -> Next {
        let again = self.hub.departed.let_go();
        let doorkeeping = &self.hub.doorkeeping;
        // Who still waits in the queue is news again.
        for _ in 0..GUESTS {
            if let Some(until) = doorkeeping.rests_until(clock::kernel_ns()) {
                return Next::ExpireAt(until);
            }
            match doorkeeping.take(|| self.listener.accept()) {
                Ok(Some(connection)) => {
                    if let Err(error) = doorkeeping.take(|| Visitor::admit(&self.hub, connection)) {
                        self.hub.warn(&error, "connection refused");
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    // One visitor's failure, or too few descriptors.
                    self.hub.warn(&error, "accept failed");
                    break;
                }
            }
        }
        again.map_or(Next::Keep, Next::KeepUntil)
    }
}

/// The watches of all connections. Dropping one ends its visitor.
#[derive(Debug, Default)]
pub(super) struct Visitors {
    watches: Mutex<(u64, HashMap<u64, Vec<Watch>>)>,
}

impl Visitors {
    fn watches(&self) -> MutexGuard<'_, (u64, HashMap<u64, Vec<Watch>>)> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_id(&self) -> u64 {
        let mut watches = self.watches();
        watches.0 += 1;
        watches.0
    }

    fn add(&self, id: u64, watch: Watch) {
        self.watches().1.entry(id).or_default().push(watch);
    }

    /// Keeps one more watch of a visitor; ends it at once if the visitor is gone.
    pub(super) fn keep(&self, id: u64, watch: Watch) {
        let mut watches = self.watches();
        let gone = match watches.1.get_mut(&id) {
            Some(kept) => {
                kept.push(watch);
                None
            }
            None => Some(watch),
        };
        // Dropped outside the lock, as in `remove`.
        drop(watches);
        drop(gone);
    }

    fn remove(&self, id: u64) {
        let gone = self.watches().1.remove(&id);
        // Dropped outside the lock: a watch's end may drop the visitor, who may come here.
        drop(gone);
    }

    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut self.watches().1);
        drop(gone);
    }
}

enum State {
    /// Connected, nothing said yet. The share is given back when something is.
    Silent(Connection, #[allow(dead_code, reason = "held for its drop")] Share),
    Calling(Arc<Lane>),
    Gone,
}

/// One connection.
struct Visitor {
    id: u64,
    hub: Arc<Hub>,
    party: Arc<Party>,
    /// Until when it has to have said something.
    silent_until_ns: u64,
    /// It has said something that waits.
    is_resting: AtomicBool,
    state: Mutex<State>,
}

impl Visitor {
    fn admit(hub: &Arc<Hub>, connection: Connection) -> Result<(), shm_ring::Error> {
        let uid = connection.peer().uid;
        let Some(share) = hub.silent.take(uid) else {
            let limit = hub.silent.limit(uid);
            let text =
                format!("user {uid} has {limit} connections to `{}` that said nothing yet, its limit", hub.instance);
            refuse(&connection, Code::ResourceExhausted, text);
            return Ok(());
        };
        let (fd, pidfd) = (connection.fd(), Arc::new(connection.peer().pidfd()?));
        let id = hub.visitors.new_id();
        let party = hub.parties.of(connection.peer());
        let state = Mutex::new(State::Silent(connection, share));
        let until = clock::kernel_ns().saturating_add(HELLO_NS);
        let visitor = Arc::new(Self {
            id,
            hub: Arc::clone(hub),
            party,
            silent_until_ns: until,
            is_resting: AtomicBool::new(false),
            state,
        });
        let watched = Arc::clone(&visitor) as Arc<dyn Watched>;
        let both = watch_at_leisure(fd, true, Some(until), watched).and_then(|hang_up| {
            hub.visitors.add(id, hang_up);
            hub.visitors.add(id, watch_at_leisure(pidfd, true, None, Arc::new(Death(visitor)))?);
            Ok(())
        });
        // A visitor whose death would not be told is not let in.
        both.inspect_err(|_| hub.visitors.remove(id))
    }

    /// A time has come: for memory, for what was left unread, or for the end of one who said nothing.
    fn go_on(&self) -> Next {
        let now = clock::kernel_ns();
        let was_resting = self.is_resting.swap(false, Ordering::Relaxed);
        let due = match &*self.state() {
            State::Calling(lane) => make_due(lane).map(|due| due.map_or(Next::Keep, Next::KeepUntil)),
            // It is read next, however late that is.
            State::Silent(..) if was_resting || now < self.silent_until_ns => {
                Ok(Next::KeepUntil(self.silent_until_ns.max(now.saturating_add(SPEAKS_NS))))
            }
            State::Silent(..) | State::Gone => Ok(Next::Stop),
        };
        match due {
            Ok(next @ (Next::Keep | Next::KeepUntil(_))) => next,
            _ => self.leave(),
        }
    }

    fn is_over(&self) -> bool {
        match &*self.state() {
            State::Silent(connection, _) => connection.is_over(),
            State::Calling(lane) => lane.connection.is_over(),
            State::Gone => true,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self) -> Next {
        let state = std::mem::replace(&mut *self.state(), State::Gone);
        if let State::Calling(lane) = state {
            lane.leave();
            // A worker drains the lane and retires it.
            self.hub.ready.ring(lane.index);
        }
        self.hub.visitors.remove(self.id);
        Next::Stop
    }

    fn read(&self) -> Next {
        let mut state = self.state();
        let received = match &*state {
            State::Silent(connection, _) => connection.try_receive(),
            State::Calling(lane) => lane.connection.try_receive(),
            State::Gone => return Next::Stop,
        };
        let message = match received {
            Ok(None) => return Next::Keep,
            Ok(Some(received)) => match FromClient::read(&received.bytes) {
                Ok(message) => Ok((message, received.fds)),
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        match (std::mem::replace(&mut *state, State::Gone), message) {
            (State::Silent(connection, _), Ok((FromClient::Hello { instance, trust, build }, _))) => {
                let wish = Wish { trust, build };
                if let Some(lane) = self.hub.welcome(self, connection, &instance, &wish) {
                    *state = State::Calling(lane);
                    return Next::Keep;
                }
            }
            (State::Silent(connection, _), Ok((other, _))) => {
                refuse(&connection, Code::FailedPrecondition, format!("{other:?} before Hello"));
            }
            (State::Silent(connection, _), Err(error)) => refuse(&connection, Code::FailedPrecondition, error),
            (State::Calling(lane), Ok((message, fds))) => {
                let due = answer(&lane, message, fds).and_then(|()| make_due(&lane));
                *state = State::Calling(lane);
                match due {
                    Ok(due) => return due.map_or(Next::Keep, Next::KeepUntil),
                    Err(error) => tracing::debug!(service = self.hub.instance, %error, "connection ended"),
                }
            }
            // Nonsense, or the end of the stream: the lane's requests are still served.
            (State::Calling(lane), Err(_)) => *state = State::Calling(lane),
            (State::Gone, _) => {}
        }
        drop(state);
        self.leave()
    }
}

impl Watched for Visitor {
    fn on_event(&self, event: Event) -> Next {
        match event {
            // Whatever it said before it left, nobody waits for an answer; calls are not among it.
            Event::Readable if self.is_over() => self.leave(),
            Event::Readable => match self.party.time.rests_until(clock::kernel_ns()) {
                // What it says waits in the kernel.
                Some(until) => {
                    self.is_resting.store(true, Ordering::Relaxed);
                    Next::ExpireAt(until)
                }
                None => self.party.time.take(|| self.read()),
            },
            Event::Ended => self.leave(),
            Event::Expired => self.party.time.take(|| self.go_on()),
        }
    }
}

/// Watches the visitor's process: its socket may outlive it in a child.
struct Death(Arc<Visitor>);

impl Watched for Death {
    fn on_event(&self, _event: Event) -> Next {
        self.0.leave()
    }
}

/// Answers what a client says beside its calls.
///
/// # Errors
/// What ends the connection; the lane's requests are still served.
fn answer(lane: &Arc<Lane>, message: FromClient, fds: Vec<OwnedFd>) -> Result<(), shm_ring::Error> {
    match message {
        FromClient::Grow { len } => ask(lane, len),
        FromClient::Sealed { number, len } => {
            let answer = lane.sealed.keep(number, len, &fds)?;
            lane.connection.send(&answer.to_bytes(), &[])
        }
        FromClient::Withdraw { number } => {
            lane.sealed.withdraw(number);
            Ok(())
        }
        FromClient::Streams { number, shape } => lane.streams.announce(number, shape, fds),
        FromClient::Streamed { number } => {
            lane.streams.forget(number);
            Ok(())
        }
        hello @ FromClient::Hello { .. } => {
            Err(shm_ring::Error::BadMessage { during: "calling", what: format!("{hello:?} once more") })
        }
    }
}

fn refuse(connection: &Connection, code: Code, message: String) {
    // If it cannot be told it sees the hang-up.
    let _ = connection.send(&FromServer::Refused { code: code.as_u8(), message }.to_bytes(), &[]);
}

/// What a client wants of its connection.
struct Wish {
    trust: u8,
    build: [u8; 32],
}

impl Hub {
    /// Gives a client its lane, or refuses it. Who is not let in by the file system does not come here.
    fn welcome(
        self: &Arc<Self>,
        visitor: &Visitor,
        connection: Connection,
        instance: &str,
        wish: &Wish,
    ) -> Option<Arc<Lane>> {
        let peer = connection.peer();
        let caller = Caller { uid: peer.uid, gid: peer.gid, pid: peer.pid };
        let refused = |code, text| {
            refuse(&connection, code, text);
            None
        };
        if instance != self.instance {
            return refused(Code::NotFound, format!("here is `{}`, not `{instance}`", self.instance));
        }
        let Some(share) = self.connected.take(caller.uid) else {
            let (uid, limit) = (caller.uid, self.connected.limit(caller.uid));
            let text = format!("user {uid} has {limit} connections to `{}`, its limit", self.instance);
            return refused(Code::ResourceExhausted, text);
        };
        let Some(place) = self.lanes.reserve() else {
            let text = format!("`{}` has {} connections, its limit", self.instance, self.lanes.count());
            return refused(Code::ResourceExhausted, text);
        };
        let trust = trust::agree(self.trust, wish.trust, &wish.build, caller.uid);
        // Of whom else nothing is copied, there is nothing to spare.
        let sealed = self.accepts_sealed && trust.is_isolated();
        let has_streams = self.handler.descriptor().methods.iter().any(|method| method.shape != Shape::Unary);
        let made = if sealed || has_streams { connection.let_descriptors_in() } else { Ok(()) };
        let Made { shared, fds, listener, relay } = match made.and_then(|()| self.make_memory(place.index, trust)) {
            Ok(made) => made,
            Err(error) => return refused(Code::ResourceExhausted, error.to_string()),
        };
        let party = Arc::clone(&visitor.party);
        let terms = Terms {
            trust,
            bytes: self.max_bytes_of(caller.uid),
            sealed,
            share,
            party,
            streams: self.streams.clone(),
            spin: self.stream_spin,
        };
        let welcome = FromServer::Welcome {
            lane: place.index,
            trust: trust::to_byte(trust),
            accepts_sealed: sealed,
            descriptor: self.handler.descriptor().clone(),
        };
        let lane = Arc::new(Lane::new(place.index, shared, caller, connection, terms));
        if !place.fill(&lane, || self.is_stopping()) {
            refuse(&lane.connection, Code::Unavailable, format!("`{}` is stopping", self.instance));
            return None;
        }
        // It can be called from here on, so it is in the table by now.
        if let Err(error) = self.hand_over(visitor.id, &lane, &welcome.to_bytes(), (&fds, &listener), relay) {
            self.warn(&error, "connection ended");
            lane.connection.hang_up();
        }
        Some(lane)
    }

    /// Says what went wrong with somebody's connection; not for each of many.
    fn warn(&self, error: &shm_ring::Error, what: &str) {
        if let Some(left_out) = OF_CLIENTS.admit() {
            tracing::warn!(service = self.instance, %error, left_out, "{what}");
        }
    }

    fn hand_over(
        &self,
        id: u64,
        lane: &Arc<Lane>,
        welcome: &[u8],
        (fds, listener): (&[OwnedFd], &OwnedFd),
        relay: Option<Relay>,
    ) -> Result<(), shm_ring::Error> {
        let mut fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        if relay.is_none() {
            fds.push(self.ready_fd.as_fd());
        }
        fds.push(listener.as_fd());
        let Some(relay) = relay else {
            return lane.connection.send(welcome, &fds);
        };
        Rope::hang(id, self, lane, relay)?;
        lane.connection.send(welcome, &fds)?;
        lane.connection.keep_little_unread()
    }

    fn make_memory(&self, index: u32, trust: Trust) -> Result<Made, shm_ring::Error> {
        let (ringer, listener) = Ringer::to_listener()?;
        if trust.is_isolated() {
            let (up, down) = self.lane_layout.apart();
            let (up, up_fd) = Segment::memfd("switchboard-up", up, self.epoch)?;
            let options = SegmentOptions::new();
            let (down, down_fd) = Segment::memfd_for_readers("switchboard-down", down, self.epoch, &options)?;
            let (shared, requests) = ServerLane::apart(&up, &down)?;
            let (relay, rope) = Relay::new(self.ready.clone(), index)?;
            let shared = (shared.telling_by(ringer), requests);
            return Ok(Made { shared, fds: vec![up_fd, down_fd, rope], listener, relay: Some(relay) });
        }
        let (segment, fd) = Segment::memfd("switchboard-lane", self.lane_layout, self.epoch)?;
        let (shared, requests) = ServerLane::new(&segment)?;
        Ok(Made { shared: (shared.telling_by(ringer), requests), fds: vec![fd], listener, relay: None })
    }
}

/// The memory of a lane.
struct Made {
    shared: (ServerLane, Consumer),
    /// For the client, before the ready set if it gets that.
    fds: Vec<OwnedFd>,
    /// For the client, behind all others: its end of the rope by which its tasks are told.
    listener: OwnedFd,
    /// Our end of its rope, if it has one.
    relay: Option<Relay>,
}
