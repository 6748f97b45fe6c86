//! What must go well every time: connections made and left, handlers that panic, handles dropped in any order.

use std::time::{Duration, Instant};

use switchboard::prelude::*;
use test_support::child::{self, Line};
use test_support::level::Level;

use crate::echo::{Place, connect, serve_here, short, verdict};

/// How many times a client comes and goes; a thousand unless something else is asked for.
const RECONNECTS: &str = "SWITCHBOARD_RECONNECTS";

const SOON: Duration = Duration::from_secs(5);

/// Clients come and go, both ends in one process: descriptors, mappings and threads are what they were, and the last
/// connections take as long as the first. A thousand times here, 100,000 by `cargo xtask prove reconnects`.
#[test]
fn reconnect_100k() {
    let count = std::env::var(RECONNECTS).map_or(1_000, |text| text.parse::<u64>().expect("a number"));
    if count <= 20_000 {
        child::alone("comer and goer");
    } else {
        // A role has two minutes; so many take longer.
        (0..count.div_ceil(20_000)).for_each(|_| child::alone("comer and goer"));
    }
}

pub fn come_and_go(parent: Line) {
    let count = std::env::var(RECONNECTS).map_or(1_000, |text| text.parse::<u64>().expect("a number")).min(20_000);
    let place = Place::new();
    let running = serve_here(&place.board());
    // Before anybody came: what goes with the last connection may go a moment after that is no longer counted.
    let level = Level::of_this_process();
    let connect_once = || {
        // A board has its own connections.
        let board = place.board();
        let began = Instant::now();
        let client = connect(&board).unwrap();
        let took = began.elapsed();
        assert_eq!(verdict(&client, b"here"), "right");
        took
    };
    for _ in 0..100 {
        connect_once();
    }
    let resident = resident_kib();
    let mut took: Vec<Duration> = (0..count).map(|_| connect_once()).collect();
    wait_until_alone(&running);
    level.is_reached_within(SOON);
    let grown = resident_kib().saturating_sub(resident);
    assert!(grown < 8 << 10, "{grown} KiB more after {count} connections");
    let half = took.len() / 2;
    let p99 = |took: &mut [Duration]| {
        took.sort_unstable();
        took[took.len() * 99 / 100]
    };
    let (first, last) = took.split_at_mut(half);
    let (first, last) = (p99(first), p99(last));
    // Other programs take turns with this one, so this is no measure of a few per cent.
    assert!(last < first * 10 + Duration::from_millis(5), "p99 of a connection: {first:?}, later {last:?}");
    parent.say(format!("figure: connections made and left = {count}"));
    parent.say(format!("figure: growth of resident memory = {grown} KiB"));
    parent.say(format!("figure: p99 of a connection, first half = {} us", first.as_micros()));
    parent.say(format!("figure: p99 of a connection, second half = {} us", last.as_micros()));
}

fn wait_until_alone(running: &switchboard::RunningService) {
    let until = Instant::now() + SOON;
    while running.connections() > 0 {
        assert!(Instant::now() < until, "{} connections are left", running.connections());
        std::thread::yield_now();
    }
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A handler that panics in every second call: those calls are `Internal`, the others right, and no worker is lost.
#[test]
fn handler_panic_every_2nd() {
    let place = Place::new();
    let running = serve_here(&place.board());
    let client = connect(&place.board()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let client = &client;
            scope.spawn(move || {
                for number in (thread * 10..).take(10) {
                    match client.odd(number) {
                        Ok(answer) => assert!(number % 2 == 1 && answer == number),
                        Err(status) => {
                            assert!(number.is_multiple_of(2), "{status}");
                            assert_eq!(short(&status), "INTERNAL Ran", "{status}");
                            assert!(status.message().contains(&format!("{number} is even")), "{status}");
                        }
                    }
                }
            });
        }
    });
    assert_eq!(verdict(&client, &[1; 100_000]), "right");
    assert_eq!(running.connections(), 1);
}

/// What a program may hold of one service.
enum Handle {
    Service(switchboard::RunningService),
    Client(crate::echo::EchoClient),
    OtherClient(crate::echo::EchoClient),
    Board(Switchboard),
}

/// Service, clients and runtime, dropped in each possible order: nothing hangs, and nothing is left, not even the socket's
/// file.
#[test]
fn drop_order_all_permutations() {
    let place = Place::new();
    let mut orders = 0;
    for order in permutations(4) {
        let board = place.board();
        let running = serve_here(&board);
        let (client, other) = (connect(&board).unwrap(), connect(&board).unwrap());
        assert_eq!(verdict(&client, &[1; 100_000]), "right");
        assert_eq!(verdict(&other, b"both"), "right");
        let handles =
            [Handle::Service(running), Handle::Client(client), Handle::OtherClient(other), Handle::Board(board)];
        let mut handles = handles.map(Some);
        let mut serves = true;
        for next in order {
            match handles[next].take().expect("each once") {
                Handle::Service(running) => {
                    running.stop();
                    serves = false;
                    assert!(!place.socket().exists());
                }
                Handle::Client(client) | Handle::OtherClient(client) => {
                    let said = verdict(&client, b"last");
                    assert!(if serves { said == "right" } else { said.contains("NotRun") }, "{said}");
                }
                Handle::Board(board) => drop(board),
            }
        }
        orders += 1;
    }
    assert_eq!(orders, 24);
}

/// All orders of so many things.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for next in 0..count {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut longer = order.clone();
                    longer.insert(at, next);
                    longer
                })
            })
            .collect();
    }
    orders
}
