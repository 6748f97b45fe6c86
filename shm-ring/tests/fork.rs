//! What a child made by fork has of its parent's segments: nothing, and it takes nothing from the parent.
//!
//! The only test of this program, so that no other thread is in the middle of something when it forks.
#![allow(unsafe_code)] // Forking is unsafe.

mod support;

use std::fs;
use std::os::fd::AsFd;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rustix::mm::{MapFlags, ProtFlags};
use shm_ring::ready::{ReadyLayout, ReadySet};
use shm_ring::{Error, Place, Segment, SegmentOptions, mpsc, spsc};
use support::backings::fresh_name;

/// Lines of `/proc/self/maps` that name it.
fn mappings_of(name: &str) -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(name)).map(str::to_owned).collect()
}

/// The addresses in such lines.
fn ranges(maps: &str) -> Vec<(usize, usize)> {
    let range = |line: &str| {
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
    };
    maps.lines().filter_map(range).collect()
}

#[test]
fn a_child_sees_no_mapping_and_its_drop_takes_nothing_away() {
    let options = SegmentOptions::new();
    let name = fresh_name();
    let layout = || ReadyLayout::new(70);
    let (made, fd) = Segment::memfd(&name, layout(), 1).unwrap();
    let opened = Segment::<ReadyLayout>::open(fd.as_fd()).unwrap();
    let named = Place::named(&name).unwrap();
    let file = Place::file(std::env::temp_dir().join(&name)).unwrap();
    let in_named = named.create(layout(), 1, &options).unwrap();
    let in_file = file.create(layout(), 1, &options).unwrap();
    let segments = [made, opened, in_named, in_file];
    let (ring, _fd) = Segment::memfd("fork-spsc", spsc::SpscLayout::new(256).unwrap(), 1).unwrap();
    let (mut producer, mut consumer) = spsc::pair(&ring).unwrap();
    let (ring, _fd) = Segment::memfd("fork-mpsc", mpsc::MpscLayout::new(4).unwrap(), 1).unwrap();
    let (sender, mut receiver) = mpsc::pair(&ring).unwrap();
    let before = mappings_of(&name);
    assert_eq!(before.len(), segments.len(), "{before:?}");
    let places = ranges(&before.join("\n"));

    // SAFETY: the harness's own thread waits for this one, so that no lock is held in the child by a thread that is not
    // there; the child ends by `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let code = std::panic::catch_unwind(|| in_the_child(&name, &places, segments)).unwrap_or(99);
            drop((producer, consumer, sender, receiver));
            // SAFETY: ends the process at once, which needs nothing.
            unsafe { nix::libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            let end = waitpid(child, None).unwrap();
            let (in_use, in_use_too) = (named.create(layout(), 2, &options), file.create(layout(), 2, &options));
            named.remove().unwrap();
            file.remove().unwrap();
            assert_eq!(end, WaitStatus::Exited(child, 0), "1: it saw a mapping; 2: its drop unmapped what is its own");
            // The child's copies of the descriptors are gone, and the parent's locks are not.
            assert!(matches!(in_use, Err(Error::Taken { .. })), "{in_use:?}");
            assert!(matches!(in_use_too, Err(Error::Taken { .. })), "{in_use_too:?}");
            assert_eq!(mappings_of(&name).len(), segments.len());
            ReadySet::new(&segments[0]).ring(69);
            assert!(ReadySet::new(&segments[1]).any_ready(70));
            // Nor has the child closed the rings.
            producer.try_send(b"spsc").unwrap();
            sender.try_send(b"mpsc").unwrap();
            assert_eq!(consumer.recv().unwrap().bytes(), b"spsc");
            assert_eq!(receiver.recv().unwrap().bytes(), b"mpsc");
        }
    }
}

fn in_the_child(name: &str, places: &[(usize, usize)], segments: [Segment<ReadyLayout>; 4]) -> i32 {
    if !mappings_of(name).is_empty() {
        return 1;
    }
    // Something else comes to stand where the parent has its segments.
    for (from, to) in places {
        let (at, flags) = (*from as *mut _, MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE);
        // SAFETY: new private memory, and only where nothing is.
        unsafe { rustix::mm::mmap_anonymous(at, to - from, ProtFlags::READ, flags) }.unwrap();
    }
    drop(segments);
    let maps = ranges(&fs::read_to_string("/proc/self/maps").unwrap());
    let is_there = |at: &usize| maps.iter().any(|(from, to)| (*from..*to).contains(at));
    if places.iter().all(|(from, _)| is_there(from)) { 0 } else { 2 }
}
