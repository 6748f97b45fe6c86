//! `cargo xtask test`: all suites in order, and one line for each at the end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::shell::Shell;
use crate::suite::{Outcome, Suite};
use crate::{arrows, cases, deny, loom, prove, readme, source};

/// In the order in which they are run: what is cheap to check and often wrong comes first.
const SUITES: [Suite; 12] = [
    Suite { name: "format", run: format },
    Suite { name: "source", run: source::check },
    Suite { name: "arrows", run: arrows::check },
    Suite { name: "cases", run: cases::check },
    Suite { name: "clippy", run: clippy },
    Suite { name: "build", run: build },
    Suite { name: "tests", run: tests },
    Suite { name: "docs", run: docs },
    Suite { name: "loom", run: loom::check },
    Suite { name: "miri", run: prove::miri_sample },
    Suite { name: "readme", run: readme::check },
    Suite { name: "deny", run: deny::check },
];

/// Tower's adapters: the one feature that nothing here turns on.
const TOWER: &str = "switchboard/tower";

/// Runs the suites named in `only`, or all; a failure stops none of the others.
pub fn run(only: &[String]) -> ExitCode {
    if let Some(unknown) = only.iter().find(|name| SUITES.iter().all(|suite| suite.name != name.as_str())) {
        let names = SUITES.map(|suite| suite.name).join(", ");
        eprintln!("there is no suite `{unknown}`; there are {names}");
        return ExitCode::FAILURE;
    }
    let chosen = SUITES.iter().filter(|suite| only.is_empty() || only.iter().any(|name| name == suite.name));
    let results: Vec<_> = chosen.map(|suite| timed(suite.name, suite.run)).collect();
    summary(&results)
}

/// What was run, how it ended, and how long it took.
pub type Timed = (&'static str, Outcome, Duration);

/// Runs one part under a heading of its own.
pub fn timed(name: &'static str, run: impl FnOnce() -> Outcome) -> Timed {
    println!("\n==== {name}");
    let start = Instant::now();
    let outcome = run();
    (name, outcome, start.elapsed())
}

/// Prints a line for each part and how many passed, failed and were skipped.
pub fn summary(results: &[Timed]) -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    println!("\n==== summary");
    for (name, outcome, took) in results {
        let (count, word, why) = match outcome {
            Outcome::Passed => (&mut passed, "passed", None),
            Outcome::Failed(why) => (&mut failed, "FAILED", Some(why)),
            Outcome::Skipped(why) => (&mut skipped, "SKIP", Some(why)),
        };
        *count += 1;
        let why = why.map_or(String::new(), |why| format!("  {why}"));
        println!("{name:<12} {word:<6} {:>6.1} s{why}", took.as_secs_f64());
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn format() -> Outcome {
    Shell::cargo(&["fmt", "--all", "--check"]).run()
}

fn clippy() -> Outcome {
    Shell::cargo(&["clippy", "--all-targets", "--features", TOWER, "--", "-D", "warnings"]).run()
}

fn build() -> Outcome {
    Shell::cargo(&["build", "--bins"]).run()
}

// The default members, that is all but `benches`: whoever tests must not have to build the rivals.
fn tests() -> Outcome {
    Shell::cargo(&["test", "--lib", "--bins", "--tests", "--features", TOWER]).run()
}

fn docs() -> Outcome {
    Shell::cargo(&["test", "--doc", "--features", TOWER]).run().and_then(|| {
        // Libraries only: the program `switchboard` has the name of the facade, and its pages would overwrite it.
        Shell::cargo(&["doc", "--no-deps", "--lib", "--features", TOWER]).env("RUSTDOCFLAGS", "-D warnings").run()
    })
}
