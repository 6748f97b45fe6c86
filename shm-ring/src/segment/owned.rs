//! Segments in memory that the caller owns: a file or memfd of any origin, without seals.
//!
//! Nothing but the caller keeps such memory from being truncated, and whoever touches a page that is gone ends by
//! `SIGBUS`. So these doors are for descriptors that the program itself looks after; those of a peer go through
//! [`Segment::open`].

use std::os::fd::BorrowedFd;

use super::{HEADER_BYTES, Layout, Segment, SegmentOptions, header, mapping};
use crate::error::Error;

impl<L: Layout> Segment<L> {
    /// Makes a segment in the first bytes of a file that the caller owns, and erases what they held.
    ///
    /// The file must be at least as large as the layout; it is allocated up to there, neither grown nor renamed, and its
    /// permissions stay as they are. One process makes the segment; the others come by
    /// [`open_unsealed`](Self::open_unsealed) when they hear of it. Costs about as much as writing all of it.
    ///
    /// The owner of the file must not truncate it while anybody uses the segment.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if the file is too small or no regular file, [`Error::Taken`] if a segment stands in it
    /// already, [`Error::ResourceExhausted`] if the system has no room for all of it, here and never later.
    pub fn from_fd(fd: BorrowedFd<'_>, layout: L, epoch: u64, options: &SegmentOptions) -> Result<Self, Error> {
        let bytes = layout.bytes();
        let there = mapping::file_bytes(&mapping::stat(fd)?)?;
        if there < bytes {
            return Err(Error::BadSegment { what: "size of the file", found: there as u64, expected: bytes as u64 });
        }
        if header::is_in(fd)? {
            return Err(Error::Taken { place: "the descriptor".to_owned(), why: "a segment stands in it already" });
        }
        let region = mapping::map(fd, bytes)?;
        mapping::settle_made(&region, fd, options)?;
        erase(&region);
        Self::make(region, layout, epoch).found_by(fd)
    }

    /// Opens a segment in a file that the caller owns, made there by [`from_fd`](Self::from_fd).
    ///
    /// Everything in it is checked as [`open`](Self::open) does, but for the seals: that the file is not truncated
    /// is the caller's affair.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_unsealed(fd: BorrowedFd<'_>, options: &SegmentOptions) -> Result<Self, Error> {
        let there = mapping::file_bytes(&mapping::stat(fd)?)?;
        let bytes = header::stated_bytes(fd)?;
        if !(HEADER_BYTES as u64..=there as u64).contains(&bytes) {
            return Err(Error::BadSegment { what: "size", found: bytes, expected: there as u64 });
        }
        let bytes = bytes as usize;
        // What the maker allocated stays allocated unless somebody punched holes; filling them is cheaper than to look.
        mapping::allocate(fd, bytes)?;
        let region = mapping::map(fd, bytes)?;
        mapping::settle_opened(&region, options)?;
        Self::check(region)?.found_by(fd)
    }
}

fn erase(region: &crate::raw::Region) {
    const ZEROS: [u8; 4096] = [0; 4096];
    for at in (0..region.len()).step_by(ZEROS.len()) {
        region.copy_in(at, &ZEROS[..ZEROS.len().min(region.len() - at)]);
    }
}
