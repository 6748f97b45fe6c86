//! Segments under a name: what stands there for whom, and what is refused.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use shm_ring::ready::{ReadyLayout, ReadySet};
use shm_ring::{Error, Origin, Place, Segment, SegmentOptions};

use crate::support::backings::fresh_path;
use crate::{OPTIONS, Own, lanes};

#[test]
fn the_first_makes_it_and_the_others_open_it() {
    for place in Own::both() {
        let (made, origin) = place.open_or_create(lanes(70), 5, &OPTIONS).unwrap();
        assert_eq!(origin, Origin::Created);
        let (opened, origin) = place.open_or_create(lanes(70), 6, &OPTIONS).unwrap();
        assert_eq!((origin, opened.epoch()), (Origin::Opened, 5));
        ReadySet::new(&made).ring(69);
        assert!(ReadySet::new(&opened).any_ready(70), "{}: not the same memory", *place);
    }
}

#[test]
fn a_segment_outlives_its_users_until_it_is_removed() {
    for place in Own::both() {
        let (made, _) = place.open_or_create(lanes(70), 5, &OPTIONS).unwrap();
        ReadySet::new(&made).ring(3);
        drop(made);
        let opened: Segment<ReadyLayout> = place.open(&OPTIONS).unwrap();
        assert!(ReadySet::new(&opened).any_ready(70));
        assert!(place.remove().unwrap());
        assert_eq!(place.files(), [] as [PathBuf; 0]);
        assert!(!place.remove().unwrap());
        let gone = place.open::<ReadyLayout>(&OPTIONS);
        assert!(matches!(gone, Err(Error::NoSegment { .. })), "{gone:?}");
        // Whoever has it open goes on.
        ReadySet::new(&opened).ring(4);
    }
}

#[test]
fn another_layout_is_told_with_both_numbers_and_replaces_nothing() {
    for place in Own::both() {
        let (made, _) = place.open_or_create(lanes(70), 5, &OPTIONS).unwrap();
        drop(made);
        let other = place.open_or_create(lanes(128), 5, &OPTIONS);
        let expected = "segment refused: parameter of the layout is 0x46, expected 0x80";
        assert_eq!(other.unwrap_err().to_string(), expected);
        assert_eq!(place.open::<ReadyLayout>(&OPTIONS).unwrap().epoch(), 5);
    }
}

#[test]
fn create_replaces_what_nobody_has_open_whatever_its_layout() {
    for place in Own::both() {
        drop(place.create(lanes(70), 5, &OPTIONS).unwrap());
        let again = place.create(lanes(128), 6, &OPTIONS).unwrap();
        assert_eq!(place.open::<ReadyLayout>(&OPTIONS).unwrap().epoch(), 6);
        assert_eq!(place.files().len(), 1);
        drop(again);
    }
}

#[test]
fn create_replaces_nothing_that_is_open_be_it_in_this_very_process() {
    for place in Own::both() {
        let made = place.create(lanes(70), 5, &OPTIONS).unwrap();
        let opened = place.open::<ReadyLayout>(&OPTIONS).unwrap();
        let second_handle = opened.clone();
        for (still_open, then) in [("both", made), ("the opener's", opened), ("its clone", second_handle)] {
            let refused = place.create(lanes(70), 6, &OPTIONS);
            assert!(matches!(refused, Err(Error::Taken { .. })), "{still_open} open: {refused:?}");
            assert_eq!(place.files().len(), 1, "the draft of the refused is gone");
            drop(then);
        }
        assert_eq!(place.create(lanes(70), 7, &OPTIONS).unwrap().epoch(), 7);
    }
}

#[test]
fn what_is_no_segment_is_neither_opened_nor_replaced_nor_removed() {
    for place in Own::both() {
        fs::write(place.path(), vec![b'x'; 10_000]).unwrap();
        fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(matches!(place.open::<ReadyLayout>(&OPTIONS), Err(Error::BadSegment { what: "magic", .. })));
        assert!(matches!(place.open_or_create(lanes(70), 1, &OPTIONS), Err(Error::BadSegment { what: "magic", .. })));
        assert!(matches!(place.create(lanes(70), 1, &OPTIONS), Err(Error::Taken { .. })));
        assert!(matches!(place.remove(), Err(Error::Taken { .. })));
        assert_eq!(fs::read(place.path()).unwrap(), vec![b'x'; 10_000]);
    }
}

#[test]
fn files_that_would_end_in_a_signal_when_touched_are_refused() {
    for place in Own::both() {
        drop(place.create(lanes(70), 1, &OPTIONS).unwrap());
        let file = fs::File::options().write(true).open(place.path()).unwrap();
        file.set_len(100).unwrap();
        let short = place.open::<ReadyLayout>(&OPTIONS);
        assert!(matches!(short, Err(Error::BadSegment { what: "size of the file", .. })), "{short:?}");
        file.set_len(1 << 20).unwrap();
        let with_holes = place.open::<ReadyLayout>(&OPTIONS);
        assert!(matches!(with_holes, Err(Error::BadSegment { what: "allocated size", .. })), "{with_holes:?}");
        fs::remove_file(place.path()).unwrap();
        file.set_len(0).unwrap();
        fs::write(place.path(), "").unwrap();
        fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let empty = place.open::<ReadyLayout>(&OPTIONS);
        assert!(matches!(empty, Err(Error::BadSegment { what: "size of the file", .. })), "{empty:?}");
    }
}

