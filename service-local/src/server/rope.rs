//! An isolated client's bell rope under watch, and what becomes of one who pulls it for nothing.
//!
//! Each look at the rope wakes a worker. A client that pulls without having sent anything costs others that much, so the
//! looks that find its rope pulled are held against the frames that it is served. Too many more of them within a while, and
//! the rope is looked at by the clock instead; if that does not end it, the connection does. An honest client pulls about
//! once for a frame.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shm_ring::clock;
use shm_ring::ready::{Pulled, Relay};
use shm_ring::rendezvous::{Event, Next, Watched, watch};

use super::Hub;
use super::lane::Lane;
use crate::errors::OF_CLIENTS;

/// How long pulls are counted together.
const WHILE_NS: u64 = 100_000_000;

/// By so many pulls may exceed frames within that: more than the calls in flight of most connections.
const MOST_EMPTY: u64 = 300;

/// How long the rope is then not looked at.
const PENALTY_NS: u64 = 20_000_000;

/// After so many penalties the connection ends: some seconds of pulling.
const MOST_PENALTIES: u32 = 50;

/// Penalties are forgotten when there was none for so long. Longer than this process may wait for a processor.
const FORGOTTEN_NS: u64 = 10_000_000_000;

#[derive(Debug, Default)]
struct Account {
    since_ns: u64,
    penalty_ns: u64,
    /// Frames served before this while.
    served: u64,
    /// Pulls within it.
    pulls: u64,
    penalties: u32,
}

/// What a look at the rope leads to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Penalty,
    Over,
}

impl Account {
    /// Counts a pull at a time, of a lane that has served so many frames by then.
    fn pulled(&mut self, now_ns: u64, served: u64) -> Verdict {
        if now_ns.saturating_sub(self.since_ns) > WHILE_NS {
            *self = Self { since_ns: now_ns, served, pulls: 0, ..*self };
        }
        if now_ns.saturating_sub(self.penalty_ns) > FORGOTTEN_NS {
            self.penalties = 0;
        }
        self.pulls += 1;
        if self.pulls <= served.saturating_sub(self.served) + MOST_EMPTY {
            return Verdict::Fine;
        }
        let penalties = self.penalties + 1;
        *self = Self { since_ns: now_ns, penalty_ns: now_ns, served, pulls: 0, penalties };
        if self.penalties > MOST_PENALTIES { Verdict::Over } else { Verdict::Penalty }
    }
}

/// The consumer's end of a rope, as the watcher thread has it.
pub(super) struct Rope {
    lane: Arc<Lane>,
    relay: Relay,
    account: Mutex<Account>,
}

impl Rope {
    /// Puts the rope under watch, among the watches of its visitor.
    pub(super) fn hang(id: u64, hub: &Hub, lane: &Arc<Lane>, relay: Relay) -> Result<(), shm_ring::Error> {
        let rope = Arc::new(Self { lane: Arc::clone(lane), relay, account: Mutex::default() });
        let fd = rope.relay.fd();
        hub.visitors.keep(id, watch(fd, true, None, rope)?);
        Ok(())
    }
}

impl Watched for Rope {
    fn on_event(&self, event: Event) -> Next {
        if event == Event::Expired {
            // The penalty is over. What was pulled meanwhile is news at once.
            return Next::Keep;
        }
        match self.relay.pass() {
            Pulled::No => Next::Keep,
            // The connection's own end is told elsewhere; without a rope its requests are found while it is polled.
            Pulled::Ended => Next::Stop,
            Pulled::Yes => {
                let now = clock::kernel_ns();
                let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
                match account.pulled(now, self.lane.served()) {
                    Verdict::Fine => Next::Keep,
                    Verdict::Penalty => Next::ExpireAt(now.saturating_add(PENALTY_NS)),
                    Verdict::Over => {
                        let caller = self.lane.caller;
                        let over = Duration::from_nanos(u64::from(MOST_PENALTIES) * PENALTY_NS);
                        if let Some(left_out) = OF_CLIENTS.admit() {
                            let (pid, uid) = (caller.pid, caller.uid);
                            tracing::warn!(pid, uid, ?over, left_out, "client rings for nothing");
                        }
                        self.lane.connection.hang_up();
                        Next::Stop
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_that_are_followed_by_frames_are_never_held_against_a_client() {
        let mut account = Account::default();
        for i in 0..100_000 {
            assert_eq!(account.pulled(WHILE_NS * 2 + i, i + 1), Verdict::Fine);
        }
    }

    #[test]
    fn empty_pulls_lead_to_a_penalty_and_many_penalties_to_the_end() {
        let mut account = Account::default();
        let mut now = WHILE_NS * 2;
        for _ in 0..MOST_PENALTIES {
            while account.pulled(now, 0) == Verdict::Fine {}
            now += PENALTY_NS;
        }
        let mut verdict = Verdict::Fine;
        while verdict == Verdict::Fine {
            verdict = account.pulled(now, 0);
        }
        assert_eq!(verdict, Verdict::Over);
    }

    #[test]
    fn penalties_are_forgotten_after_long() {
        let mut account = Account::default();
        let now = WHILE_NS * 2;
        while account.pulled(now, 0) == Verdict::Fine {}
        assert_eq!(account.penalties, 1);
        assert_eq!(account.pulled(now + WHILE_NS + 1, 0), Verdict::Fine);
        assert_eq!(account.penalties, 1);
        assert_eq!(account.pulled(now + FORGOTTEN_NS + 1, 0), Verdict::Fine);
        assert_eq!(account.penalties, 0);
    }
}
