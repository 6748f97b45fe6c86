//! Calls between processes that trust each other: two of one program, and what becomes of one that is another build.
#![deny(unsafe_op_in_unsafe_fn)]
#![allow(unsafe_code)] // To be trusted takes a promise.

#[path = "support/mod.rs"]
mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use shm_ring::BuildId;
use switchboard::Trust;
use switchboard::prelude::*;
use test_support::child::{self, Child, Line};

use self::support::TempDir;

const NAME: &str = "test.trusting";
const RUNTIME_DIR: &str = "SWITCHBOARD_RUNTIME_DIR";

const ROLES: &[child::Role] = &[("service", serve), ("client", be_a_client)];

#[test]
#[ignore = "run by the child processes of the other tests"]
fn role_of_a_child_process() {
    child::play(ROLES);
}

#[service]
trait Trusting {
    /// The words in another order, and whether the request was read on the caller's word.
    fn turn(&self, ctx: &Context<'_>, words: Vec<String>) -> Result<(bool, Vec<String>), Status>;
}

struct Turner;

impl Trusting for Turner {
    fn turn(&self, ctx: &Context<'_>, words: Vec<String>) -> Result<(bool, Vec<String>), Status> {
        Ok((ctx.assurance().is_some(), words.into_iter().rev().collect()))
    }
}

fn trusting() -> Switchboard {
    // SAFETY: in this test services and clients are this very program, or copies of it that differ in nothing but the id;
    // they write what the attribute's code makes of the types above.
    let trusted = unsafe { Trust::trusted() };
    let dir = std::env::var_os(RUNTIME_DIR).expect("who starts us says where");
    Switchboard::builder().runtime_dir(dir).trust(trusted).open().expect("the directory is ours")
}

fn serve(mut parent: Line) {
    let _running = trusting().serve(NAME, TrustingServer::new(Turner)).start().expect("nobody else serves here");
    parent.say("serving");
    // Until the parent is gone.
    while parent.hear().is_some() {}
}

/// Calls with requests and replies of each kind: in a cell, in a block, in added memory.
fn be_a_client(parent: Line) {
    let client = TrustingClient::connect(&trusting(), NAME).expect("the service is there");
    let mut verdicts = Vec::new();
    for (count, len) in [(0, 0), (2, 5), (100, 20), (100, 10_000)] {
        let words: Vec<String> = (0..count).map(|number| format!("{number:0len$}")).collect();
        let (is_trusted, turned) = client.turn(words.clone()).expect("an answer");
        assert!(turned.iter().rev().eq(&words), "{count} words of {len} bytes");
        verdicts.push(is_trusted);
    }
    parent.say(format!("{verdicts:?}"));
}

/// Starts the service, and calls it from a client that is that program.
fn verdicts_on(client: Option<&Path>) -> String {
    let dir = TempDir::new();
    let environment = [(RUNTIME_DIR, dir.path().join("runtime"))];
    let mut service = Child::start("service", &environment);
    service.expect("serving");
    let mut client = match client {
        None => Child::start("client", &environment),
        Some(program) => Child::start_from(program, "client", &environment),
    };
    client.hear()
}

#[test]
fn two_processes_of_one_program_read_each_others_messages_on_their_word() {
    assert_eq!(verdicts_on(None), "[true, true, true, true]");
}

/// The mode is `Checked` instead, and the calls are answered all the same.
#[test]
fn a_client_of_another_build_is_not_trusted() {
    let dir = TempDir::new();
    let copy = dir.path().join("another build");
    let mut program = std::fs::read("/proc/self/exe").expect("this program has a file");
    // The linker's id if there is one, else it is taken from all bytes.
    let own = BuildId::own().expect("it has an id").to_bytes();
    let by_linker = &own[1..17];
    if let Some(at) = program.windows(by_linker.len()).position(|bytes| bytes == by_linker) {
        program[at] ^= 1;
    }
    program.push(0);
    std::fs::write(&copy, program).expect("there is room for a copy");
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).expect("it is ours");
    assert_eq!(verdicts_on(Some(&copy)), "[false, false, false, false]");
}
