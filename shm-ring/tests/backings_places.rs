//! Segments under a name: who gets what, whoever else makes, opens, replaces or removes it meanwhile.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use shm_ring::ready::{ReadyLayout, ReadySet};
use shm_ring::{Error, Origin, Place, Segment, SegmentOptions};
use support::backings::{fresh_name, fresh_path};
use support::role::{Child, line, this_program};

const OPTIONS: SegmentOptions = SegmentOptions::new();

/// A place that leaves nothing behind, whatever becomes of the test.
struct Own(Place);

impl Own {
    fn both() -> [Self; 2] {
        [Self(Place::named(&fresh_name()).unwrap()), Self(Place::file(fresh_path()).unwrap())]
    }

    /// Everything in the directory that has to do with the place.
    fn files(&self) -> Vec<PathBuf> {
        let path = self.0.path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let of_ours = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().contains(&name);
        fs::read_dir(path.parent().unwrap()).unwrap().flatten().map(|entry| entry.path()).filter(of_ours).collect()
    }
}

impl std::ops::Deref for Own {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for file in self.files() {
            let _ = fs::remove_file(file);
        }
    }
}

fn lanes(count: u32) -> ReadyLayout {
    ReadyLayout::new(count)
}

/// As it stands in what a parent says to a child.
fn told(line: &str) -> Place {
    let (kind, name) = line.split_once(' ').unwrap();
    if kind == "named" { Place::named(name).unwrap() } else { Place::file(name).unwrap() }
}

fn tell(place: &Place) -> String {
    let path = place.path();
    match path.strip_prefix("/dev/shm") {
        Ok(name) => format!("named {}", name.display()),
        Err(_) => format!("file {}", path.display()),
    }
}

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

/// Room that a layout can ask for at will.
mod room {
    use shm_ring::{Error, Layout};

    #[derive(Debug, Clone)]
    pub struct Room(pub usize);

    impl Layout for Room {
        const KIND: u64 = 1;

        fn params(&self) -> [u64; 8] {
            [self.0 as u64, 0, 0, 0, 0, 0, 0, 0]
        }

        fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
            Ok(Self(params[0] as usize))
        }

        fn bytes(&self) -> usize {
            self.0
        }
    }
}

#[test]
fn a_mistyped_size_is_refused_before_anything_is_made() {
    for place in Own::both() {
        for bytes in [(1 << 36) + 1, 1 << 50, usize::MAX] {
            let refused = place.create(room::Room(bytes), 1, &OPTIONS);
            assert!(matches!(refused, Err(Error::ResourceExhausted { .. })), "{refused:?}");
        }
        assert_eq!(place.files(), [] as [PathBuf; 0]);
    }
}

#[test]
fn room_that_a_file_system_does_not_have_is_an_error_at_creation_and_given_back() {
    // A mount of one MiB that only this child sees.
    const MOUNT: &str = "mount -t tmpfs -o size=1m none /dev/shm && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", MOUNT]).arg(this_program());
    let mut child = Child::start_by(command, "role_of_one_with_little_room");
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
            let error = place.create(room::Room((1 << 20) + 4096), 1, &options).err();
            refused += usize::from(matches!(error, Some(Error::ResourceExhausted { .. })));
            assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 0);
        }
    }
    for place in &places {
        used.push(place.create(room::Room(512 << 10), 1, &OPTIONS).unwrap());
        place.remove().unwrap();
    }
    line.say(format!("refused {refused} times, then used {} bytes twice", used[1].bytes()));
}

#[test]
fn the_limit_of_a_process_is_an_error_and_no_signal() {
    let mut child = Child::start("role_of_a_limited_process");
    assert_eq!(child.hear(), "refused 3 times");
    assert!(child.end().success());
}

#[test]
#[ignore = "a role of a child process"]
fn role_of_a_limited_process() {
    let Some(line) = line() else { return };
    setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) }).unwrap();
    let large = room::Room((1 << 20) + 1);
    let at_places = Own::both().map(|place| place.create(large.clone(), 1, &OPTIONS).err());
    let refused = at_places.into_iter().chain([Segment::memfd("test", large, 1).err()]);
    let count = refused.filter(|error| matches!(error, Some(Error::ResourceExhausted { .. }))).count();
    line.say(format!("refused {count} times"));
    assert!(Own::both().iter().all(|place| place.create(room::Room(1 << 20), 1, &OPTIONS).is_ok()));
}

