//! A side of a ring in an event loop: epoll, poll, or a loop of another language.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::{Sleeper, Tasks};
use crate::error::Error;

/// A descriptor that becomes readable when one side of a ring is to look again; from `pollable()` of that side's end.
///
/// ```text
/// register pollable.as_fd() for reading
/// loop:
///     receive (or send) until the ring answers Empty (or Full)
///     pollable.arm()
///     receive (or send) once more; if that succeeded, go on with the loop
///     wait for the descriptors
/// ```
///
/// Nobody but [`arm`](Self::arm) reads from the descriptor. What is in it says nothing of what is in the ring: one event
/// may stand for many frames, and there may be an event and no frame. While nobody has armed, the other side makes no
/// system call.
///
/// There is one at a time for a side in a process. While it lives, its loop is the reactor of tasks that wait at the same
/// side: they are woken by `arm`.
pub struct Pollable {
    tasks: Arc<Tasks>,
    sleeper: Box<dyn Sleeper + Send + Sync>,
}

impl fmt::Debug for Pollable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pollable").field("event", self.tasks.event()).finish_non_exhaustive()
    }
}

impl Pollable {
    pub(crate) fn new(tasks: &Arc<Tasks>, sleeper: impl Sleeper + Send + Sync + 'static) -> Result<Self, Error> {
        tasks.enter_loop()?;
        Ok(Self { tasks: Arc::clone(tasks), sleeper: Box::new(sleeper) })
    }

    /// From now on whatever the other side does makes the descriptor readable, once. To be followed by one more try at
    /// the ring, then by the wait. Up to three system calls.
    pub fn arm(&mut self) {
        // What came until now is looked at by the try that follows, and by the task that is called here.
        self.tasks.turn();
        self.sleeper.arm_event();
    }
}

impl AsFd for Pollable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tasks.event().as_fd()
    }
}

impl Drop for Pollable {
    fn drop(&mut self) {
        self.tasks.leave_loop();
    }
}
