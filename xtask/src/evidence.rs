//! The evidence page: figures that proofs printed, with date, commit and command, as a page that no hand writes.
//!
//! A proof prints a figure as a line `figure: NAME = VALUE` on its standard output. `cargo xtask prove NAME --report`
//! keeps what such a run printed in `docs/evidence/NAME.json`, and writes `docs/evidence.md` from all that is kept.

use std::fmt::{self, Display, Write as _};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::shell::{Shell, root};
use crate::suite::Outcome;

const PREFIX: &str = "figure: ";
const SKIPPED: &str = "SKIP: ";
const FOLDER: &str = "docs/evidence";
const PAGE: &str = "docs/evidence.md";

/// Prints a figure of a proof that is part of this program.
pub fn print(name: &str, value: impl Display) {
    println!("{PREFIX}{name} = {value}");
}

/// What one run of a proof showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the proof shows if it passes.
    pub shows: String,
    /// The line that repeats it.
    pub command: String,
    /// Whether it passed, failed, or could not be run here.
    pub outcome: String,
    /// The commit, with a mark if files differed from it.
    pub commit: String,
    /// Day of the run, in UTC.
    pub date: String,
    /// System, processors.
    pub machine: String,
    /// Whole seconds that it took.
    pub seconds: u64,
    /// What it printed, in its order; of two with one name the later.
    pub figures: Vec<(String, String)>,
}

impl Record {
    /// The record of a run that ended just now.
    pub fn of(shows: &str, command: &str, outcome: &Outcome, took: Duration, output: &str) -> Self {
        let outcome = match outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed(why) => format!("FAILED: {why}"),
            Outcome::Skipped(why) => format!("not run: {why}"),
        };
        Self {
            shows: one_line(shows),
            command: one_line(command),
            outcome: one_line(&outcome),
            commit: commit(),
            date: asked("date -u +%Y-%m-%d"),
            machine: format!("{}, {} processors", asked("uname -srm"), asked("nproc")),
            seconds: took.as_secs(),
            figures: figures(output),
        }
    }

    fn to_json(&self) -> Value {
        let figures: Vec<_> = self.figures.iter().map(|(name, value)| json!([name, value])).collect();
        json!({
            "shows": self.shows, "command": self.command, "outcome": self.outcome, "commit": self.commit,
            "date": self.date, "machine": self.machine, "seconds": self.seconds, "figures": figures,
        })
    }

    fn from_json(json: &Value) -> Option<Self> {
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let pair = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()));
        Some(Self {
            shows: text("shows")?,
            command: text("command")?,
            outcome: text("outcome")?,
            commit: text("commit")?,
            date: text("date")?,
            machine: text("machine")?,
            seconds: json["seconds"].as_u64()?,
            figures: json["figures"].as_array()?.iter().map(pair).collect::<Option<_>>()?,
        })
    }

    /// Keeps it for the page, in place of an older one of the same proof.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, proof: &str) -> io::Result<()> {
        fs::create_dir_all(root().join(FOLDER))?;
        fs::write(path(proof), format!("{:#}\n", self.to_json()))
    }
}

/// Writes the page from what is kept of these proofs, in this order.
///
/// # Errors
/// A record cannot be read or understood, or the page cannot be written.
pub fn write_page<'a>(proofs: impl Iterator<Item = (&'a str, &'a str)>) -> io::Result<()> {
    let mut page = String::from(HEAD);
    let mut missing = String::new();
    for (name, shows) in proofs {
        match fs::read_to_string(path(name)) {
            Ok(text) => {
                let record = serde_json::from_str(&text).ok().as_ref().and_then(Record::from_json);
                let unread = || io::Error::new(io::ErrorKind::InvalidData, format!("{}", path(name).display()));
                section(&mut page, name, &record.ok_or_else(unread)?).map_err(io::Error::other)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _ = writeln!(missing, "- `{name}`: {}", one_line(shows));
            }
            Err(error) => return Err(error),
        }
    }
    if !missing.is_empty() {
        let _ = write!(page, "\n## No run on record\n\n{missing}");
    }
    fs::write(root().join(PAGE), page)?;
    println!("written: {PAGE}");
    Ok(())
}

