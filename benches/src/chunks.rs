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

use crate::subject::{Failure, Samples, Subject, Unit};

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
/// Round trips below this part of the floor were not made in its state: nothing is that much faster than its limit.
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
    /// Enough of one class to stop before the budget is used up.
    pub wanted_chunks: usize,
    /// The classes in each of which all bars of the row can be judged; one of them suffices.
    pub wanted_classes: &'static [Class],
}

impl Plan {
    fn has_enough(&self, series: &[Series]) -> bool {
        self.wanted_classes.iter().any(|&class| series.iter().all(|one| one.kept_of(class) >= self.wanted_chunks))
    }
}

/// One kept chunk.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Kept {
    /// Median round trip of the chunk, or its mean time for a message.
    pub figure_ns: f64,
    /// Mean of the floors before and after it.
    pub floor_ns: f64,
}

/// All that was measured of one subject.
#[derive(Debug)]
pub struct Series {
    /// The subject's name.
    pub name: String,
    /// What its figures are times of.
    pub unit: Unit,
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
    fn new(subject: &dyn Subject) -> Self {
        Self {
            name: subject.name().to_owned(),
            unit: subject.unit(),
            kept: BTreeMap::new(),
            spread: BTreeMap::new(),
            floors_disagreed: 0,
            class_unclear: 0,
        }
    }

    /// How many chunks of this class were kept.
    #[must_use]
    pub fn kept_of(&self, class: Class) -> usize {
        self.kept.get(&class).map_or(0, Vec::len)
    }

    /// Median over the kept chunks of (chunk's figure / its floor); `None` if the class has too few.
    #[must_use]
    pub fn ratio_to_floor(&self, class: Class) -> Option<f64> {
        let chunks = self.kept.get(&class).filter(|chunks| chunks.len() >= ENOUGH_CHUNKS)?;
        Some(median(chunks.iter().map(|chunk| chunk.figure_ns / chunk.floor_ns).collect()))
    }

    /// Median figure of the kept chunks; `None` if the class has too few.
    #[must_use]
    pub fn median_ns(&self, class: Class) -> Option<f64> {
        let chunks = self.kept.get(&class).filter(|chunks| chunks.len() >= ENOUGH_CHUNKS)?;
        Some(median(chunks.iter().map(|chunk| chunk.figure_ns).collect()))
    }

    /// How many times as fast as `other`, by the medians; `None` if the class has too few chunks of either.
    ///
    /// For what does not grow with the floor, such as the time of one message among many.
    #[must_use]
    pub fn times_as_fast_as(&self, other: &Self, class: Class) -> Option<f64> {
        Some(other.median_ns(class)? / self.median_ns(class)?)
    }

    fn add(&mut self, chunk: &Chunk<'_>, classify: Classify) -> Result<(), Failure> {
        let Chunk { figure_ns, samples, before_ns, after_ns } = *chunk;
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
        if self.unit == Unit::RoundTrip && figure_ns < IMPOSSIBLE_BELOW * floor_ns {
            self.class_unclear += 1;
            return Ok(());
        }
        self.kept.entry(class).or_default().push(Kept { figure_ns, floor_ns });
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

/// One chunk as measured, with the floors around it.
struct Chunk<'a> {
    figure_ns: f64,
    samples: &'a Samples,
    before_ns: f64,
    after_ns: f64,
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
    let (mut samples, mut beside) = (Samples::new(), Samples::new());
    let mut series: Vec<Series> = subjects.iter().map(|subject| Series::new(&**subject)).collect();
    let mut floors = Series::new(floor);
    let end = Instant::now() + plan.budget;
    let mut measure_floor = || {
        beside.clear();
        let ns = floor.run(plan.chunk, &mut beside)?;
        let chunk = Chunk { figure_ns: ns, samples: &beside, before_ns: ns, after_ns: ns };
        floors.add(&chunk, classify)?;
        Ok::<f64, Failure>(ns)
    };
    let mut before_ns = measure_floor()?;
    while Instant::now() < end && !plan.has_enough(&series) {
        for (subject, series) in subjects.iter_mut().zip(&mut series) {
            samples.clear();
            let figure_ns = subject.run(plan.chunk, &mut samples)?;
            let after_ns = measure_floor()?;
            series.add(&Chunk { figure_ns, samples: &samples, before_ns, after_ns }, classify)?;
            before_ns = after_ns;
        }
    }
    series.push(floors);
    Ok(series)
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

    /// A subject whose figure is always 1 ns.
    struct Constant(Unit);

    impl Subject for Constant {
        fn name(&self) -> &str {
            "subject"
        }

        fn unit(&self) -> Unit {
            self.0
        }

        fn run(&mut self, _time: Duration, _samples: &mut Samples) -> Result<f64, Failure> {
            Ok(1.0)
        }
    }

    /// Chunks of that subject with the floors that a test says.
    fn series_with(unit: Unit, floors: &[(f64, f64)]) -> Series {
        let mut series = Series::new(&Constant(unit));
        let samples = Samples::new();
        for &(before_ns, after_ns) in floors {
            let chunk = Chunk { figure_ns: 1.0, samples: &samples, before_ns, after_ns };
            series.add(&chunk, |_| Some(Class::Near)).expect("a histogram takes any sample");
        }
        series
    }

    #[test]
    fn a_chunk_between_disagreeing_floors_is_dropped() {
        let series = series_with(Unit::RoundTrip, &[(0.1, 0.1), (0.1, 0.2)]);
        assert_eq!((series.kept_of(Class::Near), series.floors_disagreed), (1, 1));
    }

    #[test]
    fn a_chunk_faster_than_its_limit_is_dropped() {
        let series = series_with(Unit::RoundTrip, &[(1e12, 1e12)]);
        assert_eq!((series.kept_of(Class::Near), series.class_unclear), (0, 1));
    }

    #[test]
    fn a_message_may_be_faster_than_a_round_trip() {
        let series = series_with(Unit::Message { bytes: 8 }, &[(1e3, 1e3)]);
        assert_eq!((series.kept_of(Class::Near), series.class_unclear), (1, 0));
    }

    #[test]
    fn two_subjects_are_compared_where_both_have_enough_chunks() {
        let mut slow = series_with(Unit::RoundTrip, &[(1.0, 1.0); 21]);
        let fast = series_with(Unit::RoundTrip, &[(1.0, 1.0); 21]);
        for chunk in slow.kept.get_mut(&Class::Near).expect("kept above") {
            chunk.figure_ns = 3.0;
        }
        assert_eq!(fast.times_as_fast_as(&slow, Class::Near), Some(3.0));
        slow.kept.get_mut(&Class::Near).expect("kept above").pop();
        assert_eq!(fast.times_as_fast_as(&slow, Class::Near), None);
    }

    #[test]
    fn twenty_chunks_say_nothing_and_twenty_one_do() {
        assert!(series_with(Unit::RoundTrip, &[(0.1, 0.1); 20]).ratio_to_floor(Class::Near).is_none());
        assert!(series_with(Unit::RoundTrip, &[(0.1, 0.1); 21]).ratio_to_floor(Class::Near).is_some());
    }

    #[test]
    fn a_floor_between_near_and_far_is_unclear() {
        assert_eq!(by_line_floor(98.0), Some(Class::Near));
        assert_eq!(by_line_floor(200.0), None);
        assert_eq!(by_line_floor(379.0), Some(Class::Far));
        assert_eq!(by_futex_floor(700.0), None);
    }
}
