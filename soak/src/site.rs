//! A site: one hub, some processes around it, and somebody who kills both.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shm_ring::clock;
use test_support::child::Child;
use test_support::level::Level;

use crate::compare::{Life, Round, calls, frames};
use crate::frames::RUNTIME_DIR;
use crate::gang::SERIAL;
use crate::log::{self, LOG};
use crate::tally::{Fault, Tally, Victim};
use test_support::random::Random;

/// Processes around a hub.
const RIM: usize = 4;

/// After so many kills everybody left is told to end, and what was noted is compared.
const KILLS_OF_A_ROUND: u64 = 60;

/// Longest pause between two blows, in microseconds.
const PAUSE_US: u64 = 36_000;

/// When everybody is gone, what a process held for them is gone within this time.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// What a process holds does not change any more if it has not for so long.
const UNCHANGED_FOR: Duration = Duration::from_millis(200);

/// What is done at a site.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    hub: (&'static str, Victim),
    rim: (&'static str, Victim),
    compare: fn(&Round, &mut Tally),
}

/// Clients call a service.
pub const CALLS: Kind =
    Kind { name: "calls", hub: ("service", Victim::Service), rim: ("client", Victim::Client), compare: calls::compare };

/// Producers send to a queue.
pub const FRAMES: Kind = Kind {
    name: "frames",
    hub: ("consumer", Victim::Consumer),
    rim: ("producer", Victim::Producer),
    compare: frames::compare,
};

/// Numbers processes of the whole run; 0 is nobody's.
static SERIALS: AtomicU64 = AtomicU64::new(1);

/// A process of the site.
#[derive(Debug)]
struct Process {
    child: Child,
    serial: u64,
}

/// What is there when nobody is connected: of the hub, of one of the others (descriptors, mappings, threads), and below
/// the runtime directory when the hub has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AtRest {
    hub: [usize; 3],
    rim: [usize; 3],
    files: Vec<PathBuf>,
}

/// A place where processes are killed, with a directory of its own.
#[derive(Debug)]
pub struct Site {
    kind: &'static Kind,
    dir: PathBuf,
    random: Random,
    at_rest: Option<AtRest>,
    ended: Round,
}

impl Site {
    /// `dir` is its own, and there already.
    pub fn new(kind: &'static Kind, dir: PathBuf, seed: u64) -> Self {
        Self { kind, dir, random: Random::new(seed), at_rest: None, ended: Round::default() }
    }

    /// Kills until nothing is left of the budget; after each round `told` has its counts.
    pub fn run(&mut self, budget: &AtomicU64, told: impl Fn(Tally)) {
        // Without kills: what the processes hold then is what they may hold.
        told(self.round(&AtomicU64::new(0)));
        while budget.load(Ordering::Relaxed) > 0 {
            told(self.round(budget));
        }
    }

    fn round(&mut self, budget: &AtomicU64) -> Tally {
        let mut tally = Tally::default();
        tally.rounds += 1;
        let mut hub = self.start(self.kind.hub.0);
        let mut rim: Vec<Process> = (0..RIM).map(|_| self.start(self.kind.rim.0)).collect();
        while tally.all_kills() < KILLS_OF_A_ROUND && budget.load(Ordering::Relaxed) > 0 {
            // When the kill comes is what is varied here: this only lets time pass.
            thread::sleep(Duration::from_micros(self.random.below(PAUSE_US)));
            self.strike(&mut hub, &mut rim, budget, &mut tally);
        }
        let at_rest = self.come_to_rest(hub, rim, &mut tally);
        match &self.at_rest {
            None => self.at_rest = Some(at_rest),
            Some(due) if *due == at_rest => {}
            Some(due) => tally.fault(Fault::Left, || format!("{at_rest:?} instead of {due:?}")),
        }
        (self.kind.compare)(&std::mem::take(&mut self.ended), &mut tally);
        tally
    }

    fn start(&self, role: &'static str) -> Process {
        let serial = SERIALS.fetch_add(1, Ordering::Relaxed);
        let environment = [
            (RUNTIME_DIR, self.runtime_dir()),
            (LOG, self.log_of(serial)),
            (SERIAL, PathBuf::from(serial.to_string())),
        ];
        Process { child: Child::start(role, &environment), serial }
    }

    fn runtime_dir(&self) -> PathBuf {
        self.dir.join("runtime")
    }

