//! Large requests as sealed memory of the client's, between real processes that do not trust each other.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use switchboard::Trust;
use switchboard::prelude::*;
use test_support::child::{self, Child, Line, Voice};
use test_support::level::Level;

use crate::notary::{Place, short, wait_until};

const NAME: &str = "test.scales";

/// Whether it accepts sealed memory, and most bytes of added segments of one connection.
const ACCEPTS: &str = "SCALES_ACCEPTS";
const BYTES: &str = "SCALES_BYTES";

/// What is large enough to be sealed wherever that is accepted.
const LARGE: usize = 20 << 20;

const GONE_WITHIN: Duration = Duration::from_secs(5);

#[service]
pub trait Scales {
    /// The sum of all bytes, how many they are, and whether they lie in sealed memory of the client's.
    fn weigh(&self, ctx: &Context<'_>, bytes: &[u8]) -> Result<[u64; 3], Status>;
    /// The sum of all bytes, and nothing else.
    fn total(&self, ctx: &Context<'_>, bytes: &[u8]) -> Result<u64, Status>;
    /// Tells the service's parent that it has the bytes, waits until the client is gone, and tells their sum.
    fn outlive(&self, ctx: &Context<'_>, bytes: &[u8]) -> Result<(), Status>;
    /// So many bytes, each the number of its place.
    fn give(&self, ctx: &Context<'_>, len: u64) -> Result<Vec<u8>, Status>;
}

struct Scale(Voice);

impl Scales for Scale {
    fn weigh(&self, _ctx: &Context<'_>, bytes: &[u8]) -> Result<[u64; 3], Status> {
        Ok([sum(bytes), bytes.len() as u64, is_sealed(bytes).into()])
    }

    fn total(&self, _ctx: &Context<'_>, bytes: &[u8]) -> Result<u64, Status> {
        Ok(sum(bytes))
    }

    fn outlive(&self, ctx: &Context<'_>, bytes: &[u8]) -> Result<(), Status> {
        self.0.say("held");
        while !ctx.is_cancelled() {
            std::thread::yield_now();
        }
        self.0.say(format!("{} {}", sum(bytes), is_sealed(bytes)));
        Ok(())
    }

    fn give(&self, _ctx: &Context<'_>, len: u64) -> Result<Vec<u8>, Status> {
        Ok(numbered(len as usize))
    }
}

/// Of words of eight bytes: each byte counts, and its place within its word.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let last = rest.iter().map(|byte| u64::from(*byte)).sum();
    words.iter().fold(last, |sum: u64, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

fn numbered(len: usize) -> Vec<u8> {
    let numbers: Vec<u8> = (0..=250).collect();
    let mut bytes = numbers.repeat(len / numbers.len() + 1);
    bytes.truncate(len);
    bytes
}

/// Whether the bytes stand in a mapping of a client's sealed memory.
fn is_sealed(bytes: &[u8]) -> bool {
    let (first, last) = (bytes.as_ptr() as usize, bytes.as_ptr() as usize + bytes.len() - 1);
    let maps = std::fs::read_to_string("/proc/self/maps").expect("proc is mounted");
    maps.lines().filter(|line| line.contains("/memfd:switchboard-sealed ")).any(|line| {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        (number(start)..number(end)).contains(&first) && (number(start)..number(end)).contains(&last)
    })
}

/// Role: serves the scales, to clients that it trusts in nothing.
pub fn serve(mut parent: Line) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<usize>().expect("a number"));
    let board = board(std::env::var_os("SWITCHBOARD_RUNTIME_DIR").unwrap().into());
    let serve = board.serve(NAME, ScalesServer::new(Scale(parent.voice()))).workers(2);
    let serve = serve.accept_sealed(number(ACCEPTS) == Some(1)).max_bytes(number(BYTES).unwrap_or(1 << 30));
    let running = serve.start().expect("nobody else serves here");
    parent.say("serving");
    while let Some(question) = parent.hear() {
        match &question[..] {
            "connections" => parent.say(running.connections()),
            other => panic!("`{other}` is no question"),
        }
    }
}

/// Role: calls once, and is killed while the service has its request.
pub fn call_and_be_killed(mut parent: Line) {
    let board = board(std::env::var_os("SWITCHBOARD_RUNTIME_DIR").unwrap().into());
    let client = ScalesClient::connect(&board, NAME).expect("it is served");
    parent.say("connected");
    assert_eq!(parent.hear().as_deref(), Some("call"));
    panic!("survived: {:?}", client.outlive(&numbered(LARGE)));
}

fn board(runtime_dir: PathBuf) -> Switchboard {
    Switchboard::builder()
        .in_process(false)
        .runtime_dir(runtime_dir)
        .trust(Trust::ISOLATED)
        .open()
        .expect("the directory is ours")
}

fn start(place: &Place, accepts: &str, bytes: &str) -> (Child, ScalesClient) {
    let environment = [place.environment(), (ACCEPTS, accepts.into()), (BYTES, bytes.into())];
    let mut service = Child::start("scales", &environment);
    service.expect("serving");
    let client = ScalesClient::connect(&board(place.runtime_dir()), NAME).unwrap();
    (service, client)
}

const SEALED: u64 = 1;
const COPIED: u64 = 0;

fn weight(len: usize, sealed: u64) -> Result<[u64; 3], Status> {
    Ok([sum(&numbered(len)), len as u64, sealed])
}

#[test]
fn large_requests_are_read_in_sealed_memory_where_that_is_accepted_and_nothing_of_them_stays() {
    child::alone("witness of sealed requests");
}

/// Role: calls with large requests, and sees what both sides keep of them.
pub fn witness(_parent: Line) {
    let place = Place::new();
    let (service, client) = start(&place, "1", "1073741824");
    assert_eq!(client.weigh(&numbered(1 << 20)), weight(1 << 20, COPIED), "a small one is copied");
    let (theirs, ours) = (Level::of_process(service.id()), Level::settled());
    for len in [16 << 20, LARGE, LARGE + 1] {
        assert_eq!(client.weigh(&numbered(len)), weight(len, SEALED), "{len} bytes");
    }
    wait_until(|| Level::of_process(service.id()) == theirs, GONE_WITHIN, || "the service keeps something".into());
    ours.is_reached_within(GONE_WITHIN);
    assert_eq!(client.give(LARGE as u64), Ok(numbered(LARGE)), "the other way they are copied");
}

#[test]
fn large_requests_are_copied_where_sealed_memory_is_not_accepted() {
    let place = Place::new();
    let (_service, client) = start(&place, "0", "1073741824");
    assert_eq!(client.weigh(&numbered(LARGE)), weight(LARGE, COPIED));
}

#[test]
fn requests_that_the_limit_of_bytes_has_no_room_for_are_sealed_or_refused() {
    for (accepts, of_3_mib) in [("1", Some(SEALED)), ("0", None)] {
        let place = Place::new();
        let (_service, client) = start(&place, accepts, "2097152");
        assert_eq!(client.weigh(&numbered(1 << 20)), weight(1 << 20, COPIED));
        for len in [3 << 20, LARGE, 3 << 20] {
            match (client.weigh(&numbered(len)), of_3_mib) {
                (weighed, Some(sealed)) => assert_eq!(weighed, weight(len, sealed)),
                (weighed, None) => assert_eq!(short(&weighed.unwrap_err()), "RESOURCE_EXHAUSTED NotRun"),
            }
        }
        assert_eq!(client.weigh(&numbered(100)), weight(100, COPIED), "the connection goes on");
    }
}

#[test]
fn many_threads_send_sealed_requests_at_once_and_each_gets_its_own_answer() {
    let place = Place::new();
    let (service, client) = start(&place, "1", "1073741824");
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..2 {
                    let len = (16 << 20) + thread * 1000 + round;
                    let [sum_of, len_of, _] = client.weigh(&numbered(len)).unwrap();
                    // More than the service keeps at once go by the arena.
                    assert_eq!([sum_of, len_of], [sum(&numbered(len)), len as u64]);
                }
            });
        }
    });
    let kept =
        || std::fs::read_to_string(format!("/proc/{}/maps", service.id())).unwrap().contains("switchboard-sealed");
    wait_until(|| !kept(), GONE_WITHIN, || "a request is kept without its call".into());
}

