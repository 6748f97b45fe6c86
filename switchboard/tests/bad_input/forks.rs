//! Forked children, which have a copy of everything, and other programs that a process becomes.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use switchboard::prelude::*;
use test_support::child::{self, Line};
use test_support::forked::Forked;

use crate::echo::{EchoServer, NAME, Place, Plain, connect, serve_here, short, verdict};

const SOON: Duration = Duration::from_secs(5);

/// A forked child cannot use its parent's connection, runtime or service: each use is `FailedPrecondition`, not run, and
/// says what to do; drops take nothing from the parent; what the child opens itself works.
#[test]
fn fork_with_a_handle() {
    child::alone("forking client");
    child::alone("forking service");
}

fn is_told(status: &Status) {
    assert_eq!(short(status), "FAILED_PRECONDITION NotRun", "{status}");
    assert!(status.message().contains("in the child"), "{status}");
}

pub fn fork_with_a_client(_parent: Line) {
    let place = Place::new();
    let mut service = place.start_service();
    let board = place.board();
    let client = connect(&board).unwrap();
    assert_eq!(verdict(&client, b"before"), "right");
    let child = Forked::start(|| {
        // Small, large, and with more than there is room for: whatever way a call takes.
        for len in [0, 8, 5_000, 300_000] {
            is_told(&client.echo(&vec![1; len]).unwrap_err());
        }
        is_told(&connect(&board).unwrap_err());
        is_told(&board.list().unwrap_err());
        is_told(&board.serve("test.other", EchoServer::new(Plain)).start().unwrap_err());
        let own = place.board();
        let own_client = connect(&own).unwrap();
        assert_eq!(verdict(&own_client, &[1; 100_000]), "right");
        is_told(&client.echo(b"still").unwrap_err());
        // A child of the child has neither.
        let grandchild = Forked::start(|| {
            is_told(&client.echo(b"grandparent's").unwrap_err());
            is_told(&own_client.echo(b"parent's").unwrap_err());
            assert_eq!(verdict(&connect(&place.board()).unwrap(), b"own"), "right");
            0
        });
        assert_eq!(grandchild.end(), Ok(0));
        drop((client.clone(), board.clone()));
        assert_eq!(verdict(&own_client, b"after the grandchild"), "right");
        0
    });
    assert_eq!(child.end(), Ok(0));
    // The child's end took nothing from the parent.
    assert_eq!(verdict(&client, &[2; 100_000]), "right");
    assert_eq!(service.ask("connections"), "1");
}

pub fn fork_with_a_service(_parent: Line) {
    let place = Place::new();
    let running = serve_here(&place.board());
    let mut client = place.child("client");
    assert_eq!(client.ask("call"), "right");
    let child = Forked::start(|| {
        assert_eq!(running.address().to_string(), format!("svc://default/{NAME}@1"));
        let own = place.board();
        let taken = own.serve(NAME, EchoServer::new(Plain)).start().unwrap_err();
        assert_eq!(taken.code(), Code::AlreadyExists, "{taken}");
        let other = own.serve("test.other", EchoServer::new(Plain)).start().unwrap();
        assert_eq!(verdict(&connect(&own).unwrap(), b"the parent serves"), "right");
        other.stop();
        0
    });
    assert_eq!(child.end(), Ok(0));
    assert_eq!(client.ask("call"), "right");
    // The child's copy is taken out of it, and the parent's stays.
    let mut running = Some(running);
    let child = Forked::start(|| {
        running.take().unwrap().stop();
        0
    });
    assert_eq!(child.end(), Ok(0));
    assert_eq!(client.ask("call"), "right");
}

/// A client is killed whose forked child has copies of its socket and memory: the service lets go of it at once, by the word
/// of the pidfd, though the socket stays open; the child connects anew.
#[test]
fn parent_exits_child_keeps_socket() {
    let place = Place::new();
    let mut service = place.start_service();
    let mut client = place.child("client that leaves a child");
    assert_eq!(client.hear(), "connected");
    assert_eq!(service.ask("connections"), "1");
    let killed = Instant::now();
    client.signal(rustix::process::Signal::KILL);
    while service.ask("connections") != "0" {
        assert!(killed.elapsed() < SOON, "a dead client counts as connected because its child lives");
        std::thread::yield_now();
    }
    println!("figure: a dead client whose child lives is let go after = {} us", killed.elapsed().as_micros());
    // The child hears of its parent's end from us, by the line that both have.
    assert_eq!(client.ask("go on"), "refused, then right");
    assert_eq!(service.ask("connections"), "1");
}

pub fn leave_a_child(mut parent: Line) {
    let board = Switchboard::from_env().unwrap();
    let client = connect(&board).unwrap();
    assert_eq!(verdict(&client, b"before"), "right");
    let child = Forked::start(|| {
        assert_eq!(parent.hear().as_deref(), Some("go on"));
        is_told(&client.echo(b"the dead parent's").unwrap_err());
        let own = connect(&Switchboard::from_env().unwrap()).unwrap();
        parent.say(format!("refused, then {}", verdict(&own, b"own")));
        assert_eq!(parent.hear(), None);
        0
    });
    parent.say("connected");
    // Killed here.
    let _ = child.end();
}

/// Nothing leaks over exec: a program that is started, or that this process becomes, has no socket, memory or eventfd of
/// ours, and whoever becomes another program has left its service, though its process lives.
#[test]
fn exec_without_close() {
    let place = Place::new();
    let mut service = place.start_service();
    let mut client = place.child("client that becomes another program");
    // What whoever started these tests leaves open is not ours.
    let before = client.hear();
    assert_eq!(client.hear(), before, "of a program that was started when everything was open");
    assert_eq!(client.hear(), "serving and connected");
    assert_eq!(service.ask("connections"), "1");
    client.say("go");
    assert_eq!(client.hear(), "another program");
    let number = client.id();
    let gone = Instant::now();
    while service.ask("connections") != "0" {
        assert!(gone.elapsed() < SOON, "still connected after exec");
        std::thread::yield_now();
    }
    assert_eq!(client.ask("what is open?"), before);
    assert!(!std::fs::read_to_string(format!("/proc/{number}/maps")).unwrap().contains("memfd"));
    let other = connect_to_other(&place).unwrap_err();
    assert_eq!(short(&other), "NOT_FOUND NotRun", "{other}");
}

fn connect_to_other(place: &Place) -> Result<crate::echo::EchoClient, Status> {
    crate::echo::EchoClient::connect(&place.board(), "test.other")
}

/// The numbers of all descriptors in a program that this process starts.
fn open_in_a_program() -> String {
    let script = "echo $(ls /proc/self/fd)";
    let said = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::null()).output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim_end().to_owned()
}

pub fn become_another_program(mut parent: Line) {
    parent.say(open_in_a_program());
    let board = Switchboard::from_env().unwrap();
    let client = connect(&board).unwrap();
    let _running = board.serve("test.other", EchoServer::new(Plain)).workers(1).start().unwrap();
    assert_eq!(verdict(&client, &[1; 100_000]), "right");
    parent.say(open_in_a_program());
    parent.say("serving and connected");
    assert_eq!(parent.hear().as_deref(), Some("go"));
    // Its standard input is the line.
    let line = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned().unwrap();
    let script = "echo 'another program'; read question; echo $(ls /proc/self/fd); read end";
    let error = Command::new("sh").args(["-c", script]).stdout(Stdio::from(line)).exec();
    panic!("{error}");
}
