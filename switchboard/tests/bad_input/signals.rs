//! Signals all the time: no wait of ours ends early, late or in an error because a system call was interrupted.

use std::time::{Duration, Instant};

use switchboard::prelude::*;
use test_support::child::{self, Line};
use test_support::storm::Storm;

use crate::echo::{Echo, EchoClient, EchoServer, Place, connect, serve_here, short, verdict};

/// How often each thread is signalled.
const INTERVAL: Duration = Duration::from_micros(100);

const CALLS: usize = 1_000;

/// Callers, workers and the watcher thread are signalled every 100 µs, without `SA_RESTART`: every call is answered right,
/// every connection made, every deadline kept.
#[test]
fn signals_every_100_us_in_callers_and_workers_change_no_answer() {
    child::alone("process in a storm");
}

/// Answers nobody as long as somebody waits.
struct Silent;

impl Echo for Silent {
    fn echo(&self, ctx: &Context<'_>, _bytes: &[u8]) -> Result<Vec<u8>, Status> {
        while !ctx.is_cancelled() {
            std::thread::yield_now();
        }
        // The deadline is seen here as soon as by the caller: too late for that one on purpose.
        std::thread::sleep(Duration::from_millis(20));
        Ok(Vec::new())
    }

    fn zeros(&self, _ctx: &Context<'_>, _len: u64) -> Result<Vec<u8>, Status> {
        Ok(Vec::new())
    }

    fn odd(&self, _ctx: &Context<'_>, number: u64) -> Result<u64, Status> {
        Ok(number)
    }
}

pub fn call_in_a_storm(parent: Line) {
    let place = Place::new();
    // Without polling every call sleeps on both sides.
    let board =
        || Switchboard::builder().in_process(false).runtime_dir(place.file("")).spin(Duration::ZERO).open().unwrap();
    let mut other_process = place.child("service");
    other_process.expect("serving");
    let storm = Storm::begin(INTERVAL);
    let client = connect(&board()).unwrap();
    let before = Storm::handled();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let client = &client;
            scope.spawn(move || {
                for i in 0..CALLS / 2 {
                    let len = [8, 90, 3_000, 200_000][(i + thread) % 4];
                    assert_eq!(verdict(client, &vec![i as u8; len]), "right", "call {i} of {len} bytes");
                }
            });
        }
    });
    let mine = Place::new();
    let running = serve_here(&mine.board());
    for i in 0..50 {
        let board =
            Switchboard::builder().in_process(false).runtime_dir(mine.file("")).spin(Duration::ZERO).open().unwrap();
        let client: EchoClient = connect(&board).unwrap();
        assert_eq!(verdict(&client, &vec![7; i * 10_000]), "right", "connection {i}");
    }
    let held = board().serve("test.silent", EchoServer::new(Silent)).workers(1).start().unwrap();
    let slow = EchoClient::connect(&board(), "test.silent").unwrap().with_timeout(Duration::from_millis(100));
    for _ in 0..5 {
        let asked = Instant::now();
        let status = slow.echo(b"in time?").unwrap_err();
        let waited = asked.elapsed();
        assert_eq!(short(&status), "DEADLINE_EXCEEDED MayHaveRun", "{status}");
        assert!(waited >= Duration::from_millis(100), "ended after {waited:?}");
        assert!(waited < Duration::from_millis(1_100), "ended after {waited:?}");
    }
    let handled = Storm::handled() - before;
    drop((storm, held, running));
    assert!(handled > CALLS as u64, "{handled} signals are no storm");
    parent.say(format!("figure: signals handled during {CALLS} calls and 50 connections = {handled}"));
}
