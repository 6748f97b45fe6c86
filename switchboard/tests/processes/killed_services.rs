//! SIGKILL of a service in the middle of calls: what callers are told, against what ran.

use std::collections::HashSet;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::prelude::*;

use crate::journal::{Event, Notes};
use crate::notary::{NAME, NotaryClient, Place, SOCKET, answer_to, filler_of};
use test_support::child::{self, Child, Line};
use test_support::level::Level;
use test_support::random::Random;

const KILLS: usize = 100;

const CALLERS: u64 = 6;

/// Of the service.
const WORKERS: u32 = 2;

/// After a kill every call has its answer within this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The kill comes at a random moment before this, in microseconds.
const LAST_MOMENT_US: u64 = 6_000;

/// Longest filler, in bytes: past what a connection begins with room for.
const LONGEST: u64 = 20_000;

/// Numbers of calls that are made with nothing else going on.
const ALONE: [u64; 3] = [1 << 60, 2 << 60, 3 << 60];

#[test]
fn a_killed_service_leaves_no_call_hanging_and_every_caller_knows_what_may_have_run() {
    child::alone("witness of killed services");
}

enum Answer {
    Right,
    Wrong,
    Refused(Status),
}

struct Call {
    number: u64,
    sent: Instant,
    answered: Instant,
    answer: Answer,
}

/// One life of the service, as its callers saw it.
struct Life {
    before_kill: Instant,
    after_kill: Instant,
    calls: Vec<Call>,
}

impl Life {
    /// Calls that were under way at the kill, whatever became of them.
    fn in_flight(&self) -> usize {
        self.calls.iter().filter(|call| call.sent < self.before_kill && call.answered > self.after_kill).count()
    }

    /// How long after the kill the last caller that was waiting then had its answer.
    fn notice(&self) -> Duration {
        let waiting = self.calls.iter().filter(|call| call.sent < self.before_kill);
        let last = waiting.map(|call| call.answered).max();
        last.map_or(Duration::ZERO, |last| last.saturating_duration_since(self.before_kill))
    }
}

/// Role: the client of a service that is killed again and again.
pub fn witness(parent: Line) {
    let seed = Random::seed();
    parent.say(format!("killed services: seed {seed}"));
    let mut random = Random::new(seed);
    let place = Place::new();
    let mut service = place.start_service("journal");
    one_call(&place, ALONE[0]); // what a process keeps for good, such as the watcher, is there from now on
    let without_connection = Level::of_this_process();

    let board = place.board();
    let client = NotaryClient::connect(&board, NAME).unwrap();
    assert_eq!(client.quick(ALONE[1], b"").unwrap(), answer_to(ALONE[1], b""));
    let connected = Level::of_this_process();
    let (mut lives, mut counted) = (Vec::new(), 0);
    while counted < KILLS {
        assert!(lives.len() < 3 * KILLS, "seed {seed}: only {counted} of {} kills met a call in flight", lives.len());
        let life = live_and_die(&client, lives.len() as u64, &mut random, &mut service);
        counted += usize::from(life.in_flight() > 0);
        lives.push(life);
        service = place.start_service("journal");
    }
    assert_eq!(client.quick(ALONE[2], b"").unwrap(), answer_to(ALONE[2], b""), "the same client, after all this");
    connected.is_reached_within(ANSWER_WITHIN);

    service.kill();
    let sockets = std::fs::read_dir(place.runtime_dir().join("default")).unwrap();
    let left: Vec<_> = sockets.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [SOCKET], "only the dead instance's socket file may be left");
    assert_eq!(board.list().unwrap(), []);
    assert!(!place.socket().exists(), "a dead instance's socket file is gone after a list");
    drop((client, board));
    without_connection.is_reached_within(ANSWER_WITHIN);
    drop(service);
    assert!(rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_err(), "no child is left");

    let report = compare(&lives, &Notes::read(&place.file("journal")));
    parent.say(format!("killed services: {counted} kills with a call in flight, {} in all; {report}", lives.len()));
}

fn one_call(place: &Place, number: u64) {
    let client = NotaryClient::connect(&place.board(), NAME).unwrap();
    assert_eq!(client.quick(number, b"").unwrap(), answer_to(number, b""));
}

fn live_and_die(client: &NotaryClient, life: u64, random: &mut Random, service: &mut Child) -> Life {
    let (report, reports) = mpsc::channel();
    let (success, successes) = mpsc::channel();
    for caller in 0..CALLERS {
        let (client, report, success) = (client.clone(), report.clone(), success.clone());
        let random = Random::new(random.next());
        let first = (life + 1) << 32 | caller << 24;
        thread::spawn(move || report.send(call_until_refused(&client, first, random, &success)));
    }
    drop((report, success));
    // Most kills come among calls, some may already meet the connecting.
    if !random.one_in(4) {
        successes.recv_timeout(ANSWER_WITHIN).expect("a live service answers");
    }
    // When the kill comes is what is varied here: this only lets time pass.
    thread::sleep(Duration::from_micros(random.below(LAST_MOMENT_US)));
    let before_kill = Instant::now();
    service.signal(rustix::process::Signal::KILL);
    let after_kill = Instant::now();
    let mut calls = Vec::new();
    for told in 0..CALLERS {
        let left = (after_kill + ANSWER_WITHIN).saturating_duration_since(Instant::now());
        let report = reports.recv_timeout(left);
        let hung = |_| panic!("{} callers hang {ANSWER_WITHIN:?} after kill {life}", CALLERS - told);
        calls.extend(report.unwrap_or_else(hung));
    }
    service.kill();
    Life { before_kill, after_kill, calls }
}

