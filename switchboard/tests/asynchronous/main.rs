//! Calls that tasks wait for, on any executor: what they are told, and what they leave behind.
#![forbid(unsafe_code)]

mod desk;
mod dropped;
mod executors;
mod killed;
mod line;
mod started;
#[path = "../support/mod.rs"]
mod support;
mod time;

use test_support::child;

/// What a process of this program can be, besides the one that runs the tests.
const ROLES: &[child::Role] =
    &[("service", killed::serve), ("witness of what is dropped", dropped::count_what_is_left)];

#[test]
#[ignore = "plays the role of a child process"]
fn role_of_a_child_process() {
    child::play(ROLES);
}
