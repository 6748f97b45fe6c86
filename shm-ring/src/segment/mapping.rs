//! What every backing behind a descriptor has in common: it is allocated before it is touched, mapped and filled in.

use std::os::fd::BorrowedFd;

use rustix::fs::{FallocateFlags, FileType, Stat};
use rustix::io::Errno;
use rustix::process::Resource;

use super::{HEADER_BYTES, SegmentOptions};
use crate::error::Error;
use crate::fallback::Feature;
use crate::raw::{Access, Advice, Guarded, Region};
use crate::sync::Ordering;

/// One segment must not take the machine down by a mistyped size.
const MAX_BYTES: usize = 1 << 36;

/// Smaller segments have no huge page in them.
const HUGE_PAGE: usize = 2 << 20;

/// Turns answers that mean "there is no more of it" into [`Error::ResourceExhausted`].
pub(super) fn refused(what: &'static str, bytes: usize) -> impl Fn(Errno) -> Error {
    move |errno| Error::of_answer(what, bytes, errno)
}

/// Holds a size against this process's limits, before the kernel answers with a signal (`SIGXFSZ`).
pub(super) fn refuse_more_than_is_allowed(bytes: usize) -> Result<(), Error> {
    let limit = rustix::process::getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    if bytes > MAX_BYTES || bytes as u64 > limit {
        return Err(refused("segment", bytes)(Errno::FBIG));
    }
    Ok(())
}

/// The kernel allocates such memory page by page and calls the out-of-memory killer when none is left, so a large
/// request is held against the memory that is available first. Small ones are not worth reading a file.
pub(super) fn refuse_more_than_there_is(bytes: usize) -> Result<(), Error> {
    const WORTH_ASKING: usize = 16 << 20;
    if bytes <= WORTH_ASKING {
        return Ok(());
    }
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()?.checked_mul(1024)
    });
    if available.is_some_and(|available| bytes > available) {
        return Err(refused("segment", bytes)(Errno::NOMEM));
    }
    Ok(())
}

/// Allocates every page or block, so that a later touch never ends in `SIGBUS` for want of room.
pub(super) fn allocate(fd: BorrowedFd<'_>, bytes: usize) -> Result<(), Error> {
    rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, bytes as u64).map_err(refused("segment", bytes))
}

/// Which file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileId {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

pub(crate) fn stat(fd: BorrowedFd<'_>) -> Result<Stat, Error> {
    rustix::fs::fstat(fd).map_err(Error::system("fstat of a segment"))
}

/// The size of the file behind a segment.
pub(crate) fn file_bytes(stat: &Stat) -> Result<usize, Error> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::BadSegment { what: "file type", found: stat.st_mode.into(), expected: 0o100_000 });
    }
    let bytes = usize::try_from(stat.st_size).unwrap_or(0);
    if !(HEADER_BYTES..=MAX_BYTES).contains(&bytes) {
        let (found, expected) = (bytes as u64, HEADER_BYTES as u64);
        return Err(Error::BadSegment { what: "size of the file", found, expected });
    }
    Ok(bytes)
}

/// The size of a file that is a segment and nothing else: allocated in full, or a later touch could end in `SIGBUS`.
pub(super) fn whole_file_bytes(stat: &Stat) -> Result<usize, Error> {
    let bytes = file_bytes(stat)?;
    is_allocated(stat, bytes)?;
    Ok(bytes)
}

/// Whether a file has memory for so many bytes.
pub(super) fn is_allocated(stat: &Stat, bytes: usize) -> Result<(), Error> {
    let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    if allocated < bytes as u64 {
        return Err(Error::BadSegment { what: "allocated size", found: allocated, expected: bytes as u64 });
    }
    Ok(())
}

/// Maps the first `bytes` of a file between guards, without touching them, and keeps them from children.
pub(super) fn map(fd: BorrowedFd<'_>, bytes: usize) -> Result<Region, Error> {
    let exhausted = |source| Error::ResourceExhausted { what: "mapping", bytes, source };
    Guarded::map(fd, bytes, Access::ReadWrite).map(Region::map).map_err(exhausted)
}

/// The same for reading only. A store to it ends the process, so what is made of it must not have any.
pub(super) fn map_read_only(fd: BorrowedFd<'_>, bytes: usize) -> Result<Region, Error> {
    let exhausted = |source| Error::ResourceExhausted { what: "mapping", bytes, source };
    Guarded::map(fd, bytes, Access::Read).map(Region::map).map_err(exhausted)
}

