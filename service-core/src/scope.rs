//! What calls that a handler makes inherit from the call that it answers.
//!
//! A transport enters a scope around each handler, and around each poll of an asynchronous one. Clients look whether they
//! are called in one: a thread-local look-up, and nothing more outside of handlers.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::task::{Context as Wakers, Poll};
use std::time::Duration;

use crate::context::Deadline;
use crate::metadata::Metadata;
use crate::status::{Code, Outcome, Status};

/// How many calls of handlers may be above a call: a chain that comes back to where it was ends, however many workers
/// there are.
pub const MAX_CALL_DEPTH: u8 = 32;

/// The call that is being answered, as calls made for it see it.
pub trait Scope: Send + Sync {
    /// By when its caller wants the answer.
    fn deadline(&self) -> Option<Deadline>;

    /// Whether nobody waits for the answer any more.
    fn is_cancelled(&self) -> bool;

    /// The same for a task: is woken when that comes about. Not for the deadline, which calls inherit.
    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()>;

    /// What came beside its arguments.
    fn metadata(&self) -> Option<Arc<Metadata>>;

    /// The thread is about to wait for another service, perhaps for long; `false`: it must not, since nobody would be left
    /// to answer. Each `true` is followed by one [`resumed`](Self::resumed).
    fn about_to_wait(&self) -> bool {
        true
    }

    /// The wait is over.
    fn resumed(&self) {}
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Scope>>> = const { RefCell::new(None) };
    /// Whether there is one: a look that costs next to nothing, for callers that are in none.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn replace(scope: Option<Arc<dyn Scope>>) -> Option<Arc<dyn Scope>> {
    INSIDE.set(scope.is_some());
    // Fails only while the thread ends, when no scope is of any use.
    CURRENT.try_with(|current| current.replace(scope)).ok().flatten()
}

/// Makes a scope the thread's own until the guard is dropped.
#[must_use = "the scope ends with the guard"]
pub fn enter(scope: Arc<dyn Scope>) -> Entered {
    Entered { before: replace(Some(scope)) }
}

/// The scope that this thread is in.
#[inline]
pub fn current() -> Option<Arc<dyn Scope>> {
    if INSIDE.get() { inner() } else { None }
}

#[cold]
fn inner() -> Option<Arc<dyn Scope>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// What a call gets that is made in a scope.
#[derive(Debug)]
pub struct Inherited {
    /// How long it may take: no longer than the scope's own caller waits.
    pub timeout: Option<Duration>,
    /// What goes beside its arguments.
    pub metadata: Metadata,
}

impl Inherited {
    /// From the scope, for a call with this timeout and these metadata of its own. What the call says for itself about
    /// trace and urgency holds; baggage is added to the scope's.
    ///
    /// # Errors
    /// Not run: `Cancelled` or `DeadlineExceeded` if nobody waits for the scope's answer any more, `FailedPrecondition` if
    /// more than [`MAX_CALL_DEPTH`] calls would be above this one.
    pub fn from(scope: &dyn Scope, timeout: Option<Duration>, own: Option<&Metadata>) -> Result<Self, Status> {
        let refused = |code, text: String| Err(Status::new(code, Outcome::NotRun, text));
        if scope.is_cancelled() {
            return refused(Code::Cancelled, "nobody waits any more for the call that makes this one".to_owned());
        }
        let left = scope.deadline().map(|deadline| deadline.remaining().unwrap_or(Duration::ZERO));
        if left == Some(Duration::ZERO) {
            let text = "the deadline of the call that makes this one has passed".to_owned();
            return refused(Code::DeadlineExceeded, text);
        }
        let above = scope.metadata();
        let depth = above.as_ref().map_or(0, |above| above.depth);
        if depth >= MAX_CALL_DEPTH {
            return refused(Code::FailedPrecondition, format!("call chain too deep: {depth} calls are above this one"));
        }
        let mut metadata = own.cloned().unwrap_or_default();
        if let Some(above) = above {
            metadata.trace = metadata.trace.or(above.trace);
            let named: Vec<_> = metadata.baggage.iter().map(|(name, _)| name.clone()).collect();
            let added = above.baggage.iter().filter(|(name, _)| !named.contains(name));
            metadata.baggage.extend(added.cloned());
            if metadata.priority == Default::default() {
                metadata.priority = above.priority;
            }
        }
        metadata.depth = depth + 1;
        Ok(Self { timeout: [timeout, left].into_iter().flatten().min(), metadata })
    }
}

