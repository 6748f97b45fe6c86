//! The rings of one client's streams: from their announcement to the calls that name them, and between two calls.
//!
//! Announcements come over the socket and calls over the lane, so either may be first: a call whose rings are not there
//! yet waits for them. Numbers are announced in order, so one that is known to be behind will not come any more.

mod arrival;

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use service_core::{Assurance, Code, Deadline, Outcome, Shape, Status};
use shm_ring::spsc::Control;
use shm_ring::{Error, Trust};

use self::arrival::{Arrival, arrival};
pub(super) use self::arrival::{Arriving, Taken};
use super::quota::{Quota, Share};
use crate::stream::{Ends, Lease, MOST_STREAMS, Owner, Peer, Rings, end};

/// Sets of one connection. The client counts those that it has not given up, and handlers of those that it has may be about
/// to notice.
const MOST_SETS: usize = 2 * MOST_STREAMS;

/// What is known of the client whose streams these are.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) uid: u32,
    pub(super) trust: Trust,
    pub(super) assurance: Option<Assurance>,
    /// How long threads poll before they sleep.
    pub(super) spin: Option<Duration>,
    pub(super) peer: Peer,
}

/// The rings of one client.
pub(super) struct Streams {
    me: Weak<Self>,
    client: Client,
    quota: Quota,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sets: HashMap<u64, Set>,
    /// Calls whose rings are not announced yet.
    early: HashMap<u64, (Shape, Arrival)>,
    /// Rings that were not taken, and why, until their calls come.
    refused: HashMap<u64, String>,
    /// The number that is announced next.
    next: u64,
    has_ended: bool,
}

/// The rings of one number.
struct Set {
    shape: Shape,
    /// How they are ended when the client is gone.
    controls: Vec<Control>,
    ends: Use,
    #[allow(dead_code, reason = "held for its drop, which gives it back")]
    share: Share,
}

