//! Memory that this process shares with others, written without any rule: what a hostile peer has.
#![allow(unsafe_code)] // It maps memory and hands out words of it.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::ReadWriteFlags;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::net::{SendFlags, Shutdown};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use rustix::thread::futex;

/// A file's whole memory, mapped once more, for writing. Unmapped when it is dropped.
pub struct Memory {
    base: NonNull<u8>,
    len: usize,
    fd: OwnedFd,
    name: String,
}

// SAFETY: the mapping is this value's own, and is reached through atomics only.
unsafe impl Send for Memory {}
// SAFETY: as for `Send`.
unsafe impl Sync for Memory {}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("name", &self.name).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Memory {
    /// The memory behind a descriptor.
    ///
    /// # Errors
    /// Why it cannot be mapped for writing, or is smaller than a word.
    pub fn over(fd: OwnedFd) -> io::Result<Self> {
        let len = usize::try_from(rustix::fs::fstat(&fd)?.st_size).map_err(io::Error::other)? / 8 * 8;
        if len == 0 {
            return Err(io::Error::other("no memory"));
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel finds room replaces nothing.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, &fd, 0) }?;
        let base = NonNull::new(base.cast()).expect("a mapping is never at address zero");
        Ok(Self { base, len, name: name_of(fd.as_fd())?, fd })
    }

    /// The memory of each memfd that this process has a descriptor of and may write, once each, if its name begins so.
    /// And the names of those that it may not write, however it tries.
    pub fn of_this_process(prefix: &str) -> (Vec<Self>, Vec<String>) {
        let (mut writable, mut others) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let is_ours = |target: &str| target.strip_prefix("/memfd:").is_some_and(|name| name.starts_with(prefix));
        for fd in duplicates(is_ours) {
            let Ok(name) = name_of(fd.as_fd()) else { continue };
            if !rustix::fs::fstat(&fd).is_ok_and(|stat| seen.insert(stat.st_ino)) {
                continue;
            }
            // Opened anew, in case that it was sent open for reading only.
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let anew = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
            match anew.map_err(io::Error::from).and_then(Self::over) {
                Ok(memory) => writable.push(memory),
                Err(_) => others.push(name),
            }
        }
        (writable, others)
    }

    /// The memfd's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Words of 64 bits.
    pub fn words(&self) -> usize {
        self.len / 8
    }

    /// A word.
    ///
    /// # Panics
    /// If there is no such word.
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words(), "word {index} of {}", self.words());
        // SAFETY: the assertion keeps it inside the mapping, which begins at a page and lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().cast::<u64>().wrapping_add(index)) }
    }

    /// The lower half of a word, on which others may sleep.
    fn futex(&self, index: usize) -> &AtomicU32 {
        // SAFETY: four bytes of a word inside the mapping, aligned as the word is; it is given to the kernel only.
        unsafe { AtomicU32::from_ptr(self.word(index).as_ptr().cast()) }
    }

    /// Wakes everybody who sleeps on a word; says how many.
    pub fn wake_all(&self, index: usize) -> usize {
        futex::wake(self.futex(index), futex::Flags::empty(), i32::MAX as u32).unwrap_or(0)
    }

    /// Moves everybody who sleeps on a word to another word, perhaps of other memory, without waking anybody; says how
    /// many.
    pub fn requeue(&self, index: usize, to: &Self, other: usize) -> usize {
        let all = i32::MAX as u32;
        futex::requeue(self.futex(index), futex::Flags::empty(), 0, all, to.futex(other)).unwrap_or(0)
    }

    /// Gives pages back to the system: they read as zeros afterwards.
    ///
    /// # Errors
    /// Why the kernel refuses.
    pub fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.fd, flags, offset, len)?)
    }

    /// Cuts the file off.
    ///
    /// # Errors
    /// Why the kernel refuses.
    pub fn truncate(&self, len: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(&self.fd, len)?)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `over` mapped exactly this range, and no word of it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// What a word could become that its reader does not expect; `chance` is any number and decides everything.
