//! Deaths at moments that have a name of their own.

use std::time::Instant;

use switchboard::RunningService;
use switchboard::prelude::*;
use test_support::asleep::wait_until_asleep;
use test_support::child::{Child, Line};

use crate::ledger::{Desk, LedgerClient, LedgerServer, NAME, answer_to, filler_of, runs};
use crate::services::start_service;
use crate::support::TempDir;
use crate::{WITHIN, soon};

/// A service is killed in the middle of a handler: its caller is told within a second that the call may have run, those
/// whose calls no worker had taken that they did not, and a service that starts again serves the same client.
#[test]
fn kill_consumer_mid_handler() {
    let dir = TempDir::new();
    let mut service = start_service(&dir, 0);
    let board = Switchboard::builder()
        .in_process(false)
        .runtime_dir(dir.path().join("run"))
        .open()
        .expect("the directory is ours");
    let client = LedgerClient::connect(&board, NAME).expect("it is served");
    let (tell, told) = std::sync::mpsc::channel();
    let calls: Vec<_> = (1..=3)
        .map(|number| {
            let (client, tell) = (client.clone(), tell.clone());
            let call = std::thread::spawn(move || {
                tell.send(nix::unistd::gettid()).expect("the test waits for it");
                client.hold(number)
            });
            if number == 1 {
                service.expect("held");
            }
            wait_until_asleep(told.recv().expect("the thread tells it first"));
            call
        })
        .collect();
    service.kill();
    let killed = Instant::now();
    let told: Vec<_> =
        calls.into_iter().map(|call| call.join().expect("no panic").expect_err("nobody answers")).collect();
    assert!(killed.elapsed() < WITHIN, "told after {:?}", killed.elapsed());
    let outcomes: Vec<_> = told.iter().map(|status| (status.code(), status.outcome())).collect();
    let (may_have_run, not_run) = ((Code::Unavailable, Outcome::MayHaveRun), (Code::Unavailable, Outcome::NotRun));
    assert_eq!(outcomes, [may_have_run, not_run, not_run]);
    let _service = start_service(&dir, 0);
    let filler = filler_of(4, 16);
    assert_eq!(client.note(4, &filler).expect("it is served again"), answer_to(4, &filler));
    assert_eq!([1, 2, 3, 4].map(|number| runs(&dir.path().join("notes"), number)), [1, 0, 0, 1]);
}

/// Clients that are killed together.
const CROWD: usize = 64;

/// Role: makes a call that is not answered while anybody waits for it.
pub fn call_and_wait(mut line: Line) {
    let dir = line.hear().expect("a directory");
    let board = Switchboard::builder().in_process(false).runtime_dir(dir).open().expect("the directory is ours");
    let client = LedgerClient::connect(&board, NAME).expect("it is served");
    line.say("calling");
    // Killed in this call, or before it.
    let _ = client.note_late(1, &filler_of(1, 16));
}

/// Sixty-four client processes are killed together while each has a call under way: within a second the service holds
/// nothing of them, and it serves whoever comes next.
#[test]
fn kill_all_clients_at_once() {
    let dir = TempDir::new();
    let run = dir.path().join("run");
    let board = Switchboard::builder().in_process(false).runtime_dir(&run).open().expect("the directory is ours");
    let server = LedgerServer::new(Desk::new(&dir.path().join("notes"), None));
    let running: RunningService = board.serve(NAME, server).workers(2).start().expect("nobody else serves here");
    let mut crowd: Vec<Child> = (0..CROWD)
        .map(|_| {
            let child = Child::start::<&str>("one of a crowd", &[]);
            child.say(run.display());
            child
        })
        .collect();
    crowd.iter_mut().for_each(|child| child.expect("calling"));
    assert_eq!(running.connections(), CROWD);
    crowd.iter().for_each(|child| child.signal(rustix::process::Signal::KILL));
    soon("all connections are let go", || running.connections() == 0);
    drop(crowd);
    let client = LedgerClient::connect(&board, NAME).expect("it is served");
    let filler = filler_of(2, 16);
    assert_eq!(client.note(2, &filler).expect("it is served"), answer_to(2, &filler));
}
