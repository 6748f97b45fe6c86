//! What is wrong comes back as a typed error that says what to do: forked handles, limits of the system, other versions,
//! signals, claims of threads that panic. And payloads at the very edge of what fits.
#![forbid(unsafe_code)]

mod clock;
mod edges;
mod forked;
mod limits;
mod signals;
#[path = "../support/mod.rs"]
mod support;
mod versions;

use test_support::child;

/// What a process of this program can be, besides the one that runs the tests.
const ROLES: &[child::Role] = &[
    ("forker of rings", forked::fork_with_rings),
    ("forker of a queue", forked::fork_with_a_queue),
    ("forker in the middle", forked::fork_in_the_middle),
    ("owner of few descriptors", limits::live_with_few_descriptors),
    ("owner of many mappings", limits::live_with_many_mappings),
    ("opener without room", versions::open_without_room),
    ("process in a storm", signals::send_in_a_storm),
];

#[test]
#[ignore = "run by the child processes of the other tests"]
fn role_of_a_child_process() {
    child::play(ROLES);
}
