//! `switchboard serve`: serves one of the program's own services until it is asked to end.

use std::io::Write;
use std::time::Duration;

use crate::digits::{DigitsServer, Recogniser};
use crate::echo::{EchoServer, Mirror};
use crate::failure::{Explain, Result};
use crate::signals::Ends;
use crate::{board, cores};

/// A service that this program brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Service {
    /// Recognises handwritten digits
    Digits,
    /// Gives back what it gets
    Echo,
}

impl Service {
    /// The name under which it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Echo => "echo",
        }
    }
}

/// What `serve` was asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service
    pub service: Service,
    /// How many calls run at the same time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: u16,
    /// Tells this instance from others of the same service
    #[arg(long, value_name = "ID", default_value = "1")]
    pub instance: String,
    /// Microseconds for which a waiter polls before it sleeps
    #[arg(long, value_name = "US", hide = true)]
    pub spin_us: Option<u64>,
    /// The processor to run on
    #[arg(long, value_name = "CPU", hide = true)]
    pub cpu: Option<usize>,
    /// End when standard input is closed, as it is when the parent has ended in whatever way
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// Serves until `SIGINT`, `SIGTERM` or `SIGHUP` comes, then takes the instance down.
///
/// # Errors
/// When the switchboard cannot be opened or the instance's name is taken.
pub fn run(args: &Args) -> Result<()> {
    let ends = Ends::hold_back()?;
    let board = board::open(args.spin_us.map(Duration::from_micros))?;
    let (address, workers) = (format!("{}@{}", args.service.name(), args.instance), usize::from(args.workers));
    let started = match args.service {
        Service::Digits => board.serve(&address, DigitsServer::new(Recogniser::new())).workers(workers).start(),
        Service::Echo => board.serve(&address, EchoServer::new(Mirror)).workers(workers).start(),
    };
    let running = started.explain(|| format!("cannot serve `{address}`"))?;
    if let Some(cpu) = args.cpu {
        cores::pin_process(cpu)?;
    }
    // Nobody may be listening; then there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "serving {address} as pid {}, {workers} workers", std::process::id());
    ends.wait(args.until_stdin_closes, None)?;
    drop(running);
    Ok(())
}
