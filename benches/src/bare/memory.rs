//! Memory of the bare rings: a power of two of bytes behind a descriptor, with room for one frame beyond its end.
#![allow(unsafe_code)] // Rings without checks, to hold the checked ones against.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::MemfdFlags;

/// Bytes before the ring's data, for its control words.
const CONTROL: usize = 4096;
/// The longest frame; as many bytes follow the data, so that a frame never has to be split.
pub const MOST_FRAME: usize = 128 << 10;
/// Two lines apart: pairs of lines are fetched together.
const APART: usize = 128;

/// Control words, `capacity` bytes of data, and room for the end of the last frame.
#[derive(Debug)]
pub struct Memory {
    map: MmapRaw,
    file: File,
    mask: usize,
}

impl Memory {
    /// Makes zeroed memory with `capacity` bytes of data.
    ///
    /// # Errors
    /// The kernel gives no memory; `InvalidInput` unless `capacity` is a power of two of at least 8.
    pub fn create(capacity: usize) -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create("bare-ring", MemfdFlags::CLOEXEC)?);
        file.set_len((CONTROL + capacity + MOST_FRAME) as u64)?;
        Self::map(file)
    }

    /// Maps the memory that another process, or another thread, made.
    ///
    /// # Errors
    /// It cannot be opened or mapped, or has not the size of one.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::map(File::options().read(true).write(true).open(path)?)
    }

    /// Where another process of this user finds the memory while this one keeps it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Bytes of data.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.mask + 1
    }

    fn map(file: File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        let capacity = len.saturating_sub(CONTROL + MOST_FRAME);
        if !capacity.is_power_of_two() || capacity < 8 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a bare ring of {capacity} bytes")));
        }
        let map = MmapOptions::new().len(len).populate().map_raw(&file)?;
        Ok(Self { map, file, mask: capacity - 1 })
    }

    /// The control word with this number.
    #[inline]
    pub fn control(&self, number: usize) -> &AtomicU64 {
        self.word_at(number % (CONTROL / APART) * APART)
    }

    /// The first word of the frame at this position; positions grow for ever and are multiples of 8.
    #[inline]
    pub fn header(&self, position: u64) -> &AtomicU64 {
        self.word_at(CONTROL + (position as usize & self.mask & !7))
    }

    /// Copies a payload behind the header of the frame at this position.
    #[inline]
    pub fn write(&self, position: u64, payload: &[u8]) {
        debug_assert!(payload.len() <= MOST_FRAME - 8, "the payload fits behind any header");
        // SAFETY: the masked offset is below the capacity, and `MOST_FRAME` bytes follow the data.
        let to = unsafe { self.map.as_mut_ptr().add(CONTROL + (position as usize & self.mask & !7) + 8) };
        // SAFETY: `to` is valid for the payload; by the ring's protocol nobody else touches an unpublished frame.
        unsafe { core::ptr::copy_nonoverlapping(payload.as_ptr(), to, payload.len()) }
    }

    /// The payload of the frame at this position. The caller is its only reader, and has not given it back yet.
    #[inline]
    pub fn read(&self, position: u64, len: usize) -> &[u8] {
        debug_assert!(len <= MOST_FRAME - 8, "the payload fits behind any header");
        // SAFETY: the masked offset is below the capacity, and `MOST_FRAME` bytes follow the data.
        let at = unsafe { self.map.as_mut_ptr().add(CONTROL + (position as usize & self.mask & !7) + 8) };
        // SAFETY: valid for `len` bytes while `self` lives; by the ring's protocol nobody writes a published frame.
        unsafe { core::slice::from_raw_parts(at, len) }
    }

    /// Zeroes `len` bytes from this position on, up to the end of the data; they belong to the caller.
    #[inline]
    pub fn clear(&self, position: u64, len: usize) {
        let offset = position as usize & self.mask & !7;
        let len = len.min(self.capacity() - offset);
        // SAFETY: the masked offset is below the capacity.
        let from = unsafe { self.map.as_mut_ptr().add(CONTROL + offset) };
        // SAFETY: `len` bytes from there are data; by the ring's protocol nobody else touches them now.
        unsafe { core::ptr::write_bytes(from, 0, len) }
    }

    #[inline]
    fn word_at(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both callers keep the offset within the control words or the data.
        let at = unsafe { self.map.as_mut_ptr().add(offset) };
        // SAFETY: 8-aligned (the map is page-aligned, offsets are multiples of 8), and atomics are all that is ever made of
        // the words at control offsets and frame headers.
        unsafe { AtomicU64::from_ptr(at.cast()) }
    }
}
