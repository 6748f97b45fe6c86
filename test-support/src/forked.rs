//! Children made by fork, which have a copy of everything that their parent has.
#![allow(unsafe_code)] // Forking is unsafe.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// What a child ends with whose work panicked.
const PANICKED: i32 = 99;

/// A forked child that has not been waited for.
#[derive(Debug)]
#[must_use = "a child stays a zombie until it is waited for"]
pub struct Forked(Pid);

impl Forked {
    /// Forks. The child runs `work` and nothing else, not even drops, and ends with its answer.
    ///
    /// For processes of which no other thread holds a lock at this moment: a role of its own with a test's thread, the
    /// harness's, which waits for that one, and the watcher thread, which waits for the kernel.
    pub fn start(work: impl FnOnce() -> i32) -> Self {
        // SAFETY: by what is said above no lock is held in the child by a thread that is not there; it ends by `_exit`.
        match unsafe { fork() }.expect("a process can be forked") {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED);
                // SAFETY: ends the process at once, which needs nothing.
                unsafe { nix::libc::_exit(code) }
            }
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.0.as_raw().unsigned_abs()
    }

    /// Waits for its end: what its work answered, or in words how else it ended.
    ///
    /// # Errors
    /// That it ended by a signal, or by a panic.
    pub fn end(self) -> Result<i32, String> {
        match waitpid(self.0, None).expect("it is ours and was not waited for") {
            WaitStatus::Exited(_, PANICKED) => Err("it panicked".to_owned()),
            WaitStatus::Exited(_, code) => Ok(code),
            other => Err(format!("{other:?}")),
        }
    }
}
