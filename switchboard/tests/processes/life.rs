//! A service that is stopped, dead, asked for nothing or for too much, or left alone.

use std::os::unix::fs::FileTypeExt;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::journal::{Event, Notes};
use crate::notary::{self, NAME, NotaryClient, Place, answer_to, short, verdict};
use rustix::process::Signal;
use test_support::child::{Child, PATIENCE};

#[test]
fn a_stopped_service_is_late_and_not_dead() {
    let place = Place::new();
    let mut service = place.start_service("journal");
    let board = place.board();
    let client = NotaryClient::connect(&board, NAME).unwrap();
    assert_eq!(verdict(1, b"", &client.quick(1, b"")), "right");
    service.stop();
    let (report, reports) = mpsc::channel();
    let patient = client.clone();
    thread::spawn(move || report.send(verdict(2, b"2", &patient.quick(2, b"2"))));
    let hasty = client.clone().with_timeout(Duration::from_millis(100));
    let sent = Instant::now();
    let status = hasty.quick(3, b"3").unwrap_err();
    assert_eq!(short(&status), "DEADLINE_EXCEEDED MayHaveRun");
    assert!(sent.elapsed() >= Duration::from_millis(100));
    // That time passes is the matter here: nothing calls the service dead.
    thread::sleep(Duration::from_millis(500));
    assert_eq!(reports.try_recv(), Err(TryRecvError::Empty), "a call without a deadline waits");
    assert_eq!(board.list().unwrap().len(), 1, "a stopped service is listed");
    service.signal(Signal::CONT);
    assert_eq!(reports.recv_timeout(PATIENCE).as_deref(), Ok("right"));
    assert_eq!(verdict(4, b"4", &client.quick(4, b"4")), "right");
    assert_eq!(service.ask("connections"), "1", "it is still the same connection");
    let notes = Notes::read(&place.file("journal"));
    assert_eq!(notes.count(3, Event::Began), 0, "what nobody waits for any more is not run");
}

/// Leaves a killed service's socket file.
fn place_of_a_killed_service() -> Place {
    let place = Place::new();
    place.start_service("journal").kill();
    assert!(std::fs::metadata(place.socket()).unwrap().file_type().is_socket());
    place
}

#[test]
fn a_killed_services_socket_is_nobodys_for_who_connects() {
    let place = place_of_a_killed_service();
    for address in [NAME, "test.notary@1"] {
        let status = NotaryClient::connect(&place.board(), address).unwrap_err();
        assert_eq!(short(&status), "NOT_FOUND NotRun", "{address}");
    }
    assert!(!place.socket().exists());
}

#[test]
fn a_killed_services_socket_is_not_listed() {
    let place = place_of_a_killed_service();
    assert_eq!(place.board().list().unwrap(), []);
    assert!(!place.socket().exists());
}

#[test]
fn a_killed_services_socket_is_replaced_by_the_next_start() {
    let place = place_of_a_killed_service();
    let service = place.start_service("journal");
    let listed = place.board().list().unwrap();
    assert_eq!(listed.iter().map(|info| info.pid).collect::<Vec<_>>(), [service.id()]);
    let client = NotaryClient::connect(&place.board(), NAME).unwrap();
    assert_eq!(verdict(1, b"1", &client.quick(1, b"1")), "right");
}

#[test]
fn nothing_can_be_sent_and_received() {
    let place = Place::new();
    let _service = notary::start_service(&[place.environment()]);
    let client = NotaryClient::connect(&place.board(), NAME).unwrap();
    assert_eq!(client.quick(9, &[]).unwrap(), answer_to(9, &[]));
    assert_eq!(client.zeros(0).unwrap(), []);
}

/// Most bytes of large payloads that a connection holds in one direction.
const LIMIT: usize = 1 << 30;

#[test]
fn a_request_over_the_limit_is_refused_at_once_and_does_not_run() {
    let place = Place::new();
    let _service = place.start_service("journal");
    let client = NotaryClient::connect(&place.board(), NAME).unwrap();
    // Zeros that nobody touches take no memory.
    for len in [LIMIT + 1, (2 << 30) - 100, 3 << 30] {
        let sent = Instant::now();
        let status = client.quick(1, &vec![0; len]).unwrap_err();
        assert_eq!(short(&status), "RESOURCE_EXHAUSTED NotRun", "{len} bytes: {status}");
        assert!(sent.elapsed() < Duration::from_secs(5), "{len} bytes: refused after {:?}", sent.elapsed());
    }
    assert_eq!(verdict(2, b"2", &client.quick(2, b"2")), "right");
    assert_eq!(Notes::read(&place.file("journal")).count(1, Event::Began), 0);
}

#[test]
fn a_reply_over_the_limit_is_an_error_and_the_next_call_works() {
    let place = Place::new();
    let _service = notary::start_service(&[place.environment()]);
    let client = NotaryClient::connect(&place.board(), NAME).unwrap();
    let status = client.zeros(LIMIT as u64 + 1).unwrap_err();
    assert_eq!(short(&status), "RESOURCE_EXHAUSTED Ran", "{status}");
    assert_eq!(verdict(2, b"2", &client.quick(2, b"2")), "right");
}

#[test]
fn an_idle_connection_uses_no_processor_time_on_either_side() {
    let place = Place::new();
    let service = notary::start_service(&[place.environment()]);
    let mut client = Child::start("client", &[place.environment()]);
    assert_eq!(client.ask("call"), "right");
    // Time is the subject: first so long that all polling is over, then so long that using it would show.
    thread::sleep(Duration::from_millis(300));
    let before = [ticks(&service), ticks(&client)];
    thread::sleep(Duration::from_secs(1));
    let after = [ticks(&service), ticks(&client)];
    let used = [after[0] - before[0], after[1] - before[1]];
    assert!(used.iter().all(|ticks| *ticks < 2), "ticks of the service and of the client in 1 s: {used:?}");
    assert_eq!(client.ask("call"), "right");
}

/// Processor time used so far, in clock ticks: the manual's fields 14 and 15.
fn ticks(process: &Child) -> u64 {
    let stat = process.stat();
    stat[11].parse::<u64>().unwrap() + stat[12].parse::<u64>().unwrap()
}
