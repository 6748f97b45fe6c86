//! The machine's own limits, measured between this process and a child in the same rounds as everything else.

use std::io::{BufRead, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use shm_ring::floor::Floor;

use super::stage::{Actor, Stage};
use crate::failure::{Explain, Failure, Result};
use crate::samples::Samples;
use crate::{cores, signals};

/// Rounds before each measurement, for the peer to come out of its sleep.
const WARM_UP: u32 = 64;

/// What the hidden `floor-peer` was asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shared words, as a path to the parent's descriptor
    #[arg(long)]
    pub words: PathBuf,
    /// The processor to run on
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// This side of the two words, and the process on the other side.
#[derive(Debug)]
pub struct Floors {
    floor: Floor,
    peer: Actor,
}

impl Floors {
    /// Starts the peer, on processor `cpu` if given.
    ///
    /// # Errors
    /// When there is no memory or the peer cannot be started.
    pub fn start(stage: &Stage, cpu: Option<usize>) -> Result<Self> {
        let floor = Floor::create().explain(|| "cannot make two shared words".into())?;
        // The descriptor closes on exec, so the child opens it through its parent.
        let words = format!("/proc/{}/fd/{}", std::process::id(), floor.fd().as_raw_fd());
        let mut args = vec!["floor-peer".to_owned(), "--words".into(), words];
        if let Some(cpu) = cpu {
            args.extend(["--cpu".into(), cpu.to_string()]);
        }
        Ok(Self { peer: stage.start(&args)?, floor })
    }

    /// A cache line each way between two spinning processes: `count` groups of `group` rounds.
    ///
    /// # Errors
    /// When the peer does not keep up.
    pub fn two_lines(&mut self, count: u32, group: u32) -> Result<Samples> {
        self.measure("spin", count, group, Floor::spin_ping)
    }

    /// A futex wake each way between two sleeping processes: `count` rounds.
    ///
    /// # Errors
    /// When the peer does not keep up.
    pub fn futex(&mut self, count: u32) -> Result<Samples> {
        self.measure("futex", count, 1, Floor::futex_ping)
    }

    fn measure(
        &mut self,
        kind: &str,
        count: u32,
        group: u32,
        ping: fn(&Floor, u32) -> std::io::Result<std::time::Duration>,
    ) -> Result<Samples> {
        let what = || format!("cannot measure {count} x {group} {kind} rounds");
        self.peer.tell(&format!("{kind} {}", WARM_UP + count * group))?;
        ping(&self.floor, WARM_UP).explain(what)?;
        let mut ns = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let together = ping(&self.floor, group).explain(what)?;
            ns.push(together.as_nanos() as f64 / f64::from(group));
        }
        Samples::new(ns).ok_or_else(|| Failure::new(what()))
    }
}

/// The child's side: echoes as many rounds of a kind as each line of standard input says, until that is closed.
///
/// # Errors
/// When the words cannot be opened, a line is not understood, or the parent does not keep up.
pub fn run_peer(args: &Args) -> Result<()> {
    signals::let_through()?;
    if let Some(cpu) = args.cpu {
        cores::pin_process(cpu)?;
    }
    let what = || format!("cannot open the shared words `{}`", args.words.display());
    let file = std::fs::File::options().read(true).write(true).open(&args.words).explain(what)?;
    let floor = Floor::from_fd(OwnedFd::from(file)).explain(what)?;
    writeln!(std::io::stdout(), "ready").explain(|| "cannot tell that we are ready".into())?;
    for line in std::io::stdin().lock().lines() {
        let line = line.explain(|| "cannot read standard input".into())?;
        let echoed = match parse(&line) {
            Some((Kind::Spin, rounds)) => floor.spin_echo(rounds),
            Some((Kind::Futex, rounds)) => floor.futex_echo(rounds),
            None => return Err(Failure::new(format!("`{line}` is not `spin COUNT` or `futex COUNT`"))),
        };
        echoed.explain(|| format!("cannot echo `{line}`"))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Spin,
    Futex,
}

fn parse(line: &str) -> Option<(Kind, u32)> {
    let (kind, rounds) = line.split_once(' ')?;
    let kind = match kind {
        "spin" => Kind::Spin,
        "futex" => Kind::Futex,
        _ => return None,
    };
    Some((kind, rounds.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_understands_a_kind_and_a_count_and_nothing_else() {
        assert_eq!(parse("spin 12"), Some((Kind::Spin, 12)));
        assert_eq!(parse("futex 0"), Some((Kind::Futex, 0)));
        assert_eq!(["spin", "spin -1", "sleep 3", ""].map(parse), [None, None, None, None]);
    }
}
