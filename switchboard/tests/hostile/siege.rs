//! How an attack is withstood: a service, two honest clients, an attacker, and slices of time with and without attack.
//!
//! In a quiet slice the attacker's process burns as much processor time as it took to attack, with as many threads, so
//! that what the honest clients feel in the other slices is the attack, and not a machine with one more busy process.

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

/// Role: calls for so long when told to, notes how long each call took, and says what came of them.
pub fn be_honest(mut parent: Line) {
    let ground = Ground { runtime_dir: std::env::var_os(RUNTIME_DIR).unwrap().into(), random: Random::new(77) };
    let client = ground.client().expect("the service is there").with_timeout(HUNG);
    // The lane grows now, and not while others are counted.
    assert_eq!(client.mark(1, &[1; LONGEST]), Ok(answer_to(1, &[1; LONGEST])));
    let mut random = ground.random;
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    parent.say("connected");
    while let Some(order) = parent.hear() {
        let kind = match &order[..] {
            "quiet" => 0,
            "attacked" => 1,
            "warm" => 2,
            "times" => {
                let [quiet, attacked, _] = took.each_mut().map(|took| p99(took));
                let slowest = took[1].last().copied().unwrap_or(0);
                parent.say(format!("{quiet} {attacked} {slowest}"));
                continue;
            }
            other => panic!("`{other}` is no order"),
        };
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
            took[kind].push(began.elapsed().as_nanos() as u64);
            calls += 1;
            if calls.is_multiple_of(16) {
                // It is no flood itself.
                thread::sleep(Duration::from_millis(1));
            }
        }
        parent.say(format!("{calls} {wrong} {failed}"));
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

/// Sums over the honest clients, or over slices.
#[derive(Debug, Default)]
struct Honest {
    calls: u64,
    wrong: u64,
    failed: u64,
}

impl Honest {
    fn hear(&mut self, child: &mut Child) {
        let said = child.hear();
        let [calls, wrong, failed] = numbers(&said);
        self.calls += calls;
        self.wrong += wrong;
        self.failed += failed;
    }
}

fn numbers<const N: usize>(text: &str) -> [u64; N] {
    let numbers: Vec<u64> = text.split(' ').map(|text| text.parse().expect("a number")).collect();
    numbers.try_into().expect("so many numbers")
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

    /// One slice. What the attacker said of it, and clock ticks that the service used.
    fn slice(&mut self, of_honest: &str, of_attacker: &str, sum: &mut Honest) -> (String, u64) {
        let before = ticks(&self.service);
        self.honest.iter().for_each(|child| child.say(of_honest));
        let said = self.attacker.ask(of_attacker);
        self.honest.iter_mut().for_each(|child| sum.hear(child));
        (said, ticks(&self.service) - before)
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

    /// The worst of the honest clients' times, in nanoseconds: p99 quiet and attacked, and the slowest call under attack.
    fn times(&mut self) -> [u64; 3] {
        let each = self.honest.iter_mut().map(|child| numbers::<3>(&child.ask("times")));
        each.fold([0; 3], |worst, times| std::array::from_fn(|i| worst[i].max(times[i])))
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
    siege.slice("warm", "burn", &mut Honest::default());
    siege.service.say("remember");
    siege.service.expect("remembered");
    let (mut quiet, mut attacked) = (Honest::default(), Honest::default());
    let (mut attempts, mut busy_quiet, mut busy_attacked) = (0, 0, 0);
    for _ in 0..rounds {
        let (said, busy) = siege.slice("attacked", "attack", &mut attacked);
        attempts += said.parse::<u64>().expect("a number of attempts");
        busy_attacked += busy;
        busy_quiet += siege.slice("quiet", "burn", &mut quiet).1;
    }
    siege.end_attack();
    let newcomer = ground.client().expect("the service lets newcomers in").with_timeout(HUNG);
    assert_eq!(newcomer.mark(9, b"newcomer"), Ok(answer_to(9, b"newcomer")));

    let [p99_quiet, p99_attacked, slowest] = siege.times();
    let figure = |what: &str, value: String| println!("figure: {mode} {name}: {what} = {value}");
    figure("attempts", attempts.to_string());
    figure("honest calls under attack", attacked.calls.to_string());
    figure("wrong replies", (quiet.wrong + attacked.wrong).to_string());
    figure("failed honest calls", (quiet.failed + attacked.failed).to_string());
    figure("p99 quiet", format!("{:.1} µs", p99_quiet as f64 / 1000.0));
    figure("p99 attacked", format!("{:.1} µs", p99_attacked as f64 / 1000.0));
    figure("p99 attacked to quiet", format!("{:.2}", p99_attacked as f64 / p99_quiet.max(1) as f64));
    figure("slowest honest call under attack", format!("{:.1} ms", slowest as f64 / 1e6));
    figure("processor time of the service, attacked to quiet", format!("{busy_attacked} to {busy_quiet} ticks"));
    assert!(attempts > 0, "{name}: there was no attack");
    assert!(attacked.calls > 0 && quiet.calls > 0, "{name}: nobody called");
    let bad = quiet.wrong + attacked.wrong + quiet.failed + attacked.failed;
    assert_eq!(bad, 0, "{name}: quiet {quiet:?}, attacked {attacked:?}");
}
