//! What is wrong comes back as a typed error that says what to do, and harms nobody else: bad names, peers that speak
//! garbage or another version, directories that cannot be used, limits of the system, forks, signals, numbers of processes
//! that come again.
#![forbid(unsafe_code)]

mod directories;
mod echo;
mod fakes;
mod forks;
mod identity;
mod limits;
mod names;
mod repeats;
mod signals;
#[path = "../support/mod.rs"]
mod support;
mod versions;

use test_support::child;

/// What a process of this program can be, besides the one that runs the tests.
const ROLES: &[child::Role] = &[
    ("service", echo::serve),
    ("client", echo::be_a_client),
    ("client with few descriptors", limits::connect_with_few_descriptors),
    ("service with few descriptors", limits::serve_with_few_descriptors),
    ("growth with few descriptors", limits::grow_with_few_descriptors),
    ("service with little memory", limits::serve_with_little_memory),
    ("client with little memory", limits::connect_with_little_memory),
    ("process of many mappings", limits::map_to_the_limit),
    ("racer for an instance", directories::race_for_an_instance),
    ("user of a full disk", directories::use_a_full_disk),
    ("stranger to a directory", directories::be_a_stranger),
    ("stranger at the door", identity::be_a_stranger),
    ("forking client", forks::fork_with_a_client),
    ("forking service", forks::fork_with_a_service),
    ("client that leaves a child", forks::leave_a_child),
    ("client that becomes another program", forks::become_another_program),
    ("process in a storm", signals::call_in_a_storm),
    ("client of fakes", fakes::be_a_client_of_fakes),
    ("client of wrong descriptors", fakes::be_handed_wrong_descriptors),
    ("comer and goer", repeats::come_and_go),
];

#[test]
#[ignore = "run by the child processes of the other tests"]
fn role_of_a_child_process() {
    child::play(ROLES);
}
