//! How an attack is withstood: a service, two honest clients, an attacker, and slices of time with and without attack.
//!
//! In a quiet slice the attacker's process burns as much processor time as it took to attack, with as many threads, so
//! that what the honest clients feel in the other slices is the attack, and not a machine with one more busy process.
//!
//! Slices of both kinds alternate. What counts is the median of the slices' p99s, of pairs of slices in which the machine had
//! next to nothing else to do: the long form fails if it is more than [`MOST_RATIO`] times as long under attack by an
//! isolated client.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use switchboard::prelude::*;
use test_support::child::{Child, Line};
use test_support::level::Level;

use crate::support::TempDir;
use test_support::random::Random;

/// Where the service is found.
pub const NAME: &str = "test.besieged";

/// The file of its socket, in the namespace's directory.
pub const SOCKET: &str = "default/test.besieged@1.sock";

pub const RUNTIME_DIR: &str = "SWITCHBOARD_RUNTIME_DIR";
const TRUST: &str = "SWITCHBOARD_TRUST";
const ATTACK: &str = "HOSTILE_ATTACK";
const DISABLE: &str = "SWITCHBOARD_DISABLE";
pub const MINUTES: &str = "SWITCHBOARD_HOSTILE_MINUTES";

/// One slice, in milliseconds: long against a step of an attack, short against what else happens on the machine.
const SLICE_MS: u64 = 200;

/// Slices of each kind in the short form.
const ROUNDS: u64 = 3;

/// Most bytes of an honest call.
const LONGEST: usize = 100_000;

const HONEST_CLIENTS: usize = 2;

/// By so much may the p99 of honest calls exceed that of the quiet slices.
const MOST_RATIO: f64 = 2.0;

/// Clock ticks of other processes in a pair of slices, up to which the machine is quiet: a tenth of one processor.
const QUIET_TICKS: u64 = 4;

/// Pairs for each that is wanted, at most: others that disturb may be gone later.
const TRIES: u64 = 2;

/// Fewer pairs say nothing.
const LEAST_PAIRS: usize = 10;

/// No honest call may take longer; far more than any needs on a loaded machine.
const HUNG: Duration = Duration::from_secs(10);

/// When the attacker is gone its traces are, within this time.
const GONE_WITHIN: Duration = Duration::from_secs(10);

