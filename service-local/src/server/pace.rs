//! How much of a service whoever comes, asks or calls may cost the others.
//!
//! To let a visitor in takes some hundred microseconds, and so does memory to grow, each for a message that is sent in one.
//! So what a *party* causes is taken down: another user, or a process of the own user. Of the service's time it may take a
//! fifth of a processor, and a little more at once; then what it asks for waits. Memory it gets by the second, if it is
//! isolated. Nobody pays for another: only the door itself, where nobody is known yet, keeps one account for all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shm_ring::clock;
use shm_ring::rendezvous::{Peer, own_uid};

/// One part of so many of a processor's time.
const SHARE: u64 = 5;

/// What may be taken at once after a quiet time, as the time in which it is earned: enough for a hundred visitors.
const BURST_NS: u64 = 100_000_000;

/// The longest rest, whatever it was that took so long.
const MOST_REST_NS: u64 = 100_000_000;

/// New memory of an isolated party, in bytes for each second.
const MEMORY_RATE: u64 = 64 << 20;

/// What may be had at once after a quiet time, in seconds of that rate. What is larger by itself is paid for afterwards.
const MEMORY_BURST_NS: u64 = 1_000_000_000;

/// Parties that are remembered without a look at whether they still matter.
const REMEMBERED: usize = 256;

/// When all that was taken is earned, in nanoseconds on the monotonic clock. Before that: a debt.
#[derive(Debug, Default)]
struct Tally(AtomicU64);

impl Tally {
    fn charge(&self, earned_in_ns: u64, burst_ns: u64, most_rest_ns: u64, now_ns: u64) {
        let later = |due: u64| {
            let from = due.max(now_ns.saturating_sub(burst_ns));
            Some(from.saturating_add(earned_in_ns).min(now_ns.saturating_add(most_rest_ns)).max(due))
        };
        // The answer never is to give up.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    /// When there is something to spend again; `None` if there is now.
    fn rests_until(&self, now_ns: u64) -> Option<u64> {
        let due = self.0.load(Ordering::Relaxed);
        (due > now_ns).then_some(due)
    }
}

/// Time of one processor, of which a share may be taken.
#[derive(Debug, Default)]
pub(super) struct Time(Tally);

impl Time {
    /// Does what somebody wants, and takes down what that took of the processor: not how long it had to wait for one.
    pub(super) fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = clock::thread_ns();
        let result = work();
        self.charge(clock::thread_ns().saturating_sub(began), clock::kernel_ns());
        result
    }

    /// Takes down what was done already.
    pub(super) fn charge(&self, spent_ns: u64, now_ns: u64) {
        self.0.charge(spent_ns.saturating_mul(SHARE), BURST_NS, MOST_REST_NS, now_ns);
    }

    /// Until when (nanoseconds on the monotonic clock) nothing more is to be done; `None` if that is not in the future.
    pub(super) fn rests_until(&self, now_ns: u64) -> Option<u64> {
        self.0.rests_until(now_ns)
    }
}

/// Memory that is made for somebody, by the second.
#[derive(Debug, Default)]
pub(super) struct Memory(Tally);

impl Memory {
    /// Takes down that so many bytes are made.
    pub(super) fn charge(&self, bytes: usize, now_ns: u64) {
        let earned_in_ns = (bytes as u64).saturating_mul(1_000_000_000) / MEMORY_RATE;
        self.0.charge(earned_in_ns, MEMORY_BURST_NS, u64::MAX, now_ns);
    }

    /// Until when nothing more is to be made; `None` if that is not in the future.
    pub(super) fn rests_until(&self, now_ns: u64) -> Option<u64> {
        self.0.rests_until(now_ns)
    }
}

/// Whoever is answerable for what its connections cause.
#[derive(Debug, Default)]
pub(super) struct Party {
    pub(super) time: Time,
    pub(super) memory: Memory,
}

impl Party {
    fn owes(&self, now_ns: u64) -> bool {
        self.time.rests_until(now_ns).is_some() || self.memory.rests_until(now_ns).is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    /// Another user, whatever the number of its processes.
    User(u32),
    /// A process of our own user.
    Process(u32),
}

/// All parties that have connections, or debts.
#[derive(Debug, Default)]
pub(super) struct Parties(Mutex<HashMap<Name, Arc<Party>>>);

impl Parties {
    pub(super) fn of(&self, peer: &Peer) -> Arc<Party> {
        self.named(if peer.uid == own_uid() { Name::Process(peer.pid) } else { Name::User(peer.uid) })
    }

    fn named(&self, name: Name) -> Arc<Party> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            let now = clock::kernel_ns();
            known.retain(|_, party| Arc::strong_count(party) > 1 || party.owes(now));
        }
        Arc::clone(known.entry(name).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISIT_NS: u64 = 200_000;
    /// Any time at which there was no debt.
    const START_NS: u64 = 10_000_000_000;

    #[test]
    fn a_hundred_visitors_at_once_come_in_without_a_rest() {
        let time = Time::default();
        for i in 1..=100 {
            assert_eq!(time.rests_until(START_NS), None, "visitor {i}");
            time.charge(VISIT_NS, START_NS);
        }
        time.charge(VISIT_NS, START_NS);
        assert!(time.rests_until(START_NS).is_some());
    }

    #[test]
    fn an_endless_stream_of_visitors_takes_a_fifth_of_the_time() {
        let (time, mut now, mut worked) = (Time::default(), START_NS, 0);
        while now < START_NS + 10_000_000_000 {
            now = time.rests_until(now).unwrap_or(now) + VISIT_NS;
            worked += VISIT_NS;
            time.charge(VISIT_NS, now);
        }
        let share = worked as f64 / (now - START_NS) as f64;
        assert!((0.19..0.22).contains(&share), "{share}");
    }

    #[test]
    fn after_a_quiet_time_all_is_as_at_the_beginning_and_never_more() {
        let time = Time::default();
        time.charge(60_000_000_000, START_NS);
        assert_eq!(time.rests_until(START_NS), Some(START_NS + MOST_REST_NS));
        let later = 10 * START_NS;
        time.charge(BURST_NS / SHARE, later);
        assert_eq!(time.rests_until(later), None);
        time.charge(1, later);
        assert!(time.rests_until(later).is_some());
    }

    #[test]
    fn memory_comes_by_the_second_and_what_is_large_is_paid_for_afterwards() {
        let memory = Memory::default();
        for _ in 0..64 {
            assert_eq!(memory.rests_until(START_NS), None);
            memory.charge(1 << 20, START_NS);
        }
        memory.charge(1 << 30, START_NS);
        assert_eq!(memory.rests_until(START_NS), Some(START_NS + 16_000_000_000));
        assert_eq!(memory.rests_until(START_NS + 16_000_000_000), None);
    }

    #[test]
    fn a_party_is_remembered_while_somebody_is_of_it_or_it_has_a_debt() {
        let parties = Parties::default();
        let here = parties.named(Name::User(1));
        parties.named(Name::Process(1)).memory.charge(1 << 30, clock::kernel_ns());
        for pid in 2..5 * REMEMBERED as u32 {
            parties.named(Name::Process(pid));
        }
        assert!(Arc::ptr_eq(&here, &parties.named(Name::User(1))));
        assert!(parties.named(Name::Process(1)).owes(clock::kernel_ns()));
        assert!(parties.0.lock().unwrap().len() <= REMEMBERED + 2);
    }
}
