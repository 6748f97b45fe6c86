//! Measures Switchboard against the machine's own limits and against rivals.
//!
//! Run it with `cargo xtask bench`. The measuring process is the caller; its peers are this same executable, started
//! anew in a role. Exit code 0: every bar holds; 1: one does not, or the run failed; 2: not measurable here and now.
#![deny(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::peer::PeerEnd;
use crate::report::{Header, Report};
use crate::rows::{Effort, RowId, Verdict};
use crate::run_directory::RunDirectory;
use crate::subject::Failure;
use crate::unloaded::count_alloc::CountingAllocator;

mod bare;
mod chunks;
mod duplex;
mod far;
mod flight;
mod floor;
mod funnel;
mod iceoryx2_rr;
mod message;
mod ours;
mod payload;
mod peer;
mod placement;
mod plot;
mod report;
mod rows;
mod run_directory;
mod stream;
mod subject;
mod transport;
mod uds;
mod unloaded;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// How much longer than its budgets a run may take before it is taken for hung.
const GRACE: Duration = Duration::from_secs(90);

/// Measures calls beside the machine's limits and rivals.
#[derive(Debug, Parser)]
#[command(name = "switchboard-bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    /// The rows to measure and judge; all if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    check: Vec<RowId>,
    /// Stop as soon as there is enough to judge.
    #[arg(long)]
    quick: bool,
    /// Write everything that was measured into this file, as one JSON object.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the rows into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The process at the other end of a subject.
    #[command(name = peer::COMMAND, hide = true)]
    Peer { role: String, arguments: Vec<String> },
    /// A process of the experiment that counts what a call costs.
    #[command(name = rows::UNLOADED_COMMAND, hide = true)]
    Unloaded { role: String, directory: PathBuf },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.role {
        Some(Role::Peer { role, arguments }) => be_peer(role, arguments).map(|()| Verdict::Pass),
        Some(Role::Unloaded { role, directory }) => be_unloaded(role, directory).map(|()| Verdict::Pass),
        None => run(&arguments),
    };
    match outcome {
        Ok(Verdict::Pass) => ExitCode::SUCCESS,
        Ok(Verdict::Fail) => ExitCode::from(1),
        Ok(Verdict::NotMeasurable) => ExitCode::from(2),
        Err(failure) => {
            eprintln!("switchboard-bench: {failure}");
            ExitCode::from(1)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Verdict, Failure> {
    let chosen = if arguments.check.is_empty() { RowId::ALL.to_vec() } else { arguments.check.clone() };
    let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
    // A row with very many subjects takes two budgets.
    give_up_after(effort.budget * 2 * chosen.len() as u32 + GRACE);
    let directory = RunDirectory::create()?;
    let header = Header::gather();
    Report::print_header(&header);
    let mut rows = Vec::new();
    for id in RowId::ALL.into_iter().filter(|id| chosen.contains(id)) {
        let row = rows::measure(id, effort, directory.path())?;
        print!("{}", report::table(&row));
        rows.push(row);
    }
    let verdict = Verdict::all(rows.iter().map(|row| row.verdict));
    let report = Report { header, rows, verdict };
    if let Some(file) = &arguments.json {
        report.write_json(file)?;
    }
    if let Some(file) = &arguments.plot {
        plot::write(&report, file)?;
    }
    let words: Vec<String> =
        report.rows.iter().map(|row| format!("{} {}", row.id, report::word(row.verdict))).collect();
    println!("\n{}", words.join(", "));
    Ok(verdict)
}

fn be_peer(role: &str, arguments: &[String]) -> Result<(), Failure> {
    let end = PeerEnd::new()?;
    match (role, arguments) {
        (floor::LINE_ROLE, [path]) => floor::serve_lines(end, path.as_ref()),
        (floor::FUTEX_ROLE, [path]) => floor::serve_futex(end, path.as_ref()),
        (uds::ROLE, [path]) => uds::serve(end, path.into()),
        (iceoryx2_rr::ROLE, [service]) => iceoryx2_rr::serve(end, service),
        (ours::ROLE, [directory, spin_ns]) => ours::serve(end, directory.as_ref(), spin_ns.parse()?),
        (flight::TARPC_ROLE, [path]) => flight::serve_tarpc(end, path.as_ref()),
        (flight::TOKIO_ROLE, [directory, service]) => flight::serve_tasks(end, directory.as_ref(), service),
        (duplex::ROLE, [kind, there, back]) => duplex::serve(end, kind, there, back),
        (stream::ROLE, [kind, bytes, batch, gate, ring]) => {
            stream::serve(end, kind, bytes.parse()?, batch.parse()?, gate.as_ref(), ring.as_ref())
        }
        (funnel::ROLE, [kind, number, place]) => funnel::serve(end, kind, number.parse()?, place),
        _ => Err(format!("there is no role `{role}` with {} arguments", arguments.len()).into()),
    }
}

fn be_unloaded(role: &str, directory: &std::path::Path) -> Result<(), Failure> {
    match role {
        "service" => unloaded::roles::serve(directory),
        "caller" => unloaded::roles::call(directory),
        _ => Err(format!("there is no role `{role}`").into()),
    }
}

/// Ends the process when a run hangs, for example because a peer died in the middle of a chunk. Its peers end with it.
fn give_up_after(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("switchboard-bench: no end after {limit:?}: a peer hangs");
        std::process::exit(1);
    });
}
