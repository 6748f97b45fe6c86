//! Who comes in, and what becomes of them: accept, handshake, growth, the end. All on the watcher thread.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use service_core::{Caller, Code};
use shm_ring::lane::ServerLane;
use shm_ring::ready::{Relay, Ringer};
use shm_ring::rendezvous::{Connection, Event, Listener, Next, Watch, Watched, watch};
use shm_ring::{Segment, SegmentOptions, Trust, clock};

use super::Hub;
use super::lane::{Lane, Terms};
use super::quota::Share;
use super::rope::Rope;
use super::segments::grow_requests;
use crate::handshake::{FromClient, FromServer};
use crate::trust;

/// How long a client may take from connecting to its first message.
const HELLO_NS: u64 = 5_000_000_000;

/// Visitors that are let in before the watcher thread sees to its other news, however fast more of them come.
const GUESTS: u32 = 16;

/// Segments up to this are made on the watcher thread: about 3 µs for each 4 KiB.
const QUICK_BYTES: u64 = 1 << 20;

/// Segments that a client may ask for and not have yet; an honest one asks once for each size.
const MOST_ASKED: usize = 64;

/// The listening socket under watch.
pub(super) struct Door {
    pub(super) hub: Arc<Hub>,
    pub(super) listener: Listener,
}

