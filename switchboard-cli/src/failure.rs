//! What the program says when it cannot go on: a sentence, and the cause below it.

use std::error::Error;

/// The result of everything in this program that can fail.
pub type Result<T> = std::result::Result<T, Failure>;

/// A sentence about what could not be done, and why.
///
/// The program's users read errors and do not match on them, so one type is enough.
#[derive(Debug)]
pub struct Failure {
    what: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure without a deeper cause.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None }
    }
}

/// The whole chain on one line, outermost first.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        let mut cause = self.cause.as_deref().map(|cause| cause as &dyn Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for Failure {}

/// Adds to an error what was being done.
pub trait Explain<T> {
    /// Turns the error into a [`Failure`] that begins with `what`.
    ///
    /// # Errors
    /// The error of `self`, explained.
    fn explain(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Explain<T> for std::result::Result<T, E> {
    fn explain(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Failure { what: what(), cause: Some(cause.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_what_was_done_and_every_cause() {
        let inner: Result<()> = Err(std::io::Error::other("disk is full")).explain(|| "cannot write `a`".into());
        let outer = inner.explain(|| "cannot save".into()).expect_err("it is an error");
        assert_eq!(outer.to_string(), "cannot save: cannot write `a`: disk is full");
    }
}
