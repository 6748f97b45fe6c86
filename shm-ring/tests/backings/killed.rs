//! A process that is killed while it makes, opens, replaces or removes a segment, at each of its system calls.
//!
//! It is killed before the first stop in one round, at the second in the next, until a round comes to its end. What
//! stands under the name afterwards must be a complete segment or nothing, and everybody else must get on without a
//! hand.

use std::collections::BTreeSet;

use nix::libc;
use shm_ring::ready::ReadyLayout;
use shm_ring::{Error, Origin};

use crate::traced::{CHILDS, Stop, Traced, Way};
use crate::{OPTIONS, Own, lanes};

/// The epoch of what stands there before the child does anything.
const BEFORE: u64 = 1;

/// Kills a child at each stop of what it does, over both kinds of place. `check` looks at what is left, before anybody
/// else has done anything about it, and `moments` are stops that must have been among them.
fn at_each_stop(what: &str, is_there_before: bool, check: impl Fn(&Own, Option<u64>), moments: &[Stop]) {
    if !Traced::may_be() {
        return;
    }
    let mut seen = BTreeSet::new();
    for of_both in [0, 1] {
        for number in 0.. {
            let [named, file] = Own::both();
            let place = if of_both == 0 { named } else { file };
            if is_there_before {
                drop(place.create(lanes(70), BEFORE, &OPTIONS).unwrap());
            }
            let child = Traced::start(what, &place);
            let killed = child.run_to(number);
            child.kill();
            let left = match place.open::<ReadyLayout>(&OPTIONS) {
                Ok(segment) => Some(segment.epoch()),
                Err(Error::NoSegment { .. }) => None,
                Err(error) => panic!("{what} at {}, killed at {killed:?} (stop {number}): {error}", *place),
            };
            check(&place, left);

            // The survivors get on: one opens or makes it, one starts anew, one cleans up.
            let (segment, origin) = place.open_or_create(lanes(70), 3, &OPTIONS).unwrap();
            let expected = if left.is_some() { Origin::Opened } else { Origin::Created };
            assert_eq!((origin, segment.epoch()), (expected, left.unwrap_or(3)));
            drop(segment);
            assert_eq!(place.create(lanes(70), 4, &OPTIONS).unwrap().epoch(), 4, "nobody alive has it open");
            assert_eq!(place.files().len(), 1, "after {killed:?}: {:?}", place.files());
            assert!(place.remove().unwrap());
            assert_eq!(place.files().len(), 0);

            let Some(stop) = killed else {
                println!("{what} at {}: killed at each of {number} stops", *place);
                break;
            };
            seen.insert(stop);
        }
    }
    for moment in moments {
        assert!(seen.contains(moment), "{what} was not killed at {moment:?}, but at {seen:?}");
    }
}

#[test]
fn a_maker_killed_anywhere_leaves_a_complete_segment_or_none() {
    let check = |_: &Own, left| assert!(matches!(left, None | Some(CHILDS)), "{left:?}");
    let moments = [
        (Way::Back, libc::SYS_openat),
        // Created, and of no size.
        (Way::In, libc::SYS_ftruncate),
        // A size, and no memory.
        (Way::Back, libc::SYS_ftruncate),
        (Way::Back, libc::SYS_mmap),
        (Way::Back, libc::SYS_fchmod),
        // Memory, and no header.
        (Way::Back, libc::SYS_fallocate),
        (Way::Back, libc::SYS_madvise),
        // Complete, and without the name.
        (Way::In, libc::SYS_renameat2),
        (Way::Back, libc::SYS_renameat2),
    ];
    at_each_stop("make", false, check, &moments);
}

#[test]
fn a_replacer_killed_anywhere_leaves_the_former_segment_or_its_own() {
    let check = |_: &Own, left| assert!(matches!(left, Some(BEFORE | CHILDS)), "{left:?}");
    let moments = [(Way::Back, libc::SYS_fcntl), (Way::In, libc::SYS_renameat2), (Way::Back, libc::SYS_renameat2)];
    at_each_stop("replace", true, check, &moments);
}

#[test]
fn an_opener_killed_anywhere_leaves_the_segment_and_no_lock() {
    let check = |place: &Own, left| {
        assert_eq!(left, Some(BEFORE));
        assert_eq!(place.files().len(), 1);
    };
    at_each_stop("open", true, check, &[(Way::Back, libc::SYS_fcntl), (Way::Back, libc::SYS_mmap)]);
}

#[test]
fn a_remover_killed_anywhere_leaves_the_segment_or_nothing() {
    let check = |_: &Own, left| assert!(matches!(left, None | Some(BEFORE)), "{left:?}");
    at_each_stop("remove", true, check, &[(Way::In, libc::SYS_unlinkat), (Way::Back, libc::SYS_unlinkat)]);
}
