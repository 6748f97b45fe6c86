//! SIGKILL of client processes in the middle of calls: the service goes on for others, and nothing of the dead stays.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::prelude::*;

use crate::journal::{Event, Journal, Notes};
use crate::notary::{Desk, NAME, NotaryClient, NotaryServer, Place, answer_to, filler_of, verdict, wait_until};
use test_support::child::{self, Child, Line};
use test_support::level::Level;
use test_support::random::Random;

const KILLS: usize = 100;

/// Threads of a client that is killed.
const CALLERS: u64 = 4;

/// The kill comes at a random moment before this, in microseconds.
const LAST_MOMENT_US: u64 = 6_000;

/// Longest filler, in bytes: past what a connection begins with room for.
const LONGEST: u64 = 20_000;

/// After a kill its traces are gone within this time.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// First number of the client that stays.
const STAYS: u64 = 1 << 62;

/// Path of a killed client's journal.
const CALLS: &str = "CALLS_JOURNAL";
/// First number of a killed client's calls; also its seed.
const FIRST: &str = "CALLS_FIRST";

#[test]
fn a_killed_client_disturbs_nobody_and_leaves_nothing_with_the_service() {
    child::alone("witness of killed clients");
}

#[test]
fn all_connections_of_a_kill_are_let_go() {
    for spin in [Duration::ZERO, Duration::from_micros(50)] {
        let place = Place::new();
        // Workers that sleep at once, and workers that look again first.
        let board =
            Switchboard::builder().in_process(false).runtime_dir(place.runtime_dir()).spin(spin).open().unwrap();
        let desk = NotaryServer::new(Desk::silent());
        let running = board.serve(NAME, desk).workers(2).start().unwrap();
        for _ in 0..3 {
            let mut clients = Child::start("bystanders", &[place.environment()]);
            clients.expect("connected");
            assert!(running.connections() > 64);
            clients.kill();
            let left = || running.connections();
            wait_until(|| left() == 0, GONE_WITHIN, || format!("polling {spin:?}: {} connections are left", left()));
        }
    }
}

/// Role: the service whose clients are killed again and again.
pub fn witness(parent: Line) {
    let seed = Random::seed();
    parent.say(format!("killed clients: seed {seed}"));
    let mut random = Random::new(seed);
    let place = Place::new();
    let board = place.board();
    let desk = Desk::new(Some(Journal::append_to(&place.file("runs"))), parent.voice());
    let running = board.serve(NAME, NotaryServer::new(desk)).workers(2).start().unwrap();
    let mut stays = Child::start("client that stays", &[place.environment()]);
    stays.expect("calling");

    let mut calls = Notes::default();
    let (mut kills, mut counted, mut in_flight) = (0, 0, 0);
    let mut level = None;
    while counted < KILLS {
        assert!(kills < 3 * KILLS, "seed {seed}: only {counted} of {kills} kills met a call in flight");
        let notes = live_and_die(&place, kills as u64, &mut random);
        let left = || running.connections();
        wait_until(|| left() == 1, GONE_WITHIN, || format!("{} connections after kill {kills}", left()));
        let unanswered = notes.numbers_with_but_without(Event::Sent, Event::Answered).count();
        calls.extend(notes);
        // The first client brings what a process keeps for good, and is not counted.
        match &level {
            None => level = Some(Level::settled()),
            Some(_) => (counted, in_flight) = (counted + usize::from(unanswered > 0), in_flight + unanswered),
        }
        kills += 1;
    }
    level.expect("there was a kill").is_reached_within(GONE_WITHIN);
    let [steady, longest] = &stays.ask("stop").split(' ').map(|n| n.parse().unwrap()).collect::<Vec<u64>>()[..] else {
        panic!("two numbers are said");
    };
    let report = compare(&calls, &Notes::read(&place.file("runs")), *steady);
    parent.say(format!(
        "killed clients: {counted} kills with a call in flight ({in_flight} calls), {kills} in all; {report}; the \
         client that stayed made {steady} calls meanwhile, the longest took {longest} us"
    ));
}

