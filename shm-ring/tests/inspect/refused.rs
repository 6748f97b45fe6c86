//! Files and words that no honest process wrote.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use shm_ring::arena::ArenaLayout;
use shm_ring::inspect::{self, Onlooker};
use shm_ring::lane::LaneLayout;
use shm_ring::mpsc::MpscLayout;
use shm_ring::ready::ReadyLayout;
use shm_ring::spsc::SpscLayout;
use shm_ring::{Error, HEADER_BYTES, LAYOUT_VERSION, Layout, Place, Segment, SegmentOptions};

use super::support::backings::fresh_path;
use super::{Named, looking};

const MAGIC: u64 = 0x5357_4244_0000_0000;

fn good() -> File {
    File::from(Segment::memfd("spoilt", SpscLayout::new(4096).unwrap(), 1).unwrap().1)
}

fn put(file: &File, at: usize, word: u64) {
    file.write_all_at(&word.to_le_bytes(), at as u64).unwrap();
}

/// The property that is wrong.
fn refusal(fd: &impl AsFd) -> &'static str {
    match Onlooker::open(fd.as_fd()) {
        Err(Error::BadSegment { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_wrong_header_word_is_named() {
    for (at, word, what) in [
        (0, 0, "magic"),
        (8, 99, "layout hash"),
        (16, 1 << 40, "size"),
        (16, 8, "size"),
        (16, 4096, "layout hash"),
        (24, 7, "layout hash"),
        (40, 8192, "layout hash"),
    ] {
        let file = good();
        put(&file, at, word);
        assert_eq!(refusal(&file), what, "word at {at}");
    }
}

#[test]
fn another_layout_version_is_named_with_both_numbers() {
    let file = good();
    put(&file, 0, MAGIC | 700);
    match Onlooker::open(file.as_fd()) {
        Err(Error::LayoutVersion { ours: LAYOUT_VERSION, theirs: 700 }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_segment_is_refused_before_it_is_mapped() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let path = fresh_path();
    std::fs::write(&path, vec![0xab; 10_000]).unwrap();
    let noise = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let short = File::from(rustix::fs::memfd_create("short", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    put(&short, 0, MAGIC | u64::from(LAYOUT_VERSION));
    assert_eq!(refusal(&OwnedFd::from(reader)), "file type");
    assert_eq!(refusal(&File::open("/dev/zero").unwrap()), "file type");
    assert_eq!(refusal(&File::open("/").unwrap()), "file type");
    assert_eq!(refusal(&noise), "magic");
    assert_eq!(refusal(&short), "size of the file");
}

#[test]
fn a_header_over_holes_is_refused() {
    let file = File::from(rustix::fs::memfd_create("holes", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    let mut head = [0; HEADER_BYTES];
    good().read_exact_at(&mut head, 0).unwrap();
    file.write_all_at(&head, 0).unwrap();
    file.set_len(1 << 30).unwrap();
    put(&file, 16, 1 << 30);
    assert_eq!(refusal(&file), "allocated size");
}

/// FNV-1a, as a maker of any kind of segment computes it.
fn hash(words: &[u64]) -> u64 {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A segment of any kind and parameters, with a header that is right in itself.
fn forged(kind: u64, bytes: usize, params: [u64; 8]) -> File {
    let file = File::from(rustix::fs::memfd_create("forged", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    file.write_all_at(&vec![0xff; bytes], 0).unwrap();
    let head = [u64::from(LAYOUT_VERSION), kind, bytes as u64].into_iter().chain(params).collect::<Vec<_>>();
    let words = [MAGIC | u64::from(LAYOUT_VERSION), kind, bytes as u64, hash(&head), 5].into_iter().chain(params);
    words.enumerate().for_each(|(i, word)| put(&file, i * 8, word));
    file
}

#[test]
fn a_kind_that_is_not_known_is_shown_as_such() {
    let report = Onlooker::open(forged(0xabc, 4096, [1; 8]).as_fd()).unwrap().look().unwrap();
    assert_eq!(report.to_string(), "unknown bytes=4096 epoch=0x5 kind=0xabc");
}

#[test]
fn parameters_that_would_reach_beyond_the_memory_are_refused() {
    let kinds = [SpscLayout::KIND, MpscLayout::KIND, ReadyLayout::KIND, LaneLayout::KIND, ArenaLayout::KIND];
    for kind in kinds {
        for param in [0, 1, 2, 64, 4096, 1 << 20, 1 << 30, 1 << 31, 1 << 32 | 4096, u64::MAX] {
            let opened = Onlooker::open(forged(kind, 8192, [param; 8]).as_fd());
            assert!(matches!(opened, Err(Error::BadSegment { .. })), "kind {kind:#x} of {param:#x}: {opened:?}");
        }
    }
}

/// A generator of words that are mostly near something that matters.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        // Marsaglia's xorshift: any other would do.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        match self.0 % 8 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (self.0 >> 8 & 63),
            3 => (self.0 >> 8) & 0xff,
            4 => u64::MAX - (self.0 >> 8 & 0xff),
            _ => self.0,
        }
    }
}

#[test]
fn no_words_in_the_memory_of_any_kind_break_a_look() {
    fn spoil<L: Layout>(layout: L, words: &mut Words) {
        let (segment, fd) = Segment::memfd("spoilt", layout, 1).unwrap();
        let file = File::from(fd);
        let onlooker = Onlooker::open(file.as_fd()).unwrap();
        for _ in 0..200 {
            let noise: Vec<u8> =
                (0..(segment.bytes() - HEADER_BYTES) / 8).flat_map(|_| words.next().to_le_bytes()).collect();
            file.write_all_at(&noise, HEADER_BYTES as u64).unwrap();
            assert!(!onlooker.look().unwrap().to_string().contains('\n'));
        }
    }
    let mut words = Words(0x9e37_79b9_7f4a_7c15);
    spoil(SpscLayout::new(64).unwrap(), &mut words);
    spoil(MpscLayout::new(1).unwrap(), &mut words);
    spoil(MpscLayout::new(16).unwrap(), &mut words);
    spoil(ReadyLayout::new(130), &mut words);
    spoil(LaneLayout::new(4, ArenaLayout::default(), ArenaLayout::default()).unwrap(), &mut words);
    spoil(shm_ring::typed::Typed::<u64, _>::new(SpscLayout::new(64).unwrap()), &mut words);
}

#[test]
fn a_file_that_was_truncated_after_it_was_opened_is_an_error_and_no_signal() {
    let named = Named::new();
    drop(named.0.create(SpscLayout::new(1 << 16).unwrap(), 1, &SegmentOptions::new()).unwrap());
    let onlooker = Onlooker::at(&named.0).unwrap();
    onlooker.look().unwrap();
    File::options().write(true).open(named.0.path()).unwrap().set_len(0).unwrap();
    assert!(matches!(onlooker.look(), Err(Error::BadSegment { what: "size of the file", .. })));
}

#[test]
fn a_place_without_a_segment_and_a_process_that_is_not_there_are_told() {
    let place = Place::file(fresh_path()).unwrap();
    assert!(matches!(Onlooker::at(&place), Err(Error::NoSegment { .. })));
    let nobody = u32::MAX / 2;
    assert!(matches!(inspect::process(nobody), Err(Error::NoProcess { pid }) if pid == nobody));
}

#[test]
fn a_survey_names_what_it_could_not_read_and_shows_the_rest() {
    let spoilt = good();
    put(&spoilt, 24, 7);
    let (_segment, _fd) = Segment::memfd("whole", SpscLayout::new(4096).unwrap(), 77).unwrap();
    let _looking = looking();
    let survey = inspect::process(std::process::id()).unwrap();
    assert!(survey.refused.iter().any(|refused| {
        refused.name == "/memfd:spoilt" && matches!(refused.error, Error::BadSegment { what: "layout hash", .. })
    }));
    assert!(survey.found.iter().any(|found| found.name == "/memfd:whole" && found.onlooker.epoch() == 77));
}
