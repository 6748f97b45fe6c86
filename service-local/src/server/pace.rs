//! How much of a processor whoever comes in may cost those who are in.
//!
//! To let a visitor in takes some hundred microseconds, for a message that is sent in one. All of a service's visitors
//! together may take a fifth of one processor's time for it, and a little more at once. Beyond that the door rests, and who
//! comes waits in the kernel's queue, never longer than [`MOST_DEBT_NS`] makes it. Calls never wait. What connections ask
//! for that stand already (memory to grow) is not counted: nobody must be able to keep others out by it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use shm_ring::clock;

/// One part of so many of the time.
const SHARE: i64 = 5;

/// What may be taken at once after a quiet time: enough for a hundred visitors.
const BURST_NS: i64 = 20_000_000;

/// The most that is owed: the door rests a tenth of a second at a time, whatever a visit took.
const MOST_DEBT_NS: i64 = 20_000_000;

#[derive(Debug)]
struct Account {
    /// What may be taken without a rest; a debt if negative.
    credit_ns: i64,
    as_of_ns: u64,
}

impl Account {
    fn charge(&mut self, spent_ns: u64, now_ns: u64) {
        let passed = i64::try_from(now_ns.saturating_sub(self.as_of_ns)).unwrap_or(i64::MAX);
        let credit = self.credit_ns.saturating_add(passed / SHARE).min(BURST_NS);
        let spent = i64::try_from(spent_ns).unwrap_or(i64::MAX);
        *self =
            Self { credit_ns: credit.saturating_sub(spent).max(-MOST_DEBT_NS), as_of_ns: now_ns.max(self.as_of_ns) };
    }

    fn rests_until(&self) -> Option<u64> {
        let debt = u64::try_from(self.credit_ns.saturating_neg()).ok().filter(|debt| *debt > 0)?;
        Some(self.as_of_ns.saturating_add(debt.saturating_mul(SHARE as u64)))
    }
}

/// The time that was taken, and whether there is any left.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Account>);

impl Pace {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Account { credit_ns: BURST_NS, as_of_ns: clock::kernel_ns() }))
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a visitor wants, and takes down what that took of the processor: not how long it had to wait for one.
    pub(super) fn take_time<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = clock::thread_ns();
        let result = work();
        let spent = clock::thread_ns().saturating_sub(began);
        self.account().charge(spent, clock::kernel_ns());
        result
    }

    /// Until when (nanoseconds on the monotonic clock) nobody is to be let in; `None` if that is not in the future.
    pub(super) fn rests_until(&self) -> Option<u64> {
        let now = clock::kernel_ns();
        let mut account = self.account();
        account.charge(0, now);
        account.rests_until().filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISIT_NS: u64 = 200_000;

    fn fresh() -> Account {
        Account { credit_ns: BURST_NS, as_of_ns: 0 }
    }

    #[test]
    fn a_hundred_visitors_at_once_come_in_without_a_rest() {
        let mut account = fresh();
        for i in 1..=100 {
            assert_eq!(account.rests_until(), None, "visitor {i}");
            account.charge(VISIT_NS, i * VISIT_NS);
        }
    }

    #[test]
    fn an_endless_stream_of_visitors_takes_a_fifth_of_the_time() {
        let (mut account, mut now, mut worked) = (fresh(), 0, 0);
        while now < 10_000_000_000 {
            now = account.rests_until().unwrap_or(now).max(now) + VISIT_NS;
            worked += VISIT_NS;
            account.charge(VISIT_NS, now);
        }
        let share = worked as f64 / now as f64;
        assert!((0.19..0.22).contains(&share), "{share}");
    }

    #[test]
    fn after_a_quiet_time_all_is_as_at_the_beginning_and_never_more() {
        let mut account = fresh();
        account.charge(600_000_000, 600_000_000);
        assert_eq!(account.rests_until(), Some(600_000_000 + MOST_DEBT_NS as u64 * SHARE as u64));
        account.charge(0, 60_000_000_000);
        assert_eq!((account.rests_until(), account.credit_ns), (None, BURST_NS));
    }
}
