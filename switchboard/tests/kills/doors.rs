//! A service is killed while it lets a client in: the client is told at once, and the next service takes the name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use switchboard::prelude::*;
use test_support::child::{self, Line};
use test_support::kills::{Kills, Seen};
use test_support::level::Level;
use test_support::stepped::Victim;

use crate::ledger::{LedgerClient, NAME};
use crate::services::start_service;
use crate::soon;
use crate::support::TempDir;

/// The thread of a service that lets clients in, as the kernel shortens its name.
const PORTER: &str = "switchboard-por";

/// Role: the client of services that are killed while they let it in.
pub fn witness(line: Line) {
    let mut kills = Kills::of("doors", &line);
    let dir = TempDir::new();
    let run = dir.path().join("run");
    let board = || Switchboard::builder().in_process(false).runtime_dir(&run).open().expect("the directory is ours");
    // The threads that watch, which a process keeps for good, is there from now on.
    let mut service = start_service(&dir, 0);
    drop(LedgerClient::connect(&board(), NAME).expect("it is served"));
    service.kill();
    drop(service);
    let level = Level::settled();
    let begin = || {
        let done = Arc::new(AtomicBool::new(false));
        let victim = Victim::hold_sleeper(start_service(&dir, 0), PORTER, Arc::clone(&done));
        let board = board();
        let connects = std::thread::spawn(move || {
            let connected = LedgerClient::connect(&board, NAME);
            done.store(true, Ordering::Release);
            // That the connection ends with its board wakes the service's thread once more, if it lives.
            connected.map(|_| drop(board))
        });
        (victim, connects)
    };
    let look = |connects: JoinHandle<Result<(), Status>>| {
        soon("the client is told", || connects.is_finished());
        let connected = connects.join().expect("no panic");
        if let Err(status) = &connected {
            assert_eq!(status.outcome(), Outcome::NotRun, "{status}");
        }
        level.is_reached_within(Duration::from_secs(5));
        u64::from(connected.is_ok())
    };
    kills.at_each_system_call("letting a client in", &Seen::OneOf(0..=1), begin, look);
    assert_eq!(board().list().expect("it is ours"), []);
    let left = std::fs::read_dir(run.join("default")).expect("it was made").count();
    assert_eq!(left, 0, "a dead service's socket goes with a list");
    kills.end();
}

#[test]
fn a_client_is_told_when_the_service_is_killed_at_any_step_of_letting_it_in() {
    if Victim::may_be("client") {
        child::alone("witness of killed doors");
    }
}
