//! `cargo xtask bench`: builds the bench program with optimisation and hands the arguments on.

use std::process::ExitCode;

use crate::shell::Shell;

/// Runs the bench; its exit code is ours (0 pass, 1 fail, 2 not measurable now).
pub fn run(arguments: &[String]) -> ExitCode {
    let mut line = vec!["run", "--quiet", "--release", "--package", "benches", "--bin", "switchboard-bench", "--"];
    line.extend(arguments.iter().map(String::as_str));
    match Shell::cargo(&line).exit_code() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("the bench cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}