    fn log_of(&self, serial: u64) -> PathBuf {
        self.dir.join(format!("log-{serial}"))
    }

    /// Kills some processes at once, and starts others in their places.
    fn strike(&mut self, hub: &mut Process, rim: &mut [Process], budget: &AtomicU64, tally: &mut Tally) {
        let (with_hub, from, count) = match self.random.below(10) {
            0..6 => (false, self.random.below(RIM as u64) as usize, 1),
            6..8 => (true, 0, 0),
            8 => (false, 0, RIM),
            _ => (true, self.random.below(RIM as u64 / 2 + 1) as usize, RIM / 2),
        };
        let wanted = count + usize::from(with_hub);
        let take = |left: u64| left.checked_sub(wanted as u64).or((left > 0).then_some(0));
        if budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return;
        }
        let victims = &mut rim[from..from + count];
        let hub_killed_ns = with_hub.then(|| shoot(hub));
        let rim_killed_ns: Vec<u64> = victims.iter().map(shoot).collect();
        if let Some(killed_ns) = hub_killed_ns {
            let next = self.replace(hub, self.kind.hub.0);
            let dead = self.bury(next, Some(killed_ns));
            self.ended.hubs.push(dead);
            tally.killed(self.kind.hub.1);
        }
        for (victim, killed_ns) in victims.iter_mut().zip(rim_killed_ns) {
            let next = self.replace(victim, self.kind.rim.0);
            let dead = self.bury(next, Some(killed_ns));
            self.ended.rim.push(dead);
            tally.killed(self.kind.rim.1);
        }
    }

    /// Puts a new process in the place of a killed one, which is given.
    fn replace(&self, place: &mut Process, role: &'static str) -> Process {
        // Reaped first: the new one wants the dead one's name.
        place.child.kill();
        std::mem::replace(place, self.start(role))
    }

    fn bury(&self, mut process: Process, killed_ns: Option<u64>) -> Life {
        process.child.kill();
        Life { serial: process.serial, log: log::take(&self.log_of(process.serial)), killed_ns }
    }

    /// Lets everybody go on once more, then end, and looks at what is left.
    fn come_to_rest(&mut self, mut hub: Process, mut rim: Vec<Process>, tally: &mut Tally) -> AtRest {
        for process in &rim {
            process.child.say("settle");
        }
        for Process { child, serial } in &mut rim {
            let said = child.hear();
            if said != "settled" {
                tally.fault(Fault::Hung, || format!("process {serial} is {said}"));
            }
        }
        for process in &rim {
            process.child.say("end");
        }
        rim.iter_mut().for_each(|process| process.child.expect("ended"));
        let due = self.at_rest.as_ref();
        let rim_levels: Vec<_> = rim.iter().map(|process| level(process, due.map(|due| due.rim))).collect();
        hub.child.say("rest");
        hub.child.expect("resting");
        let hub_level = level(&hub, due.map(|due| due.hub));
        hub.child.say("stop");
        hub.child.expect("stopped");
        let last = self.bury(hub, None);
        self.ended.hubs.push(last);
        for process in rim {
            let life = self.bury(process, None);
            self.ended.rim.push(life);
        }
        let mut files = Vec::new();
        files_below(&self.runtime_dir(), &mut files);
        files.sort();
        let unlike = rim_levels.iter().find(|level| due.is_some_and(|due| due.rim != **level));
        AtRest { hub: hub_level, rim: *unlike.unwrap_or(&rim_levels[0]), files }
    }
}

/// Kills without waiting; gives the moment before.
fn shoot(process: &Process) -> u64 {
    let now_ns = clock::kernel_ns();
    process.child.signal(Signal::KILL);
    now_ns
}

/// What a process holds: as soon as it is what is due, or when that has not come for a while; where nothing is due yet,
/// once it has stopped changing.
fn level(process: &Process, due: Option<[usize; 3]>) -> [usize; 3] {
    let look = || Level::of_process(process.child.id()).counts();
    let (mut level, mut since) = (look(), Instant::now());
    while due != Some(level) && since.elapsed() < if due.is_some() { GONE_WITHIN } else { UNCHANGED_FOR } {
        thread::sleep(Duration::from_millis(1));
        let now = look();
        if now != level {
            (level, since) = (now, Instant::now());
        }
    }
    level
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path(), found),
            _ => found.push(entry.path()),
        }
    }
}
