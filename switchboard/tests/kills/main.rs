//! Killed at every instruction: a client or a service ends after any instruction of a call, and what the survivors are
//! told of it is exact.
//!
//! `cargo test` kills at a sample of the instructions; with `SWITCHBOARD_KILLS=all` in the environment, at all.
#![forbid(unsafe_code)]
#![cfg(target_arch = "x86_64")]

mod clients;
mod doors;
mod ledger;
mod named;
mod services;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use test_support::child;

/// What a process of this program can be, besides the one that runs the tests.
const ROLES: &[child::Role] = &[
    ("client", clients::call),
    ("one of a crowd", named::call_and_wait),
    ("service", services::serve),
    ("witness of killed clients", clients::witness),
    ("witness of killed connects", clients::witness_of_connects),
    ("witness of killed doors", doors::witness),
    ("witness of killed services", services::witness),
];

#[test]
#[ignore = "run by the child processes of the other tests"]
fn role_of_a_child_process() {
    child::play(ROLES);
}

/// What follows from a death has happened within this time.
const WITHIN: Duration = Duration::from_secs(1);

/// Waits until something becomes true that follows from a death.
fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + WITHIN;
    while !holds() {
        assert!(Instant::now() < until, "not within {WITHIN:?}: {what}");
        std::thread::yield_now();
    }
}
