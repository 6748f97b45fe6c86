//! Anonymous memory behind a sealed descriptor: the backing between processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, FileType, MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::header::expect;
use super::{HEADER_BYTES, Layout, Segment};
use crate::error::Error;
use crate::fallback::Feature;
use crate::raw::Region;

/// Against truncation under a mapping (SIGBUS), growth, and removal of these seals.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// One sealed segment must not take the machine down by a mistyped size.
const MAX_BYTES: usize = 1 << 36;

impl<L: Layout> Segment<L> {
    /// Makes a sealed memfd of exactly the layout's size, all of it allocated, and maps it.
    ///
    /// The descriptor is close-on-exec and the mapping is not inherited over fork. Costs some microseconds and
    /// about 3 µs a page.
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] if the system has no memory or descriptor for it, here and never later.
    pub fn memfd(name: &str, layout: L, epoch: u64) -> Result<(Self, OwnedFd), Error> {
        let bytes = layout.bytes();
        refuse_more_than_there_is(bytes)?;
        let exhausted = |errno: Errno| Error::ResourceExhausted { what: "segment", bytes, source: errno.into() };
        let fd = create(name).map_err(exhausted)?;
        // Pages are allocated here, so that a later touch never ends in SIGBUS for want of memory.
        rustix::fs::ftruncate(&fd, bytes as u64).map_err(exhausted)?;
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes as u64).map_err(exhausted)?;
        rustix::fs::fcntl_add_seals(&fd, SEALS).map_err(Error::system("sealing a segment"))?;
        Ok((Self::make(map(fd.as_fd(), bytes)?, layout, epoch), fd))
    }

    /// Checks a descriptor from a peer and maps it: the only way from foreign memory to a segment.
    ///
    /// # Errors
    /// [`Error::BadSegment`] names the property that is wrong, [`Error::LayoutVersion`] a program of another
    /// version, [`Error::ResourceExhausted`] a full address space.
    pub fn open(fd: BorrowedFd<'_>) -> Result<Self, Error> {
        let seals = rustix::fs::fcntl_get_seals(fd).map_err(|_| Error::BadSegment {
            what: "file that can be sealed",
            found: 0,
            expected: SEALS.bits().into(),
        })?;
        expect("seals", (seals & SEALS).bits().into(), SEALS.bits().into())?;
        let stat = rustix::fs::fstat(fd).map_err(Error::system("fstat of a segment"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::BadSegment { what: "file type", found: stat.st_mode.into(), expected: 0o100_000 });
        }
        let bytes = usize::try_from(stat.st_size).unwrap_or(0);
        if !(HEADER_BYTES..=MAX_BYTES).contains(&bytes) {
            return Err(Error::BadSegment {
                what: "size of the file",
                found: bytes as u64,
                expected: HEADER_BYTES as u64,
            });
        }
        refuse_more_than_there_is(bytes)?;
        // Not allocated in full, a later touch could end in SIGBUS.
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        if allocated < bytes as u64 {
            return Err(Error::BadSegment { what: "allocated size", found: allocated, expected: bytes as u64 });
        }
        Self::check(map(fd, bytes)?)
    }
}

/// The kernel allocates a memfd page by page and calls the out-of-memory killer when none is left, so a large
/// request is held against the memory that is available first. Small ones are not worth reading a file.
fn refuse_more_than_there_is(bytes: usize) -> Result<(), Error> {
    const WORTH_ASKING: usize = 16 << 20;
    if bytes <= WORTH_ASKING {
        return Ok(());
    }
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()?.checked_mul(1024)
    });
    if bytes > available.unwrap_or(MAX_BYTES).min(MAX_BYTES) {
        let source = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        return Err(Error::ResourceExhausted { what: "segment", bytes, source });
    }
    Ok(())
}

fn create(name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if !Feature::NoexecSeal.is_disabled() {
        match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => {} // a kernel before 6.3
            made => return made,
        }
    }
    rustix::fs::memfd_create(name, flags)
}

