//! The process at the other end: this executable, started anew with a role.
//!
//! Both sides talk over the child's standard input and output, one byte at a time and never during a measurement.
//! A peer whose parent is gone ends: its input ends, and the kernel kills it even in the middle of a busy loop.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::subject::Failure;
use crate::unloaded::cores::pin_process;

/// The hidden sub-command under which the executable becomes a peer.
pub const COMMAND: &str = "peer";
const READY: u8 = b'r';
const GO: u8 = b'g';
/// How long a peer may take to end after it was told to.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the parent looks whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A peer process, seen from the measuring side. Dropping it ends the process.
#[derive(Debug)]
pub struct Peer {
    role: &'static str,
    child: Child,
    commands: Option<ChildStdin>,
    answers: ChildStdout,
}

impl Peer {
    /// Starts a peer and blocks until it says that it is ready.
    ///
    /// # Errors
    /// The process cannot be started, or ended before it was ready.
    pub fn start(role: &'static str, arguments: &[&str]) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([COMMAND, role])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = child.stdin.take();
        let answers = child.stdout.take().ok_or("the peer has no standard output")?;
        let mut peer = Self { role, child, commands, answers };
        peer.wait_for_ready()?;
        Ok(peer)
    }

    /// Moves all threads that the peer has by now to one processor.
    ///
    /// # Errors
    /// The peer is gone, or the processor is not allowed to it.
    pub fn pin(&self, core: usize) -> Result<(), Failure> {
        Ok(pin_process(self.child.id(), core)?)
    }

    /// Sends the peer into its loop. Returns without waiting for it.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn go(&mut self) -> Result<(), Failure> {
        let commands = self.commands.as_mut().ok_or("the peer was told to end")?;
        commands.write_all(&[GO]).map_err(|error| format!("peer `{}` is gone: {error}", self.role).into())
    }

    /// Sends the peer into its loop with a number that says how much to do. Returns without waiting for it.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn go_with(&mut self, number: u64) -> Result<(), Failure> {
        let commands = self.commands.as_mut().ok_or("the peer was told to end")?;
        let mut command = [GO; 9];
        command[1..].copy_from_slice(&number.to_le_bytes());
        commands.write_all(&command).map_err(|error| format!("peer `{}` is gone: {error}", self.role).into())
    }

    fn wait_for_ready(&mut self) -> Result<(), Failure> {
        let mut byte = [0];
        match self.answers.read_exact(&mut byte) {
            Ok(()) if byte == [READY] => Ok(()),
            Ok(()) => Err(format!("peer `{}` said {byte:?} where `ready` was due", self.role).into()),
            Err(_) => Err(format!("peer `{}` ended before it was ready", self.role).into()),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input lets an idle peer remove what it made. One in the middle of a loop never reads it.
        self.commands = None;
        let patience = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > patience {
                // Both fail only if the process is gone already, which is what is wanted.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// The measuring side, seen from the peer process.
#[derive(Debug)]
pub struct PeerEnd {
    _private: (),
}

impl PeerEnd {
    /// Binds this process's life to its parent's.
    ///
    /// # Errors
    /// The kernel knows no death signal.
    pub fn new() -> Result<Self, Failure> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        Ok(Self { _private: () })
    }

    /// Tells the parent that it may begin.
    ///
    /// # Errors
    /// The parent is gone.
    pub fn ready(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout();
        stdout.write_all(&[READY])?;
        stdout.flush()
    }

    /// Blocks until the parent sends the peer into its loop; `false` when the parent wants it to end.
    #[must_use]
    pub fn wait_for_go(&mut self) -> bool {
        let mut byte = [0];
        io::stdin().read_exact(&mut byte).is_ok() && byte == [GO]
    }

    /// As [`wait_for_go`](Self::wait_for_go), for [`Peer::go_with`]: gives its number.
    #[must_use]
    pub fn wait_for_number(&mut self) -> Option<u64> {
        let mut number = [0; 8];
        (self.wait_for_go() && io::stdin().read_exact(&mut number).is_ok()).then(|| u64::from_le_bytes(number))
    }
}
