//! Descriptors, mappings and memory that the system does not give: `ResourceExhausted`, and everything works again
//! when there are some.

use std::time::Duration;

use switchboard::prelude::*;
use test_support::child::{self, Line};
use test_support::level::Level;
use test_support::limits::{Lowered, Mappings};

use crate::echo::{EchoClient, Place, connect, serve_here, short, verdict};

const SOON: Duration = Duration::from_secs(5);

/// More descriptors than connecting or starting takes.
const PLENTY: usize = 40;

/// Tries with none, one, two … left, until it is done; gives the number of refusals, which must all be typed so.
fn with_ever_more<T>(mut attempt: impl FnMut(usize) -> Result<T, Status>, allowed: &[&str]) -> (usize, T) {
    for left in 0..PLENTY {
        match attempt(left) {
            Ok(done) => return (left, done),
            Err(status) => assert!(allowed.contains(&&short(&status)[..]), "with {left} more: {status}"),
        }
    }
    panic!("not even with {PLENTY} more");
}

/// A process that has no descriptor left is told so at each step of connecting, and leaves nothing half made.
#[test]
fn descriptor_limit_reached_at_connect() {
    child::alone("client with few descriptors");
}

pub fn connect_with_few_descriptors(parent: Line) {
    let place = Place::new();
    let _service = place.start_service();
    let board = place.board();
    // Once, so that the watcher thread has its descriptors already.
    drop(connect(&board).unwrap());
    let fresh = place.board();
    let level = Level::of_this_process();
    let (refused, client) = with_ever_more(
        |left| {
            let limit = Lowered::descriptors(left);
            let connected = connect(&fresh);
            drop(limit);
            if connected.is_err() {
                level.is_reached_within(SOON);
            }
            connected
        },
        &["RESOURCE_EXHAUSTED NotRun"],
    );
    assert!(refused >= 3, "{refused}");
    parent.say(format!("figure: refusals of a client without descriptors = {refused}"));
    assert_eq!(verdict(&client, b"now"), "right");
}

/// A service that has no descriptor left refuses who comes, serves who is there, and lets in again when it has some.
#[test]
fn descriptor_limit_reached_at_accept() {
    child::alone("service with few descriptors");
}

pub fn serve_with_few_descriptors(parent: Line) {
    let place = Place::new();
    let board = place.board();
    let (refused, running) = with_ever_more(
        |left| {
            let _limit = Lowered::descriptors(left);
            board.serve("test.echo", crate::echo::EchoServer::new(crate::echo::Plain)).workers(2).start()
        },
        &["RESOURCE_EXHAUSTED NotRun"],
    );
    assert!(refused >= 3, "{refused}");
    let mut there = place.child("client");
    assert_eq!(there.ask("call"), "right");
    let level = Level::of_this_process();
    let mut comer = place.child("client");
    // The pipe to it is ours too; it counts among what is open.
    let with_comer = Level::of_this_process();
    assert_ne!(level, with_comer);
    let mut left = 0;
    loop {
        let limit = Lowered::descriptors(left);
        let said = comer.ask("call");
        drop(limit);
        assert_eq!(there.ask("call"), "right", "who is there is served");
        if said == "right" {
            break;
        }
        let is_typed = said.starts_with("RESOURCE_EXHAUSTED NotRun") || said.starts_with("UNAVAILABLE NotRun");
        assert!(is_typed, "with {left} more: {said}");
        with_comer.is_reached_within(SOON);
        left += 1;
        assert!(left < PLENTY);
    }
    assert!(left >= 2, "{left}");
    assert_eq!(running.connections(), 2);
    parent.say(format!("figure: refusals of a service without descriptors = {}", refused + left));
}

/// Large payloads need a descriptor for a moment. A service without one refuses the call, and the connection lives; a
/// client without one gives the connection up, for what was sent to it is lost, and connects anew when it can.
#[test]
fn descriptor_limit_reached_at_growth() {
    child::alone("growth with few descriptors");
}

