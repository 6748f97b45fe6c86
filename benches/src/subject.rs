//! What is measured: something that makes one round trip after the other, or sends one message after the other.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::payload::{self, Payload};

/// Why a run cannot go on; told to the person who started it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Round trips before the timed ones, so that both sides are awake and their caches warm.
const WARM_CALLS: u64 = 32;
/// Room for the samples of one chunk; a chunk ends early when it is used up.
const MOST_SAMPLES: usize = 1 << 20;

/// One system under measurement, already connected to its peer process.
pub trait Subject {
    /// The name in tables and in JSON.
    fn name(&self) -> &str;

    /// What its figure is a time of.
    fn unit(&self) -> Unit {
        Unit::RoundTrip
    }

    /// Works for about `time` and gives the figure of this chunk in nanoseconds: the median round trip, or the mean time
    /// for a message. Single round trips are left in `samples`, which is empty before.
    ///
    /// When it returns, the peer leaves the other processor alone, so that the next subject has it for itself.
    ///
    /// # Errors
    /// A round trip failed, a reply was not the answer to its request, or a message was not what had been sent.
    fn run(&mut self, time: Duration, samples: &mut Samples) -> Result<f64, Failure>;
}

/// What a subject's figure is a time of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A message there and its answer back: nothing is faster than the floor beside it.
    RoundTrip,
    /// One message of many on their way: their times overlap.
    Message {
        /// Its payload.
        bytes: usize,
    },
}

/// Durations of single round trips, the cost of reading the clock taken off.
#[derive(Debug)]
pub struct Samples {
    nanoseconds: Vec<u32>,
    clock_ns: u32,
}

impl Samples {
    /// Measures the clock and makes room for a chunk.
    #[must_use]
    pub fn new() -> Self {
        Self { nanoseconds: Vec::with_capacity(MOST_SAMPLES), clock_ns: clock_cost_ns() }
    }

    /// What one look at the clock costs here, in nanoseconds. Already taken off every sample.
    #[must_use]
    pub fn clock_ns(&self) -> u32 {
        self.clock_ns
    }

    /// The samples of the last chunk in nanoseconds, in the order of the calls.
    #[must_use]
    pub fn nanoseconds(&self) -> &[u32] {
        &self.nanoseconds
    }

    /// The median of the last chunk in nanoseconds, or 0 if it is empty. Reorders nothing.
    #[must_use]
    pub fn median_ns(&self) -> f64 {
        let mut copy = self.nanoseconds.clone();
        let middle = copy.len() / 2;
        if copy.is_empty() { 0.0 } else { f64::from(*copy.select_nth_unstable(middle).1) }
    }

    /// Forgets the last chunk.
    pub fn clear(&mut self) {
        self.nanoseconds.clear();
    }

    /// Adds a round trip that was timed elsewhere, without taking the clock's cost off.
    pub fn add(&mut self, took: Duration) {
        self.nanoseconds.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
    }

    /// Forgets the last chunk, times `round_trip` again and again for about `time`, and gives the median.
    ///
    /// The end of one round trip is the beginning of the next: one look at the clock for each.
    ///
    /// # Errors
    /// The first error of `round_trip`, which is given the number of the round trip.
    pub fn time(
        &mut self,
        time: Duration,
        mut round_trip: impl FnMut(u64) -> Result<(), Failure>,
    ) -> Result<f64, Failure> {
        self.clear();
        for number in 0..WARM_CALLS {
            round_trip(number)?;
        }
        let start = Instant::now();
        let mut before = start;
        for number in WARM_CALLS..WARM_CALLS + MOST_SAMPLES as u64 {
            round_trip(number)?;
            let now = Instant::now();
            let took = u32::try_from(now.duration_since(before).as_nanos()).unwrap_or(u32::MAX);
            self.nanoseconds.push(took.saturating_sub(self.clock_ns));
            if now.duration_since(start) >= time {
                break;
            }
            before = now;
        }
        Ok(self.median_ns())
    }

    /// Times calls that carry the common payload, checks each reply, and gives the median.
    ///
    /// # Errors
    /// The first error of `call`, or the first reply that is not the answer to its request.
    pub fn time_calls(
        &mut self,
        time: Duration,
        mut call: impl FnMut(Payload) -> Result<Payload, Failure>,
    ) -> Result<f64, Failure> {
        self.time(time, |number| {
            let reply = call(payload::request(number))?;
            if payload::is_answer_to(number, &reply) {
                Ok(())
            } else {
                Err(format!("the reply to request {number} is not its answer").into())
            }
        })
    }
}

/// The median cost of two looks at the clock directly after each other.
fn clock_cost_ns() -> u32 {
    let mut costs = Vec::with_capacity(4096);
    for _ in 0..4096 {
        let before = Instant::now();
        let after = Instant::now();
        costs.push(u32::try_from(after.duration_since(before).as_nanos()).unwrap_or(u32::MAX));
    }
    let middle = costs.len() / 2;
    *costs.select_nth_unstable(middle).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_to_another_request_ends_the_run() {
        let mut samples = Samples::new();
        let old = payload::answer(&payload::request(0)).expect("the checksum is right");
        let error = samples.time_calls(Duration::from_millis(1), |_| Ok(old)).expect_err("request 1 got reply 0");
        assert_eq!(error.to_string(), "the reply to request 1 is not its answer");
    }

    #[test]
    fn a_chunk_forgets_the_samples_of_the_last_one() {
        let mut samples = Samples::new();
        samples.time(Duration::from_millis(1), |_| Ok(())).expect("nothing can fail");
        samples.time(Duration::ZERO, |_| Ok(())).expect("nothing can fail");
        assert_eq!(samples.nanoseconds().len(), 1);
    }
}