#[test]
fn of_processes_that_race_one_makes_it_and_all_get_the_same_memory() {
    const RACERS: u32 = 8;
    const ROUNDS: usize = 25;
    let mut racers: Vec<Child> = (0..RACERS).map(|_| Child::start("role_of_a_racer")).collect();
    for (number, racer) in racers.iter_mut().enumerate() {
        assert_eq!(racer.hear(), "ready");
        racer.say(number);
    }
    for _ in 0..ROUNDS {
        for place in Own::both() {
            racers.iter().for_each(|racer| racer.say(tell(&place)));
            let origins: Vec<String> = racers.iter_mut().map(Child::hear).collect();
            assert_eq!(origins.iter().filter(|origin| *origin == "Created").count(), 1, "{origins:?}");
            let opened: Segment<ReadyLayout> = place.open(&OPTIONS).unwrap();
            let mut rang = Vec::new();
            ReadySet::new(&opened).take_ready(RACERS, |racer| rang.push(racer));
            assert_eq!(rang, (0..RACERS).collect::<Vec<u32>>());
            assert_eq!(place.files().len(), 1, "the drafts of the losers are gone");
        }
    }
}

#[test]
#[ignore = "a role of a child process"]
fn role_of_a_racer() {
    let Some(mut line) = line() else { return };
    line.say("ready");
    let Some(number) = line.hear() else { return };
    let mut last = None;
    while let Some(place) = line.hear() {
        let (segment, origin) = told(&place).open_or_create(lanes(64), 1, &OPTIONS).unwrap();
        ReadySet::new(&segment).ring(number.parse().unwrap());
        line.say(format!("{origin:?}"));
        last = Some(segment);
    }
    drop(last);
}

#[test]
fn opening_making_replacing_and_removing_at_once_gives_complete_segments_or_clear_answers() {
    for place in Own::both() {
        let roles = ["make and remove", "make and remove", "make and remove", "open", "open", "create"];
        let mut children: Vec<Child> = roles.iter().map(|_| Child::start("role_of_a_busybody")).collect();
        for (child, role) in children.iter_mut().zip(roles) {
            assert_eq!(child.hear(), "ready");
            child.say(tell(&place));
            child.say(role);
        }
        children.iter().for_each(|child| child.say("go"));
        for (child, role) in children.iter_mut().zip(roles) {
            let answer = child.hear();
            assert!(answer.starts_with("done"), "{role}: {answer}");
            println!("{}, {role}: {answer}", *place);
        }
        drop(children);
        drop(place.open_or_create(lanes(64), 1, &OPTIONS).unwrap());
        assert_eq!(place.files().len(), 1);
    }
}

#[test]
#[ignore = "a role of a child process"]
fn role_of_a_busybody() {
    const ROUNDS: usize = 300;
    let Some(mut line) = line() else { return };
    line.say("ready");
    let (place, role) = (told(&line.hear().unwrap()), line.hear().unwrap());
    line.hear();
    let (mut yes, mut no) = (0, 0);
    // Finding nothing is done quickly.
    for _ in 0..if role == "open" { 10 * ROUNDS } else { ROUNDS } {
        let answer = match role.as_str() {
            "make and remove" => place.open_or_create(lanes(64), 1, &OPTIONS).and_then(|(segment, _)| {
                assert_eq!((segment.epoch(), segment.layout().clone()), (1, lanes(64)));
                place.remove()
            }),
            "open" => place.open::<ReadyLayout>(&OPTIONS).map(|segment| segment.epoch() == 1),
            _ => place.create(lanes(64), 1, &OPTIONS).map(|segment| segment.epoch() == 1),
        };
        match (role.as_str(), answer) {
            (_, Ok(true)) => yes += 1,
            // Somebody else removed it first.
            ("make and remove", Ok(false)) => no += 1,
            ("open", Err(Error::NoSegment { .. })) | ("create", Err(Error::Taken { .. })) => no += 1,
            (_, answer) => {
                line.say(format!("after {yes} yes, {no} no: {answer:?}"));
                return;
            }
        }
    }
    line.say(format!("done: {yes} yes, {no} no"));
}

#[test]
fn memory_of_a_removed_segment_goes_when_its_last_user_is_killed() {
    for place in Own::both() {
        let mut child = Child::start("role_of_a_racer");
        assert_eq!(child.hear(), "ready");
        child.say(0);
        child.say(tell(&place));
        assert_eq!(child.hear(), "Created");
        // Two links to look at it by: the name, and one that the test holds.
        let watched = fs::File::open(place.path()).unwrap();
        assert!(matches!(place.create(lanes(64), 2, &OPTIONS), Err(Error::Taken { .. })), "the child has it open");
        child.kill();
        assert_eq!(place.create(lanes(64), 2, &OPTIONS).unwrap().epoch(), 2);
        assert_eq!(watched.metadata().unwrap().nlink(), 0, "no name leads to the former one");
    }
}