#[test]
fn a_request_whose_deadline_passes_before_its_call_is_withdrawn() {
    let place = Place::new();
    let (service, client) = start(&place, "1", "1073741824");
    let large = numbered(LARGE);
    let began = Instant::now();
    assert_eq!(client.weigh(&large), weight(LARGE, SEALED));
    let whole = began.elapsed();
    // Anywhere between the start of the call and its end.
    for part in 1..=10 {
        let hurried = client.clone().with_timeout(whole * part / 12);
        if let Err(status) = hurried.weigh(&large) {
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        }
    }
    assert_eq!(client.weigh(&large), weight(LARGE, SEALED), "the connection goes on");
    let kept =
        || std::fs::read_to_string(format!("/proc/{}/maps", service.id())).unwrap().contains("switchboard-sealed");
    wait_until(|| !kept(), GONE_WITHIN, || "a request is kept without its call".into());
}

/// The client is killed while a handler reads its memory: the memory stays, whole, as long as the handler needs it.
#[test]
fn kill_while_its_sealed_request_is_read() {
    let place = Place::new();
    let (mut service, client) = start(&place, "1", "1073741824");
    assert_eq!(client.weigh(&numbered(100)), weight(100, COPIED));
    let before = Level::of_process(service.id());
    let mut dies = Child::start("client to be killed while it is read", &[place.environment()]);
    dies.expect("connected");
    dies.say("call");
    service.expect("held");
    dies.kill();
    service.expect(&format!("{} true", sum(&numbered(LARGE))));
    wait_until(|| Level::of_process(service.id()) == before, GONE_WITHIN, || "something is left".into());
    assert_eq!(service.ask("connections"), "1");
}

#[test]
fn what_a_request_of_16_mib_costs_by_copying_and_as_sealed_memory() {
    // Without optimization the figures mean nothing.
    const ROUNDS: usize = if cfg!(debug_assertions) { 3 } else { 15 };
    for (accepts, how) in [("0", "by copying"), ("1", "as sealed memory")] {
        let place = Place::new();
        let (_service, client) = start(&place, accepts, "1073741824");
        let large = numbered(16 << 20);
        let total = sum(&large);
        let one = || {
            let began = Instant::now();
            assert_eq!(client.total(&large), Ok(total));
            began.elapsed()
        };
        one();
        let mut took: Vec<_> = (0..ROUNDS).map(|_| one()).collect();
        took.sort_unstable();
        println!("figure: request of 16 MiB {how} = {} ns", took[ROUNDS / 2].as_nanos());
    }
}