/// Calls until the service is found dead, and then once more.
fn call_until_refused(client: &NotaryClient, first: u64, mut random: Random, success: &Sender<()>) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut refusals = 0;
    for number in first.. {
        let filler = filler_of(number, if random.one_in(4) { random.below(LONGEST) as usize } else { 16 });
        let us = random.below(400);
        let sent = Instant::now();
        let result = if us < 200 { client.quick(number, &filler) } else { client.slow(number, &filler, us) };
        let answered = Instant::now();
        let answer = match result {
            Ok(answer) if answer == answer_to(number, &filler) => Answer::Right,
            Ok(_) => Answer::Wrong,
            Err(status) => Answer::Refused(status),
        };
        match &answer {
            // Whoever has heard enough does not listen any more.
            Answer::Right => drop(success.send(())),
            Answer::Wrong => {}
            Answer::Refused(_) => refusals += 1,
        }
        calls.push(Call { number, sent, answered, answer });
        if refusals == 2 {
            break;
        }
    }
    calls
}

/// What became of the calls of all lives.
#[derive(Debug, Default)]
struct Counts {
    answered: u32,
    /// Under way at the kill, and told that they did not run.
    not_run: u32,
    /// Made after the kill.
    too_late: u32,
    /// Told that they may have run: how many did not begin, began only, finished.
    may_have_run: [u32; 3],
}

impl Counts {
    /// Puts a call in its place, or says what is wrong with it.
    fn add(&mut self, call: &Call, life: &Life, runs: (u32, u32)) -> Result<(), String> {
        let number = call.number;
        let status = match &call.answer {
            Answer::Right if runs == (1, 1) => {
                self.answered += 1;
                return Ok(());
            }
            Answer::Right => return Err(format!("call {number} was answered and ran {runs:?} times")),
            Answer::Wrong => return Err(format!("call {number} got another one's answer")),
            Answer::Refused(status) if call.answered < life.before_kill => {
                return Err(format!("call {number} failed before the kill: {status}"));
            }
            Answer::Refused(status) => status,
        };
        let count = match (status.code(), status.outcome(), runs) {
            (Code::Unavailable | Code::NotFound, Outcome::NotRun, (0, 0)) if call.sent > life.before_kill => {
                &mut self.too_late
            }
            (Code::Unavailable | Code::NotFound, Outcome::NotRun, (0, 0)) => &mut self.not_run,
            (Code::Unavailable, Outcome::MayHaveRun, (0, 0)) => &mut self.may_have_run[0],
            (Code::Unavailable, Outcome::MayHaveRun, (1, 0)) => &mut self.may_have_run[1],
            (Code::Unavailable, Outcome::MayHaveRun, (1, 1)) => &mut self.may_have_run[2],
            _ => return Err(format!("call {number} ran {runs:?} times and was told: {status}")),
        };
        *count += 1;
        Ok(())
    }

    fn may_have_run(&self) -> u32 {
        self.may_have_run.iter().sum()
    }
}

/// Holds what the callers were told against what the handlers noted; a sentence of counts if all is well.
fn compare(lives: &[Life], notes: &Notes) -> String {
    let mut faults = Vec::new();
    let mut counts = Counts::default();
    let mut numbers = HashSet::from(ALONE);
    for (index, life) in lives.iter().enumerate() {
        let before = counts.may_have_run();
        for call in &life.calls {
            assert!(numbers.insert(call.number), "call {} was made twice", call.number);
            let runs = (notes.count(call.number, Event::Began), notes.count(call.number, Event::Finished));
            faults.extend(counts.add(call, life, runs).err());
        }
        // A worker has one call at a time; what no worker had taken is known not to have run.
        let doubtful = counts.may_have_run() - before;
        if doubtful > WORKERS {
            faults.push(format!("{doubtful} calls of life {index} may have run, with {WORKERS} workers"));
        }
    }
    faults.extend(notes.numbers().filter(|number| !numbers.contains(number)).map(|n| format!("{n} ran, never sent")));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(counts.not_run > 0 && counts.may_have_run() > 0, "both outcomes are seen: {counts:?}");
    let in_flight: usize = lives.iter().map(Life::in_flight).sum();
    let mut notices: Vec<Duration> = lives.iter().map(Life::notice).collect();
    notices.sort_unstable();
    let (half, all) = (notices[notices.len() / 2], notices[notices.len() - 1]);
    let (Counts { answered, not_run, too_late, may_have_run }, doubtful) = (&counts, counts.may_have_run());
    let [unbegun, begun, finished] = may_have_run;
    format!(
        "{in_flight} calls in flight at a kill, all told within {half:?} (median) to {all:?}; {answered} answered, \
         {not_run} not run, {doubtful} may have run ({unbegun} did not begin, {begun} began, {finished} finished), \
         {too_late} made too late; 0 hung, 0 ran twice"
    )
}
