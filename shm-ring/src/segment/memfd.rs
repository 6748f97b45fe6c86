//! Anonymous memory behind a sealed descriptor: the backing between processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::header::{check_version_in, expect};
use super::{Layout, Memory, Segment, SegmentOptions, mapping};
use crate::error::Error;
use crate::fallback::Feature;

/// Against truncation under a mapping (SIGBUS), growth, and removal of these seals.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// The same, and against new mappings for writing, `write` and punched holes: by whoever has the descriptor, from the
/// seal on. Mappings that were there before go on writing.
const READ_ONLY_SEALS: SealFlags = SEALS.union(SealFlags::FUTURE_WRITE);

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
        Self::memfd_sealed(name, layout, epoch, options, SEALS)
    }

    /// As [`memfd_with`](Self::memfd_with), for memory that this process alone writes: whoever gets the descriptor can
    /// map it for reading only, by [`ReadOnly::open`].
    ///
    /// # Errors
    /// As [`memfd_with`](Self::memfd_with).
    pub fn memfd_for_readers(
        name: &str,
        layout: L,
        epoch: u64,
        options: &SegmentOptions,
    ) -> Result<(Self, OwnedFd), Error> {
        Self::memfd_sealed(name, layout, epoch, options, READ_ONLY_SEALS)
    }

    fn memfd_sealed(
        name: &str,
        layout: L,
        epoch: u64,
        options: &SegmentOptions,
        seals: SealFlags,
    ) -> Result<(Self, OwnedFd), Error> {
        let bytes = layout.bytes();
        mapping::refuse_more_than_is_allowed(bytes)?;
        mapping::refuse_more_than_there_is(bytes)?;
        let refused = mapping::refused("segment", bytes);
        let fd = create(name).map_err(&refused)?;
        options.apply_to(fd.as_fd())?;
        rustix::fs::ftruncate(&fd, bytes as u64).map_err(&refused)?;
        let region = mapping::map(fd.as_fd(), bytes)?;
        mapping::settle_made(&region, fd.as_fd(), options)?;
        // All at once: the seal against seals is among them. Our own mapping is there already, so it stays writable.
        rustix::fs::fcntl_add_seals(&fd, seals).map_err(Error::system("sealing a segment"))?;
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
        let bytes = sealed_bytes(fd, SEALS)?;
        check_version_in(fd)?;
        let region = mapping::map(fd, bytes)?;
        mapping::settle_opened(&region, options)?;
        Self::check(region)?.found_by(fd)
    }
}

/// A segment that another process made for readers ([`Segment::memfd_for_readers`]), mapped for reading only.
///
/// Neither this process nor any other that was given the descriptor can write it; its maker can, at any time.
#[derive(Debug, Clone)]
pub struct ReadOnly<L>(Segment<L>);

impl<L: Layout> ReadOnly<L> {
    /// Checks a descriptor from a peer and maps it for reading. Pages are filled in at once, as for
    /// [`Segment::open`].
    ///
    /// # Errors
    /// As [`Segment::open_with`]; [`Error::BadSegment`] also if others than the maker could map it for writing.
    pub fn open(fd: BorrowedFd<'_>) -> Result<Self, Error> {
        let bytes = sealed_bytes(fd, READ_ONLY_SEALS)?;
        check_version_in(fd)?;
        let region = mapping::map_read_only(fd, bytes)?;
        mapping::settle_opened(&region, &SegmentOptions::new())?;
        Ok(Self(Segment::check(region)?.found_by(fd)?))
    }

    /// What the header states.
    pub fn layout(&self) -> &L {
        self.0.layout()
    }

    /// A number that tells this segment's owner from its former lives.
    pub fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    /// Bytes, header included.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The memory, of which no word may be stored to: the kernel answers that with a signal.
    pub(crate) fn memory(&self) -> Arc<Memory> {
        self.0.memory()
    }
}

/// The size of a memfd that has at least these seals and is allocated in full.
fn sealed_bytes(fd: BorrowedFd<'_>, wanted: SealFlags) -> Result<usize, Error> {
    let seals = rustix::fs::fcntl_get_seals(fd).map_err(|_| Error::BadSegment {
        what: "file that can be sealed",
        found: 0,
        expected: wanted.bits().into(),
    })?;
    expect("seals", (seals & wanted).bits().into(), wanted.bits().into())?;
    mapping::whole_file_bytes(&mapping::stat(fd)?)
}

