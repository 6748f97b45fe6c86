//! One region of memory shared by processes, and the one door into it.
//!
//! A segment begins with a header of [`HEADER_BYTES`]: eight-byte words, little-endian.
//!
//! | byte | word |
//! |---|---|
//! | 0 | magic (upper half) and layout version (lower half); written last, so a half-made segment is refused |
//! | 8 | kind |
//! | 16 | bytes in all |
//! | 24 | hash over kind, size and parameters |
//! | 32 | epoch |
//! | 40..104 | eight parameters of the kind |
//!
//! A descriptor from a peer becomes a segment in [`Segment::open`] only: seals, type and size of the file, then every
//! header word, read once and checked. After the door nobody reads the header again.

use std::fmt;

use crate::error::Error;
use crate::peer::PeerWord;
use crate::raw::{LINE_PAIR, Region};
use crate::sync::Ordering;

/// Bytes before the first section of a segment.
pub const HEADER_BYTES: usize = LINE_PAIR;

/// Version of every shared layout of this crate. Any change to any of them raises it.
pub const LAYOUT_VERSION: u32 = 1;

const MAGIC: u64 = 0x5357_4244_0000_0000; // "SWBD" in the upper half
const PARAMS: usize = 8;
const MAGIC_AT: usize = 0;
const KIND_AT: usize = 8;
const SIZE_AT: usize = 16;
const HASH_AT: usize = 24;
const EPOCH_AT: usize = 32;
const PARAMS_AT: usize = 40;
const _: () = assert!(PARAMS_AT + PARAMS * 8 <= HEADER_BYTES);

/// The shape of one kind of segment: everything about it is computed from a few parameters that both sides check.
pub trait Layout: Sized + fmt::Debug {
    /// Tells kinds apart.
    const KIND: u64;

    /// The parameters as they stand in the header.
    fn params(&self) -> [u64; 8];

    /// The layout for parameters read from a header.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if a parameter is out of its range.
    fn from_params(params: &[u64; 8]) -> Result<Self, Error>;

    /// Bytes of the whole segment, header included.
    fn bytes(&self) -> usize;
}

/// A mapped region with a checked header.
pub struct Segment {
    region: Region,
    epoch: u64,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("bytes", &self.region.len()).field("epoch", &self.epoch).finish()
    }
}

impl Segment {
    /// A segment in this process's own memory: for tests, models and rings between threads.
    pub fn heap<L: Layout>(layout: &L, epoch: u64) -> Self {
        let region = Region::heap(layout.bytes());
        write_header(&region, layout, epoch);
        Self { region, epoch }
    }

    /// A number that tells this segment's owner from its former lives.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes, header included.
    pub fn bytes(&self) -> usize {
        self.region.len()
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }
}

