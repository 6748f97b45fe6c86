//! Anonymous memory behind a sealed descriptor: the backing between processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::header::expect;
use super::{Layout, Segment, SegmentOptions, mapping};
use crate::error::Error;
use crate::fallback::Feature;

/// Against truncation under a mapping (SIGBUS), growth, and removal of these seals.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

impl<L: Layout> Segment<L> {
    /// Makes a sealed memfd of exactly the layout's size, all of it allocated, and maps it; [`memfd_with`] the
    /// default options.
    ///
    /// # Errors
    /// As [`memfd_with`].
    ///
    /// [`memfd_with`]: Self::memfd_with
    pub fn memfd(name: &str, layout: L, epoch: u64) -> Result<(Self, OwnedFd), Error> {
        Self::memfd_with(name, layout, epoch, &SegmentOptions::new())
    }

    /// Makes a sealed memfd of exactly the layout's size, all of it allocated, and maps it.
    ///
    /// The descriptor, of which the segment keeps a duplicate, is close-on-exec; the mapping is not inherited over fork, and neither can be executed. `name`
    /// is for tools only. Costs some microseconds and about 2 µs a page.
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] if the system has no memory or descriptor for it, here and never later.
    pub fn memfd_with(name: &str, layout: L, epoch: u64, options: &SegmentOptions) -> Result<(Self, OwnedFd), Error> {
        let bytes = layout.bytes();
        mapping::refuse_more_than_is_allowed(bytes)?;
        mapping::refuse_more_than_there_is(bytes)?;
        let refused = mapping::refused("segment", bytes);
        let fd = create(name).map_err(&refused)?;
        options.apply_to(fd.as_fd())?;
        rustix::fs::ftruncate(&fd, bytes as u64).map_err(&refused)?;
        let region = mapping::map(fd.as_fd(), bytes)?;
        mapping::settle_made(&region, fd.as_fd(), options)?;
        rustix::fs::fcntl_add_seals(&fd, SEALS).map_err(Error::system("sealing a segment"))?;
        Ok((Self::make(region, layout, epoch).found_by(fd.as_fd())?, fd))
    }

    /// Checks a descriptor from a peer and maps it: the only way from foreign memory to a segment; [`open_with`] the
    /// default options.
    ///
    /// # Errors
    /// As [`open_with`].
    ///
    /// [`open_with`]: Self::open_with
    pub fn open(fd: BorrowedFd<'_>) -> Result<Self, Error> {
        Self::open_with(fd, &SegmentOptions::new())
    }

    /// Checks a descriptor from a peer and maps it. Of the options only those about pages matter.
    ///
    /// # Errors
    /// [`Error::BadSegment`] names the property that is wrong, [`Error::LayoutVersion`] a program of another
    /// version, [`Error::ResourceExhausted`] a full address space.
    pub fn open_with(fd: BorrowedFd<'_>, options: &SegmentOptions) -> Result<Self, Error> {
        let seals = rustix::fs::fcntl_get_seals(fd).map_err(|_| Error::BadSegment {
            what: "file that can be sealed",
            found: 0,
            expected: SEALS.bits().into(),
        })?;
        expect("seals", (seals & SEALS).bits().into(), SEALS.bits().into())?;
        let bytes = mapping::whole_file_bytes(&mapping::stat(fd)?)?;
        let region = mapping::map(fd, bytes)?;
        mapping::settle_opened(&region, options)?;
        Self::check(region)?.found_by(fd)
    }
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
