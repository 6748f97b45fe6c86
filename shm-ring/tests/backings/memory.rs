//! What is true of the memory behind every backing: exact sizes, the same on both sides, nothing executable or inherited.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use shm_ring::arena::{ArenaOwner, ArenaReader};
use shm_ring::{Place, Segment, SegmentOptions};

use crate::support::backings::{EPOCH, for_every_backing, fresh_name, fresh_path};
use crate::support::role::{Child, line, this_program};
use crate::{Room, arena};

/// What the kernel says of each mapping of this process: its first line in `smaps`, and its flags.
fn mappings(of: &str) -> Vec<(String, String)> {
    let book = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut found = Vec::new();
    let mut head = "";
    for line in book.lines() {
        if line.split_whitespace().next().is_some_and(|first| first.contains('-')) {
            head = line;
        } else if let Some(flags) = line.strip_prefix("VmFlags:")
            && head.contains(of)
        {
            found.push((head.to_owned(), flags.to_owned()));
        }
    }
    found
}

for_every_backing!(both_sides_have_the_same_layout_epoch_and_size, |backing| {
    let (maker, opener) = backing.pair(Room(10_000));
    for side in [&maker, &opener] {
        assert_eq!((side.layout(), side.epoch(), side.bytes()), (&Room(10_000), EPOCH, 10_000));
    }
});

for_every_backing!(what_one_side_writes_the_other_reads, |backing| {
    let (maker, opener) = backing.pair(arena());
    let (owner, reader) = (ArenaOwner::over(&maker).unwrap(), ArenaReader::over(&opener).unwrap());
    let mut block = owner.allocate(4000).unwrap();
    assert!(block.append(&[7; 4000]));
    let mut copy = [0; 4000];
    reader.copy_out(block.lend(), &mut copy).unwrap();
    assert_eq!(copy, [7; 4000]);
});

for_every_backing!(one_side_may_go_before_the_other, |backing| {
    let (maker, opener) = backing.pair(arena());
    drop(maker);
    let owner = ArenaOwner::over(&opener).unwrap();
    drop(opener);
    assert!(owner.allocate(100).unwrap().append(&[1; 100]));
});

#[test]
fn seed_05_the_file_behind_a_segment_has_exactly_the_size_of_its_layout() {
    let options = SegmentOptions::new();
    // One byte more than a page, a multiple of nothing, and one that a power of two would be much larger than.
    for bytes in [4097, 70_007, (4 << 20) + 8] {
        let (_segment, fd) = Segment::memfd("test", Room(bytes), 1).unwrap();
        assert_eq!(fs::File::from(fd).metadata().unwrap().len(), bytes as u64);
        for place in [Place::named(&fresh_name()).unwrap(), Place::file(fresh_path()).unwrap()] {
            let segment = place.create(Room(bytes), 1, &options).unwrap();
            let file = fs::metadata(place.path()).unwrap();
            place.remove().unwrap();
            assert_eq!((segment.bytes(), file.len()), (bytes, bytes as u64), "{place}");
            assert!(file.blocks() * 512 >= bytes as u64, "{place}: {} blocks for {bytes} bytes", file.blocks());
        }
    }
}

#[test]
fn seed_12_segments_are_for_their_user_alone_unless_told_otherwise() {
    let (_segment, fd) = Segment::memfd("test", Room(4096), 1).unwrap();
    let file = Place::file(fresh_path()).unwrap();
    let named = Place::named(&fresh_name()).unwrap();
    let made = [&file, &named].map(|place| place.create(Room(4096), 1, &SegmentOptions::new()));
    assert_eq!(fs::File::from(fd).metadata().unwrap().mode() & 0o7777, 0o600);
    for (place, made) in [&file, &named].into_iter().zip(made) {
        let found = fs::metadata(place.path()).unwrap();
        place.remove().unwrap();
        made.unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid()), (0o600, rustix::process::geteuid().as_raw()), "{place}");
    }
}

#[test]
fn mode_and_group_are_what_the_maker_said() {
    // A user may give files to the groups it is in.
    let group =
        rustix::process::getgroups().unwrap().first().map_or(rustix::process::getegid().as_raw(), |g| g.as_raw());
    let group = if rustix::process::geteuid().is_root() { 54_321 } else { group };
    let options = SegmentOptions::new().mode(0o660).group(group);
    // Which is more than this lets through.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let (_segment, fd) = Segment::memfd_with("test", Room(4096), 1, &options).unwrap();
    let found = fs::File::from(fd).metadata().unwrap();
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o660, group));
    for place in [Place::named(&fresh_name()).unwrap(), Place::file(fresh_path()).unwrap()] {
        let made = place.create(Room(4096), 1, &options);
        let found = fs::metadata(place.path());
        place.remove().unwrap();
        made.unwrap();
        let found = found.unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o660, group), "{place}");
    }
}

#[test]
#[should_panic(expected = "no other permission bits")]
fn a_segment_cannot_be_made_executable() {
    let _ = SegmentOptions::new().mode(0o700);
}

