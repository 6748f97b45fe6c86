//! The rings of a connection's streams, as their client makes, lends and keeps them.
//!
//! Rings whose streams ended well are kept, and the next stream of the same shape names them again: no memory is made and
//! no descriptor sent. All others are given up, which the service is told.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use service_core::{Assurance, Code, Deadline, Outcome, Shape, Status, StreamReceiver, StreamSender};
use shm_ring::rendezvous::Connection;
use shm_ring::spsc::{Control, End};
use shm_ring::{Error, Trust};

use crate::errors;
use crate::handshake::FromClient;
use crate::stream::{Ends, Lease, MOST_STREAMS, Owner, Peer, Rings, end};

/// Rings of a connection that wait for their next streams.
const MOST_RESTING: usize = 8;

/// What one connection has of them.
pub(super) struct Streams {
    me: Weak<Self>,
    connection: Arc<Connection>,
    trust: Trust,
    assurance: Option<Assurance>,
    spin: Option<Duration>,
    peer: Peer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sets: BTreeMap<u64, Set>,
    next: u64,
    has_ended: bool,
}

/// The rings of one number.
struct Set {
    shape: Shape,
    controls: Vec<Control>,
    /// Our ends, while no stream has them.
    resting: Option<Ends>,
}

/// The ends of a call's streams. Dropped before the call is sent, the rings are given up.
pub(super) struct Opening {
    /// By this number the call names them.
    pub(super) number: u64,
    pub(super) sender: Option<Box<dyn StreamSender>>,
    pub(super) receiver: Option<Box<dyn StreamReceiver>>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Set {
    /// Whether the next stream can have them: the service has seen the last one's end, and has not closed them.
    fn is_fresh(&self, shape: Shape) -> bool {
        let is_sound = |control: &Control| {
            let stats = control.stats();
            stats.frames == 0 && stats.producer.end == End::Attached && stats.consumer.end == End::Attached
        };
        self.resting.is_some() && self.shape == shape && self.controls.iter().all(is_sound)
    }
}

impl Streams {
    /// With how far the service is trusted, on what its items are read, and how long threads poll before they sleep.
    pub(super) fn new(
        connection: Arc<Connection>,
        (trust, assurance): (Trust, Option<Assurance>),
        spin: Option<Duration>,
        peer: Peer,
    ) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new_cyclic(|me| Self { me: Weak::clone(me), connection, trust, assurance, spin, peer, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives rings of this shape to a call: kept ones, else new ones, which are announced. New ones cost some twenty system
    /// calls.
    ///
    /// # Errors
    /// `ResourceExhausted` if the connection has [`MOST_STREAMS`] or the system has no more; `Unavailable` if it has ended.
    pub(super) fn open(&self, shape: Shape, deadline: Option<Deadline>) -> Result<Opening, Status> {
        let not_run = |error: Error| errors::not_run(&error);
        let mut state = self.state();
        if state.has_ended {
            return Err(self.peer.gone().with_outcome(Outcome::NotRun));
        }
        let kept = state.sets.iter_mut().find(|(_, set)| set.is_fresh(shape));
        let kept = kept.and_then(|(number, set)| Some((*number, set.resting.take()?)));
        if let Some((number, ends)) = kept {
            return Ok(self.lend(number, ends, deadline));
        }
        let mut given_up = None;
        if state.sets.len() >= MOST_STREAMS {
            let resting = state.sets.iter().find_map(|(number, set)| set.resting.is_some().then_some(*number));
            let Some(number) = resting else {
                let text = format!("{MOST_STREAMS} streams are open on one connection, the limit");
                return Err(self.peer.status(Code::ResourceExhausted, text).with_outcome(Outcome::NotRun));
            };
            given_up = state.sets.remove(&number);
            self.tell_given_up(number);
        }
        let (rings, fds) = Rings::make(shape, self.trust).map_err(not_run)?;
        let ends = rings.client_ends(self.trust, self.spin).map_err(not_run)?;
        let number = state.next;
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        // Under the lock, because the service expects the numbers in order.
        self.connection.send(&FromClient::Streams { number, shape }.to_bytes(), &fds).map_err(not_run)?;
        state.next += 1;
        state.sets.insert(number, Set { shape, controls: rings.controls(), resting: None });
        drop(state);
        drop(given_up);
        Ok(self.lend(number, ends, deadline))
    }

    fn lend(&self, number: u64, ends: Ends, deadline: Option<Deadline>) -> Opening {
        let owner: Weak<dyn Owner> = self.me.clone();
        let lease = Lease::new(number, owner, ends.count());
        let (sender, receiver) = ends.of_call(deadline, self.assurance, &self.peer, Some(lease));
        Opening { number, sender, receiver }
    }

    fn tell_given_up(&self, number: u64) {
        // What cannot be told ends with the connection, which is then about to.
        let _ = self.connection.send(&FromClient::Streamed { number }.to_bytes(), &[]);
    }

    /// The service is gone: whoever waits at a ring is told.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        let sets = mem::take(&mut state.sets);
        drop(state);
        sets.values().for_each(|set| end(&set.controls));
    }
}

impl Owner for Streams {
    fn settled(&self, number: u64, ends: Option<Ends>) {
        let mut state = self.state();
        let resting = state.sets.values().filter(|set| set.resting.is_some()).count();
        let Some(set) = state.sets.get_mut(&number) else { return };
        match ends {
            Some(ends) if resting < MOST_RESTING => set.resting = Some(ends),
            ends => {
                let gone = (state.sets.remove(&number), ends);
                self.tell_given_up(number);
                drop(state);
                drop(gone);
            }
        }
    }
}

#[cfg(test)]
mod tests;
