//! Clients and services that are stopped or sent away: nobody calls them dead, nobody else notices, and nothing of them
//! is lost.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use switchboard::prelude::*;
use test_support::child::{Child, Line, PATIENCE};
use test_support::level::Level;

use crate::journal::{Event, Notes};
use crate::notary::{Desk, NAME, NotaryClient, NotaryServer, Place, filler_of, start_service, verdict, wait_until};
use test_support::random::Random;

/// How often somebody is stopped at a random moment.
const STOPS: u32 = 40;

/// Calls of others while somebody is stopped.
const CALLS_MEANWHILE: u64 = 20;

/// What a call of somebody else may take at most while a process is stopped.
const SOON: Duration = Duration::from_secs(5);

/// Longer than a visitor may be silent, and than a caller waits for its connection to grow: 5 s each.
const BEYOND_ALL_TIMERS: Duration = Duration::from_secs(7);

/// Callers of a client that reads no reply, and bytes of each reply.
const UNREAD: usize = 100;
const UNREAD_LEN: u64 = 50_000;

/// Calls of each client that shares a processor with its service.
const CALLS_ON_ONE_CORE: u64 = 3_000;

/// First number of a client, in its environment.
const FIRST: &str = "STOPPED_FIRST";

/// Role: calls one after the other until told to end; says how many calls there were, and every answer that was not right.
pub fn call_one_after_the_other(mut parent: Line) {
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let client = NotaryClient::connect(&Switchboard::from_env().unwrap(), NAME).unwrap();
    let (voice, (stop, stopped)) = (parent.voice(), mpsc::channel::<()>());
    let callers = client.clone();
    let caller = thread::spawn(move || {
        let mut random = Random::new(first);
        let mut number = first;
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            let filler = filler_of(number, if random.one_in(4) { 20_000 } else { 24 });
            let verdict = verdict(number, &filler, &callers.quick(number, &filler));
            if verdict != "right" {
                voice.say(verdict);
            }
            if number == first {
                voice.say("calling");
            }
            number += 1;
        }
        number - first
    });
    if parent.hear().is_some() {
        drop(stop);
        parent.say(caller.join().unwrap());
        // The connection stays until it has been looked at.
        assert_eq!(parent.hear(), None);
        drop(client);
    }
}

/// Role: so many calls, timed from outside.
pub fn call_so_often(mut parent: Line) {
    let client = NotaryClient::connect(&Switchboard::from_env().unwrap(), NAME).unwrap();
    parent.say("connected");
    let Some(_) = parent.hear() else { return };
    for number in 0..CALLS_ON_ONE_CORE {
        assert_eq!(verdict(number, b"", &client.quick(number, b"")), "right");
    }
    parent.say("done");
    assert_eq!(parent.hear(), None);
}

/// Role: asks for many large replies at once, which come while it is stopped; says how many were right.
pub fn ask_for_more_than_is_read(mut parent: Line) {
    let client = NotaryClient::connect(&Switchboard::from_env().unwrap(), NAME).unwrap();
    assert_eq!(client.zeros(UNREAD_LEN).unwrap(), vec![0; UNREAD_LEN as usize]);
    parent.say("connected");
    while parent.hear().is_some() {
        thread::scope(|scope| {
            let ask = || client.zeros(UNREAD_LEN).is_ok_and(|reply| reply == vec![0; UNREAD_LEN as usize]);
            let callers: Vec<_> = (0..UNREAD).map(|_| scope.spawn(ask)).collect();
            let right = callers.into_iter().map(|caller| caller.join().unwrap());
            parent.say(right.filter(|right| *right).count());
        });
    }
}

fn start_caller(place: &Place, first: u64) -> Child {
    let mut child = Child::start(
        "client that calls one after the other",
        &[place.environment(), (FIRST, PathBuf::from(first.to_string()))],
    );
    child.expect("calling");
    child
}

/// Calls of somebody else, each of which must come back soon.
fn call_meanwhile(client: &NotaryClient, from: u64) {
    let client = client.clone().with_timeout(SOON);
    for number in from..from + CALLS_MEANWHILE {
        let filler = filler_of(number, 24);
        assert_eq!(verdict(number, &filler, &client.quick(number, &filler)), "right");
    }
}

/// A client that is stopped at whatever it is doing (before it publishes, after it, waiting, reading its reply) is late:
/// its own calls are all answered, and run once, and others are served meanwhile.
#[test]
fn a_client_stopped_at_any_moment_loses_no_call_and_holds_up_nobody() {
    let place = Place::new();
    let mut service = place.start_service("journal");
    let other = NotaryClient::connect(&place.board(), NAME).unwrap();
    let first = 1 << 40;
    let mut stopped = start_caller(&place, first);
    let seed = Random::seed();
    println!("stopped clients: seed {seed}");
    let mut random = Random::new(seed);
    for stop in 0..STOPS {
        // When the stop comes is what is varied here.
        thread::sleep(Duration::from_micros(random.below(2_000)));
        stopped.stop();
        call_meanwhile(&other, u64::from(stop) << 20);
        assert_eq!(service.ask("connections"), "2", "a stopped client is not a dead one");
        stopped.signal(Signal::CONT);
    }
    let calls: u64 = stopped.ask("end").parse().expect("every call was right");
    let notes = Notes::read(&place.file("journal"));
    for number in first..first + calls {
        assert_eq!((notes.count(number, Event::Began), notes.count(number, Event::Finished)), (1, 1), "{number}");
    }
    assert_eq!(notes.numbers().filter(|number| *number >= first).count() as u64, calls);
}

