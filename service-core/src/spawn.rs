//! The seam to whatever runs futures.

use crate::handler::CallFuture;

/// Runs futures to their end, on threads of its own. A closure that hands the future to a runtime is one:
/// `move |future| drop(handle.spawn(future))`.
pub trait Spawn: Send + Sync + 'static {
    /// Begins to run a future. Does not wait for it.
    fn spawn(&self, future: CallFuture);
}

impl<F: Fn(CallFuture) + Send + Sync + 'static> Spawn for F {
    fn spawn(&self, future: CallFuture) {
        self(future);
    }
}
