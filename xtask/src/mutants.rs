//! `cargo xtask mutants`: whether the tests notice when the product is changed, one small change at a time.
//!
//! `.cargo/mutants.toml` says which files are changed. Each mutant meets the unit tests first, and those that pass them
//! meet the tests between processes. All of it takes many hours, so it can be done in shards; what was found is kept
//! under the target folder, and the figures are those of all shards so far.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use crate::evidence;
use crate::shell::{Shell, target_directory};
use crate::suite::Outcome;
use crate::test;

/// Of a hundred mutants that compile, so many must be noticed.
const BAR: usize = 90;

/// The tests that a mutant meets first, and those that it meets if it passes the first.
const STAGES: [(&str, &str); 2] = [
    ("unit", "--lib"),
    ("between", "--test threads --test spsc --test mpsc --test queue --test backings --test tasks"),
];

/// Tests the mutants of a shard, say `3/40`, and prints the figures of all shards so far; `only_figures` does the latter.
pub fn run(shard: &str, only_figures: bool) -> ExitCode {
    let outcome = if only_figures { Ok(()) } else { test_shard(shard) };
    let outcome = outcome.and_then(|()| Results::read(&kept()).map_err(failed)).map(|results| {
        results.print();
        results.verdict()
    });
    let outcome = outcome.unwrap_or_else(|outcome| outcome);
    test::summary(&[("mutants", outcome, Default::default())])
}

fn failed(error: io::Error) -> Outcome {
    Outcome::Failed(error.to_string())
}

/// Where the results of all shards are.
fn kept() -> PathBuf {
    target_directory().join("mutants/results")
}

fn test_shard(shard: &str) -> Result<(), Outcome> {
    require_cargo_mutants()?;
    let folder = kept().join(shard.replace('/', "-of-"));
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed)?;
    }
    let mut chosen = format!("--shard {shard} --sharding round-robin");
    for (stage, tests) in STAGES {
        let output = folder.join(stage);
        fs::create_dir_all(&output).map_err(failed)?;
        // Its exit code says that some were missed, which is for the next stage to see to.
        let line = format!("mutants --colors never --output '{}' {chosen} -- {tests}", output.display());
        cargo_mutants(&line).exit_code().map_err(failed)?;
        let results = outcomes(&output).and_then(|json| Results::of_outcomes(&json, |_| true)).map_err(failed)?;
        if results.missed.is_empty() {
            break;
        }
        // By their names; a file holds them all, whatever their number.
        let names: Vec<_> = results.missed.iter().map(|name| format!("^{}$", escaped(name))).collect();
        let patterns = folder.join(format!("missed-by-{stage}"));
        fs::write(&patterns, names.join("\n")).map_err(failed)?;
        chosen = format!("--re \"$(paste -sd'|' '{}')\"", patterns.display());
    }
    Ok(())
}

/// A name as a regular expression that finds it only.
fn escaped(name: &str) -> String {
    name.chars().fold(String::new(), |mut escaped, character| {
        if r"\.+*?()|[]{}^$".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
        escaped
    })
}

fn tools() -> PathBuf {
    target_directory().join("tools")
}

fn require_cargo_mutants() -> Result<(), Outcome> {
    if matches!(cargo_mutants("mutants --version").ask(), Ok((true, _))) {
        return Ok(());
    }
    match Shell::line(&format!("cargo install cargo-mutants --locked --debug --root '{}'", tools().display())).run() {
        Outcome::Passed => Ok(()),
        other => Err(other),
    }
}

/// `cargo` with these arguments, of which the first is `mutants`.
fn cargo_mutants(arguments: &str) -> Shell {
    // Its copy of the workspace is made anew each time; what does not belong to the workspace need not be built anew.
    let target = target_directory().join("mutants/build");
    Shell::line(&format!("PATH='{}':\"$PATH\" cargo {arguments}", tools().join("bin").display()))
        .env("CARGO_TARGET_DIR", target)
}

/// What cargo-mutants wrote of one stage.
fn outcomes(folder: &Path) -> io::Result<Value> {
    let text = fs::read_to_string(folder.join("mutants.out/outcomes.json"))?;
    Ok(serde_json::from_str(&text)?)
}

/// What became of mutants.
#[derive(Debug, Default, PartialEq, Eq)]
struct Results {
    caught: usize,
    /// Noticed because the tests did not end.
    hung: usize,
    /// Those that do not compile.
    unviable: usize,
    missed: Vec<String>,
}