/// A service that is stopped at whatever it is doing (a worker polls, sleeps, runs a handler, answers) is late: no call
/// fails, none runs twice, and another service is as good as ever meanwhile.
#[test]
fn a_service_stopped_at_any_moment_answers_all_calls_when_it_goes_on() {
    let (place, other_place) = (Place::new(), Place::new());
    let mut service = place.start_service("journal");
    let _other_service = start_service(&[other_place.environment()]);
    let other = NotaryClient::connect(&other_place.board(), NAME).unwrap();
    let mut callers: Vec<Child> = (1..4).map(|client| start_caller(&place, client << 40)).collect();
    let seed = Random::seed();
    println!("stopped services: seed {seed}");
    let mut random = Random::new(seed);
    for stop in 0..STOPS {
        // When the stop comes is what is varied here.
        thread::sleep(Duration::from_micros(random.below(2_000)));
        service.stop();
        call_meanwhile(&other, u64::from(stop) << 20);
        service.signal(Signal::CONT);
    }
    assert_eq!(service.ask("connections"), "3", "nobody was given up");
    let calls: Vec<u64> = callers.iter_mut().map(|caller| caller.ask("end").parse().expect("all right")).collect();
    let notes = Notes::read(&place.file("journal"));
    for (client, calls) in (1..).zip(calls) {
        for number in (client << 40)..(client << 40) + calls {
            assert_eq!((notes.count(number, Event::Began), notes.count(number, Event::Finished)), (1, 1), "{number}");
        }
    }
}

/// A service and a client that are stopped for longer than every timer of a connection are neither dead nor given up: a call
/// without a deadline waits all that time, and is answered.
#[test]
fn whoever_is_stopped_for_longer_than_every_timer_is_late_and_not_dead() {
    let (place, other_place) = (Place::new(), Place::new());
    let mut service = start_service(&[place.environment()]);
    let mut other_service = start_service(&[other_place.environment()]);
    let (client, other) = (
        NotaryClient::connect(&place.board(), NAME).unwrap(),
        NotaryClient::connect(&other_place.board(), NAME).unwrap(),
    );
    let mut stopped_client = Child::start("client", &[other_place.environment()]);
    assert_eq!(stopped_client.ask("call"), "right");
    service.stop();
    stopped_client.stop();
    let patient = client.clone();
    let waits = thread::spawn(move || verdict(1, b"1", &patient.quick(1, b"1")));
    let end = Instant::now() + BEYOND_ALL_TIMERS;
    while Instant::now() < end {
        call_meanwhile(&other, 1);
        assert!(!waits.is_finished(), "the call waits");
    }
    assert_eq!(place.board().list().unwrap().len(), 1, "a stopped service is listed");
    assert_eq!(other_service.ask("connections"), "2", "a stopped client is not given up");
    service.signal(Signal::CONT);
    stopped_client.signal(Signal::CONT);
    assert_eq!(waits.join().unwrap(), "right");
    assert_eq!(stopped_client.ask("call"), "right");
    assert_eq!((service.ask("connections"), other_service.ask("connections")), ("1".into(), "2".into()));
}

/// The inodes of the lanes that this process maps in a role of its own.
fn mapped_lanes() -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("proc is mounted");
    let is_lane =
        |line: &&str| ["/memfd:switchboard-lane", "/memfd:switchboard-up"].iter().any(|lane| line.contains(lane));
    let lanes = maps.lines().filter(is_lane);
    lanes.filter_map(|line| line.split_whitespace().nth(4).map(str::to_owned)).collect()
}

