//! What is counted over a whole run, and how it is told.

use std::time::Duration;

/// What must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Promised and not kept: a committed frame or reply that did not arrive, a call that ran though it was said not to
    /// have.
    Lost,
    /// Ran or arrived more than once, or out of order.
    Twice,
    /// Arrived damaged, or without having been sent.
    Torn,
    /// Took longer than it may.
    Hung,
    /// Was still there when everybody was gone.
    Left,
}

const FAULTS: [Fault; 5] = [Fault::Lost, Fault::Twice, Fault::Torn, Fault::Hung, Fault::Left];

/// Faults that are described in full; the others are counted.
const DESCRIBED: usize = 20;

/// Who was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Service,
    Client,
    Consumer,
    Producer,
}

const VICTIMS: [(Victim, &str); 4] = [
    (Victim::Service, "services"),
    (Victim::Client, "clients"),
    (Victim::Consumer, "consumers"),
    (Victim::Producer, "producers"),
];

/// Counts of a run or of a part of it.
#[derive(Debug, Default)]
pub struct Tally {
    pub kills: [u64; VICTIMS.len()],
    /// Kills that met a call under way, or a frame that was being sent.
    pub in_flight: u64,
    pub rounds: u64,
    pub calls: u64,
    /// Calls that were told that they did not run, and that they may have run.
    pub refused: [u64; 2],
    /// Frames committed.
    pub frames: u64,
    pub rescues: u64,
    /// How long after the kill of a hub those were told that waited then, in nanoseconds.
    pub recoveries_ns: Vec<u64>,
    faults: [u64; FAULTS.len()],
    texts: Vec<String>,
}

impl Tally {
    pub fn fault(&mut self, fault: Fault, text: impl FnOnce() -> String) {
        self.faults[fault as usize] += 1;
        if self.texts.len() < DESCRIBED {
            self.texts.push(format!("{fault:?}: {}", text()));
        }
    }

    pub fn killed(&mut self, victim: Victim) {
        self.kills[victim as usize] += 1;
    }

    pub fn add(&mut self, part: Self) {
        let Self { kills, in_flight, rounds, calls, refused, frames, rescues, recoveries_ns, faults, texts } = part;
        self.kills.iter_mut().zip(kills).for_each(|(own, part)| *own += part);
        self.refused.iter_mut().zip(refused).for_each(|(own, part)| *own += part);
        self.faults.iter_mut().zip(faults).for_each(|(own, part)| *own += part);
        self.in_flight += in_flight;
        self.rounds += rounds;
        self.calls += calls;
        self.frames += frames;
        self.rescues += rescues;
        self.recoveries_ns.extend(recoveries_ns);
        let room = DESCRIBED.saturating_sub(self.texts.len());
        self.texts.extend(texts.into_iter().take(room));
    }

    /// Whether nothing happened that must not.
    pub fn is_clean(&self) -> bool {
        self.faults.iter().all(|count| *count == 0) && self.rescues == 0
    }

    pub fn all_kills(&self) -> u64 {
        self.kills.iter().sum()
    }

    /// One line for those who wait.
    pub fn progress(&self, elapsed: Duration) -> String {
        let faults: u64 = self.faults.iter().sum();
        let (kills, seconds) = (self.all_kills(), elapsed.as_secs_f64());
        format!(
            "{seconds:.0} s: {kills} kills compared ({:.0} a second), {} calls, {} frames, {faults} faults",
            kills as f64 / seconds,
            self.calls,
            self.frames
        )
    }

    /// Prints the figures, and the faults if there are any.
    pub fn print(&mut self, took: Duration, seed: u64) {
        let figure = |name: &str, value: u64, unit: &str| println!("figure: {name} = {value} {unit}");
        figure("kills", self.all_kills(), "processes");
        for (victim, name) in VICTIMS {
            figure(&format!("killed {name}"), self.kills[victim as usize], "processes");
        }
        figure("kills that met a call or a send under way", self.in_flight, "processes");
        figure("calls", self.calls, "calls");
        figure("calls told that they did not run", self.refused[0], "calls");
        figure("calls told that they may have run", self.refused[1], "calls");
        figure("frames", self.frames, "frames");
        for fault in FAULTS {
            figure(&format!("{fault:?}").to_lowercase(), self.faults[fault as usize], "faults");
        }
        figure("safety rescues", self.rescues, "sleeps");
        self.recoveries_ns.sort_unstable();
        for (name, per_mille) in [("p50", 500), ("p99", 990), ("max", 1000)] {
            let us = at(&self.recoveries_ns, per_mille) / 1000;
            figure(&format!("told of a killed peer within, {name}"), us, "us");
        }
        figure("rounds", self.rounds, "rounds");
        println!("figure: duration = {:.1} s", took.as_secs_f64());
        println!("figure: seed = {seed}");
        self.texts.iter().for_each(|text| println!("{text}"));
    }
}

/// The value at so many thousandths of a sorted list; zero for an empty one.
fn at(sorted: &[u64], per_mille: usize) -> u64 {
    let index = (sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(0)
}