/// A scope that was entered; the one before comes back when it is dropped.
pub struct Entered {
    before: Option<Arc<dyn Scope>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        replace(self.before.take());
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed {
        deadline: Option<Deadline>,
        cancelled: bool,
        metadata: Option<Arc<Metadata>>,
    }

    impl Scope for Fixed {
        fn deadline(&self) -> Option<Deadline> {
            self.deadline
        }
        fn is_cancelled(&self) -> bool {
            self.cancelled
        }
        fn poll_cancelled(&self, _: &mut Wakers<'_>) -> Poll<()> {
            Poll::Pending
        }
        fn metadata(&self) -> Option<Arc<Metadata>> {
            self.metadata.clone()
        }
    }

    const FREE: Fixed = Fixed { deadline: None, cancelled: false, metadata: None };

    fn refusal(scope: &Fixed) -> (Code, Outcome) {
        let status = Inherited::from(scope, None, None).unwrap_err();
        (status.code(), status.outcome())
    }

    #[test]
    fn scopes_nest_and_the_one_before_comes_back() {
        assert!(current().is_none());
        let outer = enter(Arc::new(Fixed { cancelled: true, ..FREE }));
        let inner = enter(Arc::new(FREE));
        assert!(!current().unwrap().is_cancelled());
        drop(inner);
        assert!(current().unwrap().is_cancelled());
        drop(outer);
        assert!(current().is_none());
    }

    #[test]
    fn the_shorter_time_holds() {
        let scope = Fixed { deadline: Some(Deadline::after(Duration::from_secs(50))), ..FREE };
        let timeout = |own| Inherited::from(&scope, own, None).unwrap().timeout.unwrap();
        assert!(timeout(None) <= Duration::from_secs(50) && timeout(None) > Duration::from_secs(40));
        assert_eq!(timeout(Some(Duration::from_secs(1))), Duration::from_secs(1));
        assert!(timeout(Some(Duration::from_secs(100))) <= Duration::from_secs(50));
        assert_eq!(Inherited::from(&FREE, None, None).unwrap().timeout, None);
    }

    #[test]
    fn who_is_not_waited_for_makes_no_calls() {
        assert_eq!(refusal(&Fixed { cancelled: true, ..FREE }), (Code::Cancelled, Outcome::NotRun));
        let late = Fixed { deadline: Some(Deadline::from_monotonic_ns(1)), ..FREE };
        assert_eq!(refusal(&late), (Code::DeadlineExceeded, Outcome::NotRun));
    }

    #[test]
    fn each_call_is_one_deeper_and_the_chain_ends() {
        let mut above = None;
        for depth in 1..=MAX_CALL_DEPTH {
            let scope = Fixed { metadata: above, ..FREE };
            let inherited = Inherited::from(&scope, None, None).unwrap();
            assert_eq!(inherited.metadata.depth, depth);
            above = Some(Arc::new(inherited.metadata));
        }
        assert_eq!(refusal(&Fixed { metadata: above, ..FREE }), (Code::FailedPrecondition, Outcome::NotRun));
    }

    #[test]
    fn own_metadata_come_first_and_baggage_is_added() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let above = Metadata { baggage: vec![pair("a", "1"), pair("b", "2")], ..Metadata::default() };
        let own = Metadata { baggage: vec![pair("b", "3")], ..Metadata::default() };
        let scope = Fixed { metadata: Some(Arc::new(above)), ..FREE };
        let metadata = Inherited::from(&scope, None, Some(&own)).unwrap().metadata;
        assert_eq!(metadata.baggage, [pair("b", "3"), pair("a", "1")]);
    }
}