/// Maps and pre-faults.
fn map(fd: BorrowedFd<'_>, bytes: usize) -> Result<Region, Error> {
    let exhausted = |source| Error::ResourceExhausted { what: "mapping", bytes, source };
    let map: MmapRaw = MmapOptions::new().len(bytes).populate().map_raw(&fd).map_err(exhausted)?;
    map.advise(Advice::DontFork).map_err(|source| Error::System { what: "keeping a mapping from children", source })?;
    Ok(Region::map(map))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::segment::LAYOUT_VERSION;
    use crate::segment::header::{HASH_AT, KIND_AT, MAGIC, MAGIC_AT, SIZE_AT};
    use crate::sync::Ordering;

    #[derive(Debug, Clone, PartialEq)]
    struct Plain(u64);

    impl Layout for Plain {
        const KIND: u64 = 77;
        fn params(&self) -> [u64; 8] {
            [self.0, 0, 0, 0, 0, 0, 0, 0]
        }
        fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
            Ok(Self(params[0].min(100)))
        }
        fn bytes(&self) -> usize {
            4096 + self.0 as usize * 64
        }
    }

    #[test]
    fn what_one_side_creates_the_other_opens_with_the_same_layout_and_epoch() {
        let (made, fd) = Segment::memfd("test", Plain(3), 9).unwrap();
        let opened = Segment::<Plain>::open(fd.as_fd()).unwrap();
        assert_eq!((opened.layout(), opened.epoch(), opened.bytes()), (&Plain(3), 9, made.bytes()));
        made.memory.region().word(1024).store(5, Ordering::Relaxed);
        assert_eq!(opened.memory.region().word(1024).load(Ordering::Relaxed), 5);
    }

    #[test]
    fn a_sealed_segment_cannot_be_truncated_or_grown() {
        let (_made, fd) = Segment::memfd("test", Plain(3), 9).unwrap();
        assert_eq!(rustix::fs::ftruncate(&fd, 10), Err(rustix::io::Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&fd, 1 << 20), Err(rustix::io::Errno::PERM));
    }

    #[test]
    fn each_wrong_header_word_is_refused_by_name() {
        for (at, what) in [(MAGIC_AT, "magic"), (KIND_AT, "kind"), (SIZE_AT, "size"), (HASH_AT, "layout hash")] {
            let (made, fd) = Segment::memfd("test", Plain(3), 9).unwrap();
            let word = made.memory.region().word(at);
            word.store(word.load(Ordering::Relaxed) ^ (1 << 40), Ordering::Relaxed);
            match Segment::<Plain>::open(fd.as_fd()) {
                Err(Error::BadSegment { what: named, .. }) => assert_eq!(named, what),
                other => panic!("{what}: {other:?}"),
            }
        }
    }

    #[test]
    fn another_layout_version_is_named_with_both_numbers() {
        let (made, fd) = Segment::memfd("test", Plain(3), 9).unwrap();
        made.memory.region().word(MAGIC_AT).store(MAGIC | 700, Ordering::Relaxed);
        let error = Segment::<Plain>::open(fd.as_fd()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("layout version of the segment is 700, this program has {LAYOUT_VERSION}")
        );
    }

    #[test]
    fn files_that_are_not_sealed_memfds_are_refused_before_mapping() {
        let unsealed = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&unsealed, 1 << 20).unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/zero").unwrap();
        let dir = std::fs::File::open("/").unwrap();
        for fd in [unsealed.as_fd(), reader.as_fd(), null.as_fd(), dir.as_fd()] {
            assert!(matches!(Segment::<Plain>::open(fd), Err(Error::BadSegment { .. })));
        }
    }

    #[test]
    fn a_file_with_holes_is_refused() {
        let fd = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&fd, 1 << 30).unwrap();
        use rustix::fs::SealFlags;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
        let opened = Segment::<Plain>::open(fd.as_fd());
        assert!(matches!(opened, Err(Error::BadSegment { what: "allocated size", .. })), "{opened:?}");
    }

    #[test]
    fn memory_that_the_system_does_not_have_is_refused_at_creation() {
        #[derive(Debug, Clone)]
        struct Huge;
        impl Layout for Huge {
            const KIND: u64 = 78;
            fn params(&self) -> [u64; 8] {
                [0; 8]
            }
            fn from_params(_: &[u64; 8]) -> Result<Self, Error> {
                Ok(Self)
            }
            fn bytes(&self) -> usize {
                1 << 60
            }
        }
        assert!(matches!(Segment::memfd("huge", Huge, 1), Err(Error::ResourceExhausted { .. })));
    }
}