/// Role: the service that sends a stopped client away.
pub fn send_away(parent: Line) {
    let place = Place::new();
    let board = place.board();
    let desk = NotaryServer::new(Desk::new(None, parent.voice()));
    let running = board.serve(NAME, desk).workers(2).start().unwrap();
    let mut stopped = start_caller(&place, 1 << 40);
    let level = Level::of_this_process();
    let before = mapped_lanes();
    assert_eq!(before.len(), 1);
    stopped.stop();
    assert_eq!(running.evict(stopped.id() + 1), 0, "nobody else is meant");
    assert_eq!(running.evict(stopped.id()), 1);
    wait_until(|| running.connections() == 0, SOON, || format!("{} connections", running.connections()));
    wait_until(|| mapped_lanes().is_empty(), SOON, || "the lane is still mapped".into());
    assert_eq!(running.evict(stopped.id()), 0, "it is gone");
    // The next one takes the bit of the one that was sent away, and other memory.
    let mut next = start_caller(&place, 2 << 40);
    let after = mapped_lanes();
    assert!(after.len() == 1 && after != before, "{before:?}, then {after:?}");
    stopped.signal(Signal::CONT);
    // Its call under way failed, if there was one that was not answered; everything after that goes by a new connection.
    wait_until(|| running.connections() == 2, SOON, || format!("{} connections", running.connections()));
    stopped.say("end");
    let mut said = vec![stopped.hear()];
    while said.last().is_some_and(|last| last.parse::<u64>().is_err()) {
        said.push(stopped.hear());
    }
    assert!(said.len() <= 2 && (said.len() == 1 || said[0] == "UNAVAILABLE MayHaveRun"), "{said:?}");
    let calls: u64 = next.ask("end").parse().expect("every call of the next one was right");
    assert!(calls > 0);
    stopped.kill();
    wait_until(|| running.connections() == 1, SOON, || format!("{} connections", running.connections()));
    next.kill();
    wait_until(|| running.connections() == 0, SOON, || format!("{} connections", running.connections()));
    // At the level of one connection there is one more of each; with none there is less, and nothing else.
    // A worker keeps the lane that it served last until it goes to sleep.
    let is_reached =
        || Level::of_this_process().counts().iter().zip(level.counts()).all(|(now, before)| *now <= before);
    wait_until(is_reached, SOON, || format!("{:?} after {level:?}", Level::of_this_process()));
}

#[test]
fn a_client_sent_away_while_stopped_continues_and_writes_to_nobodys_memory() {
    test_support::child::alone("service that sends away");
}

/// A client that is stopped before it reads a hundred large replies holds up no worker; what the service holds for it is
/// bounded, others are served, and the replies are there when it goes on.
#[test]
fn client_never_reads_replies() {
    let place = Place::new();
    let mut service = start_service(&[place.environment()]);
    let mut reader = Child::start("client that asks for more than is read", &[place.environment()]);
    reader.expect("connected");
    let other = NotaryClient::connect(&place.board(), NAME).unwrap();
    let handled = |service: &mut Child| service.ask("calls").parse::<usize>().unwrap();
    let before = handled(&mut service);
    reader.say("ask");
    wait_until(|| handled(&mut service) > before, PATIENCE, || "no call came".into());
    reader.stop();
    call_meanwhile(&other, 1);
    let settled = |service: &mut Child| {
        let (mut calls, mut since) = (handled(service), Instant::now());
        while since.elapsed() < Duration::from_millis(100) {
            let now = handled(service);
            if now != calls {
                (calls, since) = (now, Instant::now());
            }
        }
        calls
    };
    let calls = settled(&mut service);
    assert!(calls > before + CALLS_MEANWHILE as usize, "handlers run though nobody reads what they answer");
    let mapped = mapped_bytes(service.id());
    let needed = UNREAD as u64 * UNREAD_LEN;
    assert!(mapped < 4 * needed + (1 << 20), "{mapped} bytes are mapped for {needed} bytes of replies");
    call_meanwhile(&other, 1 << 20);
    reader.signal(Signal::CONT);
    assert_eq!(reader.hear(), UNREAD.to_string());
}

/// Bytes of all memfds that a process maps.
fn mapped_bytes(pid: u32) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process lives");
    let len = |line: &str| {
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        Some(u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?)
    };
    maps.lines().filter(|line| line.contains("/memfd:")).filter_map(len).sum()
}

/// Starts a service and four clients on these processors; how long all their calls take.
fn time_on(processors: &CpuSet) -> Duration {
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            // Processes inherit it from the thread that starts them.
            sched_setaffinity(None, processors).expect("these processors are ours");
            let place = Place::new();
            let _service = start_service(&[place.environment()]);
            let start = |_| Child::start("client that calls so often", &[place.environment()]);
            let mut clients: Vec<Child> = (0..4).map(start).collect();
            clients.iter_mut().for_each(|client| client.expect("connected"));
            let started = Instant::now();
            clients.iter().for_each(|client| client.say("go"));
            clients.iter_mut().for_each(|client| client.expect("done"));
            started.elapsed()
        });
        run.join().expect("every call was right")
    })
}

/// Everybody on one processor: whoever waits gives way, so calls take at most three times as long as on all of them.
#[test]
fn preempted_on_one_core() {
    let all = sched_getaffinity(None).expect("the kernel says it");
    let mut one = CpuSet::new();
    let first = (0..CpuSet::MAX_CPU).find(|processor| all.is_set(*processor)).expect("we run somewhere");
    one.set(first);
    // Others are at work on this machine: one undisturbed attempt says what is possible.
    let mut ratios = Vec::new();
    while ratios.last().is_none_or(|ratio| *ratio > 3.0) {
        assert!(ratios.len() < 5, "{ratios:?}");
        ratios.push(time_on(&one).as_secs_f64() / time_on(&all).as_secs_f64());
    }
    println!("one core against all: {ratios:.2?} times the duration");
}