pub fn grow_with_few_descriptors(_parent: Line) {
    const LARGE: usize = 300_000;
    // The client's side is short of descriptors, the service's is another process.
    let place = Place::new();
    let _service = place.start_service();
    let client = connect(&place.board()).unwrap();
    assert_eq!(verdict(&client, b"small"), "right");
    {
        let _limit = Lowered::descriptors(0);
        let said = verdict(&client, &[1; LARGE]);
        assert!(said.starts_with("RESOURCE_EXHAUSTED NotRun"), "{said}");
        let said = verdict(&client, b"small");
        assert!(said.starts_with("RESOURCE_EXHAUSTED NotRun"), "{said}");
    }
    assert_eq!(verdict(&client, b"small"), "right");
    {
        let _limit = Lowered::descriptors(0);
        let status = client.zeros(LARGE as u64).unwrap_err();
        assert_eq!(short(&status), "RESOURCE_EXHAUSTED Ran", "{status}");
    }
    assert_eq!(verdict(&client, &[1; LARGE]), "right");
    assert_eq!(client.zeros(LARGE as u64).unwrap().len(), LARGE);
    // The service's side is: it is this process.
    let place = Place::new();
    let _running = serve_here(&place.board());
    let client = connect(&place.board()).unwrap();
    {
        let _limit = Lowered::descriptors(0);
        let said = verdict(&client, &[1; LARGE]);
        assert!(said.starts_with("RESOURCE_EXHAUSTED NotRun"), "{said}");
        let status = client.zeros(LARGE as u64).unwrap_err();
        assert_eq!(short(&status), "RESOURCE_EXHAUSTED Ran", "{status}");
        assert_eq!(verdict(&client, b"small"), "right");
    }
    assert_eq!(verdict(&client, &[1; LARGE]), "right");
    assert_eq!(client.zeros(LARGE as u64).unwrap().len(), LARGE);
}

/// A service without memory for one more lane tells who comes `ResourceExhausted`, serves the others, and lets in again
/// when there is some.
#[test]
fn memory_limit_at_connect() {
    child::alone("service with little memory");
    child::alone("client with little memory");
}

/// What is mapped for a lane; what the allocator needs besides comes from memory that it has.
const TOO_LITTLE: usize = 48 << 10;

pub fn serve_with_little_memory(_parent: Line) {
    let place = Place::new();
    let running = serve_here(&place.board());
    let mut there = place.child("client");
    assert_eq!(there.ask("call"), "right");
    let mut comer = place.child("client");
    {
        let _limit = Lowered::address_space(TOO_LITTLE);
        let said = comer.ask("call");
        assert!(said.starts_with("RESOURCE_EXHAUSTED NotRun"), "{said}");
        assert_eq!(there.ask("call"), "right", "who is there is served");
    }
    assert_eq!(comer.ask("call"), "right");
    assert_eq!(running.connections(), 2);
}

pub fn connect_with_little_memory(_parent: Line) {
    let place = Place::new();
    let mut service = place.start_service();
    drop(connect(&place.board()).unwrap());
    let board = place.board();
    {
        let _limit = Lowered::address_space(TOO_LITTLE);
        let status = connect(&board).unwrap_err();
        assert_eq!(short(&status), "RESOURCE_EXHAUSTED NotRun", "{status}");
    }
    let client = connect(&board).unwrap();
    assert_eq!(verdict(&client, b"now"), "right");
    assert_eq!(service.ask("connections"), "1", "a half-made connection is given up");
}

/// A process that may make no mapping more is refused at start, at connect and at growth; nothing breaks.
#[test]
fn max_map_count_reached() {
    child::alone("process of many mappings");
}

pub fn map_to_the_limit(_parent: Line) {
    let place = Place::new();
    let _service = place.start_service();
    let board = place.board();
    let client: EchoClient = connect(&board).unwrap();
    assert_eq!(verdict(&client, b"before"), "right");
    let mine = Place::new();
    let my_board = mine.board();
    let other = place.board();
    {
        let _mappings = Mappings::all();
        let started = my_board.serve("test.echo", crate::echo::EchoServer::new(crate::echo::Plain)).workers(2).start();
        let status = started.unwrap_err();
        assert_eq!(short(&status), "RESOURCE_EXHAUSTED NotRun", "{status}");
        let status = connect(&other).unwrap_err();
        assert_eq!(short(&status), "RESOURCE_EXHAUSTED NotRun", "{status}");
        let said = verdict(&client, &[1; 100_000]);
        assert!(said.starts_with("RESOURCE_EXHAUSTED NotRun"), "{said}");
        assert_eq!(verdict(&client, b"meanwhile"), "right");
    }
    assert_eq!(verdict(&client, &[1; 100_000]), "right");
    assert_eq!(verdict(&connect(&other).unwrap(), b"after"), "right");
    let _running = serve_here(&my_board);
}
