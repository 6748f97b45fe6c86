//! Ending in order: signals that ask for the end are waited for like any other event, so that what was started can be
//! taken down.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::failure::{Explain, Failure, Result};

/// Why it is time to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// One of the signals that ask for the end came.
    Signal(Signal),
    /// Standard input was closed, so the parent has ended or wants us to.
    StdinClosed,
    /// The given time has passed.
    TimedOut,
}

/// The signals that ask for the end, held back for [`Ends::wait`].
#[derive(Debug)]
pub struct Ends {
    signals: SignalFd,
}

impl Ends {
    /// Holds the signals back from now on, in this thread and those that it starts: call it before any is started.
    ///
    /// A signal that this process was started to ignore stays ignored, as `nohup` wants it.
    ///
    /// # Errors
    /// When the kernel has no descriptor left, or `/proc` cannot be read.
    pub fn hold_back() -> Result<Self> {
        let what = || "cannot learn which signals are ignored".into();
        let status = std::fs::read_to_string("/proc/self/status").explain(what)?;
        let ignored = ignored(&status).ok_or_else(|| Failure::new("`/proc/self/status` names no ignored signals"))?;
        // A signal that is blocked waits even if it is ignored, so an ignored one must not be among them.
        let asks = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
        let signals: SigSet = asks.into_iter().filter(|signal| ignored & bit(*signal) == 0).collect();
        signals.thread_block().explain(|| "cannot hold signals back".into())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&signals, flags).explain(|| "cannot wait for signals".into())?;
        Ok(Self { signals })
    }

    /// Sleeps until a signal comes, standard input is closed (if `watch_stdin`) or `limit` has passed.
    ///
    /// # Errors
    /// What `poll` and `read` say.
    pub fn wait(&self, watch_stdin: bool, limit: Option<Duration>) -> Result<End> {
        let started = Instant::now();
        let stdin = std::io::stdin();
        loop {
            let left = limit.map(|limit| limit.saturating_sub(started.elapsed()));
            // Rounded up, so that the last milliseconds are slept and not spun.
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            let mut watched =
                [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN), PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            let watched = if watch_stdin { &mut watched[..] } else { &mut watched[..1] };
            match poll(watched, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                error => error.map(drop).explain(|| "cannot wait for the end".into())?,
            }
            let stdin_moved = watched.get(1).is_some_and(|stdin| stdin.any().unwrap_or(true));
            if let Some(info) = self.signals.read_signal().explain(|| "cannot read a signal".into())? {
                let signal = Signal::try_from(info.ssi_signo as i32).explain(|| "unknown signal".into())?;
                return Ok(End::Signal(signal));
            }
            if stdin_moved && is_at_end(&stdin)? {
                return Ok(End::StdinClosed);
            }
            if limit.is_some_and(|limit| started.elapsed() >= limit) {
                return Ok(End::TimedOut);
            }
        }
    }
}

/// Ends this process as soon as standard input is closed, from a thread of its own.
pub fn exit_when_stdin_closes() {
    std::thread::spawn(|| {
        let stdin = std::io::stdin();
        while !is_at_end(&stdin).unwrap_or(true) {}
        std::process::exit(0)
    });
}

/// Gives signals their effect again: a child inherits what its parent holds back.
///
/// # Errors
/// What `pthread_sigmask` says.
pub fn let_through() -> Result<()> {
    SigSet::all().thread_unblock().explain(|| "cannot let signals through".into())
}

/// The signals that a process ignores, a bit each, by the text of its `/proc/PID/status`.
fn ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// The signal's bit in the kernel's masks.
fn bit(signal: Signal) -> u64 {
    1 << (signal as u32 - 1)
}

/// Reads and forgets what is there; true at the end of the input.
fn is_at_end(stdin: &std::io::Stdin) -> Result<bool> {
    let mut forgotten = [0; 256];
    let got = stdin.lock().read(&mut forgotten).explain(|| "cannot read standard input".into())?;
    Ok(got == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_as_the_kernel_writes_them() {
        let mask = ignored("Name:\tswitchboard\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n");
        let is_ignored = |signal| mask.map(|mask| mask & bit(signal) != 0);
        assert_eq!(
            [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGTERM].map(is_ignored),
            [Some(true), Some(true), Some(false)]
        );
        assert_eq!(ignored("Name:\tswitchboard\n"), None);
    }
}