#[service]
pub trait Besieged {
    /// Answers with [`answer_to`] the request.
    fn mark(&self, ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status>;
    /// So many bytes, at most 4 MiB.
    fn zeros(&self, ctx: &Context<'_>, len: u64) -> Result<Vec<u8>, Status>;
}

/// The service itself.
pub struct Wall;

impl Besieged for Wall {
    fn mark(&self, _ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status> {
        Ok(answer_to(number, filler))
    }

    fn zeros(&self, _ctx: &Context<'_>, len: u64) -> Result<Vec<u8>, Status> {
        Ok(vec![0; len.min(4 << 20) as usize])
    }
}

/// The only right answer to one call: its number and every byte of its filler, changed.
pub fn answer_to(number: u64, filler: &[u8]) -> Vec<u8> {
    let mut answer = (!number).to_le_bytes().to_vec();
    answer.extend(filler.iter().map(|byte| byte ^ number as u8));
    answer
}

/// What an attack begins with.
#[derive(Debug)]
pub struct Ground {
    pub runtime_dir: PathBuf,
    pub random: Random,
}

impl Ground {
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir.join(SOCKET)
    }

    /// A client with a connection of its own.
    pub fn client(&self) -> Result<BesiegedClient, Status> {
        let board = Switchboard::builder().in_process(false).runtime_dir(&self.runtime_dir).open()?;
        BesiegedClient::connect(&board, NAME)
    }
}

/// A step of an attack: some milliseconds; says how many attempts it made.
pub struct Step {
    threads: usize,
    run: Box<dyn FnMut() -> u64>,
}

impl Step {
    /// One that is done by so many threads.
    pub fn by(threads: usize, run: impl FnMut() -> u64 + 'static) -> Self {
        Self { threads, run: Box::new(run) }
    }
}

/// Begins an attack. What it holds goes with its steps.
pub type Attack = fn(Ground) -> Step;

/// Role: serves until told to stop; answers questions about itself.
pub fn serve(mut parent: Line) {
    let board = Switchboard::from_env().expect("the directory is ours");
    let running = board.serve(NAME, BesiegedServer::new(Wall)).workers(2).start().expect("the name is free");
    parent.say("serving");
    let mut level = None;
    while let Some(question) = parent.hear() {
        match &question[..] {
            "connections" => parent.say(running.connections()),
            "remember" => {
                level = Some(Level::of_this_process());
                parent.say("remembered");
            }
            "back" => {
                level.as_ref().expect("remembered before").is_reached_within(GONE_WITHIN);
                parent.say("back");
            }
            other => panic!("`{other}` is no question"),
        }
    }
}

/// Role: calls for so long when told to, and says what came of it: calls, wrong answers, failures, the p99 and the longest
/// duration of a call in nanoseconds.
pub fn be_honest(mut parent: Line) {
    let ground = Ground { runtime_dir: std::env::var_os(RUNTIME_DIR).unwrap().into(), random: Random::new(77) };
    let client = ground.client().expect("the service is there").with_timeout(HUNG);
    // The lane grows now, and not while others are counted.
    assert_eq!(client.mark(1, &[1; LONGEST]), Ok(answer_to(1, &[1; LONGEST])));
    let mut random = ground.random;
    let mut took = Vec::new();
    parent.say("connected");
    while let Some(order) = parent.hear() {
        assert_eq!(order, "call");
        took.clear();
        let until = Instant::now() + Duration::from_millis(SLICE_MS);
        let (mut wrong, mut failed, mut calls) = (0, 0, 0u64);
        while Instant::now() < until {
            // Most fit a cell, some need a block, a few need more than the first segment has.
            let len = match random.below(20) {
                0..16 => random.below(64),
                16..19 => random.below(4000),
                _ => random.below(LONGEST as u64),
            };
            let (number, filler) = (random.next(), vec![calls as u8; len as usize]);
            let began = Instant::now();
            match client.mark(number, &filler) {
                Ok(answer) if answer == answer_to(number, &filler) => {}
                Ok(_) => wrong += 1,
                Err(status) => {
                    eprintln!("honest call: {status}");
                    failed += 1;
                }
            }
            took.push(began.elapsed().as_nanos() as u64);
            calls += 1;
            if calls.is_multiple_of(16) {
                // It is no flood itself.
                thread::sleep(Duration::from_millis(1));
            }
        }
        let p99 = p99(&mut took);
        let slowest = took.last().copied().unwrap_or(0);
        parent.say(format!("{calls} {wrong} {failed} {p99} {slowest}"));
    }
}

/// The duration that one call in a hundred exceeds.
fn p99(took: &mut [u64]) -> u64 {
    took.sort_unstable();
    took.get(took.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(0)
}

/// Role: attacks for a slice when told to, or burns as much processor time as the attacks took.
pub fn be_an_attacker(mut parent: Line) {
    let name = std::env::var(ATTACK).unwrap();
    let attack = crate::attack(&name);
    let seed = Random::seed();
    eprintln!("{name}: seed {seed}");
    let mut random = Random::new(seed);
    let (mut spent, mut attacked, mut threads) = (Duration::ZERO, Duration::ZERO, 1);
    parent.say("ready");
    while let Some(order) = parent.hear() {
        let began = Instant::now();
        let slice = Duration::from_millis(SLICE_MS);
        match &order[..] {
            "attack" => {
                let before = processor_time();
                let runtime_dir = std::env::var_os(RUNTIME_DIR).unwrap().into();
                let mut step = attack(Ground { runtime_dir, random: Random::new(random.next()) });
                let mut made = 0;
                while began.elapsed() < slice {
                    made += (step.run)();
                }
                threads = step.threads;
                drop(step);
                spent += processor_time() - before;
                attacked += began.elapsed();
                parent.say(made);
            }
            "burn" => {
                let share = spent.as_secs_f64() / attacked.as_secs_f64().max(1e-9);
                burn(slice, share, threads);
                parent.say("burnt");
            }
            other => panic!("`{other}` is no order"),
        }
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Uses that share of a processor (of several, if above 1) for so long, by so many threads.
fn burn(slice: Duration, share: f64, threads: usize) {
    let until = Instant::now() + slice;
    let each = (share / threads as f64).min(1.0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while Instant::now() < until {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(2).mul_f64(each) {}
                    thread::sleep(Duration::from_millis(2).mul_f64(1.0 - each));
                }
            });
        }
    });
}

/// What came of slices of one kind, over all honest clients.
#[derive(Debug, Default)]
struct Honest {
    calls: u64,
    wrong: u64,
    failed: u64,
    /// Of each slice, the worse one of the clients', in nanoseconds.
    p99s: Vec<u64>,
    slowest: u64,
    /// Clock ticks that the service used.
    busy: u64,
}

impl Honest {
    fn hear(&mut self, honest: &mut [Child]) {
        let mut worst = 0;
        for child in honest {
            let [calls, wrong, failed, p99, slowest] = numbers(&child.hear());
            self.calls += calls;
            self.wrong += wrong;
            self.failed += failed;
            worst = worst.max(p99);
            self.slowest = self.slowest.max(slowest);
        }
        self.p99s.push(worst);
    }
}

/// The median; zero of nothing.
fn median(mut values: Vec<u64>) -> f64 {
    values.sort_unstable();
    values.get(values.len() / 2).map_or(0.0, |value| *value as f64)
}

fn numbers<const N: usize>(text: &str) -> [u64; N] {
    let numbers: Vec<u64> = text.split(' ').map(|text| text.parse().expect("a number")).collect();
    numbers.try_into().expect("so many numbers")
}

/// Clock ticks for which all processors together were busy, whoever it was for.
fn ticks_of_the_machine() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("proc is mounted");
    let all = stat.lines().next().expect("the first line is of all processors").split_whitespace().skip(1);
    // All but the fourth and the fifth, which are idle time, and what is counted twice.
    let busy = all.take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4));
    busy.map(|(_, ticks)| ticks.parse::<u64>().expect("a number")).sum()
}

