//! Services that come and go.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use switchboard::prelude::*;

use crate::Fixture;
use crate::services::{BenchClient, BenchServer, NAME, Served, bench};

pub(crate) fn a_client_survives_the_restart_of_its_service(fixture: &Fixture) {
    let (running, client) = bench(fixture);
    assert_eq!(client.double(1), Ok(2));
    running.stop();
    let board = fixture.board();
    let _again = board.serve(NAME, BenchServer::new(Served::default())).start().expect("the name is free");
    assert_eq!(client.double(2), Ok(4));
}

pub(crate) fn a_stopped_service_is_unavailable_and_nothing_ran(fixture: &Fixture) {
    let (running, client) = bench(fixture);
    running.stop();
    let status = client.double(1).expect_err("nobody serves it");
    assert!(matches!(status.code(), Code::NotFound | Code::Unavailable), "{status}");
    assert_eq!(status.outcome(), Outcome::NotRun);
}

#[service]
pub(crate) trait Gate {
    fn pass(&self, ctx: &Context<'_>) -> Result<(), Status>;
}

/// Says that it was entered, then waits until it is let go.
struct Gated {
    entered: std::sync::Mutex<mpsc::Sender<()>>,
    go: std::sync::Mutex<mpsc::Receiver<()>>,
}

impl Gate for Gated {
    fn pass(&self, _: &Context<'_>) -> Result<(), Status> {
        self.entered.lock().unwrap().send(()).expect("the test waits");
        self.go.lock().unwrap().recv().expect("the test lets go");
        Ok(())
    }
}

pub(crate) fn a_stop_waits_for_the_handlers_that_run(fixture: &Fixture) {
    let board = fixture.board();
    let ((entered, is_in), (let_go, go)) = (mpsc::channel(), mpsc::channel());
    let gated = Gated { entered: entered.into(), go: go.into() };
    let running = board.serve("conformance.gate", GateServer::new(gated)).start().expect("it starts");
    let client = GateClient::connect(&board, "conformance.gate").expect("it is served");
    thread::scope(|scope| {
        let call = scope.spawn(|| client.pass());
        is_in.recv().expect("the handler runs");
        let (done, stopped) = mpsc::channel();
        scope.spawn(move || {
            running.stop();
            // Nobody listens if the stop did not wait.
            let _ = done.send(());
        });
        assert!(stopped.recv_timeout(Duration::from_millis(50)).is_err(), "the handler still runs");
        let_go.send(()).expect("the handler waits");
        stopped.recv_timeout(Duration::from_secs(10)).expect("the handler has ended");
        assert_eq!(call.join().unwrap(), Ok(()));
    });
}

pub(crate) fn a_handler_may_stop_its_own_service(fixture: &Fixture) {
    let board = fixture.board();
    let served = Served::default();
    let itself = std::sync::Arc::clone(&served.itself);
    let running = board.serve(NAME, BenchServer::new(served)).start().expect("it starts");
    *itself.lock().unwrap() = Some(running);
    let client = BenchClient::connect(&board, NAME).expect("it is served").with_timeout(Duration::from_secs(10));
    // Its own answer may be the last one that goes out, or the first one that does not.
    let answer = client.stop_yourself();
    assert!(answer.as_ref().err().is_none_or(|status| status.code() == Code::Unavailable), "{answer:?}");
    assert!(client.double(1).is_err(), "it is gone");
}

#[service]
pub(crate) trait Relay {
    fn twice(&self, ctx: &Context<'_>, value: u64) -> Result<u64, Status>;
}

struct Relayed(BenchClient);

impl Relay for Relayed {
    fn twice(&self, _: &Context<'_>, value: u64) -> Result<u64, Status> {
        self.0.double(self.0.double(value)?)
    }
}

pub(crate) fn a_handler_calls_another_service(fixture: &Fixture) {
    let (_running, client) = bench(fixture);
    let board = fixture.board();
    let _relay = board.serve("conformance.relay", RelayServer::new(Relayed(client))).start().expect("it starts");
    let relay = RelayClient::connect(&board, "conformance.relay").expect("it is served");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for value in 0..500 {
                    assert_eq!(relay.twice(value), Ok(value * 4));
                }
            });
        }
    });
}
