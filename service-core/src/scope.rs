//! What calls that a handler makes inherit from the call that it answers.
//!
//! A transport enters a scope around each handler, and around each poll of an asynchronous one. Clients look whether they
//! are called in one: a thread-local look-up, and nothing more outside of handlers.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::task::{Context as Wakers, Poll};

use crate::context::Deadline;
use crate::metadata::Metadata;

/// The call that is being answered, as calls made for it see it.
pub trait Scope: Send + Sync {
    /// By when its caller wants the answer.
    fn deadline(&self) -> Option<Deadline>;

    /// Whether nobody waits for the answer any more.
    fn is_cancelled(&self) -> bool;

    /// The same for a task: is woken when that comes about.
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
}

/// Makes a scope the thread's own until the guard is dropped.
#[must_use = "the scope ends with the guard"]
pub fn enter(scope: Arc<dyn Scope>) -> Entered {
    Entered { before: CURRENT.with(|current| current.replace(Some(scope))) }
}

/// The scope that this thread is in.
pub fn current() -> Option<Arc<dyn Scope>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// A scope that was entered; the one before comes back when it is dropped.
pub struct Entered {
    before: Option<Arc<dyn Scope>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        // Fails only while the thread ends, when no scope is of any use.
        let _ = CURRENT.try_with(|current| *current.borrow_mut() = before);
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}