/// Clock ticks that a process has used.
fn ticks(child: &Child) -> u64 {
    let stat = child.stat();
    // Fields 14 and 15 of the manual: user and system time.
    stat[11].parse::<u64>().unwrap() + stat[12].parse::<u64>().unwrap()
}

/// The processes of one siege.
struct Siege {
    service: Child,
    honest: Vec<Child>,
    attacker: Child,
}

impl Siege {
    fn begin(mode: &str, environment: &[(&str, PathBuf)]) -> Self {
        let of_service = [&[(TRUST, PathBuf::from(mode))], environment].concat();
        let mut service = Child::start("service", &of_service);
        service.expect("serving");
        let mut honest: Vec<Child> = (0..HONEST_CLIENTS).map(|_| Child::start("honest", environment)).collect();
        honest.iter_mut().for_each(|child| child.expect("connected"));
        let mut attacker = Child::start("attacker", environment);
        attacker.expect("ready");
        Self { service, honest, attacker }
    }

    /// One slice; what the attacker said of it.
    fn slice(&mut self, of_attacker: &str, sum: &mut Honest) -> String {
        let before = ticks(&self.service);
        self.honest.iter().for_each(|child| child.say("call"));
        let said = self.attacker.ask(of_attacker);
        sum.hear(&mut self.honest);
        sum.busy += ticks(&self.service) - before;
        said
    }

    /// Clock ticks that others than the processes of this siege used, so far.
    fn ticks_of_others(&self) -> u64 {
        let ours: u64 = self.honest.iter().chain([&self.service, &self.attacker]).map(ticks).sum();
        ticks_of_the_machine().saturating_sub(ours)
    }

    /// Ends the attacker; all that it held goes with it, and the service is as it was before.
    fn end_attack(&mut self) {
        self.attacker.kill();
        let until = Instant::now() + GONE_WITHIN;
        loop {
            let connections = self.service.ask("connections");
            if connections == HONEST_CLIENTS.to_string() {
                break;
            }
            assert!(Instant::now() < until, "{connections} connections stay");
        }
        self.service.say("back");
        self.service.expect("back");
    }
}