const HEAD: &str = "\
<!-- Written by `cargo xtask prove --report`; edits are lost at its next run. -->
# Evidence

What the proofs of this project printed when they were last run for this page: each with its commit, its day and the
command that repeats it. `cargo xtask prove --list` says what there is, `cargo xtask prove NAME --report` runs one and
writes it in here. Cross-process weak-memory mistakes cannot be seen on x86-64; loom and Miri are the only witnesses.
";

fn section(page: &mut String, name: &str, record: &Record) -> fmt::Result {
    let Record { shows, command, outcome, commit, date, machine, seconds, figures } = record;
    writeln!(page, "\n## {name}: {outcome}\n\n{shows}.\n")?;
    writeln!(page, "`{command}`  \n{date}, commit {commit}, {seconds} s, {machine}")?;
    if !figures.is_empty() {
        writeln!(page, "\n| figure | value |\n|---|---|")?;
        for (name, value) in figures {
            writeln!(page, "| {name} | {value} |")?;
        }
    }
    Ok(())
}

/// How many tests passed, over all test programs of an output.
pub fn passed_tests(output: &str) -> u64 {
    let counts = output.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    counts.filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

fn figures(output: &str) -> Vec<(String, String)> {
    let mut figures: Vec<(String, String)> = Vec::new();
    // The test harness may have begun the line.
    let found = output.lines().filter_map(|line| line.split_once(PREFIX)?.1.split_once(" = "));
    for (name, value) in found {
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        match figures.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => figures.push((name, value)),
        }
    }
    if let tests @ 1.. = passed_tests(output) {
        figures.push(("tests passed".to_owned(), tests.to_string()));
    }
    // A test that cannot be run here says so and passes.
    for (_, what) in output.lines().filter_map(|line| line.split_once(SKIPPED)) {
        let skipped = ("left out".to_owned(), what.trim().to_owned());
        if !figures.contains(&skipped) {
            figures.push(skipped);
        }
    }
    figures
}

fn path(proof: &str) -> PathBuf {
    root().join(FOLDER).join(format!("{proof}.json"))
}

fn commit() -> String {
    // The page and its records are what such a run changes itself.
    let changed = asked("git status --porcelain -- . ':!docs/evidence' ':!docs/evidence.md'");
    let mark = if changed.is_empty() { "" } else { " with changes" };
    format!("{}{mark}", asked("git rev-parse --short=10 HEAD"))
}

fn asked(line: &str) -> String {
    Shell::line(line).ask().map(|(_, text)| text.trim().to_owned()).unwrap_or_default()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_in_their_order_and_the_last_of_a_name_counts() {
        let output = "test a ... figure: lost = 1\nnoise = 3\nfigure: kills = 20000 of 20000\nfigure: lost = 0\n";
        let pairs = [("lost", "0"), ("kills", "20000 of 20000")];
        assert_eq!(figures(output), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_a_passing_test_left_out_is_told() {
        let output = "SKIP: no tracing here\ntest result: ok. 1 passed; 0 failed\ntest b ... SKIP: no tracing here\n";
        let pairs = [("tests passed", "1"), ("left out", "no tracing here")];
        assert_eq!(figures(output), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn tests_are_counted_over_all_programs() {
        let output = "test result: ok. 3 passed; 0 failed\nx\ntest result: ok. 0 passed; 0 failed\n";
        assert_eq!(passed_tests(output), 3);
    }

    #[test]
    fn a_record_reads_back_as_it_was_kept() {
        let output = "figure: lost = 0\n";
        let record = Record::of("nothing is lost", "cargo x", &Outcome::Passed, Duration::from_secs(3), output);
        assert_eq!(Record::from_json(&record.to_json()), Some(record));
    }

    #[test]
    fn a_failed_run_is_shown_as_failed() {
        let failed = Outcome::Failed("1 lost".to_owned());
        let record = Record::of("nothing is lost", "cargo x", &failed, Duration::ZERO, "figure: lost = 1\n");
        let mut page = String::new();
        section(&mut page, "soak", &record).expect("a string has room");
        assert!(page.contains("## soak: FAILED: 1 lost") && page.contains("| lost | 1 |"), "{page}");
    }
}
