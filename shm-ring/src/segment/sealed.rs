//! One payload as a memfd of its own that nobody can write any more: the only foreign memory that is read in place
//! whatever its maker thinks of it.
//!
//! Its pages are allocated, mapped and freed for each payload, which copies into memory that is there already need not
//! do. It is for payloads that should take no room of the reader's: the memory is its maker's, once, and gone after the
//! use.
#![allow(unsafe_code)] // It gives the memory as a slice.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, SealFlags};
use rustix::io::Errno;

use super::header::expect;
use super::{mapping, memfd};
use crate::error::Error;
use crate::raw::{Access, Guarded};

/// Against writing by any way (`F_SEAL_WRITE` is refused while a mapping for writing is there, and allows none from then
/// on; it also stops punched holes), against truncation under a reader (SIGBUS), and growth.
const FROZEN: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW);

/// What small pieces are gathered up to before they are written, in bytes.
const GATHERED: usize = 256 << 10;

/// The file system that every memfd of ordinary pages lies in.
const TMPFS: u64 = 0x0102_1994;

/// A payload in the making: written from its start to its end, then sealed.
#[derive(Debug)]
pub struct SealedWriter {
    file: BufWriter<File>,
    written: usize,
    limit: usize,
}

impl SealedWriter {
    /// An empty payload that may become `limit` bytes long. One descriptor, no memory yet but for a buffer of 256 KiB;
    /// `name` is for tools only.
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] if there is no descriptor left, or less memory or file size than `limit`.
    pub fn new(name: &str, limit: usize) -> Result<Self, Error> {
        mapping::refuse_more_than_is_allowed(limit)?;
        mapping::refuse_more_than_there_is(limit)?;
        let fd = memfd::create(name).map_err(mapping::refused("sealed payload", limit))?;
        Ok(Self { file: BufWriter::with_capacity(GATHERED, File::from(fd)), written: 0, limit })
    }

    /// Appends bytes. About 0.4 ms for each MiB, most of it for the allocation.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond the limit, [`Error::ResourceExhausted`] if the system has no memory for them; the
    /// payload is then of no more use.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.written.saturating_add(bytes.len());
        if written > self.limit {
            return Err(Error::TooLarge { len: written, limit: self.limit });
        }
        self.file.write_all(bytes).map_err(|source| out_of(written, source))?;
        self.written = written;
        Ok(())
    }

    /// Seals what was appended: from here on neither this process nor any other can change it. Gives the descriptor and
    /// the length in bytes.
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] if the system has no memory for the last bytes.
    pub fn seal(self) -> Result<(OwnedFd, usize), Error> {
        let written = self.written;
        let file = self.file.into_inner().map_err(|error| out_of(written, error.into_error()))?;
        rustix::fs::fcntl_add_seals(&file, FROZEN | SealFlags::SEAL).map_err(Error::system("sealing a payload"))?;
        Ok((file.into(), written))
    }
}

/// Sorts the answers to a write.
fn out_of(bytes: usize, source: io::Error) -> Error {
    match Errno::from_io_error(&source) {
        Some(errno) => mapping::refused("sealed payload", bytes)(errno),
        None => Error::System { what: "writing a payload", source },
    }
}

/// A payload that a peer made and can change no more, mapped for reading between guards. Dropped, it is unmapped.
#[must_use = "unmapped when dropped"]
pub struct SealedPayload(Guarded);

impl fmt::Debug for SealedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedPayload").field("bytes", &self.0.len()).finish()
    }
}

