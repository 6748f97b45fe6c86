//! `cargo xtask mutants`: whether the tests notice when the product is changed, one small change at a time.
//!
//! `.cargo/mutants.toml` says which files are changed. Each mutant meets the quick unit tests first; those that pass them
//! meet the slow ones, then the tests between processes. All of it takes hours, so it can be done in shards; what was
//! found is kept under the target folder, and the figures are those of all shards so far.
//!
//! `docs/mutants.md` lists mutants that no test can notice, or none should, each with its reason. They are counted apart.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use crate::evidence;
use crate::shell::{Shell, root, target_directory};
use crate::suite::Outcome;
use crate::test;

/// Of a hundred mutants that compile, so many must be noticed.
const BAR: usize = 90;

/// The mutants that are not held against the tests, a row each: its name, and why.
const PAGE: &str = "docs/mutants.md";

/// Tests that a mutant meets if it passes those before.
struct Stage {
    name: &'static str,
    /// The targets of `shm-ring` that are compiled and run.
    targets: &'static str,
    /// Tests that are left out because they are slow, or about something else.
    skips: &'static str,
    /// After so many seconds they hang: many times what a quiet machine takes for them.
    hang: u32,
}

/// Most mutants fail the first stage, which takes a fraction of a second beside a second of compiling.
const STAGES: [Stage; 3] = [
    Stage {
        name: "quick",
        targets: "lib",
        skips: "clock:: fuzz:: histories:: tasks::tests whatever_is_written",
        hang: 10,
    },
    Stage {
        name: "near",
        targets: "lib spsc mpsc queue tasks inspect typed",
        skips: "clock:: compile:: stopped:: killed:: churn:: stream",
        hang: 60,
    },
    Stage {
        name: "between",
        targets: "threads spsc mpsc queue backings trust bad_input",
        skips: "sigstop_mid_payload_10s",
        hang: 120,
    },
];

/// How the folders begin that say what became of missed mutants later; they are among those of the shards.
const AGAIN: &str = "again-";

/// Which mutants to test.
#[derive(Debug)]
pub enum Which {
    /// Every Nth, from the Kth on, as `K/N`.
    Shard(String),
    /// Those that were missed so far, against the tests as they are now.
    Missed,
    /// None.
    Nothing,
}

/// Tests mutants, and prints the figures of all that were tested so far.
pub fn run(which: &Which) -> ExitCode {
    let tested = match which {
        Which::Shard(shard) => test(&shard.replace('/', "-of-"), &format!("--shard {shard} --sharding round-robin")),
        Which::Missed => test_missed(),
        Which::Nothing => Ok(()),
    };
    let outcome = tested.and_then(|()| verdict().map_err(failed)).unwrap_or_else(|outcome| outcome);
    test::summary(&[("mutants", outcome, Default::default())])
}

/// Prints the figures of all shards so far, and judges them.
fn verdict() -> io::Result<Outcome> {
    let page = fs::read_to_string(root().join(PAGE))?;
    let (fates, sample) = read(&kept())?;
    let figures = Figures::of(&fates, &listed(&page));
    evidence::print("sample", sample);
    figures.print();
    Ok(figures.verdict())
}

fn failed(error: io::Error) -> Outcome {
    Outcome::Failed(error.to_string())
}

/// Where the results of all shards are.
fn kept() -> PathBuf {
    target_directory().join("mutants/results")
}

fn test_missed() -> Result<(), Outcome> {
    let (fates, _) = read(&kept()).map_err(failed)?;
    let patterns = kept().with_file_name("missed");
    let chosen = only_missed(&fates, &patterns).map_err(failed)?;
    let before = fs::read_dir(kept()).map_err(failed)?.count();
    test(&format!("{AGAIN}{before}"), &chosen)
}

/// Tests the chosen mutants stage by stage and keeps the results under a name.
fn test(name: &str, chosen: &str) -> Result<(), Outcome> {
    require_cargo_mutants()?;
    let folder = kept().join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed)?;
    }
    let mut chosen = chosen.to_owned();
    for Stage { name, targets, skips, hang } in STAGES {
        let output = folder.join(name);
        fs::create_dir_all(&output).map_err(failed)?;
        // Its exit code says that some were missed, which is for the next stage to see to.
        // Targets that are not named to the build as well would be compiled for each mutant.
        let targets = targets.split(' ').map(|target| match target {
            "lib" => "--cargo-arg=--lib ".to_owned(),
            test => format!("--cargo-arg=--test={test} "),
        });
        let skips = skips.split(' ').map(|skip| format!("--skip {skip} "));
        let line = format!(
            "mutants --colors never --output '{}' --timeout {hang} {}{chosen} -- -- {}",
            output.display(),
            targets.collect::<String>(),
            skips.collect::<String>()
        );
        cargo_mutants(&line).exit_code().map_err(failed)?;
        let fates = fates(&outcomes(&output).map_err(failed)?).map_err(failed)?;
        if fates.values().all(|fate| *fate != Fate::Missed) {
            break;
        }
        chosen = only_missed(&fates, &folder.join(format!("missed-by-{name}"))).map_err(failed)?;
    }
    Ok(())
}

