//! Measuring against a floor that flips: short chunks, each with the floor before and after it.
//!
//! The host moves the virtual cores without notice: at times they share a cache, at times not, and every figure of a
//! ring changes three- to ten-fold with it. So a figure counts only beside a floor of the same moment. A chunk is kept
//! if the floors around it agree and say clearly in which class the machine was; ratios are compared only within one
//! class; a class with too few chunks says nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::subject::{Failure, Samples, Subject};

/// Chunks of one class below which nothing is said about it.
pub const ENOUGH_CHUNKS: usize = 21;
/// How far the floors around a chunk may differ: the larger divided by the smaller.
const FLOORS_AGREE: f64 = 1.15;
/// A line each way below this: the cores share a cache.
const NEAR_BELOW_NS: f64 = 180.0;
/// A line each way above this: they do not.
const FAR_ABOVE_NS: f64 = 250.0;
/// A futex wake each way above this: both sides do sleep. Waking an idle core takes 10 us or more each way.
const ASLEEP_ABOVE_NS: f64 = 10_000.0;
/// A chunk below this part of its floor was not made in the floor's state: nothing is that much faster than its limit.
const IMPOSSIBLE_BELOW: f64 = 0.5;

/// In which of its states the machine was. Figures of different classes are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The two cores share a cache.
    Near,
    /// The two cores do not share a cache.
    Far,
    /// Both sides sleep: waking the other core outweighs where it is.
    Asleep,
}

/// How a floor tells the class of the moment, from its median in nanoseconds; `None` if it is between two.
pub type Classify = fn(f64) -> Option<Class>;

/// The class by the round trip of a cache line each way.
#[must_use]
pub fn by_line_floor(floor_ns: f64) -> Option<Class> {
    if floor_ns < NEAR_BELOW_NS {
        Some(Class::Near)
    } else if floor_ns > FAR_ABOVE_NS {
        Some(Class::Far)
    } else {
        None
    }
}

/// Sleeping, or not, by the round trip of a futex wake each way.
///
/// At times each side answers before the other has gone to sleep, and keeps doing so: then nobody sleeps at all.
#[must_use]
pub fn by_futex_floor(floor_ns: f64) -> Option<Class> {
    (floor_ns > ASLEEP_ABOVE_NS).then_some(Class::Asleep)
}

/// How long to measure what.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// One chunk of a subject. At most 50 ms: the machine flips in seconds.
    pub chunk: Duration,
    /// The end of it all, however few chunks were kept.
    pub budget: Duration,
    /// Enough of the wanted class to stop before the budget is used up.
    pub wanted_chunks: usize,
    /// The class in which all bars of the row can be judged.
    pub wanted_class: Class,
}

/// One kept chunk.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Kept {
    /// Median round trip of the chunk.
    pub median_ns: f64,
    /// Mean of the floors before and after it.
    pub floor_ns: f64,
}

/// All that was measured of one subject.
#[derive(Debug)]
pub struct Series {
    /// The subject's name.
    pub name: &'static str,
    /// The kept chunks of each class.
    pub kept: BTreeMap<Class, Vec<Kept>>,
    /// Single round trips of the kept chunks of each class, in nanoseconds.
    pub spread: BTreeMap<Class, Histogram<u64>>,
    /// Chunks dropped because the floors around them disagreed.
    pub floors_disagreed: usize,
    /// Chunks dropped because the floors agreed on a value between the classes, or the chunk was in another class.
    pub class_unclear: usize,
}

impl Series {
    fn new(name: &'static str) -> Self {
        Self { name, kept: BTreeMap::new(), spread: BTreeMap::new(), floors_disagreed: 0, class_unclear: 0 }
    }

    /// How many chunks of this class were kept.
    #[must_use]
    pub fn kept_of(&self, class: Class) -> usize {
        self.kept.get(&class).map_or(0, Vec::len)
    }

    /// Median over the kept chunks of (chunk's median / its floor); `None` if the class has too few.
    #[must_use]
    pub fn ratio_to_floor(&self, class: Class) -> Option<f64> {
        let chunks = self.kept.get(&class).filter(|chunks| chunks.len() >= ENOUGH_CHUNKS)?;
        Some(median(chunks.iter().map(|chunk| chunk.median_ns / chunk.floor_ns).collect()))
    }