pub fn spoilt(value: u64, chance: u64) -> u64 {
    const EXTREMES: [u64; 10] =
        [0, 1, 2, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 1 << 63, u64::MAX, u64::MAX - 7, 0x0001_0001_0001_0001];
    let bit = 1 << ((chance >> 8) % 64);
    match chance % 8 {
        0 => chance.wrapping_mul(0x2545_f491_4f6c_dd1d),
        1 => EXTREMES[(chance >> 8) as usize % EXTREMES.len()],
        2 => value.wrapping_add(bit),
        3 => value.wrapping_sub(bit),
        4 => value.rotate_left(32),
        // Lengths are in the upper or in the lower half.
        5 => value | 0xffff_ffff << 32,
        6 => value | 0xffff,
        _ => value ^ bit,
    }
}

/// The descriptors by which this process and its peers tell each other something: event descriptors, and sockets but for
/// standard input, which is the line to the parent.
#[derive(Debug)]
pub struct Bells {
    events: Vec<OwnedFd>,
    sockets: Vec<OwnedFd>,
}

impl Bells {
    /// Those that there are now.
    pub fn of_this_process() -> Self {
        let line = rustix::fs::fstat(io::stdin()).map(|stat| stat.st_ino);
        let mut sockets = duplicates(|target| target.starts_with("socket:"));
        sockets.retain(|socket| rustix::fs::fstat(socket).map(|stat| stat.st_ino) != line);
        Self { events: duplicates(|target| target == "anon_inode:[eventfd]"), sockets }
    }

    /// Makes each of them one on which a reader or writer waits, and rings it, fills it up, or empties it before the other
    /// side can; `chance` is any number and decides. The caller itself never waits.
    pub fn jam(&self, chance: u64) {
        for event in &self.events {
            let count = if chance & 1 == 0 { 1 } else { u64::MAX - 1 };
            let _ = rustix::io::ioctl_fionbio(event, true);
            let filled = rustix::io::write(event, &count.to_ne_bytes());
            let _ = rustix::io::ioctl_fionbio(event, false);
            if filled.is_ok() && chance & 2 == 0 {
                let mut emptied = [0; 8];
                let parts = &mut [IoSliceMut::new(&mut emptied)];
                let _ = rustix::io::preadv2(event, parts, u64::MAX, ReadWriteFlags::NOWAIT);
            }
        }
        for socket in &self.sockets {
            let _ = rustix::io::ioctl_fionbio(socket, false);
            let junk = vec![chance as u8; (chance >> 8) as usize % 2000];
            let _ = rustix::net::send(socket, &junk, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            if (chance >> 32).is_multiple_of(500) {
                let _ = rustix::net::shutdown(socket, Shutdown::Read);
            }
        }
    }
}

impl Drop for Bells {
    fn drop(&mut self) {
        // Some of them are what the attacker's own threads sleep on.
        for event in &self.events {
            let _ = rustix::io::ioctl_fionbio(event, true);
        }
    }
}

/// Duplicates of those descriptors of this process that are open on what is chosen. Only the kernel knows for certain
/// what a number stands for while other threads are at work, so it makes them.
fn duplicates(is_chosen: impl Fn(&str) -> bool) -> Vec<OwnedFd> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).expect("a descriptor is left");
    let chosen = descriptors().into_iter().filter(|(_, target)| is_chosen(target));
    chosen
        .filter_map(|(number, _)| {
            let fd = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok()?;
            target_of(fd.as_fd()).is_ok_and(|target| is_chosen(&target)).then_some(fd)
        })
        .collect()
}

/// Numbers of the descriptors of this process, and what they are open on.
fn descriptors() -> Vec<(i32, String)> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("proc is mounted");
    let described = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let target = std::fs::read_link(&path).ok()?.to_string_lossy().into_owned();
        Some((path.file_name()?.to_str()?.parse().ok()?, target))
    });
    described.collect()
}

fn target_of(fd: BorrowedFd<'_>) -> io::Result<String> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(std::fs::read_link(path)?.to_string_lossy().into_owned())
}

fn name_of(fd: BorrowedFd<'_>) -> io::Result<String> {
    let target = target_of(fd)?;
    let name = target.strip_prefix("/memfd:").unwrap_or(&target);
    Ok(name.strip_suffix(" (deleted)").unwrap_or(name).to_owned())
}
