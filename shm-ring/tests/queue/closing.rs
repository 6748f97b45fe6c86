//! A queue that was closed comes to its end, however its consumer waits for it.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shm_ring::RecvError;
use shm_ring::mpsc::Queue;

use super::Site;
use super::support::role::line;

/// Whether the descriptor becomes readable within a minute.
fn is_told(queue: &Queue) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(queue.as_fd(), PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 60, tv_nsec: 0 })).unwrap() == 1
}

#[test]
fn an_event_loop_that_closes_a_queue_learns_of_its_end() {
    let site = Site::new();
    let mut queue = site.create();
    // They stay, and have nothing more to say.
    let _silent = [site.open(), site.open()];
    queue.close();
    assert!(!queue.arm(), "the end is there to be looked at");
    assert_eq!(queue.try_recv().unwrap_err(), RecvError::Closed);
    assert!(!queue.arm(), "and stays so");
}

#[test]
fn a_claim_that_is_taken_back_before_an_event_loop_sleeps_ends_a_closed_queue() {
    let site = Site::new();
    let mut queue = site.create();
    let sender = site.open();
    let claim = sender.try_claim(8).unwrap();
    queue.close();
    assert_eq!(queue.try_recv().unwrap_err(), RecvError::Empty);
    drop(claim);
    assert!(!queue.arm());
    assert_eq!(queue.try_recv().unwrap_err(), RecvError::Closed);
}

/// Holds a claim until it is killed.
#[test]
#[ignore = "a role of a child process"]
fn role_holds_a_claim() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let sender = site.open();
    let _held = sender.claim(8).expect("room");
    line.say("claimed");
    assert_eq!(line.hear(), None);
}

#[test]
fn an_event_loop_is_told_when_the_last_producer_of_a_closed_queue_is_killed_in_a_claim() {
    let site = Site::new();
    let mut queue = site.create();
    let mut child = site.child("closing::role_holds_a_claim");
    assert_eq!(child.hear(), "claimed");
    queue.close();
    assert_eq!(queue.try_recv().unwrap_err(), RecvError::Empty);
    assert!(queue.arm(), "a claim made before may still come");
    child.kill();
    assert!(is_told(&queue), "nobody told of the end");
    assert_eq!(queue.try_recv().unwrap_err(), RecvError::Closed);
}