/// The argument that chooses those that were missed; the file takes their names, however many they are.
fn only_missed(fates: &Fates, file: &Path) -> io::Result<String> {
    let missed = fates.iter().filter(|(_, fate)| **fate == Fate::Missed);
    let lines: Vec<_> = missed.map(|(name, _)| format!("^{}$", escaped(name))).collect();
    fs::write(file, lines.join("\n"))?;
    Ok(format!("--re \"$(paste -sd'|' '{}')\"", file.display()))
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

/// What became of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Caught,
    /// Noticed because the tests did not end.
    Hung,
    /// It does not compile.
    Unviable,
    Missed,
}

/// Mutants by their names, which say the place too.
type Fates = BTreeMap<String, Fate>;

/// Of all shards in a folder; and how many shards of how many those are.
fn read(folder: &Path) -> io::Result<(Fates, String)> {
    let mut all = Fates::new();
    let mut shards = BTreeMap::<String, usize>::new();
    let mut again = Vec::new();
    for run in fs::read_dir(folder)? {
        let run = run?.path();
        let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut of_run = Fates::new();
        for Stage { name, .. } in STAGES {
            if run.join(name).exists() {
                settle(&mut of_run, fates(&outcomes(&run.join(name))?)?);
            }
        }
        match name.split_once("-of-") {
            Some((_, count)) => {
                all.extend(of_run);
                *shards.entry(count.to_owned()).or_default() += 1;
            }
            None => again.push(of_run),
        }
    }
    for later in again {
        settle(&mut all, later);
    }
    let shards: Vec<_> = shards.iter().map(|(count, tested)| format!("{tested}/{count} shards")).collect();
    Ok((all, shards.join(", ")))
}

/// What the next stage makes of those that were missed; the first one meets all.
fn settle(fates: &mut Fates, later: Fates) {
    let is_first = fates.is_empty();
    for (name, fate) in later {
        // Some mutants are tested whatever names are asked for.
        if is_first || fates.get(&name) == Some(&Fate::Missed) {
            fates.insert(name, fate);
        }
    }
}

/// What one stage found.
fn fates(json: &Value) -> io::Result<Fates> {
    let mut fates = Fates::new();
    for outcome in json["outcomes"].as_array().map_or(&[][..], Vec::as_slice) {
        let name = outcome["scenario"]["Mutant"]["name"].as_str();
        let fate = match (outcome["summary"].as_str().unwrap_or_default(), name) {
            ("Success", None) => continue,
            ("CaughtMutant", _) => Fate::Caught,
            ("Timeout", Some(_)) => Fate::Hung,
            ("Unviable", _) => Fate::Unviable,
            ("MissedMutant", Some(_)) => Fate::Missed,
            (other, name) => {
                let what = name.unwrap_or("the tests without a change");
                return Err(io::Error::other(format!("{what}: {other}")));
            }
        };
        fates.extend(name.map(|name| (name.to_owned(), fate)));
    }
    Ok(fates)
}

/// A name without line and column, which change whenever something above does: `FILE: what is changed`.
fn placeless(name: &str) -> String {
    match name.splitn(4, ':').collect::<Vec<_>>()[..] {
        [file, _line, _column, what] => format!("{file}:{what}"),
        _ => name.to_owned(),
    }
}

/// The placeless names that begin the rows of the page, with how many mutants each of them excuses.
fn listed(page: &str) -> BTreeMap<String, usize> {
    let mut listed = BTreeMap::new();
    for row in page.lines() {
        if let Some((name, _)) = row.strip_prefix("- `").and_then(|row| row.split_once("`: ")) {
            *listed.entry(name.to_owned()).or_default() += 1;
        }
    }
    listed
}

/// What is reported of the mutants that were tested.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    caught: usize,
    hung: usize,
    unviable: usize,
    /// Missed, and excused by the page.
    listed: usize,
    missed: Vec<String>,
    /// Names on the page of which all mutants are noticed.
    stale: Vec<String>,
}

