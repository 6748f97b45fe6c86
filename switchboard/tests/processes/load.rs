//! Many connections, many callers: every reply belongs to its call, and none is missing.

use std::thread;
use std::time::{Duration, Instant};

use switchboard::prelude::*;

use crate::notary::{self, NAME, NotaryClient, Place, filler_of, verdict};
use test_support::child::{Child, Line};
use test_support::random::Random;

const CONNECTIONS: usize = 100;

const PROCESSES: usize = 8;

/// Callers of each process; they share its connection.
const THREADS: usize = 8;

const DURATION: Duration = Duration::from_secs(20);

/// Fillers are shorter than this, in bytes. A request and a reply hold a number of 8 bytes besides.
const LONGEST: u64 = 20_000;

/// Number of the process among its like.
const INDEX: &str = "CROWD_INDEX";

#[test]
fn a_hundred_connections_on_two_workers_lose_no_reply_and_mix_none_up() {
    let place = Place::new();
    let mut service = notary::start_service(&[place.environment()]);
    let mut bystanders = Child::start("bystanders", &[place.environment()]);
    bystanders.expect("connected");
    let crowd = 0..PROCESSES;
    let environment = |index: usize| [place.environment(), (INDEX, index.to_string().into())];
    let mut crowd: Vec<Child> = crowd.map(|index| Child::start("crowd", &environment(index))).collect();
    crowd.iter_mut().for_each(|process| process.expect("connected"));
    assert_eq!(service.ask("connections"), CONNECTIONS.to_string());

    let started = Instant::now();
    crowd.iter().for_each(|process| process.say("go"));
    let calls: Vec<u64> =
        crowd.iter_mut().map(|process| process.hear().parse().expect("all calls were right")).collect();
    let took = started.elapsed();
    assert_eq!(service.ask("connections"), CONNECTIONS.to_string());
    assert_eq!(bystanders.ask("call"), "right", "idle connections are alive");
    let made: u64 = calls.iter().sum();
    let all = made + PROCESSES as u64 + 2 * (CONNECTIONS - PROCESSES) as u64;
    // A call is counted a moment after its reply.
    let mut handled = String::new();
    let mut are_all = || {
        handled = service.ask("calls");
        handled == all.to_string()
    };
    let counted = Instant::now() + Duration::from_secs(5);
    while !are_all() && Instant::now() < counted {}
    assert_eq!(handled, all.to_string(), "calls handled, calls made");
    println!("load: {made} calls in {took:?}, every reply its own, over {CONNECTIONS} connections: {calls:?}");
}

/// Role: one connection shared by many threads that call at once.
pub fn be_a_crowd(mut parent: Line) {
    let index: u64 = std::env::var(INDEX).unwrap().parse().unwrap();
    let client = NotaryClient::connect(&Switchboard::from_env().unwrap(), NAME).unwrap();
    let first = (index + 1) << 40;
    assert_eq!(verdict(first, b"", &client.quick(first, b"")), "right");
    parent.say("connected");
    let Some(_) = parent.hear() else { return };
    let until = Instant::now() + DURATION;
    let callers: Vec<_> = (1..=THREADS as u64)
        .map(|caller| {
            let client = client.clone();
            thread::spawn(move || call_until(until, &client, first | caller << 32))
        })
        .collect();
    let calls: u64 = callers.into_iter().map(|caller| caller.join().expect("every call was right")).sum();
    parent.say(calls);
    // The connection stays until everything is counted.
    assert_eq!(parent.hear(), None);
}

fn call_until(until: Instant, client: &NotaryClient, first: u64) -> u64 {
    let mut random = Random::new(first);
    let mut calls = 0;
    while Instant::now() < until {
        let number = first + calls;
        // Half are small; the others are of any size.
        let len = if random.one_in(2) { random.below(64) } else { random.below(LONGEST) };
        let filler = filler_of(number, len as usize);
        let us = random.below(200);
        let result = if us > 0 { client.quick(number, &filler) } else { client.slow(number, &filler, 500) };
        assert_eq!(verdict(number, &filler, &result), "right");
        calls += 1;
    }
    calls
}

/// Role: the other connections, which only call at the beginning and at the end.
pub fn be_bystanders(mut parent: Line) {
    let connect = |_| {
        // A switchboard of its own has a connection of its own.
        let client = NotaryClient::connect(&Switchboard::from_env().unwrap(), NAME).unwrap();
        assert_eq!(verdict(7, b"7", &client.quick(7, b"7")), "right");
        client
    };
    let clients: Vec<_> = (PROCESSES..CONNECTIONS).map(connect).collect();
    parent.say("connected");
    while parent.hear().is_some() {
        let wrong = clients.iter().map(|client| verdict(8, b"8", &client.quick(8, b"8"))).find(|v| v != "right");
        parent.say(wrong.as_deref().unwrap_or("right"));
    }
}
