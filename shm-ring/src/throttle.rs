//! How often something is said that others decide about, such as a warning for each client that breaks the protocol.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::clock;

const SECOND_NS: u64 = 1_000_000_000;

/// Lets so many events of each second pass and counts the rest, for logs that a peer must not be able to fill.
///
/// ```
/// static BROKEN: shm_ring::Throttle = shm_ring::Throttle::per_second(2);
/// for client in 0..5 {
///     if let Some(left_out) = BROKEN.admit() {
///         println!("client {client} broke the protocol; {left_out} more since the last such line");
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Throttle {
    most: u32,
    /// Upper half the second in which the last event was, lower half how many that second has had.
    events: AtomicU64,
}

impl Throttle {
    /// At most `most` events in each second of the monotonic clock, and one if that is zero: a flood is never silent.
    pub const fn per_second(most: u32) -> Self {
        Self { most: if most == 0 { 1 } else { most }, events: AtomicU64::new(0) }
    }

    /// Counts an event and says whether it passes: `Some` with the number of those that did not pass in the last second
    /// with events before this one, and zero if that has been told. Any thread; lock-free, some 30 ns.
    #[must_use = "an event that does not pass is not to be told"]
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(clock::kernel_ns())
    }

    fn admit_at(&self, now_ns: u64) -> Option<u64> {
        // Not zero, so that the first second is a new one. Wraps after a century.
        let now = (now_ns / SECOND_NS + 1) & u64::from(u32::MAX);
        let mut before = self.events.load(Ordering::Relaxed);
        loop {
            let (second, events) = (before >> 32, before & u64::from(u32::MAX));
            let is_new = now > second;
            // A thread that read the clock before another one belongs to the later second.
            let after = if is_new { now << 32 | 1 } else { second << 32 | (events + 1).min(u64::from(u32::MAX)) };
            match self.events.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) if is_new => return Some(events.saturating_sub(self.most.into())),
                Ok(_) => return (events < self.most.into()).then_some(0),
                Err(found) => before = found,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_events_of_a_second_pass_and_the_next_one_tells_of_the_rest() {
        let throttle = Throttle::per_second(3);
        let at = |ms: u64| throttle.admit_at(ms * 1_000_000);
        assert_eq!([at(0), at(10), at(500)], [Some(0); 3]);
        assert_eq!([at(501), at(999)], [None; 2]);
        assert_eq!([at(1000), at(1001)], [Some(2), Some(0)], "told once");
        assert_eq!([at(60_000), at(60_001)], [Some(0); 2]);
    }

    #[test]
    fn a_flood_is_told_of_however_long_it_was_quiet_afterwards() {
        let throttle = Throttle::per_second(1);
        assert_eq!(throttle.admit_at(0), Some(0));
        assert!((0..1000).all(|_| throttle.admit_at(SECOND_NS - 1).is_none()));
        assert_eq!(throttle.admit_at(3600 * SECOND_NS), Some(1000));
    }

    #[test]
    fn a_clock_that_was_read_before_that_of_another_thread_begins_no_new_second() {
        let throttle = Throttle::per_second(1);
        assert_eq!(throttle.admit_at(5 * SECOND_NS), Some(0));
        assert_eq!(throttle.admit_at(4 * SECOND_NS), None);
        assert_eq!(throttle.admit_at(5 * SECOND_NS), None);
        assert_eq!(throttle.admit_at(6 * SECOND_NS), Some(2));
    }

    #[test]
    fn a_throttle_for_nothing_lets_one_event_of_a_second_pass() {
        let throttle = Throttle::per_second(0);
        assert_eq!([throttle.admit_at(0), throttle.admit_at(1)], [Some(0), None]);
    }

    #[test]
    fn threads_that_ask_at_once_are_all_counted() {
        let throttle = Throttle::per_second(10);
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        passed.fetch_add(u64::from(throttle.admit_at(0).is_some()), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 10);
        assert_eq!(throttle.admit_at(SECOND_NS), Some(1990));
    }
}
