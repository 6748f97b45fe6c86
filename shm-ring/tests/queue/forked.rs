//! Processes that fork, and whose children live on: they neither keep anything of a queue alive nor take anything away.
#![allow(unsafe_code)] // Forking is unsafe.

use nix::unistd::{ForkResult, fork};
use rustix::process::{Pid, Signal, kill_process};
use shm_ring::Error;

use super::support::role::{Child, Line, line};
use super::{Site, until};

/// Forks. The child runs `child` and ends with its answer.
fn forked(child: impl FnOnce() -> i32) {
    // SAFETY: the harness's own thread waits for this one, and the watcher thread for the kernel, so that no lock is held
    // in the child by a thread that is not there; the child ends by `_exit`.
    if let ForkResult::Child = unsafe { fork() }.expect("a process can be forked") {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(99);
        // SAFETY: ends the process at once, which needs nothing.
        unsafe { nix::libc::_exit(code) }
    }
}

/// Has copies of everything that its parent has, until the line ends.
fn linger(line: &mut Line) -> i32 {
    while line.hear().is_some() {}
    0
}

fn kill_only(child: &Child) {
    kill_process(Pid::from_raw(child.pid() as i32).expect("a process"), Signal::KILL).expect("it is not reaped yet");
}

/// Creates the queue, forks, and is killed.
#[test]
#[ignore = "a role of a child process"]
fn role_consumes_and_forks() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let mut queue = site.create();
    forked(|| linger(&mut line));
    line.say("created");
    while queue.recv().is_ok() {}
}

#[test]
fn the_name_of_a_killed_consumer_is_free_though_its_child_lives() {
    let site = Site::new();
    let mut consumer = site.child("forked::role_consumes_and_forks");
    assert_eq!(consumer.hear(), "created");
    let sender = site.open();
    kill_only(&consumer);
    until("the producer is told", || sender.is_closed());
    // Its sockets are closed a little before it is dead: who comes in between sees its end.
    until("nobody is found", || match site.options().open(&site.address).unwrap_err() {
        Error::NotFound { .. } => true,
        Error::Closed { .. } => false,
        error => panic!("{error}"),
    });
    let mut queue = site.create();
    site.open().send(b"again").unwrap();
    assert_eq!(queue.recv().unwrap().bytes(), b"again");
}

/// Opens the queue, forks, and leaves it again.
#[test]
#[ignore = "a role of a child process"]
fn role_sends_and_forks() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let sender = site.open();
    sender.send(b"before").expect("room");
    forked(|| linger(&mut line));
    drop(sender);
    line.say("left");
    assert_eq!(line.hear(), None);
}

#[test]
fn a_producer_that_leaves_gives_its_lane_back_though_its_child_lives() {
    let site = Site::new();
    let mut queue = site.create();
    let mut producer = site.child("forked::role_sends_and_forks");
    assert_eq!(producer.hear(), "left");
    assert_eq!(queue.recv().unwrap().bytes(), b"before");
    until("the lane is given up", || queue.try_recv().is_err() && queue.producers() == 0);
}

/// Has a queue and a producer; so has its child, of its own.
#[test]
#[ignore = "a role of a child process"]
fn role_forks_and_so_on() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let (mut queue, sender) = (site.create(), site.open());
    forked(|| {
        let inner = Site { dir: site.dir.clone(), address: "tests/inner".parse().expect("a good address") };
        let inner = std::mem::ManuallyDrop::new(inner);
        let (mut queue, sender) = (inner.create(), inner.open());
        sender.send(b"inner").expect("room");
        assert_eq!(queue.recv().expect("it was sent").bytes(), b"inner");
        drop(sender);
        until("the lane is given up", || queue.try_recv().is_err() && queue.producers() == 0);
        line.say("inner");
        linger(&mut line)
    });
    let said = std::thread::scope(|scope| {
        // The parent's own goes on meanwhile.
        let sends = scope.spawn(|| (0..1_000).try_for_each(|i: u32| sender.send(&i.to_le_bytes())));
        for i in 0..1_000_u32 {
            assert_eq!(queue.recv().expect("it is sent").bytes(), i.to_le_bytes());
        }
        sends.join().expect("it does not panic")
    });
    said.expect("the queue is open");
    assert_eq!(queue.producers(), 1);
    line.say("outer");
    assert_eq!(line.hear(), None);
}

#[test]
fn a_child_has_queues_of_its_own_beside_its_parents() {
    let site = Site::new();
    let mut child = site.child("forked::role_forks_and_so_on");
    let mut said = [child.hear(), child.hear()];
    said.sort_unstable();
    assert_eq!(said, ["inner", "outer"]);
}
