//! What holds between processes: when they are killed, stopped, many, strange, or idle.
//!
//! The tests start further processes of this same program, each in a role (see [`test_support::child`]), and kill, stop and question
//! them. Where a test counts the descriptors, mappings and threads of a process, that process is one of its own too.
#![forbid(unsafe_code)]

mod fallbacks;
mod journal;
mod killed_clients;
mod killed_services;
mod life;
mod load;
mod notary;
mod places;
mod sealed;
mod stopped;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod users;

use test_support::child;

/// What a process of this program can be, besides the one that runs the tests.
const ROLES: &[child::Role] = &[
    ("service", notary::serve),
    ("client", notary::be_a_client),
    ("traced client", fallbacks::connect_under_trace),
    ("witness of killed services", killed_services::witness),
    ("witness of killed clients", killed_clients::witness),
    ("client to be killed", killed_clients::call_until_killed),
    ("client that stays", killed_clients::call_until_told),
    ("crowd", load::be_a_crowd),
    ("bystanders", load::be_bystanders),
    ("host of strangers", strangers::host),
    ("client that calls one after the other", stopped::call_one_after_the_other),
    ("client that calls so often", stopped::call_so_often),
    ("client that asks for more than is read", stopped::ask_for_more_than_is_read),
    ("service that sends away", stopped::send_away),
    ("half a client", strangers::be_half_a_client),
    ("service for all users", users::serve_all),
    ("client of another user", users::be_a_client),
    ("scales", sealed::serve),
    ("witness of sealed requests", sealed::witness),
    ("client to be killed while it is read", sealed::call_and_be_killed),
];

#[test]
#[ignore = "run by the child processes of the other tests"]
fn role_of_a_child_process() {
    child::play(ROLES);
}
