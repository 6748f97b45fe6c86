//! The loom suite: the models hold, and each weakened twin of the product fails the model that guards it.
//!
//! A model that no weakening can fail proves nothing. `loom-tests/twins.txt` lists the twins, one a line: the value of
//! the `weaken` cfg, the test that must fail, and after a `#` what was weakened.

use std::fs;

use crate::evidence::{self, passed_tests};
use crate::shell::{Shell, root, target_directory};
use crate::suite::Outcome;
use crate::weaken;

const TABLE: &str = "loom-tests/twins.txt";
const FLAGS: &str = "--cfg loom";
/// The packages that `weaken` can change.
const WEAKENED: [&str; 2] = ["shm-ring", "loom-tests"];

#[derive(Debug, PartialEq, Eq)]
struct Twin<'a> {
    name: &'a str,
    test: &'a str,
    words: &'a str,
}

/// Runs the models, then each twin.
pub fn check() -> Outcome {
    let table = match fs::read_to_string(root().join(TABLE)) {
        Ok(table) => table,
        Err(error) => return Outcome::Failed(format!("{TABLE}: {error}")),
    };
    let twins = match parse(&table) {
        Ok(twins) => twins,
        Err(why) => return Outcome::Failed(why),
    };
    let mut report = Vec::new();
    models(&mut report).and_then(|| all_twins(&twins, &mut report))
}

fn models(report: &mut Vec<String>) -> Outcome {
    let tests = ["test", "--profile", "loom", "--package", "loom-tests", "--", "--nocapture", "--test-threads=1"];
    match loom_cargo(&tests).run_and_read() {
        Ok((true, output)) if passed_tests(&output) == 0 => Outcome::Failed("no loom model was run".to_owned()),
        Ok((true, output)) => {
            let explored: Vec<_> = output.lines().filter(|line| line.contains("execution")).collect();
            report.extend(explored.iter().map(|line| line.trim().to_owned()));
            evidence::print("models that hold", passed_tests(&output));
            evidence::print("executions explored", explored.iter().map(|line| executions(line)).sum::<u64>());
            Outcome::Passed
        }
        Ok((false, _)) => {
            Outcome::Failed(format!("a loom model does not hold: RUSTFLAGS='{FLAGS}' cargo {}", tests.join(" ")))
        }
        Err(error) => Outcome::Failed(format!("loom models: {error}")),
    }
}

fn all_twins(twins: &[Twin<'_>], report: &mut Vec<String>) -> Outcome {
    let compiler = match weaken::install(&target_directory().join("loom")) {
        Ok(compiler) => compiler,
        Err(error) => return Outcome::Failed(format!("the stand-in for the compiler: {error}")),
    };
    let cargo = |arguments: &[&str], twin: &Twin<'_>| {
        loom_cargo(arguments).env("RUSTC_WORKSPACE_WRAPPER", &compiler).env(weaken::VARIABLE, twin.name)
    };
    let mut outcome = Outcome::Passed;
    for twin in twins {
        outcome = outcome.and_then(|| {
            println!("\n-- twin `{}`: {}", twin.name, twin.words);
            // Cargo cannot see that the stand-in adds another flag now.
            let clean = ["clean", "--profile", "loom", "--package", WEAKENED[0], "--package", WEAKENED[1]];
            let build = ["test", "--profile", "loom", "--package", "loom-tests", "--no-run"];
            let test = ["test", "--profile", "loom", "--package", "loom-tests", "--", "--test-threads=1", twin.test];
            loom_cargo(&clean)
                .run()
                .and_then(|| cargo(&build, twin).run())
                .and_then(|| must_fail(twin, cargo(&test, twin), report))
        });
    }
    if outcome == Outcome::Passed {
        evidence::print("weakened twins that fail their model", twins.len());
    }
    println!("\n-- loom, in short");
    report.iter().for_each(|line| println!("{line}"));
    outcome
}

/// Runs a twin's test, which must fail by itself: a twin that is not found or not caught fails the suite.
fn must_fail(twin: &Twin<'_>, test: Shell, report: &mut Vec<String>) -> Outcome {
    let Twin { name, test: test_name, .. } = twin;
    match test.run_and_read() {
        Err(error) => Outcome::Failed(format!("twin `{name}`: {error}")),
        Ok((true, output)) if passed_tests(&output) == 0 => {
            Outcome::Failed(format!("twin `{name}`: there is no test `{test_name}`"))
        }
        Ok((true, _)) => Outcome::Failed(format!("twin `{name}` is not caught: `{test_name}` holds in spite of it")),
        // A model that deadlocks may end by an abort, when its unwinding panics once more: it was run, and did not hold.
        Ok((false, output)) if !output.contains("running 1 test") => {
            Outcome::Failed(format!("twin `{name}`: `{test_name}` ended before it could fail"))
        }
        Ok((false, output)) => {
            let place =
                output.lines().find(|line| line.contains("panicked at")).unwrap_or("panicked at an unknown place");
            report.push(format!("twin `{name}` failed `{test_name}`: {}", place.trim()));
            Outcome::Passed
        }
    }
}

fn loom_cargo(arguments: &[&str]) -> Shell {
    Shell::cargo(arguments).env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", target_directory().join("loom"))
}

/// The number before the word in `12 executions`, wherever it stands in the line.
fn executions(line: &str) -> u64 {
    let words: Vec<_> = line.split(|c: char| !c.is_alphanumeric()).collect();
    let pairs = words.windows(2).filter(|pair| pair[1].starts_with("execution"));
    pairs.filter_map(|pair| pair[0].parse::<u64>().ok()).sum()
}

fn parse(table: &str) -> Result<Vec<Twin<'_>>, String> {
    let mut twins = Vec::new();
    for (index, line) in table.lines().enumerate() {
        let (fields, words) = line.split_once('#').unwrap_or((line, ""));
        match fields.split_whitespace().collect::<Vec<_>>()[..] {
            [] => {}
            [name, test] => twins.push(Twin { name, test, words: words.trim() }),
            _ => return Err(format!("{TABLE}:{}: a name and a test are due, `{fields}` found", index + 1)),
        }
    }
    if twins.is_empty() { Err(format!("{TABLE} names no twin")) } else { Ok(twins) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_twin_and_the_test_that_it_breaks() {
        let twins = parse("# all twins\n\npublish_relaxed  payload_is_whole  # the commit's store\n")
            .expect("it is well formed");
        let words = "the commit's store";
        assert_eq!(twins, [Twin { name: "publish_relaxed", test: "payload_is_whole", words }]);
    }

    #[test]
    fn a_twin_without_a_test_is_refused_with_its_line() {
        let why = parse("# all twins\nlonely\n").expect_err("a test is missing");
        assert!(why.starts_with("loom-tests/twins.txt:2:"), "{why}");
    }

    #[test]
    fn executions_are_read_from_a_line_and_only_from_there() {
        assert_eq!(executions("model `wrap`: 159 executions, bound 3"), 159);
        assert_eq!(executions("executions"), 0);
    }
}
