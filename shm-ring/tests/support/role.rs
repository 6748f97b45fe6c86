//! Processes of this very test program in other roles, and the line of text to each of them.
//!
//! A role is an ignored test: it takes its [`Line`] from [`line`] and does what it is there for. A child runs that test
//! alone. Its standard input is a socket to its parent; the end of the line is the end of the other side.

use std::fmt::Display;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

const IN_A_ROLE: &str = "SHM_RING_TEST_ROLE";

/// How long a process may take to say what is expected of it: far more than it needs on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A line of text to another process.
#[derive(Debug)]
pub struct Line(BufReader<UnixStream>);

impl Line {
    fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a time-out");
        Self(BufReader::new(stream))
    }

    pub fn say(&self, text: impl Display) {
        // A listener that is gone needs no news; whoever waits for its answer learns of the end.
        let _ = self.0.get_ref().write_all(format!("{text}\n").as_bytes());
    }

    /// Waits for the next line; `None` at the end of the other side.
    pub fn hear(&mut self) -> Option<String> {
        let mut text = String::new();
        match self.0.read_line(&mut text) {
            Ok(0) => None,
            Ok(_) => Some(text.trim_end().to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing heard for too long: {error}"),
        }
    }
}

/// The path of this program.
pub fn this_program() -> PathBuf {
    std::env::current_exe().expect("this program has a path")
}

/// The line to the parent, in a child; `None` where somebody runs ignored tests by hand.
pub fn line() -> Option<Line> {
    std::env::var_os(IN_A_ROLE)?;
    // A parent that dies must not leave us behind.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("the kernel knows the option");
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().expect("a descriptor is left");
    Some(Line::over(UnixStream::from(stdin)))
}

/// A process in a role; killed at the latest when this is dropped.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    pub line: Line,
}

impl Child {
    /// Starts the role that is the ignored test of this name.
    pub fn start(role: &str) -> Self {
        Self::start_by(Command::new(this_program()), role)
    }

    /// Starts it by another program, which executes this one with the arguments that it is given.
    pub fn start_by(mut command: Command, role: &str) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("two descriptors are left");
        command.args(["--exact", role, "--ignored", "--nocapture"]).env(IN_A_ROLE, role);
        // What the test harness prints on its own is of no use here.
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        Self { process: command.spawn().expect("a process can be started"), line: Line::over(ours) }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn say(&self, text: impl Display) {
        self.line.say(text);
    }

    /// Waits for the next line of a child that is not expected to end.
    pub fn hear(&mut self) -> String {
        self.line.hear().expect("the child says something before it ends")
    }

    /// Stops it, at whatever it is doing, and waits until the kernel calls all of it stopped.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        test_support::child::wait_until_stopped(self.pid());
    }

    /// Lets a stopped one go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("the child is not reaped yet");
    }

    /// Kills it, at whatever it is doing, and waits until it is gone.
    pub fn kill(mut self) {
        self.process.kill().expect("the child is not reaped yet");
        self.process.wait().expect("the child can be waited for");
    }

    /// Waits for its own end.
    pub fn end(mut self) -> ExitStatus {
        self.process.wait().expect("the child can be waited for")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail if it is gone already, which is what they are for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