    fn add(&mut self, samples: &Samples, before_ns: f64, after_ns: f64, classify: Classify) -> Result<(), Failure> {
        let floor_ns = f64::midpoint(before_ns, after_ns);
        if before_ns.max(after_ns) > FLOORS_AGREE * before_ns.min(after_ns) {
            self.floors_disagreed += 1;
            return Ok(());
        }
        // Both ends must say the same: a pair astride a border is not clear, even if its mean is.
        let (Some(class), true) = (classify(before_ns), classify(before_ns) == classify(after_ns)) else {
            self.class_unclear += 1;
            return Ok(());
        };
        let median_ns = f64::from(samples.median_ns());
        if median_ns < IMPOSSIBLE_BELOW * floor_ns {
            self.class_unclear += 1;
            return Ok(());
        }
        self.kept.entry(class).or_default().push(Kept { median_ns, floor_ns });
        self.record(class, samples)
    }

    fn record(&mut self, class: Class, samples: &Samples) -> Result<(), Failure> {
        let spread = match self.spread.entry(class) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Histogram::new(3)?),
        };
        for &sample in samples.nanoseconds() {
            spread.record(u64::from(sample))?;
        }
        Ok(())
    }
}

/// Measures all subjects by turns, the floor between any two of them. The last series is the floor's own.
///
/// # Errors
/// The first error of a subject or of the floor.
pub fn collect(
    plan: &Plan,
    classify: Classify,
    floor: &mut dyn Subject,
    subjects: &mut [&mut dyn Subject],
) -> Result<Vec<Series>, Failure> {
    // Two buffers: a chunk waits in one until the floor after it has been measured into the other.
    let (mut chunk, mut beside) = (Samples::new(), Samples::new());
    let mut series: Vec<Series> = subjects.iter().map(|subject| Series::new(subject.name())).collect();
    let mut floors = Series::new(floor.name());
    let end = Instant::now() + plan.budget;
    let mut before_ns = measure_floor(plan, classify, floor, &mut floors, &mut beside)?;
    while Instant::now() < end && series.iter().any(|one| one.kept_of(plan.wanted_class) < plan.wanted_chunks) {
        for (subject, series) in subjects.iter_mut().zip(&mut series) {
            subject.run(plan.chunk, &mut chunk)?;
            let after_ns = measure_floor(plan, classify, floor, &mut floors, &mut beside)?;
            series.add(&chunk, before_ns, after_ns, classify)?;
            before_ns = after_ns;
        }
    }
    series.push(floors);
    Ok(series)
}

fn measure_floor(
    plan: &Plan,
    classify: Classify,
    floor: &mut dyn Subject,
    floors: &mut Series,
    samples: &mut Samples,
) -> Result<f64, Failure> {
    floor.run(plan.chunk, samples)?;
    let median_ns = f64::from(samples.median_ns());
    floors.add(samples, median_ns, median_ns, classify)?;
    Ok(median_ns)
}

/// The median; 0 for nothing.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A subject whose round trips take no time, with the floors that a test says.
    fn series_with(floors: &[(f64, f64)]) -> Series {
        let mut series = Series::new("subject");
        let mut samples = Samples::new();
        samples
            .time(Duration::ZERO, |_| {
                std::thread::yield_now();
                Ok(())
            })
            .expect("nothing can fail");
        for &(before_ns, after_ns) in floors {
            series.add(&samples, before_ns, after_ns, |_| Some(Class::Near)).expect("a histogram takes any sample");
        }
        series
    }

    #[test]
    fn a_chunk_between_disagreeing_floors_is_dropped() {
        let series = series_with(&[(0.1, 0.1), (0.1, 0.2)]);
        assert_eq!((series.kept_of(Class::Near), series.floors_disagreed), (1, 1));
    }

    #[test]
    fn a_chunk_faster_than_its_limit_is_dropped() {
        let series = series_with(&[(1e12, 1e12)]);
        assert_eq!((series.kept_of(Class::Near), series.class_unclear), (0, 1));
    }

    #[test]
    fn twenty_chunks_say_nothing_and_twenty_one_do() {
        assert!(series_with(&[(0.1, 0.1); 20]).ratio_to_floor(Class::Near).is_none());
        assert!(series_with(&[(0.1, 0.1); 21]).ratio_to_floor(Class::Near).is_some());
    }

    #[test]
    fn a_floor_between_near_and_far_is_unclear() {
        assert_eq!(by_line_floor(98.0), Some(Class::Near));
        assert_eq!(by_line_floor(200.0), None);
        assert_eq!(by_line_floor(379.0), Some(Class::Far));
        assert_eq!(by_futex_floor(700.0), None);
    }
}
