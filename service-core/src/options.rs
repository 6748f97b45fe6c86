//! What a caller may say about a single call.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::metadata::{Metadata, Priority, TraceContext};

/// What a client says about its calls, beside their arguments. Cheap to clone.
///
/// What is not said is what the method's own attributes say, then what the call inherits from the one that is being
/// answered, if it is made by a handler.
///
/// ```
/// use std::time::Duration;
/// use service_core::{CallOptions, Priority};
///
/// let options = CallOptions::new().timeout(Duration::from_millis(50)).priority(Priority::High).baggage("user", "ada");
/// # drop(options);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallOptions {
    timeout: Option<Duration>,
    /// Nothing, in the usual case.
    metadata: Option<Arc<Metadata>>,
    says_priority: bool,
}

impl CallOptions {
    /// Says nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends a call after this time at the latest.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Says how urgent a call is.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.says_priority = true;
        self.metadata_mut().priority = priority;
        self
    }

    /// Says where a call belongs in a trace.
    #[must_use]
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.metadata_mut().trace = Some(trace);
        self
    }

    /// Adds a name and a value that all who are called on the way can read.
    #[must_use]
    pub fn baggage(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata_mut().baggage.push((name.into(), value.into()));
        self
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        Arc::make_mut(self.metadata.get_or_insert_default())
    }

    /// The timeout of a call of a method that has one of its own, or none.
    #[doc(hidden)]
    #[inline]
    pub fn timeout_or(&self, method: Option<Duration>) -> Option<Duration> {
        self.timeout.or(method)
    }

    /// What travels beside the arguments of a usual method.
    #[doc(hidden)]
    #[inline]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_deref()
    }

    /// The same of a method that has a priority of its own.
    #[doc(hidden)]
    pub fn metadata_of(&self, method: Priority) -> Cow<'_, Metadata> {
        match &self.metadata {
            Some(metadata) if self.says_priority => Cow::Borrowed(metadata),
            Some(metadata) => Cow::Owned(Metadata { priority: method, ..Metadata::clone(metadata) }),
            None => Cow::Owned(Metadata { priority: method, ..Metadata::default() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_word_on_priority_goes_before_the_methods() {
        let usual = CallOptions::new();
        assert_eq!(usual.metadata(), None, "nothing travels that nobody said");
        assert_eq!(usual.metadata_of(Priority::High).priority, Priority::High);
        let carrying = usual.baggage("user", "ada");
        assert_eq!(carrying.metadata_of(Priority::High).priority, Priority::High);
        assert_eq!(carrying.metadata_of(Priority::High).baggage.len(), 1);
        let urgent = carrying.priority(Priority::Low);
        assert_eq!(urgent.metadata_of(Priority::High).priority, Priority::Low);
    }

    #[test]
    fn the_callers_timeout_goes_before_the_methods() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(CallOptions::new().timeout_or(Some(minute)), Some(minute));
        assert_eq!(CallOptions::new().timeout(second).timeout_or(Some(minute)), Some(second));
        assert_eq!(CallOptions::new().timeout_or(None), None);
    }
}
