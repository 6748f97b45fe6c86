//! Which processors a measured pair runs on.
//!
//! The scheduler moves two processes that wake each other between one and two cores, and that changes the figures
//! tenfold. So a measured pair is pinned to two cores, and everything it is compared with is pinned alike.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::failure::{Explain, Result};

/// Two processors for a caller and its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Where the caller runs.
    pub caller: usize,
    /// Where the service runs.
    pub service: usize,
}

/// Two processors on cores of their own, of those that this process may use; `None` when it may use one only.
///
/// # Errors
/// When the kernel does not say which processors may be used.
pub fn pair() -> Result<Option<Pair>> {
    let allowed = allowed()?;
    let usable: Vec<usize> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    let [caller, ..] = usable[..] else { return Ok(None) };
    let siblings = siblings_of(caller);
    let others = || usable[1..].iter().copied();
    let service = others().find(|cpu| !siblings.contains(cpu)).or_else(|| others().next());
    Ok(service.map(|service| Pair { caller, service }))
}

/// Binds all threads that this process has by now, and those that they start from now on, to one processor.
///
/// Call it when the threads have made up their minds how to wait: a thread that may use one processor only does not
/// poll, whatever processors others have.
///
/// # Errors
/// When this process may not use that processor, or `/proc` cannot be read.
pub fn pin_process(cpu: usize) -> Result<()> {
    let what = || "cannot find this process's threads".into();
    for task in std::fs::read_dir("/proc/self/task").explain(what)? {
        let name = task.explain(what)?.file_name();
        let thread = name.to_string_lossy().parse().explain(what)?;
        pin(Pid::from_raw(thread), cpu)?;
    }
    Ok(())
}

fn pin(thread: Pid, cpu: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu).explain(|| format!("there is no processor {cpu}"))?;
    sched_setaffinity(thread, &only).explain(|| format!("cannot run on processor {cpu}"))
}

/// Binds the calling thread for as long as the guard lives.
#[must_use = "dropping it lets the thread run anywhere again"]
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Binds it.
    ///
    /// # Errors
    /// When this process may not use that processor.
    pub fn to(cpu: usize) -> Result<Self> {
        let before = allowed()?;
        pin(this_thread(), cpu)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed before; if it is no longer, staying where we are is all that can be done.
        let _ = sched_setaffinity(this_thread(), &self.before);
    }
}

fn this_thread() -> Pid {
    Pid::from_raw(0)
}

fn allowed() -> Result<CpuSet> {
    sched_getaffinity(this_thread()).explain(|| "cannot learn which processors may be used".into())
}

/// The hardware threads of the core of `cpu`; none if the kernel does not say.
fn siblings_of(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    std::fs::read_to_string(path).map(|list| parse_list(&list)).unwrap_or_default()
}

/// Parses the kernel's form of a set, `0-3,8`; what is not of this form is left out.
fn parse_list(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_processors_is_read_as_the_kernel_writes_it() {
        assert_eq!(parse_list("0,4\n"), [0, 4]);
        assert_eq!(parse_list("2-4,8"), [2, 3, 4, 8]);
        assert!(parse_list("\n").is_empty());
    }

    #[test]
    fn a_pinned_thread_may_run_anywhere_again_afterwards() {
        let before = allowed().expect("affinity is readable");
        let first = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu).unwrap_or(false)).expect("one is usable");
        let pinned = Pinned::to(first).expect("it is usable");
        let during = allowed().expect("affinity is readable");
        drop(pinned);
        let count = |set: &CpuSet| (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count();
        assert_eq!((count(&during), count(&allowed().expect("affinity is readable"))), (1, count(&before)));
    }
}
