//! Where the demo plays: a private directory and the processes in it, all gone at the end whatever the end is.
//!
//! Three nets, one below the other: dropping the [`Stage`] clears it (success, errors, panics); the [`Sweeper`] lets
//! another thread clear it (signals, too much time); and each child ends by itself when its standard input closes
//! (this process was killed).

use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crate::board::{NAMESPACE, RUNTIME_DIR};
use crate::failure::{Explain, Failure, Result};

/// The namespace of the demo's services.
pub const DEMO_NAMESPACE: &str = "demo";

/// A private directory and the processes that were started for it.
#[derive(Debug)]
pub struct Stage {
    dir: PathBuf,
    sweeper: Sweeper,
}

/// Clears a stage from any thread.
#[derive(Debug, Clone)]
pub struct Sweeper {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Children that were not waited for yet.
    children: Vec<Child>,
    /// `None` once the stage is cleared; nothing is started after that.
    dir: Option<PathBuf>,
}

/// A process of the stage. Dropping it closes its standard input, which asks it to end.
#[derive(Debug)]
pub struct Actor {
    /// Its process id.
    pub pid: u32,
    stdin: ChildStdin,
}

impl Actor {
    /// Writes a line to the process.
    ///
    /// # Errors
    /// When the process no longer reads.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let written = self.stdin.write_all(format!("{line}\n").as_bytes());
        written.explain(|| format!("cannot tell pid {} `{line}`", self.pid))
    }
}

impl Stage {
    /// Makes a directory of mode 0700 below the system's directory for temporary files.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn build() -> Result<Self> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let dir = std::env::temp_dir().join(format!("switchboard-demo-{}-{since:x}", std::process::id()));
        let name = dir.display().to_string();
        let what = || format!("cannot make the directory `{name}`");
        // Not recursive: a directory that exists already is an error and not ours to fill.
        DirBuilder::new().mode(0o700).create(&dir).explain(what)?;
        let state = State { children: Vec::new(), dir: Some(dir.clone()) };
        let stage = Self { dir, sweeper: Sweeper { state: Arc::new(Mutex::new(state)) } };
        DirBuilder::new().mode(0o700).create(stage.runtime_dir()).explain(what)?;
        Ok(stage)
    }

    /// The runtime directory of the demo's services.
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// A path for something that is not a service.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory that must be gone at the end.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a sweeper has cleared the stage; waits for one that is about it.
    pub fn is_cleared(&self) -> bool {
        self.sweeper.lock().dir.is_none()
    }

    /// Clears this stage from other threads.
    pub fn sweeper(&self) -> Sweeper {
        self.sweeper.clone()
    }

    /// Starts this program again with other arguments, and waits until it says its first line.
    ///
    /// # Errors
    /// When it cannot be started, or ends before it is ready (its own words are on standard error).
    pub fn start<A: AsRef<str>>(&self, args: &[A]) -> Result<Actor> {
        let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
        let said = format!("switchboard {}", args.join(" "));
        let what = || format!("cannot start `{said}`");
        let mut command = Command::new(std::env::current_exe().explain(what)?);
        command.args(&args).env(RUNTIME_DIR, self.runtime_dir()).env(NAMESPACE, DEMO_NAMESPACE);
        // A group of its own: a Ctrl-C is for us, and we end the children in order.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let (pid, pipes) = {
            // Started and noted under the lock, so that a sweep sees either no child or one that it can end.
            let mut state = self.sweeper.lock();
            if state.dir.is_none() {
                return Err(Failure::new("the demo is being ended"));
            }
            let mut child = command.spawn().explain(what)?;
            let pipes = child.stdin.take().zip(child.stdout.take());
            let pid = child.id();
            state.children.push(child);
            (pid, pipes)
        };
        let (stdin, stdout) = pipes.ok_or_else(|| Failure::new(format!("`{said}` came without pipes")))?;
        let mut line = String::new();
        match BufReader::new(stdout).read_line(&mut line).explain(what)? {
            0 => Err(Failure::new(format!("`{said}` (pid {pid}) ended before it was ready"))),
            _ => Ok(Actor { pid, stdin }),
        }
    }

    /// Sends `SIGKILL` to a process of the stage and waits for its end. Gives the moment just before.
    ///
    /// # Errors
    /// When there is no such process any more.
    pub fn kill(&self, actor: &Actor) -> Result<Instant> {
        let mut state = self.sweeper.lock();
        let what = || format!("cannot kill pid {}", actor.pid);
        let at = state.children.iter().position(|child| child.id() == actor.pid);
        let mut child = state.children.swap_remove(at.ok_or_else(|| Failure::new(what()))?);
        let before = Instant::now();
        let killed = child.kill().and_then(|()| child.wait().map(drop));
        killed.explain(what)?;
        Ok(before)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.sweeper.sweep();
    }
}

impl Sweeper {
    /// Kills and waits for every child and removes the directory. Once is enough, twice does no harm.
    pub fn sweep(&self) {
        let mut state = self.lock();
        for mut child in state.children.drain(..) {
            // The one failure is a child that has ended already, and that is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(dir) = state.dir.take() {
            // What stays is found and told by the look at what is left behind.
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves children that must still be ended.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_stage_removes_its_directory_and_what_is_in_it() {
        let stage = Stage::build().expect("a writable temporary directory");
        let dir = stage.dir().to_path_buf();
        std::fs::write(stage.path("something"), "left").expect("the directory is ours");
        drop(stage);
        assert!(!dir.exists());
    }

    #[test]
    fn only_its_owner_may_look_into_the_directory() {
        use std::os::unix::fs::PermissionsExt;
        let stage = Stage::build().expect("a writable temporary directory");
        let mode = std::fs::metadata(stage.dir()).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn nothing_is_started_on_a_cleared_stage() {
        let stage = Stage::build().expect("a writable temporary directory");
        stage.sweeper().sweep();
        let refused = stage.start(&["--version"]).expect_err("the stage is cleared");
        assert_eq!(refused.to_string(), "the demo is being ended");
    }
}
