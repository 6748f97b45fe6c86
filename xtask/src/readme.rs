//! Runs what README.md tells people to type.
//!
//! Commands stand in fenced blocks whose info string is `sh commands`. The README's Rust example is a documentation
//! test of the facade and is run by the suite `docs`.

use std::fs;

use serde_json::Value;

use crate::shell::{Shell, root};
use crate::suite::Outcome;

const FENCE: &str = "```";
const INFO: &str = "sh commands";
/// Commands that cannot be run here: they make the clone that this is, or are what is running.
const NOT_HERE: [&str; 3] = ["git clone", "cd ", "cargo xtask"];
/// How the demo's command ends; it is run once more with `--json`, and its object is read.
const DEMO: &str = "-- demo";
/// What the demo must say; the demo itself judges the values by its exit code.
const DEMO_KEYS: [&str; 13] = [
    "accuracy",
    "calls_per_s",
    "p50_ns",
    "p99_ns",
    "uds_p50_ns",
    "echo_spin_p50_ns",
    "floor_two_lines_ns",
    "echo_park_p50_ns",
    "futex_rtt_ns",
    "uds_echo_p50_ns",
    "killed_calls",
    "kill_notice_ms",
    "recovered",
];

/// Runs every command of the README; the demo must be among them.
pub fn check() -> Outcome {
    let text = match fs::read_to_string(root().join("README.md")) {
        Ok(text) => text,
        Err(error) => return Outcome::Failed(format!("README.md: {error}")),
    };
    let commands = commands(&text);
    if !commands.iter().any(|command| command.ends_with(DEMO)) {
        return Outcome::Failed(format!("README.md has no command `… {DEMO}` in a block `{FENCE}{INFO}`"));
    }
    commands.iter().fold(Outcome::Passed, |outcome, command| outcome.and_then(|| run(command)))
}

fn run(command: &str) -> Outcome {
    if NOT_HERE.iter().any(|start| command.starts_with(start)) {
        println!("$ {command}   (not here)");
        return Outcome::Passed;
    }
    let outcome = Shell::line(command).run();
    if command.ends_with(DEMO) { outcome.and_then(|| demo_json(&format!("{command} --json"))) } else { outcome }
}

fn demo_json(command: &str) -> Outcome {
    let output = match Shell::line(command).run_and_read() {
        Ok((true, output)) => output,
        Ok((false, _)) => return Outcome::Failed(format!("`{command}` failed")),
        Err(error) => return Outcome::Failed(format!("`{command}`: {error}")),
    };
    match serde_json::from_str::<Value>(&output) {
        Ok(Value::Object(said)) => match DEMO_KEYS.iter().find(|key| !said.contains_key(**key)) {
            None => Outcome::Passed,
            Some(missing) => Outcome::Failed(format!("`{command}` does not say `{missing}`")),
        },
        Ok(other) => Outcome::Failed(format!("`{command}` printed no object but {other}")),
        Err(error) => Outcome::Failed(format!("`{command}` did not print one JSON object: {error}")),
    }
}

/// The commands of all marked blocks, comments left out, lines that end in a backslash joined with the next.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut inside = false;
    let mut begun = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(info) = line.strip_prefix(FENCE) {
            inside = !inside && info.trim() == INFO;
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            if let Some(part) = line.strip_suffix('\\') {
                begun.push_str(part);
            } else {
                commands.push(std::mem::take(&mut begun) + line);
            }
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_blocks_are_commands() {
        let text = "```sh commands\n# first\ncargo run \\\n  -- demo\n```\ntext\n```sh\nrm -rf /\n```\n```rust\nlet x = 1;\n```\n";
        assert_eq!(commands(text), ["cargo run -- demo"]);
    }
}
