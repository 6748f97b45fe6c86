//! Measured times and what is said about them.
//!
//! Rivals are timed in short rounds that alternate, because a virtual machine's cores move between sharing a cache and
//! not. So a [`Series`] keeps its rounds apart: its median is the median of its rounds' medians, and two series are
//! compared round by round.

use std::time::Instant;

/// Nanoseconds of one round, ascending. Never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    ascending_ns: Vec<f64>,
}

impl Samples {
    /// Orders the times of one round; none gives `None`.
    pub fn new(mut ns: Vec<f64>) -> Option<Self> {
        ns.sort_unstable_by(f64::total_cmp);
        (!ns.is_empty()).then_some(Self { ascending_ns: ns })
    }

    /// Does a thing `count` (at least 1) × `group` times and takes the time of each group, divided by `group`.
    ///
    /// One clock read (about 23 ns) falls on each group: use groups for what takes less than a microsecond, so that
    /// the clock does not show in the result.
    ///
    /// # Errors
    /// The first error of the thing, at once.
    pub fn time<E>(count: usize, group: usize, mut thing: impl FnMut() -> Result<(), E>) -> Result<Self, E> {
        let mut ns = Vec::with_capacity(count.max(1));
        let mut before = Instant::now();
        for _ in 0..count.max(1) {
            for _ in 0..group {
                thing()?;
            }
            let now = Instant::now();
            ns.push((now - before).as_nanos() as f64 / group as f64);
            before = now;
        }
        ns.sort_unstable_by(f64::total_cmp);
        Ok(Self { ascending_ns: ns })
    }

    /// The time that `percent` of the samples do not exceed (nearest rank).
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.ascending_ns.len() as f64).ceil() as usize;
        self.ascending_ns[rank.clamp(1, self.ascending_ns.len()) - 1]
    }
}

/// Rounds of the same work, in the order in which they ran.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    rounds: Vec<Samples>,
}

impl Series {
    /// Adds a round.
    pub fn push(&mut self, round: Samples) {
        self.rounds.push(round);
    }

    /// How many samples there are in all rounds.
    pub fn count(&self) -> usize {
        self.rounds.iter().map(|round| round.ascending_ns.len()).sum()
    }

    /// The median of the rounds' medians; 0 without rounds.
    pub fn p50(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.percentile(50.0)))
    }

    /// A percentile of all samples together; 0 without rounds. Tails need more samples than a round has.
    pub fn percentile(&self, percent: f64) -> f64 {
        let all = self.rounds.iter().flat_map(|round| round.ascending_ns.iter().copied()).collect();
        Samples::new(all).map_or(0.0, |all| all.percentile(percent))
    }

    /// How many per second, one after the other; 0 without rounds.
    pub fn per_second(&self) -> f64 {
        let total_ns: f64 = self.rounds.iter().flat_map(|round| &round.ascending_ns).sum();
        if total_ns > 0.0 { self.count() as f64 * 1e9 / total_ns } else { 0.0 }
    }

    /// How many times as long as `other`, round against round: the median of the rounds' ratios; 0 without rounds.
    pub fn ratio_to(&self, other: &Series) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        median(pairs.map(|(a, b)| a.percentile(50.0) / b.percentile(50.0)))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    Samples::new(values.collect()).map_or(0.0, |samples| samples.percentile(50.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(ns: &[f64]) -> Samples {
        Samples::new(ns.to_vec()).expect("rounds are not empty")
    }

    fn series(rounds: &[&[f64]]) -> Series {
        Series { rounds: rounds.iter().map(|ns| round(ns)).collect() }
    }

    #[test]
    fn a_percentile_is_a_sample_of_the_nearest_rank() {
        let samples = round(&[40.0, 10.0, 30.0, 20.0]);
        let read = [0.0, 25.0, 50.0, 51.0, 99.9, 100.0].map(|percent| samples.percentile(percent));
        assert_eq!(read, [10.0, 10.0, 20.0, 30.0, 40.0, 40.0]);
    }

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        assert_eq!(series(&[&[1.0, 2.0, 3.0], &[100.0; 3], &[2.0; 3]]).p50(), 2.0);
    }

    #[test]
    fn ratios_pair_the_rounds_so_that_a_slower_machine_cancels_out() {
        let ours = series(&[&[20.0], &[80.0], &[20.0]]);
        let floor = series(&[&[10.0], &[40.0], &[10.0]]);
        assert_eq!(ours.ratio_to(&floor), 2.0);
    }

    #[test]
    fn tails_and_rates_count_all_rounds() {
        let two = series(&[&[1.0, 1.0], &[1.0, 7.0]]);
        assert_eq!((two.percentile(100.0), two.count()), (7.0, 4));
        assert_eq!(two.per_second(), 4e8);
    }

    #[test]
    fn an_empty_series_says_zero() {
        let none = Series::default();
        assert_eq!((none.p50(), none.percentile(99.0), none.per_second(), none.ratio_to(&none)), (0.0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn timing_does_the_thing_as_often_as_asked() {
        let mut done = 0;
        let timed = Samples::time(5, 3, || {
            done += 1;
            Ok::<(), ()>(())
        });
        assert_eq!((timed.map(|samples| samples.ascending_ns.len()), done), (Ok(5), 15));
    }

    #[test]
    fn timing_ends_at_the_first_error() {
        let mut done = 0;
        let timed = Samples::time(5, 3, || {
            done += 1;
            if done == 4 { Err("broken") } else { Ok(()) }
        });
        assert_eq!((timed, done), (Err("broken"), 4));
    }
}
