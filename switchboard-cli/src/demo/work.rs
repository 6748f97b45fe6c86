//! The real work: every test image is recognised, by our service and by the same thing behind a plain socket.

use std::time::Duration;

use super::progress::Progress;
use crate::data::{Example, Image};
use crate::failure::{Failure, Result};
use crate::knn::Recognised;
use crate::samples::{Samples, Series};

/// How long the rounds may take together; a slow build makes fewer of them.
const BUDGET: Duration = Duration::from_secs(4);

/// Enough that one flip of the machine does not decide a median.
const MOST_ROUNDS: usize = 41;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Work {
    /// How many images there were.
    pub images: usize,
    /// How many of them our service recognised as what they are.
    pub right: usize,
    /// One call per image to our service.
    pub ours: Series,
    /// The same over the Unix socket.
    pub socket: Series,
}

/// Lets both recognise all of `tests` in turn, round after round.
///
/// # Errors
/// When a call fails, or the two do not give the same answers.
pub fn run(
    tests: &[Example],
    mut ours: impl FnMut(&Image) -> Result<Recognised>,
    mut socket: impl FnMut(&Image) -> Result<Recognised>,
    progress: &mut Progress,
) -> Result<Work> {
    // Unmeasured: connections, caches and branch predictors get warm, and the answers are compared.
    let mut right = 0;
    for (number, test) in tests.iter().enumerate() {
        let (guess, theirs) = (ours(&test.image)?, socket(&test.image)?);
        if guess != theirs {
            return Err(Failure::new(format!("image {number}: the service says {guess:?}, the socket {theirs:?}")));
        }
        right += usize::from(guess.digit == test.digit);
        progress.at(number, tests.len());
    }
    let mut work = Work { images: tests.len(), right, ..Work::default() };
    progress.rounds(MOST_ROUNDS, BUDGET, || {
        work.ours.push(time_round(tests, &mut ours)?);
        work.socket.push(time_round(tests, &mut socket)?);
        Ok(())
    })?;
    Ok(work)
}

fn time_round(tests: &[Example], recognise: &mut impl FnMut(&Image) -> Result<Recognised>) -> Result<Samples> {
    let mut images = tests.iter().cycle();
    Samples::time(tests.len(), 1, || images.next().map_or(Ok(()), |test| recognise(&test.image).map(drop)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;
    use crate::knn::Knn;

    #[test]
    fn accuracy_counts_each_image_once_however_many_rounds_there_are() {
        let knn = Knn::learn(data::learning());
        let recognise = |image: &Image| knn.recognise(image).map_err(|bad| Failure::new(bad.to_string()));
        let tests = &data::testing()[..20];
        let work = run(tests, recognise, recognise, &mut Progress::new()).expect("both answer");
        let right = tests.iter().filter(|test| recognise(&test.image).is_ok_and(|g| g.digit == test.digit)).count();
        assert_eq!((work.images, work.right), (20, right));
        assert_eq!(work.ours.count(), work.socket.count());
    }

    #[test]
    fn answers_that_differ_are_no_result() {
        let says = |digit| move |_: &Image| Ok(Recognised { digit, votes: 3, distance: 1 });
        let told = run(&data::testing()[..1], says(3), says(8), &mut Progress::new()).expect_err("3 is not 8");
        assert!(told.to_string().starts_with("image 0: the service says Recognised { digit: 3"), "{told}");
    }
}