impl SealedPayload {
    /// Checks a descriptor from a peer and maps it: a memfd of ordinary pages, sealed against writing, shrinking and
    /// growth, of exactly `len` bytes, at least one, all of them allocated. Some system calls; pages are mapped at their
    /// first use. The descriptor is needed no more afterwards.
    ///
    /// # Errors
    /// [`Error::BadSegment`] names the property that is wrong, found before anything is mapped;
    /// [`Error::ResourceExhausted`] a full address space.
    pub fn open(fd: BorrowedFd<'_>, len: usize) -> Result<Self, Error> {
        // The seals first: once they are there, what is found afterwards stays so.
        let seals = rustix::fs::fcntl_get_seals(fd).map_err(|_| Error::BadSegment {
            what: "file that can be sealed",
            found: 0,
            expected: FROZEN.bits().into(),
        })?;
        expect("seals", (seals & FROZEN).bits().into(), FROZEN.bits().into())?;
        let system = rustix::fs::fstatfs(fd).map_err(Error::system("fstatfs of a payload"))?;
        // Memory of huge pages has other sizes, and its pages can be missing in spite of the seals.
        expect("file system", system.f_type as u64, TMPFS)?;
        let stat = mapping::stat(fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::BadSegment { what: "file type", found: stat.st_mode.into(), expected: 0o100_000 });
        }
        expect("size of the payload", stat.st_size as u64, len as u64)?;
        if len == 0 {
            return Err(Error::BadSegment { what: "size of the payload", found: 0, expected: 1 });
        }
        // A hole would read as zeros, by a page that is made at the read: the maker's memory is to be there already.
        mapping::is_allocated(&stat, len)?;
        let exhausted = |source| Error::ResourceExhausted { what: "mapping", bytes: len, source };
        Guarded::map(fd, len, Access::ReadFrozen).map(Self).map_err(exhausted)
    }

    /// The bytes, in place; the first at a multiple of the page size.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `open` mapped it with `ReadFrozen` and saw `F_SEAL_WRITE` before. The kernel sets that seal only while
        // nobody maps the file for writing, and refuses such mappings, `write` and holes from then on, to everybody; seals
        // are never taken off. `SHRINK` and `GROW` keep the size, and all pages were found allocated.
        unsafe { self.0.frozen() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{FallocateFlags, MemfdFlags};

    use super::*;

    const LEN: usize = (1 << 20) + 77;

    fn content() -> Vec<u8> {
        (0..LEN).map(|at| (at % 251) as u8).collect()
    }

    fn sealed(bytes: &[u8]) -> OwnedFd {
        let mut writer = SealedWriter::new("test", bytes.len()).unwrap();
        // In pieces of all sizes.
        let (first, rest) = bytes.split_at(bytes.len().min(3));
        writer.append(first).unwrap();
        rest.chunks(300_000).for_each(|piece| writer.append(piece).unwrap());
        let (fd, len) = writer.seal().unwrap();
        assert_eq!(len, bytes.len());
        fd
    }

    #[test]
    fn what_was_appended_is_read_in_place_and_nothing_is_left_afterwards() {
        let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().contains("/memfd:sealed-and-gone");
        let mut writer = SealedWriter::new("sealed-and-gone", LEN).unwrap();
        writer.append(&content()).unwrap();
        let (fd, len) = writer.seal().unwrap();
        assert!(!mapped(), "the writer keeps no mapping");
        let payload = SealedPayload::open(fd.as_fd(), len).unwrap();
        drop(fd);
        assert!(mapped());
        assert_eq!(payload.bytes(), content());
        assert!(payload.bytes().as_ptr().addr().is_multiple_of(4096));
        drop(payload);
        assert!(!mapped());
    }

    /// Whoever has the descriptor, the maker included, can change neither the content nor the size of a sealed payload.
    #[test]
    fn nobody_can_write_a_payload_that_is_sealed() {
        let fd = sealed(&content());
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let reopened = File::options().read(true).write(true).open(path).unwrap();
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for fd in [fd.as_fd(), reopened.as_fd()] {
            assert_eq!(rustix::io::pwrite(fd, &[1], 0), Err(Errno::PERM));
            assert!(Guarded::map(fd, LEN, Access::ReadWrite).is_err(), "mapped for writing");
            assert_eq!(rustix::fs::ftruncate(fd, 10), Err(Errno::PERM));
            assert_eq!(rustix::fs::ftruncate(fd, 2 * LEN as u64), Err(Errno::PERM));
            assert_eq!(rustix::fs::fallocate(fd, hole, 0, 4096), Err(Errno::PERM));
        }
        assert_eq!(SealedPayload::open(fd.as_fd(), LEN).unwrap().bytes(), content());
    }

    #[test]
    fn a_payload_cannot_be_sealed_while_somebody_maps_it_for_writing() {
        let fd = memfd::create("test").unwrap();
        rustix::fs::ftruncate(&fd, 4096).unwrap();
        let _mapped = Guarded::map(fd.as_fd(), 4096, Access::ReadWrite).unwrap();
        assert_eq!(rustix::fs::fcntl_add_seals(&fd, FROZEN), Err(Errno::BUSY));
    }

    fn refused(fd: BorrowedFd<'_>, len: usize, wrong: &str) {
        match SealedPayload::open(fd, len) {
            Err(Error::BadSegment { what, .. }) => assert_eq!(what, wrong),
            other => panic!("{wrong}: {other:?}"),
        }
    }

    /// Each seal counts, and so does the exact length.
    #[test]
    fn a_payload_without_a_seal_or_of_another_length_is_refused() {
        for missing in [SealFlags::WRITE, SealFlags::SHRINK, SealFlags::GROW, FROZEN] {
            let fd = memfd::create("test").unwrap();
            rustix::io::write(&fd, &[7; 4096]).unwrap();
            rustix::fs::fcntl_add_seals(&fd, FROZEN - missing).unwrap();
            refused(fd.as_fd(), 4096, "seals");
        }
        let fd = sealed(&content());
        for len in [0, 1, LEN - 1, LEN + 1, usize::MAX] {
            refused(fd.as_fd(), len, "size of the payload");
        }
    }

    #[test]
    fn files_that_are_no_payloads_are_refused() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let file = |path| File::open(path).unwrap();
        for fd in [OwnedFd::from(reader), file("/").into(), file("/dev/zero").into(), file("/proc/self/maps").into()] {
            refused(fd.as_fd(), 4096, "file that can be sealed");
        }
    }

    #[test]
    fn holes_and_huge_pages_are_refused() {
        let fd = memfd::create("test").unwrap();
        rustix::fs::ftruncate(&fd, 1 << 30).unwrap();
        rustix::fs::fcntl_add_seals(&fd, FROZEN).unwrap();
        refused(fd.as_fd(), 1 << 30, "allocated size");
        // Where the system knows such pages; it need not have any.
        if let Ok(huge) = rustix::fs::memfd_create("test", MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB) {
            rustix::fs::ftruncate(&huge, 2 << 20).unwrap();
            rustix::fs::fcntl_add_seals(&huge, FROZEN).unwrap();
            refused(huge.as_fd(), 2 << 20, "file system");
        }
    }

    #[test]
    fn an_empty_payload_is_refused() {
        let (fd, len) = SealedWriter::new("test", 10).unwrap().seal().unwrap();
        assert!(matches!(SealedPayload::open(fd.as_fd(), len), Err(Error::BadSegment { .. })));
    }

    #[test]
    fn more_than_the_limit_is_refused_and_so_is_more_than_there_is() {
        let mut writer = SealedWriter::new("test", 10).unwrap();
        writer.append(&[1; 10]).unwrap();
        assert!(matches!(writer.append(&[1]), Err(Error::TooLarge { len: 11, limit: 10 })));
        assert!(matches!(SealedWriter::new("test", 1 << 60), Err(Error::ResourceExhausted { .. })));
    }
}
