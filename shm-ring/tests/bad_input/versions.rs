//! Memory of another version of this crate.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use shm_ring::spsc::SpscLayout;
use shm_ring::{Error, LAYOUT_VERSION, Segment};
use test_support::child::{self, Line};
use test_support::limits::Lowered;

/// Sealed memory that begins with these words.
fn sealed(bytes: usize, words: &[u64]) -> OwnedFd {
    let fd = rustix::fs::memfd_create("other", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    let mut content: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    content.resize(bytes, 0);
    assert_eq!(rustix::io::pwrite(&fd, &content, 0), Ok(bytes));
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
    fd
}

/// A segment of an older or a newer version is refused with both numbers before it is mapped: also where there is no
/// address space to map it.
#[test]
fn another_version_is_refused_before_it_is_mapped() {
    child::alone("opener without room");
}

pub fn open_without_room(_parent: Line) {
    let (_made, fd) = Segment::memfd("ours", SpscLayout::new(4096).unwrap(), 1).unwrap();
    let mut magic = [0; 8];
    assert_eq!(rustix::io::pread(&fd, &mut magic[..], 0), Ok(8));
    let magic = u64::from_le_bytes(magic);
    assert_eq!(magic as u32, LAYOUT_VERSION, "the version is the low half of the first word");
    const BYTES: usize = 64 << 20;
    let versions = [0, LAYOUT_VERSION - 1, LAYOUT_VERSION + 1, u32::MAX];
    let others = versions.map(|version| sealed(BYTES, &[magic >> 32 << 32 | u64::from(version)]));
    let (foreign, ours) = (sealed(BYTES, &[7]), sealed(BYTES, &[magic]));
    let _limit = Lowered::address_space(BYTES / 2);
    for (fd, version) in others.iter().zip(versions) {
        let error = Segment::<SpscLayout>::open(fd.as_fd()).unwrap_err();
        assert!(matches!(error, Error::LayoutVersion { ours: LAYOUT_VERSION, theirs } if theirs == version), "{error}");
        let text = format!("layout version of the segment is {version}, this program has {LAYOUT_VERSION}");
        assert_eq!(error.to_string(), text);
    }
    let error = Segment::<SpscLayout>::open(foreign.as_fd()).unwrap_err();
    assert!(matches!(error, Error::BadSegment { what: "magic", .. }), "{error}");
    let error = Segment::<SpscLayout>::open(ours.as_fd()).unwrap_err();
    assert!(matches!(error, Error::ResourceExhausted { .. }), "only what is ours is mapped: {error}");
}