/// Runs one attack beside honest clients of a service that trusts its clients so far, and prints what came of it.
pub fn withstand(mode: &str, name: &'static str) {
    /// Two at a time would be each other's noise.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let minutes: Option<f64> = std::env::var(MINUTES).ok().map(|text| text.parse().expect("a number of minutes"));
    let rounds = minutes.map_or(ROUNDS, |minutes| (minutes * 60_000.0) as u64 / (2 * SLICE_MS));
    let dir = TempDir::new();
    let ground = Ground { runtime_dir: dir.path().join("runtime"), random: Random::new(1) };
    // Newer kernels keep descriptors away from the service; what it does with those that come is attacked here.
    let disabled = if name == "extra_wrong_and_253_descriptors" { "passrights" } else { "" };
    let environment = [(RUNTIME_DIR, ground.runtime_dir.clone()), (ATTACK, name.into()), (DISABLE, disabled.into())];
    let mut siege = Siege::begin(mode, &environment);
    // Not counted: warms everything, and grows the honest clients' lanes.
    siege.slice("burn", &mut Honest::default());
    siege.service.say("remember");
    siege.service.expect("remembered");
    let (mut quiet, mut attacked) = (Honest::default(), Honest::default());
    // Pairs of slices in which nobody else disturbed: p99 quiet and attacked.
    let mut pairs = Vec::new();
    let (mut attempts, mut tried) = (0, 0);
    while tried < rounds || (minutes.is_some() && tried < TRIES * rounds && pairs.len() < rounds as usize) {
        tried += 1;
        let before = siege.ticks_of_others();
        attempts += siege.slice("attack", &mut attacked).parse::<u64>().expect("a number of attempts");
        siege.slice("burn", &mut quiet);
        if siege.ticks_of_others().saturating_sub(before) <= QUIET_TICKS {
            pairs.extend(quiet.p99s.last().copied().zip(attacked.p99s.last().copied()));
        }
    }
    siege.end_attack();
    let newcomer = ground.client().expect("the service lets newcomers in").with_timeout(HUNG);
    assert_eq!(newcomer.mark(9, b"newcomer"), Ok(answer_to(9, b"newcomer")));

    let is_quiet = pairs.len() >= LEAST_PAIRS;
    let counted: (Vec<u64>, Vec<u64>) =
        if is_quiet { pairs.iter().copied().unzip() } else { (quiet.p99s.clone(), attacked.p99s.clone()) };
    let (p99_quiet, p99_attacked) = (median(counted.0), median(counted.1));
    let ratio = p99_attacked / p99_quiet.max(1.0);
    let figure = |what: &str, value: String| println!("figure: {mode} {name}: {what} = {value}");
    figure("attempts", attempts.to_string());
    figure("honest calls under attack", attacked.calls.to_string());
    figure("wrong replies", (quiet.wrong + attacked.wrong).to_string());
    figure("failed honest calls", (quiet.failed + attacked.failed).to_string());
    figure("pairs of slices", tried.to_string());
    figure("pairs of slices on a quiet machine", pairs.len().to_string());
    figure("p99 quiet", format!("{:.1} µs", p99_quiet / 1000.0));
    figure("p99 attacked", format!("{:.1} µs", p99_attacked / 1000.0));
    figure("p99 attacked to quiet", format!("{ratio:.2}"));
    figure("slowest honest call under attack", format!("{:.1} ms", attacked.slowest as f64 / 1e6));
    let busy = format!("{} to {} ticks", attacked.busy, quiet.busy);
    figure("processor time of the service, attacked to quiet", busy);
    assert!(attempts > 0, "{name}: there was no attack");
    assert!(attacked.calls > 0 && quiet.calls > 0, "{name}: nobody called");
    let bad = quiet.wrong + attacked.wrong + quiet.failed + attacked.failed;
    assert_eq!(bad, 0, "{name}: quiet {quiet:?}, attacked {attacked:?}");
    if minutes.is_none() || mode != "isolated" || cfg!(debug_assertions) {
        return;
    }
    if is_quiet {
        assert!(ratio <= MOST_RATIO, "{name}: the p99 of honest calls under attack is {ratio:.2} times the quiet one");
    } else {
        eprintln!("\nSKIP: {name}: others used the machine, so what honest clients feel of the attack is not judged\n");
    }
}
