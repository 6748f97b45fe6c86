//! Running programs from the workspace's root, with their output streamed and their command line shown.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::suite::Outcome;

/// The folder of the workspace.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The folder that builds go to, with the environment's choice respected.
pub fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(chosen) => root().join(chosen),
        None => root().join("target"),
    }
}

/// A program with its arguments and the environment variables that it needs.
#[derive(Debug)]
pub struct Shell {
    command: Command,
    shown: String,
}

impl Shell {
    /// `cargo` with these arguments.
    pub fn cargo(arguments: &[&str]) -> Self {
        // The cargo that runs us, so that a chosen toolchain stays chosen.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(arguments).current_dir(root());
        Self { command, shown: format!("cargo {}", arguments.join(" ")) }
    }

    /// A line as a person would type it into a shell.
    pub fn line(line: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(root());
        Self { command, shown: line.to_owned() }
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        let value = value.as_ref();
        self.shown = format!("{name}='{}' {}", value.display(), self.shown);
        self.command.env(name, value);
        self
    }

    /// Runs it with its output streamed; fails with its command line.
    pub fn run(mut self) -> Outcome {
        println!("$ {}", self.shown);
        match self.command.status() {
            Ok(status) if status.success() => Outcome::Passed,
            Ok(status) => Outcome::Failed(format!("`{}`: {status}", self.shown)),
            Err(error) => Outcome::Failed(format!("`{}`: {error}", self.shown)),
        }
    }

    /// Runs it with its output streamed; its exit code, or 1 if a signal ended it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn exit_code(mut self) -> io::Result<u8> {
        let status = self.command.status()?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }

    /// Runs it with its output streamed and kept: whether it succeeded, and its standard output.
    ///
    /// # Errors
    /// The program cannot be started, or its output cannot be read.
    pub fn run_and_read(mut self) -> io::Result<(bool, String)> {
        println!("$ {}", self.shown);
        let mut child = self.command.stdout(Stdio::piped()).spawn()?;
        let mut text = String::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                let line = line?;
                println!("{line}");
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{line}");
            }
        }
        Ok((child.wait()?.success(), text))
    }

    /// Runs it without showing anything: whether it succeeded, and its standard output.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn ask(mut self) -> io::Result<(bool, String)> {
        let output = self.command.stderr(Stdio::null()).output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}
