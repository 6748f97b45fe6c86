//! Processes of this very program in other roles, and the line to each of them.
//!
//! A child runs one hidden test, `ROLE_TEST`, which plays the role named in its environment. Its standard input is a
//! socket to its parent: lines go both ways, and the end of the line is the end of the other side.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// A role's name, and what a process in it does.
pub type Role = (&'static str, fn(Line));

const ROLE: &str = "SWITCHBOARD_TEST_ROLE";
const ROLE_TEST: &str = "role_of_a_child_process";

/// How long a process may take to say what is expected of it: far more than it needs on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a whole role may take, for the same reason: some ten times what it needs.
const PATIENCE_WITH_A_ROLE: Duration = Duration::from_secs(120);

/// The talking half of a line; any thread may have one.
#[derive(Debug)]
pub struct Voice(UnixStream);

impl Voice {
    /// Says one line, in one write, so that lines of several threads do not mix.
    pub fn say(&self, text: impl Display) {
        say(&self.0, text);
    }
}

fn say(mut stream: &UnixStream, text: impl Display) {
    // A listener that is gone needs no news; whoever waits for its answer learns of the end.
    let _ = stream.write_all(format!("{text}\n").as_bytes());
}

/// A line of text to another process.
#[derive(Debug)]
pub struct Line(BufReader<UnixStream>);

impl Line {
    fn over(stream: UnixStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// Says one line.
    pub fn say(&self, text: impl Display) {
        // Takes no descriptor: there may be none left.
        say(self.0.get_ref(), text);
    }

    /// A talking half for another thread.
    pub fn voice(&self) -> Voice {
        Voice(self.0.get_ref().try_clone().expect("a descriptor is left"))
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

/// A process in a role. Killed at the latest when this is dropped, or when the thread that started it ends.
#[derive(Debug)]
pub struct Child {
    role: &'static str,
    process: std::process::Child,
    line: Line,
}

impl Child {
    /// Starts this very program again, in a role, with further environment variables.
    pub fn start<V: AsRef<OsStr>>(role: &'static str, environment: &[(&str, V)]) -> Self {
        Self::start_by(Self::command(), role, environment).expect("a process can be started")
    }

    /// The same of another file, such as a copy of this program.
    pub fn start_from<V: AsRef<OsStr>>(program: &Path, role: &'static str, environment: &[(&str, V)]) -> Self {
        Self::start_by(Command::new(program), role, environment).expect("a process can be started")
    }

    /// The same as another user, group of the same number; `None` if this user may not do that, or that user may not run
    /// this program. Only root may.
    pub fn start_as<V: AsRef<OsStr>>(uid: u32, role: &'static str, environment: &[(&str, V)]) -> Option<Self> {
        let mut command = Self::command();
        command.uid(uid).gid(uid);
        Self::start_by(command, role, environment).ok()
    }

    fn command() -> Command {
        Command::new(std::env::current_exe().expect("this program has a path"))
    }

    fn start_by<V: AsRef<OsStr>>(
        mut command: Command,
        role: &'static str,
        environment: &[(&str, V)],
    ) -> std::io::Result<Self> {
        let (ours, theirs) = UnixStream::pair().expect("two descriptors are left");
        ours.set_read_timeout(Some(PATIENCE)).expect("a socket has a time-out");
        command.args(["--exact", ROLE_TEST, "--ignored", "--nocapture"]);
        command.env(ROLE, role).envs(environment.iter().map(|(name, value)| (name, value.as_ref())));
        // What the test harness prints on its own is of no use here.
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        Ok(Self { role, process: command.spawn()?, line: Line::over(ours) })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Says one line to the child.
    pub fn say(&self, text: impl Display) {
        self.line.say(text);
    }

    /// Waits for the next line of a child that is not expected to end.
    pub fn hear(&mut self) -> String {
        self.line.hear().unwrap_or_else(|| panic!("`{}` ended instead of saying something", self.role))
    }

    /// Waits for the next line, which must be this one.
    pub fn expect(&mut self, text: &str) {
        assert_eq!(self.hear(), text, "from `{}`", self.role);
    }

    /// Says one line and waits for the next one of the child.
    pub fn ask(&mut self, text: impl Display) -> String {
        self.say(text);
        self.hear()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("the child is not reaped yet");
    }

    /// Stops the process, at whatever it is doing; see [`wait_until_stopped`].
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        wait_until_stopped(self.id());
    }

    /// The fields of `/proc/PID/stat` from the state on: field 3 of the manual is number 0 here.
    pub fn stat(&self) -> Vec<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("the child is not reaped yet");
        let (_, fields) = text.rsplit_once(')').expect("the name is in brackets");
        fields.split_whitespace().map(str::to_owned).collect()
    }

    /// Kills with SIGKILL and reaps.
    pub fn kill(&mut self) {
        // Fails only if it has ended by itself and was reaped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Waits for the end; says whether the role was played without a panic.
    fn ends_well(&mut self) -> bool {
        self.process.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until the kernel calls every thread of a process stopped: one that has no processor runs on for a moment after the
/// first of them is.
pub fn wait_until_stopped(process: u32) {
    let tasks = format!("/proc/{process}/task");
    let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
        // A thread that has ended meanwhile does nothing any more.
        let stat = task.and_then(|task| std::fs::read_to_string(task.path().join("stat")));
        stat.map_or(true, |stat| stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('T')))
    };
    let until = Instant::now() + PATIENCE;
    while !std::fs::read_dir(&tasks).expect("it is not reaped yet").all(is_stopped) {
        assert!(Instant::now() < until, "process {process} does not stop");
        std::thread::yield_now();
    }
}

/// Plays a role in a process of its own, so that what this process holds can be counted. What the role says is printed.
///
/// Kills it if nothing is heard for two minutes.
pub fn alone(role: &'static str) {
    let mut child = Child::start::<&str>(role, &[]);
    child.line.0.get_ref().set_read_timeout(Some(PATIENCE_WITH_A_ROLE)).expect("a socket has a time-out");
    while let Some(text) = child.line.hear() {
        println!("{text}");
    }
    assert!(child.ends_well(), "`{role}` failed, see above");
}

/// Whether this process was started in a role, for [`play`].
pub fn is_in_a_role() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Plays the role that the environment names, if it names one.
pub fn play(roles: &[Role]) {
    let Ok(role) = std::env::var(ROLE) else { return };
    // Not even a stopped child outlives the test. A parent that died before this is noticed as the end of the line.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("SIGKILL is a signal");
    let (_, play) = roles.iter().find(|(name, _)| *name == role).expect("the role is known");
    let line = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input is the line");
    play(Line::over(line.into()));
}
