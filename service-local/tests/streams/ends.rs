//! How streams end before their time: given up, out of time, or by a death.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use service_core::Code;
use test_support::child::Child;

use crate::tape::{Client, DEAF, DIR, ENDLESS, Host, PATIENCE, SUM, Tape, Way};

fn told(ended: &mpsc::Receiver<Code>) -> Code {
    ended.recv_timeout(PATIENCE).expect("the handler is told")
}

#[test]
fn a_handler_is_told_when_its_stream_is_dropped() {
    let host = Host::new();
    let (tape, ended) = Tape::new();
    let _running = host.serve(tape);
    let client = Client::of(&host.runtime(Way::Checked));
    for _ in 0..20 {
        let mut endless = client.receives(ENDLESS, 0, None).unwrap();
        assert_eq!(endless.recv().unwrap().unwrap(), 0);
        drop(endless);
        assert_eq!(told(&ended), Code::Cancelled);
    }
    assert_eq!(client.plain(5).unwrap(), 5);
}

#[test]
fn a_stream_that_is_not_finished_is_broken_off_for_its_handler() {
    let host = Host::new();
    let _running = host.serve(Tape::new().0);
    let client = Client::of(&host.runtime(Way::Checked));
    for _ in 0..100 {
        let mut sum = client.sends(SUM, None).unwrap();
        sum.send(&1).unwrap();
        drop(sum);
    }
    let mut sum = client.sends(SUM, None).unwrap();
    sum.send(&1).unwrap();
    assert_eq!(sum.finish().unwrap(), 1, "there is room for one more");
}

#[test]
fn the_deadline_of_the_call_ends_its_streams() {
    let host = Host::new();
    let (tape, ended) = Tape::new();
    let _running = host.serve(tape);
    let client = Client::of(&host.runtime(Way::Checked));
    let started = Instant::now();
    let mut deaf = client.sends(DEAF, Some(Duration::from_millis(100))).unwrap();
    let late = (0..).find_map(|item| deaf.send(&item).err()).unwrap();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert_eq!(deaf.finish().unwrap_err().code(), Code::DeadlineExceeded);
    assert!(started.elapsed() >= Duration::from_millis(100));
    let mut endless = client.receives(ENDLESS, 0, Some(Duration::from_millis(100))).unwrap();
    let late = std::iter::from_fn(|| endless.recv()).find_map(Result::err).unwrap();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    drop(endless);
    assert_eq!(told(&ended), Code::DeadlineExceeded);
}

#[test]
fn kill_service_with_streams() {
    let host = Host::new();
    let mut service = Child::start("service", &[(DIR, host.dir())]);
    service.expect("serves");
    let client = Client::of(&host.runtime(Way::Checked));
    let mut endless = client.receives(ENDLESS, 0, None).unwrap();
    let mut deaf = client.sends(DEAF, None).unwrap();
    assert_eq!(endless.recv().unwrap().unwrap(), 0);
    std::thread::scope(|scope| {
        let receives = scope.spawn(|| std::iter::from_fn(|| endless.recv()).find_map(Result::err).unwrap());
        let sends = scope.spawn(|| (0..).find_map(|item| deaf.send(&item).err()).unwrap());
        service.kill();
        assert_eq!(receives.join().unwrap().code(), Code::Unavailable);
        assert_eq!(sends.join().unwrap().code(), Code::Unavailable);
    });
    assert_eq!(deaf.finish().unwrap_err().code(), Code::Unavailable);
}

#[test]
fn kill_client_with_streams() {
    let host = Host::new();
    let (tape, ended) = Tape::new();
    let running = host.serve(tape);
    for _ in 0..3 {
        let mut client = Child::start("client", &[(DIR, host.dir())]);
        client.expect("streams");
        client.kill();
        assert_eq!(told(&ended), Code::Unavailable);
    }
    assert_eq!(Client::of(&host.runtime(Way::Checked)).plain(5).unwrap(), 5);
    // Every handler has ended: the stop waits for none.
    running.stop();
}