impl Results {
    /// Of all shards in a folder.
    fn read(folder: &Path) -> io::Result<Self> {
        let mut all = Self::default();
        for shard in fs::read_dir(folder)? {
            let shard = shard?.path();
            let mut of_shard = Self::default();
            for (stage, _) in STAGES {
                if shard.join(stage).exists() {
                    of_shard.meet(&outcomes(&shard.join(stage))?)?;
                }
            }
            all.caught += of_shard.caught;
            all.hung += of_shard.hung;
            all.unviable += of_shard.unviable;
            all.missed.extend(of_shard.missed);
        }
        all.missed.sort();
        Ok(all)
    }

    /// What the next stage makes of those that were missed; the first one meets all.
    fn meet(&mut self, json: &Value) -> io::Result<()> {
        let is_first = *self == Self::default();
        let missed = std::mem::take(&mut self.missed);
        // Some mutants are tested whatever names are asked for.
        let later = Self::of_outcomes(json, |name| is_first || missed.iter().any(|other| other == name))?;
        self.caught += later.caught;
        self.hung += later.hung;
        self.unviable += later.unviable;
        self.missed = later.missed;
        Ok(())
    }

    fn of_outcomes(json: &Value, counts: impl Fn(&str) -> bool) -> io::Result<Self> {
        let mut results = Self::default();
        for outcome in json["outcomes"].as_array().map_or(&[][..], Vec::as_slice) {
            let name = outcome["scenario"]["Mutant"]["name"].as_str();
            if name.is_some_and(|name| !counts(name)) {
                continue;
            }
            match (outcome["summary"].as_str().unwrap_or_default(), name) {
                ("CaughtMutant", _) => results.caught += 1,
                ("Timeout", Some(_)) => results.hung += 1,
                ("Unviable", _) => results.unviable += 1,
                ("MissedMutant", Some(name)) => results.missed.push(name.to_owned()),
                ("Success", None) => {}
                (other, name) => {
                    let what = name.unwrap_or("the tests without a change");
                    return Err(io::Error::other(format!("{what}: {other}")));
                }
            }
        }
        Ok(results)
    }

    fn viable(&self) -> usize {
        self.caught + self.hung + self.missed.len()
    }

    fn noticed_percent(&self) -> f64 {
        (self.caught + self.hung) as f64 * 100.0 / self.viable().max(1) as f64
    }

    fn print(&self) {
        for name in &self.missed {
            println!("missed: {name}");
        }
        evidence::print("viable mutants", self.viable());
        evidence::print("caught", self.caught);
        evidence::print("caught by a hang", self.hung);
        evidence::print("missed", self.missed.len());
        evidence::print("unviable", self.unviable);
        evidence::print("share of viable mutants that is noticed", format!("{:.1} %", self.noticed_percent()));
    }

    fn verdict(&self) -> Outcome {
        if (self.caught + self.hung) * 100 >= self.viable() * BAR {
            Outcome::Passed
        } else {
            Outcome::Failed(format!("{:.1} % of the mutants are noticed, {BAR} % are the bar", self.noticed_percent()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(name: &str, summary: &str) -> Value {
        serde_json::json!({ "scenario": { "Mutant": { "name": name } }, "summary": summary })
    }

    #[test]
    fn outcomes_are_counted_and_a_later_stage_settles_what_was_missed() {
        let baseline = serde_json::json!({ "scenario": "Baseline", "summary": "Success" });
        let outcomes = [baseline, mutant("a", "CaughtMutant"), mutant("b", "MissedMutant"), mutant("c", "Unviable")];
        let mut results = Results::default();
        results.meet(&serde_json::json!({ "outcomes": outcomes })).unwrap();
        assert_eq!((results.caught, results.unviable, &results.missed[..]), (1, 1, &["b".to_owned()][..]));
        let later = [mutant("b", "Timeout"), mutant("not asked for", "CaughtMutant")];
        results.meet(&serde_json::json!({ "outcomes": later })).unwrap();
        assert_eq!((results.viable(), results.verdict()), (2, Outcome::Passed));
    }

    #[test]
    fn tests_that_fail_without_a_change_show_nothing() {
        let outcomes = [serde_json::json!({ "scenario": "Baseline", "summary": "Failure" })];
        assert!(Results::of_outcomes(&serde_json::json!({ "outcomes": outcomes }), |_| true).is_err());
    }

    #[test]
    fn a_name_finds_itself_only() {
        assert_eq!(escaped("a.rs:1:2: replace f -> [u8; 2] with [0]"), r"a\.rs:1:2: replace f -> \[u8; 2\] with \[0\]");
    }
}
