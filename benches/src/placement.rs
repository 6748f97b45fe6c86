//! The measuring thread on a processor of its own.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::subject::Failure;

/// The calling thread is on one processor until this is dropped; threads that it starts meanwhile stay there.
#[derive(Debug)]
#[must_use = "dropping it lets the thread run anywhere again"]
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Pins the calling thread to one processor.
    ///
    /// # Errors
    /// The processor does not exist or is not allowed to this process.
    pub fn to(core: usize) -> Result<Self, Failure> {
        let before = sched_getaffinity(Pid::from_raw(0))?;
        let mut set = CpuSet::new();
        set.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &set)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed a moment ago; if that has changed, the thread stays where it is, which harms only speed.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}
