//! Counts system calls from outside: a tracer that stops every thread of some processes at every system call.
//!
//! The measured process marks the window by a system call that it makes for nothing else, `getppid`: once before the
//! first call of the window and once after the last. So the edges are exact, and the marks themselves are not counted.
//! Nothing is traced in between but system calls; a thread that makes none runs at full speed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::cores::threads_of;

/// How long threads that slept in the kernel may take to fall asleep again after they were seized.
const RESETTLE: Duration = Duration::from_millis(200);

/// Marks an edge of the window: one `getppid`.
pub fn mark() {
    // The call is the message; its answer says nothing.
    let _ = std::os::unix::process::parent_id();
}

/// One system call of a traced thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemCall {
    /// Its number.
    pub number: i64,
    /// When the stop was seen, by [`now_ns`]; never before the call was made.
    pub seen_ns: u64,
}

/// The monotonic clock, the same for the tracer and the traced. No system call.
///
/// # Panics
/// If the kernel has no such clock.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the kernel has this clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// What happened between two marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The system calls that any traced thread made, in order.
    pub system_calls: Vec<SystemCall>,
    /// How often the kernel took a processor away from a traced thread. Not 0: something else wanted it, so the calls
    /// of the window were not unloaded.
    pub preemptions: u64,
}

/// All threads of some child processes, stopped at each of their system calls until this is dropped.
///
/// Must be used by the thread that made it: the kernel binds tracing to it.
#[derive(Debug)]
pub struct Tracer {
    tracees: BTreeMap<Pid, Tracee>,
    marking: u32,
}

#[derive(Debug, Clone, Copy)]
struct Tracee {
    process: u32,
    /// It slept in a system call when it was seized. Seizing interrupts that call, so the kernel or the thread makes
    /// it once more: our own doing, not counted.
    owes_restart: bool,
    seen_first_stop: bool,
}

impl Tracer {
    /// Seizes every thread of `processes`; `marking` is the one of them that marks the windows.
    ///
    /// Blocks until the threads run again.
    ///
    /// # Errors
    /// `EPERM` where tracing is forbidden; what reading the threads from `/proc` answers.
    pub fn seize(processes: &[u32], marking: u32) -> io::Result<Self> {
        let mut tracer = Self { tracees: BTreeMap::new(), marking };
        for &process in processes {
            for thread in threads_of(process)? {
                let owes_restart = system_call_of(process, thread)?.is_some();
                ptrace::seize(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD)?;
                tracer.tracees.insert(thread, Tracee { process, owes_restart, seen_first_stop: false });
                ptrace::interrupt(thread)?;
            }
        }
        tracer.settle()?;
        Ok(tracer)
    }

    /// Blocks until the marking process has marked the beginning and the end of a window, and tells what happened.
    ///
    /// # Errors
    /// A traced process ended; what `ptrace`, `waitpid` or `/proc` answer.
    pub fn watch(&mut self) -> io::Result<Window> {
        let mut open: Option<u64> = None;
        let mut system_calls = Vec::new();
        loop {
            let (thread, stop) = self.next_stop()?;
            if let Stop::SystemCall(number) = stop {
                if self.is_mark(thread, number) {
                    let preemptions = self.preemptions()?;
                    if let Some(before) = open {
                        self.resume(thread)?;
                        return Ok(Window { system_calls, preemptions: preemptions - before });
                    }
                    open = Some(preemptions);
                } else if open.is_some() {
                    system_calls.push(SystemCall { number, seen_ns: now_ns() });
                }
            }
            self.resume(thread)?;
        }
    }

    fn settle(&mut self) -> io::Result<()> {
        while self.tracees.values().any(|tracee| !tracee.seen_first_stop) {
            let (thread, _) = self.next_stop()?;
            self.resume(thread)?;
        }
        // A call that had just ended when its thread was seized is not made again: hence a limit.
        let limit = Instant::now() + RESETTLE;
        while self.tracees.values().any(|tracee| tracee.owes_restart) && Instant::now() < limit {
            match self.poll_stop(WaitPidFlag::WNOHANG)? {
                Some((thread, _)) => self.resume(thread)?,
                None => std::thread::yield_now(),
            }
        }
        self.tracees.values_mut().for_each(|tracee| tracee.owes_restart = false);
        Ok(())
    }

    fn is_mark(&self, thread: Pid, number: i64) -> bool {
        number == libc::SYS_getppid && self.tracees.get(&thread).is_some_and(|tracee| tracee.process == self.marking)
    }

    fn next_stop(&mut self) -> io::Result<(Pid, Stop)> {
        loop {
            if let Some(stop) = self.poll_stop(WaitPidFlag::empty())? {
                return Ok(stop);
            }
        }
    }

    /// Takes the next stop of a traced thread. Without `WNOHANG` it blocks and returns one.
    fn poll_stop(&mut self, flags: WaitPidFlag) -> io::Result<Option<(Pid, Stop)>> {
        // __WNOTHREAD: children of other threads of this process are theirs to wait for.
        match waitpid(None, Some(flags | WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))? {
            WaitStatus::StillAlive => Ok(None),
            WaitStatus::PtraceSyscall(thread) => {
                let entry = ptrace::syscall_info(thread)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
                let Some(tracee) = self.tracees.get_mut(&thread).filter(|_| entry) else {
                    return Ok(Some((thread, Stop::Other)));
                };
                if std::mem::take(&mut tracee.owes_restart) {
                    return Ok(Some((thread, Stop::Other)));
                }
                let number = system_call_of(tracee.process, thread)?.unwrap_or(-1);
                Ok(Some((thread, Stop::SystemCall(number))))
            }
            WaitStatus::PtraceEvent(thread, ..) => {
                if let Some(tracee) = self.tracees.get_mut(&thread) {
                    tracee.seen_first_stop = true;
                }
                Ok(Some((thread, Stop::Other)))
            }
            WaitStatus::Stopped(thread, _) => Ok(Some((thread, Stop::Other))),
            ended => Err(io::Error::other(format!("a traced process ended: {ended:?}"))),
        }
    }

    fn resume(&self, thread: Pid) -> io::Result<()> {
        Ok(ptrace::syscall(thread, None)?)
    }

    fn preemptions(&self) -> io::Result<u64> {
        self.tracees.iter().map(|(thread, tracee)| preemptions_of(tracee.process, *thread)).sum()
    }
}

impl Drop for Tracer {
    /// Lets every thread go, however long it takes to stop: one that stayed traced would never be gone, nor its process,
    /// because nobody takes notice of its end.
    fn drop(&mut self) {
        for &thread in self.tracees.keys() {
            // Only a stopped thread can be let go, and one that was interrupted stops, or ends, which is no error here.
            while ptrace::detach(thread, None).is_err() {
                let _ = ptrace::interrupt(thread);
                match waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                    Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => break,
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Stop {
    /// At the entry of the system call with this number.
    SystemCall(i64),
    /// Anything else, to be resumed without a further look.
    Other,
}

/// The system call that a thread is in, or `None` if it runs in user space.
fn system_call_of(process: u32, thread: Pid) -> io::Result<Option<i64>> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/syscall"))?;
    Ok(text.split_whitespace().next().and_then(|word| word.parse().ok()))
}

fn preemptions_of(process: u32, thread: Pid) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/status"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))
        .and_then(|count| count.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("no count of preemptions for thread {thread}")))
}