fn hash<L: Layout>(layout: &L) -> u64 {
    // FNV-1a (Fowler, Noll, Vo): a check against mistakes, not against forgers.
    let words = [LAYOUT_VERSION.into(), L::KIND, layout.bytes() as u64];
    words
        .into_iter()
        .chain(layout.params())
        .flat_map(u64::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn write_header<L: Layout>(region: &Region, layout: &L, epoch: u64) {
    let put = |at: usize, value: u64, order| PeerWord::at(region, at).store(value, order);
    put(KIND_AT, L::KIND, Ordering::Relaxed);
    put(SIZE_AT, layout.bytes() as u64, Ordering::Relaxed);
    put(HASH_AT, hash(layout), Ordering::Relaxed);
    put(EPOCH_AT, epoch, Ordering::Relaxed);
    for (i, param) in layout.params().into_iter().enumerate() {
        put(PARAMS_AT + i * 8, param, Ordering::Relaxed);
    }
    // ORDERING: Release, pairs with the Acquire load in `read_header`: whoever sees the magic sees the whole header.
    // Weakened, an opener could refuse a good segment.
    put(MAGIC_AT, MAGIC | u64::from(LAYOUT_VERSION), Ordering::Release);
}

#[cfg(not(loom))]
fn expect(what: &'static str, found: u64, expected: u64) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::BadSegment { what, found, expected }) }
}

#[cfg(not(loom))]
fn read_header<L: Layout>(region: &Region) -> Result<(L, u64), Error> {
    let get = |at: usize| PeerWord::at(region, at).load(Ordering::Relaxed).decode(|word| word);
    // ORDERING: Acquire, pairs with the Release store of the magic in `write_header`.
    let magic = PeerWord::at(region, MAGIC_AT).load(Ordering::Acquire).decode(|word| word);
    expect("magic", magic >> 32, MAGIC >> 32)?;
    let version = magic as u32;
    if version != LAYOUT_VERSION {
        return Err(Error::LayoutVersion { ours: LAYOUT_VERSION, theirs: version });
    }
    expect("kind", get(KIND_AT), L::KIND)?;
    expect("size", get(SIZE_AT), region.len() as u64)?;
    let mut params = [0; PARAMS];
    for (i, param) in params.iter_mut().enumerate() {
        *param = get(PARAMS_AT + i * 8);
    }
    let layout = L::from_params(&params)?;
    expect("size by its parameters", region.len() as u64, layout.bytes() as u64)?;
    expect("layout hash", get(HASH_AT), hash(&layout))?;
    Ok((layout, get(EPOCH_AT)))
}

#[cfg(not(loom))]
mod memfd {
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use memmap2::{Advice, MmapOptions, MmapRaw};
    use rustix::fs::{FallocateFlags, FileType, MemfdFlags, SealFlags};
    use rustix::io::Errno;

    use super::{Error, Layout, Region, Segment, expect, read_header, write_header};
    use crate::fallback::Feature;

    /// Against truncation under a mapping (SIGBUS), growth, and removal of these seals.
    const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

    /// One sealed segment must not take the machine down by a mistyped size.
    const MAX_BYTES: usize = 1 << 36;

    impl Segment {
        /// Makes a sealed memfd of exactly the layout's size, all of it allocated, and maps it.
        ///
        /// The descriptor is close-on-exec and the mapping is not inherited over fork. Costs some microseconds and
        /// about 3 µs a page.
        ///
        /// # Errors
        /// [`Error::ResourceExhausted`] if the system has no memory or descriptor for it, here and never later.
        pub fn memfd<L: Layout>(name: &str, layout: &L, epoch: u64) -> Result<(Self, OwnedFd), Error> {
            let bytes = layout.bytes();
            refuse_more_than_there_is(bytes)?;
            let exhausted = |errno: Errno| Error::ResourceExhausted { what: "segment", bytes, source: errno.into() };
            let fd = create(name).map_err(exhausted)?;
            // Pages are allocated here, so that a later touch never ends in SIGBUS for want of memory.
            rustix::fs::ftruncate(&fd, bytes as u64).map_err(exhausted)?;
            rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes as u64).map_err(exhausted)?;
            rustix::fs::fcntl_add_seals(&fd, SEALS).map_err(Error::system("sealing a segment"))?;
            let region = map(fd.as_fd(), bytes)?;
            write_header(&region, layout, epoch);
            Ok((Self { region, epoch }, fd))
        }

        /// Checks a descriptor from a peer and maps it: the only way from foreign memory to a segment.
        ///
        /// # Errors
        /// [`Error::BadSegment`] names the property that is wrong, [`Error::LayoutVersion`] a program of another
        /// version, [`Error::ResourceExhausted`] a full address space.
        pub fn open<L: Layout>(fd: BorrowedFd<'_>) -> Result<(Self, L), Error> {
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
            if !(super::HEADER_BYTES..=MAX_BYTES).contains(&bytes) {
                return Err(Error::BadSegment {
                    what: "size of the file",
                    found: bytes as u64,
                    expected: super::HEADER_BYTES as u64,
                });
            }
            refuse_more_than_there_is(bytes)?;
            // Not allocated in full, a later touch could end in SIGBUS.
            let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
            if allocated < bytes as u64 {
                return Err(Error::BadSegment { what: "allocated size", found: allocated, expected: bytes as u64 });
            }
            let region = map(fd, bytes)?;
            let (layout, epoch) = read_header::<L>(&region)?;
            Ok((Self { region, epoch }, layout))
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
        map.advise(Advice::DontFork)
            .map_err(|source| Error::System { what: "keeping a mapping from children", source })?;
        Ok(Region::map(map))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[derive(Debug, PartialEq)]
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
        let (made, fd) = Segment::memfd("test", &Plain(3), 9).unwrap();
        let (opened, layout) = Segment::open::<Plain>(fd.as_fd()).unwrap();
        assert_eq!((layout, opened.epoch(), opened.bytes()), (Plain(3), 9, made.bytes()));
        made.region().word(1024).store(5, Ordering::Relaxed);
        assert_eq!(opened.region().word(1024).load(Ordering::Relaxed), 5);
    }

    #[test]
    fn a_sealed_segment_cannot_be_truncated_or_grown() {
        let (_made, fd) = Segment::memfd("test", &Plain(3), 9).unwrap();
        assert_eq!(rustix::fs::ftruncate(&fd, 10), Err(rustix::io::Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&fd, 1 << 20), Err(rustix::io::Errno::PERM));
    }

    #[test]
    fn each_wrong_header_word_is_refused_by_name() {
        for (at, what) in [(MAGIC_AT, "magic"), (KIND_AT, "kind"), (SIZE_AT, "size"), (HASH_AT, "layout hash")] {
            let (made, fd) = Segment::memfd("test", &Plain(3), 9).unwrap();
            let word = made.region().word(at);
            word.store(word.load(Ordering::Relaxed) ^ (1 << 40), Ordering::Relaxed);
            match Segment::open::<Plain>(fd.as_fd()) {
                Err(Error::BadSegment { what: named, .. }) => assert_eq!(named, what),
                other => panic!("{what}: {other:?}"),
            }
        }
    }

    #[test]
    fn another_layout_version_is_named_with_both_numbers() {
        let (made, fd) = Segment::memfd("test", &Plain(3), 9).unwrap();
        made.region().word(MAGIC_AT).store(MAGIC | 700, Ordering::Relaxed);
        let error = Segment::open::<Plain>(fd.as_fd()).unwrap_err();
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
            assert!(matches!(Segment::open::<Plain>(fd), Err(Error::BadSegment { .. })));
        }
    }

    #[test]
    fn a_file_with_holes_is_refused() {
        let fd = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&fd, 1 << 30).unwrap();
        use rustix::fs::SealFlags;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
        let opened = Segment::open::<Plain>(fd.as_fd());
        assert!(matches!(opened, Err(Error::BadSegment { what: "allocated size", .. })), "{opened:?}");
    }

    #[test]
    fn memory_that_the_system_does_not_have_is_refused_at_creation() {
        #[derive(Debug)]
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
        assert!(matches!(Segment::memfd("huge", &Huge, 1), Err(Error::ResourceExhausted { .. })));
    }
}
