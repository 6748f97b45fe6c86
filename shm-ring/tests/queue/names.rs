//! How a queue is found, and by whom.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use shm_ring::mpsc::{Queue, QueueAddress, QueueOptions};
use shm_ring::{Error, RecvError};

use super::support::role::{Child, line, this_program};
use super::{Site, until};

#[test]
fn nobody_there_is_not_found_at_once() {
    let site = Site::new();
    let error = site.options().open(&site.address).unwrap_err();
    assert!(matches!(&error, Error::NotFound { name, .. } if name == "jobs"), "{error}");
}

#[test]
fn a_live_queue_is_not_taken_over_and_a_dropped_one_leaves_nothing() {
    let site = Site::new();
    let queue = site.create();
    let error = site.options().create(&site.address).unwrap_err();
    assert!(matches!(error, Error::AlreadyServed { pid, .. } if pid == std::process::id()), "{error}");
    assert!(site.socket().exists());
    drop(queue);
    assert!(!site.socket().exists());
    drop(site.create());
}

#[test]
fn seed_12_the_runtime_directory_is_its_users_alone() {
    let site = Site::new();
    let _queue = site.create();
    let mode = std::fs::metadata(site.socket().parent().unwrap()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn seed_10_a_handle_that_is_written_and_read_again_reaches_the_same_queue() {
    let site = Site::new();
    let mut queue = site.create();
    let text = queue.address().to_string();
    let again: QueueAddress = text.parse().unwrap();
    let first = site.options().open(&again).unwrap();
    let travelled: QueueAddress = first.queue().unwrap().to_string().parse().unwrap();
    let second = site.options().open(&travelled).unwrap();
    first.send(b"1").unwrap();
    assert_eq!(queue.recv().unwrap().bytes(), b"1");
    second.send(b"2").unwrap();
    assert_eq!(queue.recv().unwrap().bytes(), b"2");
    assert_eq!(queue.producers(), 2);
}

#[test]
fn the_same_name_in_two_namespaces_is_two_queues() {
    let site = Site::new();
    let other = QueueAddress::new("elsewhere", site.address.name()).unwrap();
    let mut here = site.create();
    let mut there = site.options().create(&other).unwrap();
    site.open().send(b"here").unwrap();
    site.options().open(&other).unwrap().send(b"there").unwrap();
    assert_eq!(here.recv().unwrap().bytes(), b"here");
    assert_eq!(there.recv().unwrap().bytes(), b"there");
}

#[test]
fn a_bad_address_is_refused_before_anything_is_made() {
    for address in ["", "../x", "a/b/c"] {
        assert!(matches!(Queue::create(address), Err(Error::BadAddress { .. })), "{address}");
        assert!(matches!(Queue::open(address), Err(Error::BadAddress { .. })), "{address}");
    }
}

#[test]
fn every_producer_is_told_the_tag() {
    let site = Site::new();
    let _queue = site.options().tag(b"numbers, little-endian").create(&site.address).unwrap();
    assert_eq!(site.open().tag(), b"numbers, little-endian");
    let refused = site.options().tag(&[0; 1025]).create(&QueueAddress::new("a", "b").unwrap());
    assert!(matches!(refused, Err(Error::TooLarge { len: 1025, limit: 1024 })), "{refused:?}");
}

#[test]
fn more_producers_than_allowed_are_refused_and_a_place_that_comes_free_is_given_again() {
    let site = Site::new();
    let mut queue = site.options().producers(2).create(&site.address).unwrap();
    let (first, _second) = (site.open(), site.open());
    let refused = site.options().open(&site.address).unwrap_err();
    assert!(matches!(refused, Error::TooManyProducers { limit: 2 }), "{refused}");
    drop(first);
    until("the lane is given up", || queue.producers() == 1);
    site.open().send(b"in").unwrap();
    assert_eq!(queue.recv().unwrap().bytes(), b"in");
    assert_eq!(queue.try_recv().unwrap_err(), RecvError::Empty);
}

#[test]
fn a_file_that_is_no_socket_of_a_queue_does_not_answer_for_one() {
    let site = Site::new();
    drop(site.create());
    std::fs::write(site.socket(), b"").unwrap();
    assert!(QueueOptions::new().runtime_dir(&site.dir).open(&site.address).is_err());
}

/// Opens the queue of that name in the default directory.
#[test]
#[ignore = "a role of a child process"]
fn role_creates_in_the_default_directory() {
    let Some(line) = line() else { return };
    line.say(match Queue::create("jobs") {
        Ok(_) => "created".to_owned(),
        Err(error) => error.to_string(),
    });
}

#[test]
fn a_default_directory_that_somebody_else_may_have_prepared_is_refused() {
    let site = Site::new();
    let runtime = site.dir.join("switchboard");
    let created = || {
        let mut command = Command::new(this_program());
        command.env("XDG_RUNTIME_DIR", &site.dir).env_remove("SWITCHBOARD_RUNTIME_DIR");
        Child::start_by(command, "names::role_creates_in_the_default_directory").hear()
    };
    assert_eq!(created(), "created");
    std::fs::set_permissions(&runtime, Permissions::from_mode(0o777)).unwrap();
    assert!(created().contains("mode 777 lets others write"), "{}", created());
    let elsewhere = site.dir.join("elsewhere");
    std::fs::rename(&runtime, &elsewhere).unwrap();
    std::fs::set_permissions(&elsewhere, Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &runtime).unwrap();
    assert!(created().contains("cannot be opened"), "{}", created());
}
