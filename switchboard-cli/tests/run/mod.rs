//! Runs the program in a directory of its own, and ends what a test has started however the test ends.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A directory for one test, private and removed at its end. It serves as runtime directory and for temporary files.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes one; short, because the paths of sockets are limited to 107 bytes.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sbcli-{}-{number}", std::process::id()));
        std::fs::DirBuilder::new().create(&path).expect("a directory that nobody else has");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&path, private).expect("the directory is ours");
        Self(path)
    }

    /// The program with these arguments, to be run here.
    pub fn program(&self, args: &[&str]) -> Command {
        const PROGRAM: &str = env!("CARGO_BIN_EXE_switchboard");
        let mut command = Command::new(PROGRAM);
        if is_hangup_ignored() {
            // As under `nohup`. The program would ignore it too, as it should, and never end for it.
            command = Command::new("env");
            command.args(["--default-signal=HUP", PROGRAM]);
        }
        command.args(args).env("SWITCHBOARD_RUNTIME_DIR", &self.0).env("TMPDIR", &self.0);
        command.env_remove("SWITCHBOARD_NAMESPACE").stdin(Stdio::null());
        command
    }

    /// What is in the directory.
    pub fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the directory is ours");
        entries.map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A directory that stays does no harm to other tests.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running program, killed when the test is over.
#[derive(Debug)]
pub struct Process {
    /// The process.
    pub child: Child,
}

impl Process {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self { child: command.spawn().expect("the program starts") }
    }

    /// Starts `serve` and waits until it says that it serves.
    pub fn serve(runtime: &Directory, args: &[&str]) -> Self {
        let mut process = Self::start(runtime.program(args).stdout(Stdio::piped()));
        let stdout = process.child.stdout.take().expect("it was piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("its output can be read");
        assert!(line.starts_with("serving "), "{args:?} said {line:?}");
        process
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("the process has not been waited for");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it is our child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process was started to ignore the end of its terminal, and so all that it starts.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells of this process");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("it tells of ignored signals");
    let mask = u64::from_str_radix(mask.trim(), 16).expect("a number");
    mask & 1 << (Signal::SIGHUP as u32 - 1) != 0
}

/// Runs a command that must succeed, and gives what it said.
pub fn stdout_of(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}
