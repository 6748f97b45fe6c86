//! Calls with streams between a client and a service: in two processes, and in one that is joined by socket and shared
//! memory all the same.
#![deny(unsafe_code)]

mod ends;
mod limits;
mod shapes;
mod tape;

#[test]
#[ignore = "run by processes that other tests start"]
fn role_of_a_child_process() {
    test_support::child::play(&tape::ROLES);
}
