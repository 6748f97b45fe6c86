//! The project's own commands: `cargo xtask test`, `cargo xtask prove`, `cargo xtask soak` and `cargo xtask bench`.
//!
//! `test` is what the build server runs and what a person runs before handing work over; it needs Rust and nothing else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::mutants::Which;

mod arrows;
mod bench;
mod cases;
mod counts;
mod deny;
mod evidence;
mod fuzz;
mod loom;
mod mutants;
mod nightly;
mod prove;
mod readme;
mod shell;
mod soak;
mod source;
mod suite;
mod test;
mod weaken;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all suites and print one line for each at the end.
    Test {
        /// Run only these suites.
        #[arg(value_name = "SUITE")]
        only: Vec<String>,
    },
    /// Run the long proofs, some of which need a nightly toolchain.
    Prove {
        /// Say what each proof shows and by which command, and run none.
        #[arg(long)]
        list: bool,
        /// Keep the figures that the proofs print, and write docs/evidence.md from all that were kept.
        #[arg(long)]
        report: bool,
        /// How long proofs run that could go on for ever, in minutes; each has a default of its own.
        #[arg(long)]
        minutes: Option<f64>,
        /// Run only these proofs.
        #[arg(value_name = "PROOF")]
        only: Vec<String>,
    },
    /// Fuzz with libFuzzer and AddressSanitizer, which needs a nightly toolchain.
    Fuzz {
        /// How long, for all targets together.
        #[arg(long, default_value_t = 16)]
        minutes: u64,
        /// Store a few of the inputs that were found in `fuzz/corpus`, where tests replay them.
        #[arg(long)]
        keep: bool,
        /// Run only these targets.
        #[arg(value_name = "TARGET")]
        only: Vec<String>,
    },
    /// Test whether the tests notice changes of the product, with cargo-mutants. Takes hours.
    Mutants {
        /// Only every Nth mutant, from the Kth on, as K/N.
        #[arg(long, default_value = "0/1")]
        shard: String,
        /// Only those that earlier runs missed, against the tests as they are now.
        #[arg(long)]
        missed: bool,
        /// Test none, and only print what is known from earlier runs.
        #[arg(long)]
        figures: bool,
    },
    /// Count lines of product and tests, uses of unsafe, and assertions.
    Counts,
    /// Kill services, clients, producers and consumers at random moments: `--kills N`, `--seed S`.
    #[command(disable_help_flag = true)]
    Soak {
        /// Handed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure against the machine's limits and rivals; the arguments are those of `switchboard-bench`.
    #[command(disable_help_flag = true)]
    Bench {
        /// Handed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    if let Some(code) = weaken::run_as_compiler() {
        return code;
    }
    match Arguments::parse().command {
        Command::Test { only } => test::run(&only),
        Command::Prove { list, report, minutes, only } => prove::run(list, report, minutes, &only),
        Command::Fuzz { minutes, keep, only } => fuzz::run(minutes, keep, &only),
        Command::Mutants { figures: true, .. } => mutants::run(&Which::Nothing),
        Command::Mutants { missed: true, .. } => mutants::run(&Which::Missed),
        Command::Mutants { shard, .. } => mutants::run(&Which::Shard(shard)),
        Command::Counts => counts::run(),
        Command::Soak { arguments } => soak::run(&arguments),
        Command::Bench { arguments } => bench::run(&arguments),
    }
}
