//! The ways for older kernels, forced on this one.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::{Duration, Instant};

use rustix::fs::SealFlags;
use switchboard::prelude::*;

use crate::notary::{self, NAME, NotaryClient, Place};
use test_support::child::{Child, Line};

/// Counts system calls; shared with the measurement of unloaded calls.
#[path = "../../../benches/src/unloaded"]
#[allow(dead_code, reason = "the measurement also chooses its processors")]
mod unloaded {
    pub mod cores;
    pub mod tracer;
}

use unloaded::tracer::{Tracer, mark};

/// What is not to be used, in both processes.
const DISABLE: &str = "SWITCHBOARD_DISABLE";

#[test]
fn without_peer_pidfds_calls_work_and_a_death_is_told() {
    call_and_be_told_of_the_death("peerpidfd");
}

#[test]
fn without_no_exec_seals_calls_work_and_a_death_is_told() {
    call_and_be_told_of_the_death("noexec-seal");
}

#[test]
fn without_either_calls_work_and_a_death_is_told() {
    call_and_be_told_of_the_death("peerpidfd,noexec-seal");
}

fn call_and_be_told_of_the_death(disabled: &str) {
    let place = Place::new();
    let environment = [place.environment(), (DISABLE, disabled.into())];
    let mut service = notary::start_service_with_one_worker(&environment);
    if disabled.contains("noexec-seal") {
        assert!(!is_sealed_against_execution(&service), "the seal is not used");
    }
    let mut client = Child::start("client", &environment);
    assert_eq!(client.ask("call"), "right");
    client.say("hold");
    service.expect("held");
    client.say("wait"); // the only worker is held, so this one is not taken
    assert_eq!(service.ask("connections"), "1");
    let killed = Instant::now();
    service.kill();
    let told = BTreeSet::from([client.hear(), client.hear()]);
    let notice = killed.elapsed();
    let right = |told: &BTreeSet<String>| {
        let not_run = told.contains("UNAVAILABLE NotRun") || told.contains("NOT_FOUND NotRun");
        not_run && told.contains("UNAVAILABLE MayHaveRun")
    };
    assert!(right(&told), "without {disabled}: {told:?}");
    assert!(notice < Duration::from_secs(1), "without {disabled}: told after {notice:?}");
}

#[test]
fn the_no_exec_seal_is_used_where_the_kernel_has_it() {
    let flags = rustix::fs::MemfdFlags::NOEXEC_SEAL | rustix::fs::MemfdFlags::CLOEXEC;
    let kernel_has_it = rustix::fs::memfd_create("probe", flags).is_ok();
    let place = Place::new();
    let service = notary::start_service(&[place.environment()]);
    assert_eq!(is_sealed_against_execution(&service), kernel_has_it);
}

/// Whether all memfds that the process has open are.
fn is_sealed_against_execution(process: &Child) -> bool {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap();
    let memfds: Vec<_> = descriptors
        .map(|entry| entry.unwrap().path())
        .filter(|path| std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:")))
        .collect();
    assert!(!memfds.is_empty(), "a service holds its ready set open");
    memfds.iter().all(|path| {
        let seals = rustix::fs::fcntl_get_seals(File::open(path).unwrap()).unwrap();
        assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL), "{seals:?}");
        seals.contains(SealFlags::EXEC)
    })
}

#[test]
fn without_peer_pidfds_each_side_opens_the_others_by_number() {
    let place = Place::new();
    let environment = [place.environment(), (DISABLE, "peerpidfd".into())];
    let service = notary::start_service(&environment);
    let mut client = Child::start("traced client", &environment);
    client.expect("ready");
    let mut tracer = match Tracer::seize(&[service.id(), client.id()], client.id()) {
        Ok(tracer) => tracer,
        Err(error) => {
            eprintln!("SKIP: nothing can be traced here: {error}");
            return;
        }
    };
    client.say("connect");
    let window = tracer.watch().unwrap();
    drop(tracer);
    let opened = window.system_calls.iter().filter(|call| call.number == nix::libc::SYS_pidfd_open).count();
    assert_eq!(opened, 2, "{:?}", window.system_calls);
}

/// Role: connects between two marks.
pub fn connect_under_trace(mut parent: Line) {
    let board = Switchboard::from_env().unwrap();
    parent.say("ready");
    let Some(_) = parent.hear() else { return };
    mark();
    let client = NotaryClient::connect(&board, NAME).unwrap();
    mark();
    drop(client);
    assert_eq!(parent.hear(), None);
}
