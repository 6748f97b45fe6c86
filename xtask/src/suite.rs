//! What a suite is and what it comes to.

/// How a suite ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was checked and holds.
    Passed,
    /// Some of it does not hold; the text says what, and how to see it again.
    Failed(String),
    /// Some of it could not be checked on this machine; the text says what. The rest holds.
    Skipped(String),
}

/// A named part of `cargo xtask test`.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// Its name in the summary and on the command line.
    pub name: &'static str,
    /// Runs it, streaming its output.
    pub run: fn() -> Outcome,
}

impl Outcome {
    /// `Passed` if there are no findings; else fails with the first of them in the summary, all of them printed.
    pub fn of_findings(findings: &[String]) -> Self {
        for finding in findings {
            eprintln!("  {finding}");
        }
        match findings {
            [] => Self::Passed,
            [only] => Self::Failed(only.clone()),
            [first, rest @ ..] => Self::Failed(format!("{first} (and {} more)", rest.len())),
        }
    }

    /// Runs `next` if this passed or was skipped; a skip is remembered.
    pub fn and_then(self, next: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Failed(_) => self,
            Self::Passed => next(),
            Self::Skipped(why) => match next() {
                Self::Passed => Self::Skipped(why),
                other => other,
            },
        }
    }
}
