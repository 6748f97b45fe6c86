//! Segments in memory that the caller owns.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use shm_ring::{Error, Layout, Segment, SegmentOptions};

use crate::support::backings::fresh_path;
use crate::{Room, arena};

fn file(bytes: u64) -> fs::File {
    let path = fresh_path();
    let file = fs::File::create_new(&path).unwrap();
    fs::remove_file(path).unwrap();
    file.set_len(bytes).unwrap();
    file
}

#[test]
fn may_be_larger_than_the_segment_and_keeps_its_size_and_mode() {
    let file = file(100_000);
    let before = file.metadata().unwrap();
    let options = SegmentOptions::new();
    let made = Segment::from_fd(file.as_fd(), Room(8192), 3, &options).unwrap();
    let opened = Segment::<Room>::open_unsealed(file.as_fd(), &options).unwrap();
    assert_eq!((made.bytes(), opened.bytes(), opened.epoch()), (8192, 8192, 3));
    let after = file.metadata().unwrap();
    assert_eq!((after.len(), after.mode()), (100_000, before.mode()));
    assert!(after.blocks() * 512 >= 8192);
}

#[test]
fn is_refused_if_it_is_too_small() {
    let file = file(8191);
    let made = Segment::from_fd(file.as_fd(), Room(8192), 1, &SegmentOptions::new());
    assert!(
        matches!(made, Err(Error::BadSegment { what: "size of the file", found: 8191, expected: 8192 })),
        "{made:?}"
    );
}

#[test]
fn holds_nothing_of_what_was_in_it_before() {
    let layout = arena();
    let file = file(0);
    std::io::Write::write_all(&mut &file, &vec![0xee; layout.bytes()]).unwrap();
    let made = Segment::from_fd(file.as_fd(), layout, 1, &SegmentOptions::new()).unwrap();
    let mut bytes = vec![0; made.bytes()];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
    assert!(bytes[128..].iter().all(|byte| *byte == 0));
}

#[test]
fn is_not_overwritten_if_a_segment_stands_in_it() {
    let file = file(8192);
    let options = SegmentOptions::new();
    let _made = Segment::from_fd(file.as_fd(), Room(8192), 3, &options).unwrap();
    let again = Segment::from_fd(file.as_fd(), Room(4096), 4, &options);
    assert!(matches!(again, Err(Error::Taken { .. })), "{again:?}");
    assert_eq!(Segment::<Room>::open_unsealed(file.as_fd(), &options).unwrap().epoch(), 3);
}

#[test]
fn that_states_more_than_its_file_has_is_refused_before_it_is_mapped() {
    let file = file(8192);
    let options = SegmentOptions::new();
    drop(Segment::from_fd(file.as_fd(), Room(8192), 3, &options).unwrap());
    for bytes in [0, 8193, 1 << 20, u64::MAX] {
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes.to_le_bytes(), 16).unwrap();
        let opened = Segment::<Room>::open_unsealed(file.as_fd(), &options);
        assert!(matches!(opened, Err(Error::BadSegment { what: "size", .. })), "{opened:?}");
    }
}

#[test]
fn is_not_a_pipe_a_directory_or_a_device() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let zero = fs::File::options().read(true).write(true).open("/dev/zero").unwrap();
    let directory = fs::File::open("/").unwrap();
    for fd in [reader.as_fd(), zero.as_fd(), directory.as_fd()] {
        let options = SegmentOptions::new();
        assert!(matches!(Segment::from_fd(fd, Room(4096), 1, &options), Err(Error::BadSegment { .. })));
        assert!(matches!(Segment::<Room>::open_unsealed(fd, &options), Err(Error::BadSegment { .. })));
    }
}