#[test]
fn links_and_directories_are_not_followed_or_opened() {
    for place in Own::both() {
        let target = Own(Place::file(fresh_path()).unwrap());
        drop(target.create(lanes(70), 1, &OPTIONS).unwrap());
        std::os::unix::fs::symlink(target.path(), place.path()).unwrap();
        assert!(matches!(place.open::<ReadyLayout>(&OPTIONS), Err(Error::System { .. })));
        assert!(matches!(place.open_or_create(lanes(70), 2, &OPTIONS), Err(Error::System { .. })));
        assert!(matches!(place.create(lanes(70), 2, &OPTIONS), Err(Error::System { .. })));
        fs::remove_file(place.path()).unwrap();
        fs::create_dir(place.path()).unwrap();
        let opened = place.open::<ReadyLayout>(&OPTIONS);
        fs::remove_dir(place.path()).unwrap();
        assert!(matches!(opened, Err(Error::System { .. })), "{opened:?}");
    }
}

#[test]
fn seed_12_a_segment_that_others_may_write_is_refused_unless_that_was_agreed() {
    let shared = SegmentOptions::new().mode(0o666);
    for place in Own::both() {
        let made = place.create(lanes(70), 1, &shared).unwrap();
        let refused = place.open::<ReadyLayout>(&OPTIONS);
        let expected = "segment refused: mode is 0x1b6, expected 0x180";
        assert_eq!(refused.unwrap_err().to_string(), expected);
        assert!(place.open::<ReadyLayout>(&shared).is_ok());
        drop(made);
        if rustix::process::geteuid().is_root() {
            // Somebody else's, that only they may write.
            let own = place.create(lanes(70), 1, &OPTIONS).unwrap();
            std::os::unix::fs::chown(place.path(), Some(54_321), Some(54_322)).unwrap();
            let foreign = place.open::<ReadyLayout>(&OPTIONS);
            assert!(matches!(foreign, Err(Error::BadSegment { what: "owner", found: 54_321, .. })), "{foreign:?}");
            let other_group = place.open::<ReadyLayout>(&SegmentOptions::new().mode(0o660).group(54_323));
            assert!(matches!(other_group, Err(Error::BadSegment { what: "group", .. })), "{other_group:?}");
            assert!(place.open::<ReadyLayout>(&SegmentOptions::new().mode(0o660).group(54_322)).is_ok());
            drop(own);
        }
    }
}

#[test]
fn seed_12_what_a_dead_maker_left_is_swept_by_its_number_and_start() {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let start: u64 = stat[stat.rfind(')').unwrap() + 2..].split(' ').nth(19).unwrap().parse().unwrap();
    let alive = std::process::id();
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let dead = child.id();
    for place in Own::both() {
        let path = place.path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let beside = |of: String| path.with_file_name(of);
        let swept = [format!(".{name}.{dead}.{start}.0"), format!(".{name}.{alive}.{}.0", start - 1)];
        let kept = [format!(".{name}.{alive}.{start}.x"), format!(".{name}.{alive}.{start}.123456789")];
        swept.iter().chain(&kept).for_each(|file| fs::write(beside(file.clone()), "half").unwrap());
        place.create(lanes(70), 1, &OPTIONS).unwrap();
        assert!(swept.iter().all(|file| !beside(file.clone()).exists()), "{:?}", place.files());
        assert!(kept.iter().all(|file| beside(file.clone()).exists()), "{:?}", place.files());
    }
}

#[test]
fn names_that_lead_elsewhere_or_hide_are_refused() {
    for name in ["", ".", "..", ".hidden", "a/b", "/a", "a b", "ä", "a\0b", "a\n", &"a".repeat(201)] {
        assert!(matches!(Place::named(name), Err(Error::BadName { .. })), "{name:?}");
    }
    for path in ["", "/", "..", "a/.."] {
        assert!(matches!(Place::file(path), Err(Error::BadName { .. })), "{path:?}");
    }
    let longest = "a".repeat(200);
    let place = Own(Place::named(&longest).unwrap());
    assert!(place.create(lanes(70), 1, &OPTIONS).is_ok(), "a draft's name fits too");
}

#[test]
fn a_missing_directory_is_told_and_has_no_segment() {
    let place = Place::file(fresh_path().join("missing")).unwrap();
    assert!(matches!(place.open::<ReadyLayout>(&OPTIONS), Err(Error::NoSegment { .. })));
    assert!(matches!(place.create(lanes(70), 1, &OPTIONS), Err(Error::System { .. })));
}
