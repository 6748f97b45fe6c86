//! What whoever reads a connection's socket leaves for the others.

use shm_ring::Error;

/// Questions that are open, and answers that nobody has taken.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Sizes of blocks that were asked for and not answered yet, each once.
    pub(super) asked: Vec<u64>,
    /// Refusals that nobody has taken yet.
    pub(super) refused: Vec<(u64, String)>,
    /// Sealed requests that the service was told of, by number, each with its answer once that is there.
    pub(super) announced: Vec<(u64, Option<Result<(), String>>)>,
    /// The number of the next one.
    pub(super) next_number: u64,
}

impl Reading {
    /// A block of `len` bytes is not asked for any more.
    ///
    /// # Errors
    /// [`Error::BadMessage`] if it was not: who may answer unasked is listened to, and what it says is kept, for ever.
    pub(super) fn is_answered(&mut self, len: u64) -> Result<(), Error> {
        let Some(at) = self.asked.iter().position(|asked| *asked == len) else {
            let what = format!("an answer about {len} bytes, for which nobody asked");
            return Err(Error::BadMessage { during: "growing", what });
        };
        self.asked.swap_remove(at);
        Ok(())
    }

    /// Notes the answer to an announcement; what is withdrawn by now has none.
    pub(super) fn answer(&mut self, number: u64, answer: Result<(), String>) {
        if let Some((_, place)) = self.announced.iter_mut().find(|(known, _)| *known == number) {
            *place = Some(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_nobody_asked_for_is_refused() {
        let mut reading = Reading { asked: vec![64, 128], ..Reading::default() };
        assert!(matches!(reading.is_answered(65), Err(Error::BadMessage { .. })));
        assert!(reading.is_answered(64).is_ok());
        assert!(reading.is_answered(64).is_err(), "answered already");
        assert_eq!(reading.asked, [128]);
    }
}
