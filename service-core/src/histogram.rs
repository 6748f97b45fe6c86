//! Latency histograms that many threads fill at once.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets per power of two. 16: a bucket is at most 1/16 of its lower end wide, which is the bound
/// on the error (6.25 %) that this module promises.
const SUB_BUCKETS: usize = 16;
const SUB_BITS: u32 = SUB_BUCKETS.ilog2();
/// Values from 2^40 ns (18 minutes) up share the last bucket.
const MAX_BITS: u32 = 40;
/// One exact bucket for each value below 16, then 16 for each power of two.
const BUCKETS: usize = SUB_BUCKETS * (MAX_BITS - SUB_BITS + 1) as usize;

fn bucket_of(ns: u64) -> usize {
    if ns < SUB_BUCKETS as u64 {
        return ns as usize;
    }
    let shift = ns.ilog2() - SUB_BITS;
    // The leading one of `ns >> shift` is worth the 16 that the bucket groups are apart.
    let bucket = shift as usize * SUB_BUCKETS + (ns >> shift) as usize;
    bucket.min(BUCKETS - 1)
}

/// The largest value that falls into a bucket, in nanoseconds.
fn upper_end_ns(bucket: usize) -> u64 {
    if bucket < SUB_BUCKETS {
        return bucket as u64;
    }
    let shift = bucket / SUB_BUCKETS - 1;
    let sub = (bucket % SUB_BUCKETS + SUB_BUCKETS) as u64;
    ((sub + 1) << shift) - 1
}

/// Counts durations in log-linear buckets, 1 ns to 18 minutes, with an error of at most 6.25 %.
///
/// Shared by threads. Takes 4.6 KiB.
pub struct Histogram {
    counts: Box<[AtomicU64]>,
}

impl Histogram {
    /// Makes an empty histogram.
    pub fn new() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts one duration in nanoseconds. Wait-free: one relaxed add.
    #[inline]
    pub fn record(&self, ns: u64) {
        self.counts[bucket_of(ns)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one duration in nanoseconds, where nobody else counts at the same time: a load and a store instead of an
    /// add that the processor locks. Wait-free. Of two threads that do this at once one may not be counted.
    #[inline]
    pub fn record_alone(&self, ns: u64) {
        let count = &self.counts[bucket_of(ns)];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Copies the counts. Values recorded meanwhile are in the copy or not.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot { counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect() }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// The counts of a [`Histogram`] at one time.
#[derive(Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    counts: Box<[u64]>,
}

impl HistogramSnapshot {
    /// Says how many values were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Gives the value in nanoseconds that `percent` of all values do not exceed; 0 if there are
    /// none.
    ///
    /// Never below the true value and at most 6.25 % above it, for values up to 18 minutes. A
    /// `percent` outside 0 to 100 is moved to the nearer end.
    pub fn percentile(&self, percent: f64) -> u64 {
        let count = self.count();
        let rank = (percent.clamp(0.0, 100.0) / 100.0 * count as f64).ceil() as u64;
        let mut left = rank.clamp(1, count.max(1));
        for (bucket, &in_bucket) in self.counts.iter().enumerate() {
            if in_bucket >= left {
                return upper_end_ns(bucket);
            }
            left -= in_bucket;
        }
        0
    }

    /// Gives the largest recorded value in nanoseconds, with the error of all values; 0 if there
    /// are none.
    pub fn max(&self) -> u64 {
        self.counts.iter().rposition(|&count| count > 0).map_or(0, upper_end_ns)
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *ours += theirs;
        }
    }
}

impl fmt::Debug for HistogramSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistogramSnapshot")
            .field("count", &self.count())
            .field("p50_ns", &self.percentile(50.0))
            .field("p99_ns", &self.percentile(99.0))
            .field("max_ns", &self.max())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> HistogramSnapshot {
        let histogram = Histogram::new();
        values.into_iter().for_each(|ns| histogram.record(ns));
        histogram.snapshot()
    }

    /// Powers of two and their neighbours, and points spread between them.
    fn probes() -> impl Iterator<Item = u64> {
        let edges = (0..MAX_BITS).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let between = (0..200_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (24 + n % 40));
        edges.chain(between).filter(|&ns| ns < 1 << MAX_BITS)
    }

    #[test]
    fn a_value_is_told_at_most_six_and_a_quarter_percent_too_large() {
        for ns in probes() {
            let told = upper_end_ns(bucket_of(ns));
            assert!(told >= ns, "{ns} told as {told}");
            assert!((told - ns) as f64 <= 0.0625 * ns as f64, "{ns} told as {told}");
        }
    }

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        for bucket in 0..BUCKETS - 1 {
            assert_eq!(bucket_of(upper_end_ns(bucket)), bucket);
            assert_eq!(bucket_of(upper_end_ns(bucket) + 1), bucket + 1);
        }
        assert_eq!(upper_end_ns(BUCKETS - 1), (1 << MAX_BITS) - 1);
    }

    #[test]
    fn values_beyond_the_range_fall_into_the_last_bucket() {
        for ns in [1 << MAX_BITS, u64::MAX] {
            assert_eq!(bucket_of(ns), BUCKETS - 1);
        }
    }

    #[test]
    fn percentiles_are_within_the_bound_of_the_sorted_values() {
        let mut values: Vec<u64> = probes().collect();
        let snapshot = of(values.iter().copied());
        values.sort_unstable();
        for percent in [0.0, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
            let rank = ((percent / 100.0 * values.len() as f64).ceil() as usize).max(1);
            let truth = values[rank - 1];
            let told = snapshot.percentile(percent);
            assert!(told >= truth && (told - truth) as f64 <= 0.0625 * truth as f64, "p{percent}: {told} for {truth}");
        }
        assert_eq!(snapshot.count(), values.len() as u64);
        assert_eq!(snapshot.max(), snapshot.percentile(100.0));
    }

    #[test]
    fn an_empty_histogram_tells_zeros() {
        let snapshot = of([]);
        assert_eq!((snapshot.count(), snapshot.percentile(50.0), snapshot.max()), (0, 0, 0));
    }

    #[test]
    fn merged_histograms_equal_one_that_saw_everything() {
        let mut merged = of([1, 20, 300]);
        merged.merge(&of([20, 4_000_000]));
        assert_eq!(merged, of([1, 20, 20, 300, 4_000_000]));
    }
}