/// Allocates and fills in memory that was just made and mapped.
pub(super) fn settle_made(region: &Region, fd: BorrowedFd<'_>, options: &SegmentOptions) -> Result<(), Error> {
    if welcomes_huge_pages(region, options) {
        // Huge pages come only to pages that are touched through a mapping, so these go before the allocation. What
        // does not fit is told by that.
        let _ = region.advise(Advice::FillForWriting);
    }
    allocate(fd, region.len())?;
    if options.wants_prefault() { fill(region, Advice::FillForWriting) } else { Ok(()) }
}

/// Fills in memory that somebody else made.
pub(super) fn settle_opened(region: &Region, options: &SegmentOptions) -> Result<(), Error> {
    welcomes_huge_pages(region, options);
    if options.wants_prefault() { fill(region, Advice::FillForReading) } else { Ok(()) }
}

/// Whether huge pages were asked for and the kernel knows of them; what it does about it is its affair.
fn welcomes_huge_pages(region: &Region, options: &SegmentOptions) -> bool {
    options.wants_huge_pages() && region.len() >= HUGE_PAGE && region.advise(Advice::HugePages).is_ok()
}

/// Puts every page into this process's page table.
fn fill(region: &Region, advice: Advice) -> Result<(), Error> {
    if !Feature::Populate.is_disabled() {
        match region.advise(advice) {
            Err(Errno::INVAL) => {} // a kernel before 5.14
            // The kernel's word for what would be a SIGBUS.
            Err(Errno::FAULT) => return Err(refused("mapping", region.len())(Errno::NOMEM)),
            answer => return answer.map_err(refused("mapping", region.len())),
        }
    }
    const PAGE: usize = 4096;
    for page in (0..region.len() - 7).step_by(PAGE) {
        region.word(page).load(Ordering::Relaxed);
    }
    Ok(())
}

/// Bytes of a mapping that stand on huge pages, by the kernel's book-keeping.
pub(super) fn huge_bytes(region: &Region) -> usize {
    let book = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let ours = region.address()..region.address() + region.len();
    let mut inside = false;
    let mut kib = 0;
    for line in book.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if let Some((start, _)) = first.split_once('-') {
            inside = usize::from_str_radix(start, 16).is_ok_and(|start| ours.contains(&start));
        } else if inside && matches!(first, "ShmemPmdMapped:" | "FilePmdMapped:") {
            kib += second.parse().unwrap_or(0);
        }
    }
    kib << 10
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_largest_size_is_allowed_and_one_byte_more_is_refused() {
        assert!(refuse_more_than_is_allowed(MAX_BYTES).is_ok());
        let refused = refuse_more_than_is_allowed(MAX_BYTES + 1);
        assert!(
            matches!(refused, Err(Error::ResourceExhausted { bytes, .. }) if bytes == MAX_BYTES + 1),
            "{refused:?}"
        );
    }

    #[test]
    fn a_size_is_held_against_the_memory_that_is_there() {
        for bytes in [1, 16 << 20, 17 << 20] {
            assert!(refuse_more_than_there_is(bytes).is_ok(), "{bytes}");
        }
        let refused = refuse_more_than_there_is(usize::MAX);
        assert!(matches!(refused, Err(Error::ResourceExhausted { bytes: usize::MAX, .. })), "{refused:?}");
    }

    #[test]
    fn a_file_has_memory_for_what_is_allocated_and_for_no_byte_more() {
        let fd = rustix::fs::memfd_create("pages", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, 1 << 20).unwrap();
        let whole = || whole_file_bytes(&stat(fd.as_fd()).unwrap());
        assert!(matches!(whole(), Err(Error::BadSegment { what: "allocated size", found: 0, .. })));
        allocate(fd.as_fd(), 1 << 20).unwrap();
        assert_eq!(whole().unwrap(), 1 << 20);
        assert!(is_allocated(&stat(fd.as_fd()).unwrap(), (1 << 20) + 1).is_err());
    }

    #[test]
    fn a_file_that_has_no_room_for_a_header_or_is_absurdly_large_is_no_segment() {
        let fd = rustix::fs::memfd_create("sizes", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let sizes = [0, HEADER_BYTES - 1, HEADER_BYTES, MAX_BYTES, MAX_BYTES + 1];
        let are_fit = sizes.map(|bytes| {
            rustix::fs::ftruncate(&fd, bytes as u64).unwrap();
            file_bytes(&stat(fd.as_fd()).unwrap()).is_ok_and(|found| found == bytes)
        });
        assert_eq!(are_fit, [false, false, true, true, false]);
    }
}
