//! `cargo xtask fuzz`: every fuzz target for its share of the time, under libFuzzer and AddressSanitizer.
//!
//! What libFuzzer finds worth keeping grows in `target/fuzz/corpus`; `--keep` puts the smallest inputs that reach the
//! same code into `fuzz/corpus`, which the tests of the crates replay on any compiler.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::evidence;
use crate::nightly;
use crate::shell::{Shell, root, target_directory};
use crate::suite::Outcome;
use crate::test;

/// Longest input, in bytes.
const LONGEST: usize = 2048;
/// Longest input that is kept in the repository, in bytes.
const LONGEST_KEPT: u64 = 1536;
/// Most inputs of one target that are kept in the repository.
const MOST_KEPT: usize = 12;
/// An input that takes longer is a hang, in seconds; on a machine with much else to do, some are slow.
const HANG: u64 = 60;

/// Fuzzes the targets named in `only`, or all, for `minutes` in all.
pub fn run(minutes: u64, keep: bool, only: &[String]) -> ExitCode {
    let prepared = targets().map_err(|error| Outcome::Failed(error.to_string())).and_then(|targets| {
        nightly::require(&[])?;
        require_cargo_fuzz()?;
        passed(cargo_fuzz("build").run())?;
        Ok(targets)
    });
    let targets = match prepared {
        Ok(targets) => targets,
        Err(outcome) => return test::summary(&[("fuzz", outcome, Default::default())]),
    };
    let chosen: Vec<_> = targets.iter().filter(|name| only.is_empty() || only.contains(name)).collect();
    let seconds = (minutes * 60 / chosen.len().max(1) as u64).max(1);
    let (mut total, mut crashes) = (0, Vec::new());
    for name in &chosen {
        match fuzz(name, seconds) {
            Ok(Run { executions, crashed }) => {
                evidence::print(&format!("executions of {name}"), executions);
                total += executions;
                crashes.extend(crashed);
            }
            Err(error) => crashes.push(format!("`{name}` could not be run: {error}")),
        }
        if keep && let Err(error) = keep_smallest(name) {
            crashes.push(format!("the inputs of `{name}` could not be kept: {error}"));
        }
    }
    evidence::print("fuzz targets", chosen.len());
    evidence::print("executions in all", total);
    evidence::print("crashes", crashes.len());
    test::summary(&[("fuzz", Outcome::of_findings(&crashes), Default::default())])
}

/// The names of all targets, which are those of their files.
fn targets() -> io::Result<Vec<String>> {
    let files = fs::read_dir(root().join("fuzz/fuzz_targets"))?.collect::<io::Result<Vec<_>>>()?;
    let mut names: Vec<_> =
        files.iter().filter_map(|file| Some(file.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn tools() -> PathBuf {
    target_directory().join("tools")
}

/// Builds `cargo-fuzz` under the target folder, unless it is there.
fn require_cargo_fuzz() -> Result<(), Outcome> {
    if matches!(cargo_fuzz("--version").ask(), Ok((true, _))) {
        return Ok(());
    }
    let tools = tools();
    let install = format!("cargo install cargo-fuzz --locked --debug --root '{}'", tools.display());
    passed(Shell::line(&install).run())
}

fn passed(outcome: Outcome) -> Result<(), Outcome> {
    if outcome == Outcome::Passed { Ok(()) } else { Err(outcome) }
}

/// `cargo fuzz` with these arguments.
fn cargo_fuzz(arguments: &str) -> Shell {
    let tools = tools();
    // Shared with `cargo build`, the folder would be built anew by each of the two.
    let target = target_directory().join("fuzz/build");
    Shell::line(&format!("PATH='{}':\"$PATH\" cargo +nightly fuzz {arguments}", tools.join("bin").display()))
        .env("CARGO_TARGET_DIR", target)
}

/// What one target came to.
struct Run {
    executions: u64,
    /// Why it stopped early, if it did.
    crashed: Option<String>,
}

fn fuzz(name: &str, seconds: u64) -> io::Result<Run> {
    let grown = grown(name);
    fs::create_dir_all(&grown)?;
    let arguments = format!(
        "run {name} '{}' fuzz/corpus/{name} -- -max_total_time={seconds} -max_len={LONGEST} -timeout={HANG} \
         -verbosity=0 -print_final_stats=1 2>&1",
        grown.display()
    );
    let (ended_well, text) = cargo_fuzz(&arguments).run_and_read()?;
    let crashed = (!ended_well).then(|| format!("`{name}` failed; its input is in fuzz/artifacts/{name}"));
    Ok(Run { executions: executions(&text), crashed })
}

/// Where a target's inputs grow on this machine.
fn grown(name: &str) -> PathBuf {
    target_directory().join("fuzz/corpus").join(name)
}

/// What libFuzzer says at its end.
fn executions(text: &str) -> u64 {
    let count = |line: &str| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok();
    text.lines().find_map(count).unwrap_or(0)
}

/// Chooses among all inputs of a target a few that reach as much code as a few can, and stores those.
fn keep_smallest(name: &str) -> io::Result<()> {
    let chosen = target_directory().join("fuzz/chosen").join(name);
    if chosen.exists() {
        fs::remove_dir_all(&chosen)?;
    }
    fs::create_dir_all(&chosen)?;
    let stored = root().join("fuzz/corpus").join(name);
    let arguments = format!(
        "run {name} '{}' '{}' '{}' -- -set_cover_merge=1 -max_len={LONGEST_KEPT} -verbosity=0",
        chosen.display(),
        stored.display(),
        grown(name).display()
    );
    if cargo_fuzz(&arguments).run() != Outcome::Passed {
        return Err(io::Error::other("libFuzzer could not merge them"));
    }
    // Those that were put there by hand have a name and stay; libFuzzer names inputs by their hash.
    for file in files_of(&stored)?.into_iter().filter(|file| is_named_by_hash(file)) {
        fs::remove_file(file)?;
    }
    // The larger ones do more in one run.
    let mut chosen = files_of(&chosen)?;
    chosen.sort_by_key(|file| std::cmp::Reverse(fs::metadata(file).map_or(0, |data| data.len())));
    for file in chosen.iter().filter(|file| is_named_by_hash(file)).take(MOST_KEPT) {
        fs::copy(file, stored.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.sort();
    Ok(files)
}

fn is_named_by_hash(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_executions_is_found_among_what_libfuzzer_prints() {
        let text = "INFO: Seed: 1\nstat::number_of_executed_units: 3127\nstat::average_exec_per_sec:     100\n";
        assert_eq!(executions(text), 3127);
        assert_eq!(executions("panicked"), 0);
    }

    #[test]
    fn every_target_has_stored_inputs() {
        for name in targets().expect("the folder is there") {
            let stored = files_of(&root().join("fuzz/corpus").join(&name)).unwrap_or_default();
            assert!(!stored.is_empty(), "{name}");
        }
    }
}
