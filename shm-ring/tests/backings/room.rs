//! Room that is not there is an error when a segment is made, and no signal later.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use shm_ring::{Error, Place, Segment};

use crate::support::role::{Child, line, this_program};
use crate::{OPTIONS, Own, Room};

#[test]
fn a_mistyped_size_is_refused_before_anything_is_made() {
    for place in Own::both() {
        for bytes in [(1 << 36) + 1, 1 << 50, usize::MAX] {
            let refused = place.create(Room(bytes), 1, &OPTIONS);
            assert!(matches!(refused, Err(Error::ResourceExhausted { .. })), "{refused:?}");
        }
        assert_eq!(place.files(), [] as [PathBuf; 0]);
    }
}

/// Room that a file system does not have is an error at creation, and what there was of it is given back.
#[test]
fn shm_full() {
    // A mount of one MiB that only this child sees.
    const MOUNT: &str = "mount -t tmpfs -o size=1m none /dev/shm && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", MOUNT]).arg(this_program());
    let mut child = Child::start_by(command, "room::role_of_one_with_little_room");
    match child.line.hear() {
        Some(said) => assert_eq!(said, "refused 4 times, then used 524288 bytes twice"),
        None => eprintln!("SKIP: no mount namespace can be made here: a full file system was NOT tested"),
    }
}

#[test]
#[ignore = "a role of a child process"]
fn role_of_one_with_little_room() {
    let Some(line) = line() else { return };
    let places = [Place::named("x").unwrap(), Place::file("/dev/shm/y").unwrap()];
    let mut refused = 0;
    let mut used = Vec::new();
    for place in &places {
        for options in [OPTIONS, OPTIONS.prefault(false).huge_pages(true)] {
            let error = place.create(Room((1 << 20) + 4096), 1, &options).err();
            refused += usize::from(matches!(error, Some(Error::ResourceExhausted { .. })));
            assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 0);
        }
    }
    for place in &places {
        used.push(place.create(Room(512 << 10), 1, &OPTIONS).unwrap());
        place.remove().unwrap();
    }
    line.say(format!("refused {refused} times, then used {} bytes twice", used[1].bytes()));
}

#[test]
fn the_limit_of_a_process_is_an_error_and_no_signal() {
    let mut child = Child::start("room::role_of_a_limited_process");
    assert_eq!(child.hear(), "refused 3 times");
    assert!(child.end().success());
}

#[test]
#[ignore = "a role of a child process"]
fn role_of_a_limited_process() {
    let Some(line) = line() else { return };
    setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) }).unwrap();
    let large = Room((1 << 20) + 1);
    let at_places = Own::both().map(|place| place.create(large.clone(), 1, &OPTIONS).err());
    let refused = at_places.into_iter().chain([Segment::memfd("test", large, 1).err()]);
    let count = refused.filter(|error| matches!(error, Some(Error::ResourceExhausted { .. }))).count();
    line.say(format!("refused {count} times"));
    assert!(Own::both().iter().all(|place| place.create(Room(1 << 20), 1, &OPTIONS).is_ok()));
}
