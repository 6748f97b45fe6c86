//! `switchboard-stopped`: what others notice while a process is stopped in the middle of its work.
//!
//! One process of a kind rests and is stopped in its work in turn, in slices of equal length, and somebody else's calls or
//! frames are timed in each slice. The effect is the median of the ratios of two neighbouring slices' 99th percentiles: what
//! disturbs the machine for longer disturbs both alike. The exit code is 1 if an effect is above the bar.
#![forbid(unsafe_code)]

mod honest;
mod victims;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use rustix::process::Signal;
use test_support::child::{self, Child};

/// What a process of this program can be, besides the one that stops.
const ROLES: &[child::Role] = &[
    ("service", honest::serve),
    ("timed client", honest::call),
    ("timed consumer", honest::consume),
    ("producer", honest::produce),
    ("client to be stopped", victims::client),
    ("service to be stopped", victims::service),
    ("its clients", victims::clients_of_the_service),
    ("producer to be stopped", victims::producer),
    ("consumer to be stopped", victims::consumer),
    ("its producer", victims::producer_of_the_consumer),
    ("ring's consumer to be stopped", victims::ring_consumer),
    ("the ring's producer", victims::producer_of_the_ring),
];

/// The runtime directory, in the environment.
const RUNTIME_DIR: &str = "SWITCHBOARD_RUNTIME_DIR";

/// Some hundred samples or more.
const SLICE: Duration = Duration::from_millis(100);

/// Whoever is to be stopped works for less than this before.
const WORK_US: u64 = 3_000;

/// The most that a stopped process may add to others' 99th percentile.
const BAR: f64 = 1.2;

/// Somebody who is stopped, and whose work is timed meanwhile.
struct Case {
    name: &'static str,
    victim: &'static str,
    /// Who waits for the victim.
    partner: Option<&'static str>,
    timed: Timed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timed {
    Calls,
    Frames,
}

const CASES: [Case; 5] = [
    Case {
        name: "a client of the same service, in its calls",
        victim: "client to be stopped",
        partner: None,
        timed: Timed::Calls,
    },
    Case {
        name: "another service, in its handlers",
        victim: "service to be stopped",
        partner: Some("its clients"),
        timed: Timed::Calls,
    },
    Case {
        name: "a producer of the same queue, with half a frame",
        victim: "producer to be stopped",
        partner: None,
        timed: Timed::Frames,
    },
    Case {
        name: "another queue's consumer, its lane full",
        victim: "consumer to be stopped",
        partner: Some("its producer"),
        timed: Timed::Frames,
    },
    Case {
        name: "a ring's consumer, the ring full",
        victim: "ring's consumer to be stopped",
        partner: Some("the ring's producer"),
        timed: Timed::Frames,
    },
];

#[derive(Debug, Parser)]
#[command(name = "switchboard-stopped", about = "Time others while a process is stopped in the middle of its work")]
struct Arguments {
    /// Slices of each kind, of 100 ms.
    #[arg(long, default_value_t = 100)]
    slices: usize,
}

fn main() -> ExitCode {
    if child::is_in_a_role() {
        child::play(ROLES);
        return ExitCode::SUCCESS;
    }
    let Arguments { slices } = Arguments::parse();
    let mut worst: f64 = 0.0;
    for (index, case) in CASES.iter().enumerate() {
        let dir = std::env::temp_dir().join(format!("switchboard-stopped-{}-{index}", std::process::id()));
        std::fs::create_dir(&dir).expect("the name is unique");
        let Effect { quiet_us, stopped_us, ratio } = measure(case, slices.max(1), &dir);
        std::fs::remove_dir_all(&dir).expect("the directory is ours");
        println!("figure: others' p99 while it rests: {} = {quiet_us:.1} us", case.name);
        println!("figure: others' p99 while it is stopped: {} = {stopped_us:.1} us", case.name);
        println!("figure: effect of the stop: {} = {ratio:.2} times", case.name);
        worst = worst.max(ratio);
    }
    println!("figure: largest effect of a stop = {worst:.2} times");
    if worst <= BAR { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Medians over all slices.
struct Effect {
    quiet_us: f64,
    stopped_us: f64,
    /// Of neighbouring slices.
    ratio: f64,
}

fn measure(case: &Case, slices: usize, dir: &Path) -> Effect {
    let environment = [(RUNTIME_DIR, dir.to_owned())];
    let (_peer, mut timed) = honest_pair(case.timed, &environment);
    let mut victim = Child::start(case.victim, &environment);
    victim.expect("resting");
    let mut partner = case.partner.map(|role| Child::start(role, &environment));
    partner.iter_mut().for_each(|partner| partner.expect("resting"));
    let (mut quiet, mut stopped) = (Vec::new(), Vec::new());
    for slice in 0..slices as u64 {
        quiet.push(time_a_slice(&mut timed));
        assert_eq!(victim.ask("work"), "working");
        partner.iter_mut().for_each(|partner| assert_eq!(partner.ask("work"), "working"));
        // So that it is stopped at another moment of its work each time.
        thread::sleep(Duration::from_micros(slice * 617 % WORK_US));
        victim.stop();
        stopped.push(time_a_slice(&mut timed));
        victim.signal(Signal::CONT);
        // It was late, and nothing of it or for it was lost: who finds otherwise has ended.
        assert_eq!(victim.ask("rest"), "resting");
        partner.iter_mut().for_each(|partner| assert_eq!(partner.ask("rest"), "resting"));
    }
    let ratios = quiet.iter().zip(&stopped).map(|(quiet, stopped)| stopped / quiet).collect();
    Effect { quiet_us: median(quiet), stopped_us: median(stopped), ratio: median(ratios) }
}

/// Whoever is not timed, and who is.
fn honest_pair(timed: Timed, environment: &[(&'static str, PathBuf)]) -> (Child, Child) {
    match timed {
        Timed::Calls => {
            let mut service = Child::start("service", environment);
            service.expect("serving");
            let mut client = Child::start("timed client", environment);
            client.expect("calling");
            (service, client)
        }
        Timed::Frames => {
            let mut consumer = Child::start("timed consumer", environment);
            consumer.expect("receiving");
            let mut producer = Child::start("producer", environment);
            producer.expect("sending");
            (producer, consumer)
        }
    }
}

/// The 99th percentile of one slice, in microseconds.
fn time_a_slice(timed: &mut Child) -> f64 {
    timed.say("begin");
    // The length of a slice.
    thread::sleep(SLICE);
    timed.ask("end").parse::<u64>().expect("it says nanoseconds") as f64 / 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
