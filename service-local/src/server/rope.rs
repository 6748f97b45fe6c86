//! An isolated client's bell rope under watch, and what becomes of one who pulls it for nothing.
//!
//! Each look at the rope wakes a worker. A client that pulls without having sent anything costs others that much, so its
//! empty pulls are counted: a look that finds the rope pulled while no frame of the lane was served since the look before.
//! Too many within a while, and the rope is looked at by the clock instead; if that does not end it, the connection does.
//! An honest client pulls once before it falls asleep, and is served for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shm_ring::clock;
use shm_ring::ready::{Pulled, Relay};
use shm_ring::rendezvous::{Event, Next, Watched, watch};

use super::Hub;
use super::lane::Lane;

/// How long empty pulls are counted together.
const WHILE_NS: u64 = 100_000_000;

/// Most empty pulls of one client within that.
const MOST_EMPTY: u32 = 1000;

/// How long the rope is then not looked at.
const PENALTY_NS: u64 = 20_000_000;

/// After so many penalties, with no good while between them, the connection ends: about six seconds of pulling.
const MOST_PENALTIES: u32 = 50;

#[derive(Debug, Default)]
struct Account {
    since_ns: u64,
    served: u64,
    empty: u32,
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
            if self.empty <= MOST_EMPTY {
                self.penalties = 0;
            }
            self.since_ns = now_ns;
            self.empty = 0;
        }
        self.empty += u32::from(self.served == served);
        self.served = served;
        if self.empty <= MOST_EMPTY {
            return Verdict::Fine;
        }
        self.penalties += 1;
        if self.penalties > MOST_PENALTIES { Verdict::Over } else { Verdict::Penalty }
    }
}

/// The consumer's end of a rope, as the watcher thread has it.
pub(super) struct Rope {
    /// Its visitor, among whose watches that of the rope is.
    id: u64,
    hub: Arc<Hub>,
    lane: Arc<Lane>,
    relay: Relay,
    account: Mutex<Account>,
}

impl Rope {
    pub(super) fn hang(id: u64, hub: &Arc<Hub>, lane: &Arc<Lane>, relay: Relay) -> Result<(), shm_ring::Error> {
        let account = Mutex::default();
        Arc::new(Self { id, hub: Arc::clone(hub), lane: Arc::clone(lane), relay, account }).look_again()
    }

    /// Puts the rope under watch. A watch that a penalty ended does not come back by itself.
    fn look_again(self: Arc<Self>) -> Result<(), shm_ring::Error> {
        let (id, hub) = (self.id, Arc::clone(&self.hub));
        hub.visitors.add_to(id, watch(self.relay.fd(), true, None, Arc::new(Look(self)))?);
        Ok(())
    }
}

/// One watch over a rope.
struct Look(Arc<Rope>);

impl Watched for Look {
    fn on_event(&self, event: Event) -> Next {
        let rope = &self.0;
        if event == Event::Expired {
            // What was pulled meanwhile is there at once.
            if Arc::clone(rope).look_again().is_err() {
                rope.lane.connection.hang_up();
            }
            return Next::Stop;
        }
        match rope.relay.pass() {
            Pulled::No => Next::Keep,
            // The connection's own end is told elsewhere; without a rope its requests are found while it is polled.
            Pulled::Ended => Next::Stop,
            Pulled::Yes => {
                let now = clock::kernel_ns();
                let mut account = rope.account.lock().unwrap_or_else(PoisonError::into_inner);
                match account.pulled(now, rope.lane.served()) {
                    Verdict::Fine => Next::Keep,
                    Verdict::Penalty => Next::ExpireAt(now.saturating_add(PENALTY_NS)),
                    Verdict::Over => {
                        let caller = rope.lane.caller;
                        let over = Duration::from_nanos(u64::from(MOST_PENALTIES) * PENALTY_NS);
                        tracing::warn!(pid = caller.pid, uid = caller.uid, ?over, "client rings for nothing");
                        rope.lane.connection.hang_up();
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
    fn a_good_while_makes_up_for_penalties() {
        let mut account = Account::default();
        let mut now = WHILE_NS * 2;
        while account.pulled(now, 0) == Verdict::Fine {}
        for _ in 0..3 {
            now += WHILE_NS + 1;
            assert_eq!(account.pulled(now, 0), Verdict::Fine);
        }
        assert_eq!(account.penalties, 0);
    }
}
