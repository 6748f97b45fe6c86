//! `cargo xtask soak`: builds the program that kills with optimisation and hands the arguments on.

use std::process::ExitCode;

use crate::shell::Shell;

/// Runs the soak; its exit code is ours (0: nothing lost, twice, torn, hung or left).
pub fn run(arguments: &[String]) -> ExitCode {
    let mut line = vec!["run", "--quiet", "--release", "--package", "soak", "--bin", "switchboard-soak", "--"];
    line.extend(arguments.iter().map(String::as_str));
    match Shell::cargo(&line).exit_code() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("the soak cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}