#[test]
fn no_mapping_is_executable_or_copied_by_fork() {
    let options = SegmentOptions::new();
    let name = fresh_name();
    let (_memfd, fd) = Segment::memfd(&name, Room(10_000), 1).unwrap();
    let _opened = Segment::<Room>::open(fd.as_fd()).unwrap();
    let named = Place::named(&name).unwrap();
    let file = Place::file(std::env::temp_dir().join(&name)).unwrap();
    let made = [&named, &file].map(|place| place.create(Room(10_000), 1, &options));
    let opened = [&named, &file].map(|place| place.open::<Room>(&options));
    let owned = fs::File::options().read(true).write(true).open(file.path()).unwrap();
    let unsealed = Segment::<Room>::open_unsealed(owned.as_fd(), &options);
    let found = mappings(&name);
    named.remove().unwrap();
    file.remove().unwrap();
    assert!(made.iter().chain(&opened).chain([&unsealed]).all(Result::is_ok));
    assert_eq!(found.len(), 7, "{found:#?}");
    for (mapping, flags) in found {
        let flags: Vec<&str> = flags.split_whitespace().collect();
        // "ex": may be executed; "dc": not copied by fork.
        assert!(flags.contains(&"dc") && !flags.contains(&"ex"), "{mapping}: {flags:?}");
    }
}

#[test]
fn every_descriptor_is_closed_by_exec() {
    let options = SegmentOptions::new();
    let name = fresh_name();
    let (_memfd, _fd) = Segment::memfd(&name, Room(4096), 1).unwrap();
    let named = Place::named(&name).unwrap();
    let file = Place::file(std::env::temp_dir().join(&name)).unwrap();
    let made = [&named, &file].map(|place| place.create(Room(4096), 1, &options).unwrap());
    let opened = [&named, &file].map(|place| place.open::<Room>(&options).unwrap());
    let mut seen = 0;
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let leads_here = fs::read_link(entry.path()).is_ok_and(|path| path.to_string_lossy().contains(&name));
        if leads_here {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", entry.file_name().display())).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
            assert_ne!(u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000, 0, "{info}");
            seen += 1;
        }
    }
    named.remove().unwrap();
    file.remove().unwrap();
    drop((made, opened));
    assert!(seen >= 5, "a memfd, and two handles each of a name and a file: {seen}");
}

const PAGES: usize = 256;

/// How much of what stands at `name` this process has in its page table.
fn resident(name: &str) -> usize {
    let book = fs::read_to_string("/proc/self/smaps").unwrap();
    let from = book.find(name).unwrap();
    let line = book[from..].lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// What is resident of segments of [`PAGES`] pages after they were made and after they were opened.
fn resident_after_making_and_opening(options: &SegmentOptions) -> Vec<usize> {
    let name = fresh_name();
    let layout = || Room(PAGES * 4096);
    let (made, fd) = Segment::memfd_with(&name, layout(), 1, options).unwrap();
    let mut found = vec![resident(&name)];
    drop(made);
    let opened = Segment::<Room>::open_with(fd.as_fd(), options).unwrap();
    found.push(resident(&name));
    drop(opened);
    for place in [Place::named(&name).unwrap(), Place::file(std::env::temp_dir().join(&name)).unwrap()] {
        let made = place.create(layout(), 1, options).unwrap();
        found.push(resident(&name));
        drop(made);
        let opened = place.open::<Room>(options).unwrap();
        found.push(resident(&name));
        place.remove().unwrap();
        drop(opened);
    }
    found
}

#[test]
fn pages_are_there_before_the_first_use_unless_told_otherwise() {
    let found = resident_after_making_and_opening(&SegmentOptions::new());
    assert_eq!(found, [PAGES * 4096; 6]);
    let found = resident_after_making_and_opening(&SegmentOptions::new().prefault(false));
    // The header was touched, and the kernel may map some pages around it.
    assert!(found.iter().all(|bytes| *bytes <= PAGES * 1024), "{found:?}");
}

#[test]
fn pages_are_there_before_the_first_use_on_older_kernels_too() {
    let mut command = Command::new(this_program());
    command.env("SWITCHBOARD_DISABLE", "populate,noexec-seal");
    let mut child = Child::start_by(command, "memory::role_of_one_on_an_older_kernel");
    assert_eq!(child.hear(), format!("{:?}", [PAGES * 4096; 6]));
}

#[test]
#[ignore = "a role of a child process"]
fn role_of_one_on_an_older_kernel() {
    let Some(line) = line() else { return };
    line.say(format!("{:?}", resident_after_making_and_opening(&SegmentOptions::new())));
}

#[test]
fn huge_pages_are_ordinary_ones_where_the_system_has_none() {
    let options = SegmentOptions::new().huge_pages(true);
    let bytes = (4 << 20) + 64;
    let (made, fd) = Segment::memfd_with("test", Room(bytes), 1, &options).unwrap();
    let opened = Segment::<Room>::open_with(fd.as_fd(), &options).unwrap();
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    let on_request = ["[advise]", "[always]", "[within_size]"].iter().any(|word| setting.contains(word));
    for side in [&made, &opened] {
        assert_eq!(side.bytes(), bytes);
        assert!(side.huge_bytes() <= bytes.next_multiple_of(2 << 20));
        // Where there is a setting for it, they may still have run out: that is no error.
        assert!(on_request || side.huge_bytes() == 0);
    }
    let small = Segment::memfd_with("test", Room(4096), 1, &options).unwrap().0;
    assert_eq!(small.huge_bytes(), 0);
}
