//! Which processors the two processes run on.

use std::fs;
use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// One processor for the caller and another for its peer.
#[derive(Debug, Clone, Copy)]
pub struct TwoCores {
    /// Where the calling process runs.
    pub caller: usize,
    /// Where its peer runs.
    pub peer: usize,
}

impl TwoCores {
    /// The first two processors that this process may use, or `None` if there is only one.
    ///
    /// # Errors
    /// The kernel refuses to name them.
    pub fn find() -> io::Result<Option<Self>> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let mut cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
        Ok(cores.next().zip(cores.next()).map(|(caller, peer)| Self { caller, peer }))
    }
}

/// Moves every thread of a process to one processor.
///
/// Done from outside once the process has made all its threads: a library that counts the processors at its start, to
/// decide whether polling pays, must see them all.
///
/// # Errors
/// The process is gone, or the processor is not allowed to it.
pub fn pin_process(process: u32, core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    for thread in threads_of(process)? {
        sched_setaffinity(thread, &set)?;
    }
    Ok(())
}

/// The threads of a process.
///
/// # Errors
/// The process is gone.
pub fn threads_of(process: u32) -> io::Result<Vec<Pid>> {
    fs::read_dir(format!("/proc/{process}/task"))?
        .map(|entry| {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            number.map(Pid::from_raw).ok_or_else(|| io::Error::other(format!("{name:?} is not a thread's number")))
        })
        .collect()
}