/// An empty memfd that can be sealed and not be executed, close-on-exec.
pub(super) fn create(name: &str) -> rustix::io::Result<OwnedFd> {
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

    /// An epoch is a number without an order: the largest is followed by zero, and told apart from it.
    #[test]
    fn epoch_wrap() {
        for epoch in [u64::MAX - 1, u64::MAX, 0, 1] {
            let (made, fd) = Segment::memfd("test", Plain(3), epoch).unwrap();
            assert_eq!((made.epoch(), Segment::<Plain>::open(fd.as_fd()).unwrap().epoch()), (epoch, epoch));
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

    /// A sealed segment can neither be truncated nor grown, by whoever has its descriptor.
    #[test]
    fn ftruncate_after_seal() {
        let (_made, fd) = Segment::memfd("test", Plain(3), 9).unwrap();
        assert_eq!(rustix::fs::ftruncate(&fd, 10), Err(rustix::io::Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&fd, 1 << 20), Err(rustix::io::Errno::PERM));
    }

    fn readers_only() -> (Segment<Plain>, OwnedFd) {
        Segment::memfd_for_readers("test", Plain(3), 9, &SegmentOptions::new()).unwrap()
    }

    #[test]
    fn memory_for_readers_is_written_by_its_maker_and_read_by_whoever_has_it() {
        let (made, fd) = readers_only();
        let opened = ReadOnly::<Plain>::open(fd.as_fd()).unwrap();
        assert_eq!((opened.layout(), opened.epoch(), opened.bytes()), (&Plain(3), 9, made.bytes()));
        made.memory.region().word(1024).store(5, Ordering::Relaxed);
        assert_eq!(opened.memory().region().word(1024).load(Ordering::Relaxed), 5);
    }

    #[test]
    fn whoever_has_memory_for_readers_can_neither_map_it_for_writing_nor_write_it_nor_punch_holes() {
        let (made, fd) = readers_only();
        // What a peer is given: the same open file, and by `/proc` a second one of its own.
        let reopened = std::fs::File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd)))
            .unwrap();
        let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        for fd in [fd.as_fd(), reopened.as_fd()] {
            assert_eq!(mapping::map(fd, made.bytes()).unwrap_err().to_string(), refused_mapping(made.bytes()));
            assert_eq!(rustix::io::pwrite(fd, &[1], 1024), Err(Errno::PERM));
            assert_eq!(rustix::fs::fallocate(fd, hole, 0, 4096), Err(Errno::PERM));
            assert_eq!(rustix::fs::fcntl_add_seals(fd, SealFlags::WRITE), Err(Errno::PERM));
        }
        assert!(matches!(Segment::<Plain>::open(fd.as_fd()), Err(Error::ResourceExhausted { what: "mapping", .. })));
    }

    fn refused_mapping(bytes: usize) -> String {
        let source = Errno::PERM.into();
        Error::ResourceExhausted { what: "mapping", bytes, source }.to_string()
    }

    #[test]
    fn a_reading_mapping_cannot_be_made_writable_later() {
        let (_made, fd) = readers_only();
        let opened = ReadOnly::<Plain>::open(fd.as_fd()).unwrap();
        let ours = format!("{:x}-", opened.memory().region().address());
        let book = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let entry = &book[book.find(&ours).unwrap()..];
        let flags = entry.lines().find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
        // "wr": writable, "mw": may be made so.
        assert!(flags.split_whitespace().all(|flag| flag != "wr" && flag != "mw"), "{flags}");
    }

    #[test]
    fn memory_that_others_could_write_is_not_opened_as_memory_for_readers() {
        let (_made, fd) = Segment::memfd("test", Plain(3), 9).unwrap();
        let opened = ReadOnly::<Plain>::open(fd.as_fd());
        assert!(matches!(opened, Err(Error::BadSegment { what: "seals", .. })), "{opened:?}");
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

    /// Files that are no sealed memfds are refused before they are mapped.
    #[test]
    fn unsealed_memfd_offered() {
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