fn live_and_die(place: &Place, life: u64, random: &mut Random) -> Notes {
    let journal = place.file("calls");
    let first = (life + 1) << 32;
    let environment = [place.environment(), (CALLS, journal.clone()), (FIRST, first.to_string().into())];
    let mut client = Child::start("client to be killed", &environment);
    client.expect("calling");
    // Most kills come among calls, some may already meet the connecting.
    if life == 0 || !random.one_in(4) {
        client.expect("answered");
    }
    // When the kill comes is what is varied here: this only lets time pass.
    thread::sleep(Duration::from_micros(random.below(LAST_MOMENT_US)));
    client.kill();
    let notes = Notes::read(&journal);
    // Not made yet if the kill came early.
    let _ = std::fs::remove_file(&journal);
    notes
}

/// Role: calls with all its threads until it is killed, and keeps a journal of it.
pub fn call_until_killed(mut parent: Line) {
    let journal = Arc::new(Journal::append_to(Path::new(&std::env::var_os(CALLS).unwrap())));
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let board = Switchboard::from_env().unwrap();
    parent.say("calling");
    for caller in 0..CALLERS {
        let (board, journal, voice) = (board.clone(), Arc::clone(&journal), parent.voice());
        thread::spawn(move || {
            let first = first | caller << 24;
            let mut random = Random::new(first.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            journal.note(first, Event::Sent);
            let client = NotaryClient::connect(&board, NAME).unwrap();
            for number in first.. {
                let len = if random.one_in(4) { random.below(LONGEST) as usize } else { 16 };
                let filler = filler_of(number, len);
                let us = random.below(400);
                if number > first {
                    journal.note(number, Event::Sent);
                }
                let result = if us < 200 { client.quick(number, &filler) } else { client.slow(number, &filler, us) };
                let right = result.is_ok_and(|answer| answer == answer_to(number, &filler));
                journal.note(number, if right { Event::Answered } else { Event::Failed });
                if number == first && caller == 0 {
                    voice.say("answered");
                }
            }
        });
    }
    // Killed while it waits here; or the witness is gone.
    assert_eq!(parent.hear(), None);
}

/// Role: calls with one thread until told to stop; says how many calls it made and how long the longest took, in
/// microseconds.
pub fn call_until_told(mut parent: Line) {
    let client = NotaryClient::connect(&Switchboard::from_env().unwrap(), NAME).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let caller = thread::spawn(move || {
        let mut longest = Duration::ZERO;
        for number in STAYS.. {
            if told.load(Ordering::Relaxed) {
                return (number - STAYS, longest);
            }
            let filler = filler_of(number, 24);
            let sent = Instant::now();
            let result = if number % 2 == 0 { client.quick(number, &filler) } else { client.slow(number, &filler, 50) };
            longest = longest.max(sent.elapsed());
            assert_eq!(verdict(number, &filler, &result), "right");
        }
        unreachable!("there are more numbers than calls")
    });
    parent.say("calling");
    if parent.hear().is_some() {
        stop.store(true, Ordering::Relaxed);
        let (calls, longest) = caller.join().expect("every call was right");
        parent.say(format!("{calls} {}", longest.as_micros()));
    }
}

/// Holds the clients' journals against the service's; a sentence of counts if all is well.
fn compare(calls: &Notes, runs: &Notes, steady: u64) -> String {
    let mut faults = Vec::new();
    let (mut answered, mut unanswered, mut unanswered_ran) = (0, 0, 0);
    for number in calls.numbers() {
        let count = |event| calls.count(number, event);
        let ran = (runs.count(number, Event::Began), runs.count(number, Event::Finished));
        match (count(Event::Sent), count(Event::Answered), count(Event::Failed), ran) {
            (1, 1, 0, (1, 1)) => answered += 1,
            (1, 0, 0, (0, 0)) => unanswered += 1,
            (1, 0, 0, (1, 1)) => (unanswered, unanswered_ran) = (unanswered + 1, unanswered_ran + 1),
            noted => faults.push(format!("call {number} (sent, answered, failed, (began, finished)): {noted:?}")),
        }
    }
    for number in runs.numbers() {
        let stayed = (STAYS..STAYS + steady).contains(&number);
        let ran = (runs.count(number, Event::Began), runs.count(number, Event::Finished));
        if (stayed && ran != (1, 1)) || (!stayed && calls.count(number, Event::Sent) != 1) {
            faults.push(format!("call {number} ran {ran:?} times"));
        }
    }
    let stayed = runs.numbers().filter(|number| *number >= STAYS).count() as u64;
    assert_eq!(stayed, steady, "runs for the client that stays");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    format!("{answered} answered, {unanswered} not, of which {unanswered_ran} ran; 0 failed, 0 ran twice")
}