enum Use {
    /// In no call.
    Resting(Ends),
    /// In a call, and perhaps the next one waits already; `is_last`: the client will not use them again.
    InCall { next: Option<(Shape, Arrival)>, is_last: bool },
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Whom to tell what, when no lock is held.
type News = (Arrival, Result<Taken, Status>);

fn tell(news: Option<News>) {
    if let Some((arrival, news)) = news {
        arrival.tell(news);
    }
}

impl Streams {
    pub(super) fn new(client: Client, quota: Quota) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { me: Weak::clone(me), client, quota, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks and keeps the rings that a client announces. What there is no room for is closed, and its call is told.
    ///
    /// # Errors
    /// What no honest client does, or too few descriptors in this process: the connection is to be ended.
    pub(super) fn announce(&self, number: u64, shape: Shape, fds: Vec<OwnedFd>) -> Result<(), Error> {
        let bad = |what: String| Error::BadMessage { during: "announcing a stream", what };
        if shape == Shape::Unary {
            return Err(bad("no direction".to_owned()));
        }
        let rings = Rings::open(shape, fds, self.client.trust)?;
        let ends = rings.server_ends(self.client.trust, self.client.spin)?;
        let mut state = self.state();
        if number != state.next {
            return Err(bad(format!("number {number} where {} is next", state.next)));
        }
        state.next += 1;
        let early = state.early.remove(&number);
        let share = if state.sets.len() < MOST_SETS { self.quota.take(self.client.uid) } else { None };
        let news = match (share, early) {
            (Some(share), early) => {
                let set = Set { shape, controls: rings.controls(), ends: Use::Resting(ends), share };
                state.sets.insert(number, set);
                early.and_then(|(wanted, arrival)| self.hand_out(&mut state, number, wanted, arrival))
            }
            (None, Some((_, arrival))) => Some((arrival, Err(exhausted(&self.too_many())))),
            (None, None) if state.refused.len() >= MOST_STREAMS => return Err(bad("far too many".to_owned())),
            (None, None) => {
                state.refused.insert(number, self.too_many());
                None
            }
        };
        drop(state);
        tell(news);
        Ok(())
    }

    fn too_many(&self) -> String {
        let (uid, limit) = (self.client.uid, self.quota.limit(self.client.uid));
        format!("a connection has at most {MOST_SETS} streams at once, and user {uid} {limit}")
    }

    /// The rings of this number will not be used (again).
    pub(super) fn forget(&self, number: u64) {
        let mut state = self.state();
        state.refused.remove(&number);
        let gone = match state.sets.get_mut(&number).map(|set| &mut set.ends) {
            Some(Use::InCall { is_last, .. }) => {
                *is_last = true;
                None
            }
            Some(Use::Resting(_)) => state.sets.remove(&number),
            None => None,
        };
        // Closes the rings, outside the lock.
        drop(state);
        drop(gone);
    }

    /// Gives a call its streams, as soon as they are there.
    pub(super) fn take(&self, number: u64, shape: Shape, deadline: Option<Deadline>) -> Arriving {
        let (arrival, arriving) = arrival(deadline);
        self.take_for(number, shape, arrival);
        arriving
    }

    fn take_for(&self, number: u64, shape: Shape, arrival: Arrival) {
        let mut state = self.state();
        let news = if state.has_ended {
            Some((arrival, Err(self.client.peer.gone())))
        } else if let Some(set) = state.sets.get_mut(&number) {
            match &mut set.ends {
                Use::Resting(_) => self.hand_out(&mut state, number, shape, arrival),
                Use::InCall { next: next @ None, .. } => {
                    *next = Some((shape, arrival));
                    None
                }
                Use::InCall { .. } => {
                    Some((arrival, Err(not_there(Code::FailedPrecondition, "in use by another call"))))
                }
            }
        } else if let Some(why) = state.refused.remove(&number) {
            Some((arrival, Err(exhausted(&why))))
        } else if number < state.next {
            Some((arrival, Err(not_there(Code::Cancelled, "given up"))))
        } else if state.early.len() < MOST_STREAMS && !state.early.contains_key(&number) {
            state.early.insert(number, (shape, arrival));
            None
        } else {
            Some((arrival, Err(exhausted("too many calls wait for their streams"))))
        };
        drop(state);
        tell(news);
    }

    /// Hands resting rings to a call.
    fn hand_out(&self, state: &mut State, number: u64, shape: Shape, arrival: Arrival) -> Option<News> {
        let set = state.sets.get_mut(&number)?;
        if set.shape != shape {
            let text = format!("of the shape {:?}, and the method's is {shape:?}", set.shape);
            return Some((arrival, Err(not_there(Code::InvalidArgument, &text))));
        }
        let in_call = Use::InCall { next: None, is_last: false };
        let Use::Resting(ends) = mem::replace(&mut set.ends, in_call) else { return None };
        let owner: Weak<dyn Owner> = self.me.clone();
        let lease = Lease::new(number, owner, ends.count());
        let Client { assurance, peer, .. } = &self.client;
        let (sender, receiver) = ends.of_call(arrival.deadline(), *assurance, peer, Some(lease));
        Some((arrival, Ok(Taken { sender, receiver })))
    }

    /// The client is gone: whoever waits at a ring, or for one, is told.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        let early = mem::take(&mut state.early);
        state.refused.clear();
        let resting = |set: &Set| matches!(set.ends, Use::Resting(_));
        let (gone, kept): (HashMap<_, _>, _) =
            mem::take(&mut state.sets).into_iter().partition(|(_, set)| resting(set));
        state.sets = kept;
        let controls: Vec<_> = state.sets.values().flat_map(|set| set.controls.iter().cloned()).collect();
        drop(state);
        drop(gone);
        end(&controls);
        for (_, arrival) in early.into_values() {
            arrival.tell(Err(self.client.peer.gone()));
        }
    }
}

impl Owner for Streams {
    fn settled(&self, number: u64, ends: Option<Ends>) {
        let mut state = self.state();
        let has_ended = state.has_ended;
        let Some(set) = state.sets.get_mut(&number) else { return };
        let Use::InCall { next, is_last } = &mut set.ends else { return };
        let (next, is_last) = (next.take(), *is_last);
        let (news, gone) = match ends {
            Some(ends) if !is_last && !has_ended => {
                set.ends = Use::Resting(ends);
                (next.and_then(|(shape, arrival)| self.hand_out(&mut state, number, shape, arrival)), None)
            }
            ends => {
                let gone = (state.sets.remove(&number), ends);
                (next.map(|(_, arrival)| (arrival, Err(not_there(Code::Cancelled, "given up")))), Some(gone))
            }
        };
        drop(state);
        drop(gone);
        tell(news);
    }
}

#[cold]
fn not_there(code: Code, what: &str) -> Status {
    Status::new(code, Outcome::NotRun, format!("the streams of the call are {what}"))
}

#[cold]
fn exhausted(why: &str) -> Status {
    Status::new(Code::ResourceExhausted, Outcome::NotRun, format!("no room for the streams of the call: {why}"))
}

#[cfg(test)]
mod tests;
