//! Ending in order: signals that ask for the end are waited for like any other event, so that what was started can be
//! taken down.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::failure::{Explain, Result};

/// Why it is time to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `SIGINT` or `SIGTERM` came.
    Signal(Signal),
    /// Standard input was closed, so the parent has ended or wants us to.
    StdinClosed,
    /// The given time has passed.
    TimedOut,
}

/// `SIGINT` and `SIGTERM`, held back for [`Ends::wait`].
#[derive(Debug)]
pub struct Ends {
    signals: SignalFd,
}

impl Ends {
    /// Holds the signals back from now on, in this thread and those that it starts: call it before any is started.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub fn hold_back() -> Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
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

/// Gives `SIGINT` and `SIGTERM` back their default effect: a child inherits what its parent holds back.
///
/// # Errors
/// What `pthread_sigmask` says.
pub fn let_through() -> Result<()> {
    SigSet::all().thread_unblock().explain(|| "cannot let signals through".into())
}

/// Reads and forgets what is there; true at the end of the input.
fn is_at_end(stdin: &std::io::Stdin) -> Result<bool> {
    let mut forgotten = [0; 256];
    let got = stdin.lock().read(&mut forgotten).explain(|| "cannot read standard input".into())?;
    Ok(got == 0)
}
