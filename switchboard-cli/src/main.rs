//! The `switchboard` program: serves its example services, lists live instances, and shows all of it in one demo.
#![forbid(unsafe_code)]

mod board;
mod cores;
mod data;
mod demo;
mod digits;
mod echo;
mod failure;
mod knn;
mod list;
mod report;
mod rival;
mod samples;
mod serve;
mod signals;
mod uds;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Explain, Failure, Result};

/// Calls services by name, at the speed of shared memory
///
/// Instances are found in SWITCHBOARD_RUNTIME_DIR, under the namespace SWITCHBOARD_NAMESPACE.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Calls a real service in its own process, measures it, kills it and calls it again
    ///
    /// Takes 4 to 10 s and needs no set-up. Exits with 1 and says why if anything of it goes wrong.
    Demo {
        /// Print one JSON object instead of the text
        #[arg(long)]
        json: bool,
    },
    /// Serves `digits` or `echo` until it is interrupted
    Serve(serve::Args),
    /// Lists the live instances of the namespace
    List {
        /// Print an array of objects with `address` and `pid`
        #[arg(long)]
        json: bool,
    },
    /// The demo's rival: the same service behind a plain Unix socket
    #[command(hide = true)]
    Rival(rival::Args),
    /// The other side of the demo's measurement of the machine's limits
    #[command(hide = true)]
    FloorPeer(demo::floors::Args),
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("switchboard: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Demo { json } => {
            let findings = demo::run()?;
            if *json {
                print(&findings.json().explain(|| "cannot write JSON".into())?)?;
            } else {
                print(report::text(&findings).trim_end())?;
            }
            let problems = findings.problems();
            if problems.is_empty() { Ok(()) } else { Err(Failure::new(problems.join("; "))) }
        }
        Command::Serve(args) => serve::run(args),
        Command::List { json } => print(&list::run(*json)?),
        Command::Rival(args) => rival::run(args),
        Command::FloorPeer(args) => demo::floors::run_peer(args),
    }
}

/// Writes a line to standard output; a closed one is an error and no panic.
fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").explain(|| "cannot write to standard output".into())
}