impl Watched for Door {
    fn on_event(&self, _event: Event) -> Next {
        // Who still waits in the queue is news again.
        for _ in 0..GUESTS {
            if let Some(until) = self.hub.pace.rests_until() {
                return Next::ExpireAt(until);
            }
            match self.hub.pace.take_time(|| self.listener.accept()) {
                Ok(Some(connection)) => {
                    if let Err(error) = self.hub.pace.take_time(|| Visitor::admit(&self.hub, connection)) {
                        tracing::warn!(service = self.hub.instance, %error, "connection refused");
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    // One visitor's failure, or too few descriptors.
                    tracing::warn!(service = self.hub.instance, %error, "accept failed");
                    break;
                }
            }
        }
        Next::Keep
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
        let state = Mutex::new(State::Silent(connection, share));
        let visitor = Arc::new(Self { id, hub: Arc::clone(hub), state });
        let until = clock::kernel_ns().saturating_add(HELLO_NS);
        let watched = Arc::clone(&visitor) as Arc<dyn Watched>;
        let both = watch(fd, true, Some(until), watched).and_then(|hang_up| {
            hub.visitors.add(id, hang_up);
            hub.visitors.add(id, watch(pidfd, true, None, Arc::new(Death(visitor)))?);
            Ok(())
        });
        // A visitor whose death would not be told is not let in.
        both.inspect_err(|_| hub.visitors.remove(id))
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
                let welcome = || self.hub.welcome(self.id, connection, &instance, &wish);
                if let Some(lane) = self.hub.pace.take_time(welcome) {
                    *state = State::Calling(lane);
                    return Next::Keep;
                }
            }
            (State::Silent(connection, _), Ok((other, _))) => {
                refuse(&connection, Code::FailedPrecondition, format!("{other:?} before Hello"));
            }
            (State::Silent(connection, _), Err(error)) => refuse(&connection, Code::FailedPrecondition, error),
            (State::Calling(lane), Ok((message, fds))) => {
                let answered = answer(&lane, message, &fds);
                *state = State::Calling(lane);
                match answered {
                    Ok(()) => return Next::Keep,
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
            Event::Readable => self.read(),
            Event::Ended => self.leave(),
            Event::Expired if matches!(*self.state(), State::Calling(_)) => Next::Keep,
            Event::Expired => self.leave(),
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
fn answer(lane: &Arc<Lane>, message: FromClient, fds: &[OwnedFd]) -> Result<(), shm_ring::Error> {
    match message {
        FromClient::Grow { len } => grow(lane, len),
        FromClient::Sealed { number, len } => {
            let answer = lane.sealed.keep(number, len, fds)?;
            lane.connection.send(&answer.to_bytes(), &[])
        }
        FromClient::Withdraw { number } => {
            lane.sealed.withdraw(number);
            Ok(())
        }
        hello @ FromClient::Hello { .. } => {
            Err(shm_ring::Error::BadMessage { during: "calling", what: format!("{hello:?} once more") })
        }
    }
}

/// Answers a `Grow`. To allocate and touch a large segment takes longer than news of others may wait, so the lane gets
/// a thread for that time: one, whatever its client asks.
fn grow(lane: &Arc<Lane>, len: u64) -> Result<(), shm_ring::Error> {
    if len <= QUICK_BYTES {
        return grow_requests(lane, len);
    }
    let mut growth = lane.growth.lock().unwrap_or_else(PoisonError::into_inner);
    if growth.asked.len() >= MOST_ASKED {
        return Err(shm_ring::Error::BadMessage { during: "growing", what: "too much asked for at once".into() });
    }
    growth.asked.push_back(len);
    if growth.busy {
        return Ok(());
    }
    growth.busy = true;
    let lane = Arc::clone(lane);
    let spawned = std::thread::Builder::new().name("switchboard-grow".into()).spawn(move || {
        while let Some(len) = next_asked(&lane) {
            if grow_requests(&lane, len).is_err() {
                lane.connection.hang_up();
            }
        }
    });
    spawned.map(drop).map_err(|source| shm_ring::Error::System { what: "starting a thread", source })
}

fn next_asked(lane: &Lane) -> Option<u64> {
    let mut growth = lane.growth.lock().unwrap_or_else(PoisonError::into_inner);
    let next = growth.asked.pop_front().filter(|_| !lane.is_leaving());
    growth.busy = next.is_some();
    next
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
    fn welcome(self: &Arc<Self>, id: u64, connection: Connection, instance: &str, wish: &Wish) -> Option<Arc<Lane>> {
        let peer = connection.peer();
        let caller = Caller { uid: peer.uid, gid: peer.gid, pid: peer.pid };
        if instance != self.instance {
            refuse(&connection, Code::NotFound, format!("here is `{}`, not `{instance}`", self.instance));
            return None;
        }
        let Some(share) = self.connected.take(caller.uid) else {
            let (uid, limit) = (caller.uid, self.connected.limit(caller.uid));
            let text = format!("user {uid} has {limit} connections to `{}`, its limit", self.instance);
            refuse(&connection, Code::ResourceExhausted, text);
            return None;
        };
        let trust = trust::agree(self.trust, wish.trust, &wish.build, caller.uid);
        let (mut connection, mut share, mut rope) = (Some(connection), Some(share), None);
        let made = self.lanes.insert(|index| {
            if self.is_stopping() {
                return Err((Code::Unavailable, format!("`{}` is stopping", self.instance)));
            }
            let (Some(connection_now), Some(share)) = (connection.take(), share.take()) else {
                return Err((Code::Internal, String::new()));
            };
            let made = self.make_lane(index, trust, caller, share, connection_now).map_err(|(back, error)| {
                connection = Some(back);
                (Code::ResourceExhausted, error.to_string())
            });
            made.map(|(lane, relay)| {
                rope = relay;
                lane
            })
        });
        let (code, message) = match made {
            Some(Ok(lane)) => {
                if let Some(Err(error)) = rope.map(|relay| Rope::hang(id, self, &lane, relay)) {
                    tracing::warn!(service = self.instance, %error, "connection ended");
                    lane.connection.hang_up();
                }
                return Some(lane);
            }
            Some(Err(refusal)) => refusal,
            None => {
                let text = format!("`{}` has {} connections, its limit", self.instance, self.lanes.count());
                (Code::ResourceExhausted, text)
            }
        };
        if let Some(connection) = connection {
            refuse(&connection, code, message);
        }
        None
    }

    fn make_lane(
        &self,
        index: u32,
        trust: Trust,
        caller: Caller,
        share: Share,
        connection: Connection,
    ) -> Result<(Lane, Option<Relay>), (Connection, shm_ring::Error)> {
        let descriptor = self.handler.descriptor().clone();
        // Of whom else nothing is copied, there is nothing to spare.
        let accepts_sealed = self.accepts_sealed && trust.is_isolated();
        if accepts_sealed && let Err(error) = connection.let_descriptors_in() {
            return Err((connection, error));
        }
        let welcome = FromServer::Welcome { lane: index, trust: trust::to_byte(trust), accepts_sealed, descriptor };
        let welcome = welcome.to_bytes();
        let make = || {
            let (ringer, listener) = Ringer::to_listener()?;
            if trust.is_isolated() {
                let (up, down) = self.lane_layout.apart();
                let (up, up_fd) = Segment::memfd("switchboard-up", up, self.epoch)?;
                let options = SegmentOptions::new();
                let (down, down_fd) = Segment::memfd_for_readers("switchboard-down", down, self.epoch, &options)?;
                let (shared, requests) = ServerLane::apart(&up, &down)?;
                let (relay, rope) = Relay::new(self.ready.clone(), index)?;
                connection.send(&welcome, &[up_fd.as_fd(), down_fd.as_fd(), rope.as_fd(), listener.as_fd()])?;
                return Ok(((shared.telling_by(ringer), requests), Some(relay)));
            }
            let (segment, fd) = Segment::memfd("switchboard-lane", self.lane_layout, self.epoch)?;
            let (shared, requests) = ServerLane::new(&segment)?;
            connection.send(&welcome, &[fd.as_fd(), self.ready_fd.as_fd(), listener.as_fd()])?;
            Ok(((shared.telling_by(ringer), requests), None))
        };
        match make() {
            Ok((shared, relay)) => {
                let terms = Terms { trust, bytes: self.max_bytes_of(caller.uid), sealed: accepts_sealed, share };
                Ok((Lane::new(index, shared, caller, connection, terms), relay))
            }
            Err(error) => Err((connection, error)),
        }
    }
}
