//! `switchboard-soak`: services, clients, queues and their producers are killed at random moments under load, and
//! afterwards what each process noted is compared call by call and frame by frame.
//!
//! The exit code is 0 if nothing was lost, came twice, was torn, hung or was left, and no sleep needed the safety
//! time-out.
#![forbid(unsafe_code)]

mod calls;
mod compare;
mod frames;
mod gang;
mod log;
mod site;
mod tally;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use clap::Parser;
use test_support::child;

use crate::site::{CALLS, FRAMES, Kind, Site};
use crate::tally::{Fault, Tally};

/// What a process of this program can be, besides the one that kills.
const ROLES: &[child::Role] =
    &[("service", calls::serve), ("client", calls::call), ("consumer", frames::consume), ("producer", frames::produce)];

/// At work at the same time; with fewer, those who are told of a death wait less for a processor.
const SITES: [&Kind; 6] = [&CALLS, &FRAMES, &CALLS, &CALLS, &FRAMES, &CALLS];

/// How often progress is printed.
const NEWS_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Parser)]
#[command(name = "switchboard-soak", about = "Kill processes at random moments, and compare what each of them noted")]
struct Arguments {
    /// Processes to kill.
    #[arg(long, default_value_t = 20_000)]
    kills: u64,
    /// Who is killed when; the moments themselves are the machine's. Default: from the time of day.
    #[arg(long)]
    seed: Option<u64>,
    /// Groups of processes at work at the same time.
    #[arg(long, default_value_t = SITES.len() as u16, value_parser = clap::value_parser!(u16).range(1..=SITES.len() as i64))]
    sites: u16,
}

fn main() -> ExitCode {
    if child::is_in_a_role() {
        child::play(ROLES);
        return ExitCode::SUCCESS;
    }
    let Arguments { kills, seed, sites } = Arguments::parse();
    let seed = seed.unwrap_or_else(|| UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64 >> 8));
    // In memory where that can be had: a busy disk would hold up whoever takes a note.
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = parent.join(format!("switchboard-soak-{}", std::process::id()));
    let started = Instant::now();
    let mut tally = soak(kills, seed, &SITES[..sites.into()], &dir, started);
    tally.print(started.elapsed(), seed);
    if tally.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lets all sites kill, and adds up what they tell.
fn soak(kills: u64, seed: u64, kinds: &[&'static Kind], dir: &Path, started: Instant) -> Tally {
    let budget = AtomicU64::new(kills);
    let (tell, told) = channel();
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let mut sites = Vec::new();
        for (index, kind) in kinds.iter().copied().enumerate() {
            let dir = dir.join(index.to_string());
            std::fs::create_dir_all(&dir).expect("the temporary directory can be written");
            let mut site = Site::new(kind, dir, seed.wrapping_add(index as u64));
            let (tell, budget): (Sender<Tally>, _) = (tell.clone(), &budget);
            // Whoever listens outlives the sites.
            let run = move || site.run(budget, |part| drop(tell.send(part)));
            sites.push((index, kind, scope.spawn(run)));
        }
        drop(tell);
        let mut news = Instant::now() + NEWS_AFTER;
        loop {
            match told.recv_timeout(news.saturating_duration_since(Instant::now())) {
                Ok(part) => tally.add(part),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    println!("{}", tally.progress(started.elapsed()));
                    news += NEWS_AFTER;
                }
            }
        }
        for (index, kind, site) in sites {
            if site.join().is_err() {
                tally.fault(Fault::Hung, || {
                    format!("site {index} of {}: a process did not answer, see above", kind.name)
                });
            }
        }
    });
    if rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_ok() {
        tally.fault(Fault::Left, || "a child process".into());
    }
    if tally.is_clean() {
        std::fs::remove_dir_all(dir).expect("the directory is ours");
    } else {
        println!("the logs of what was not compared are in {}", dir.display());
    }
    tally
}