impl Figures {
    fn of(fates: &Fates, listed: &BTreeMap<String, usize>) -> Self {
        let mut figures = Self::default();
        let mut excuses = listed.clone();
        let mut tested = BTreeMap::<String, bool>::new();
        for (name, fate) in fates {
            let placeless = placeless(name);
            let is_missed = *fate == Fate::Missed;
            *tested.entry(placeless.clone()).or_default() |= is_missed;
            match fate {
                Fate::Caught => figures.caught += 1,
                Fate::Hung => figures.hung += 1,
                Fate::Unviable => figures.unviable += 1,
                Fate::Missed => match excuses.get_mut(&placeless) {
                    Some(left) if *left > 0 => {
                        *left -= 1;
                        figures.listed += 1;
                    }
                    _ => figures.missed.push(name.clone()),
                },
            }
        }
        figures.stale = listed.keys().filter(|name| tested.get(*name) == Some(&false)).cloned().collect();
        figures
    }

    fn viable(&self) -> usize {
        self.caught + self.hung + self.listed + self.missed.len()
    }

    /// Those that are listed count as missed here: an excuse betters no figure.
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
        evidence::print("missed, and listed with the reason", self.listed);
        evidence::print("missed", self.missed.len());
        evidence::print("unviable", self.unviable);
        evidence::print("share of viable mutants that is noticed", format!("{:.1} %", self.noticed_percent()));
    }

    fn verdict(&self) -> Outcome {
        if !self.stale.is_empty() {
            return Outcome::Failed(format!("{PAGE} lists what the tests do notice: {}", self.stale.join("; ")));
        }
        if (self.caught + self.hung) * 100 < self.viable() * BAR {
            return Outcome::Failed(format!(
                "{:.1} % of mutants are noticed, {BAR} % are the bar",
                self.noticed_percent()
            ));
        }
        Outcome::Passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "a.rs:1:2: replace f -> [u8; 2] with [0]";

    fn mutant(name: &str, summary: &str) -> Value {
        serde_json::json!({ "scenario": { "Mutant": { "name": name } }, "summary": summary })
    }

    #[test]
    fn outcomes_are_counted_and_a_later_stage_settles_what_was_missed() {
        let baseline = serde_json::json!({ "scenario": "Baseline", "summary": "Success" });
        let outcomes = [baseline, mutant("a", "CaughtMutant"), mutant("b", "MissedMutant"), mutant("c", "Unviable")];
        let mut all = fates(&serde_json::json!({ "outcomes": outcomes })).unwrap();
        assert_eq!(Figures::of(&all, &BTreeMap::new()).missed, ["b"]);
        let later = [mutant("b", "Timeout"), mutant("not asked for", "CaughtMutant")];
        settle(&mut all, fates(&serde_json::json!({ "outcomes": later })).unwrap());
        let figures = Figures::of(&all, &BTreeMap::new());
        assert_eq!((figures.viable(), figures.hung, figures.unviable), (2, 1, 1));
        assert_eq!(figures.verdict(), Outcome::Passed);
    }

    #[test]
    fn a_row_of_the_page_excuses_one_mutant_wherever_it_stands_now() {
        let listed = listed("- `a.rs: replace f -> [u8; 2] with [0]`: why\n");
        let both = [NAME, "a.rs:7:2: replace f -> [u8; 2] with [0]"].map(|name| (name.to_owned(), Fate::Missed));
        let figures = Figures::of(&both.into(), &listed);
        assert_eq!((figures.listed, figures.missed.len(), &figures.stale[..]), (1, 1, &[][..]));
    }

    #[test]
    fn a_row_of_the_page_for_what_is_noticed_fails() {
        let listed = listed("- `a.rs: replace f -> [u8; 2] with [0]`: why\n");
        let figures = Figures::of(&[(NAME.to_owned(), Fate::Caught)].into(), &listed);
        assert!(matches!(figures.verdict(), Outcome::Failed(_)), "{figures:?}");
    }

    #[test]
    fn tests_that_fail_without_a_change_show_nothing() {
        let outcomes = [serde_json::json!({ "scenario": "Baseline", "summary": "Failure" })];
        assert!(fates(&serde_json::json!({ "outcomes": outcomes })).is_err());
    }

    #[test]
    fn a_name_finds_itself_only() {
        assert_eq!(escaped(NAME), r"a\.rs:1:2: replace f -> \[u8; 2\] with \[0\]");
    }
}
