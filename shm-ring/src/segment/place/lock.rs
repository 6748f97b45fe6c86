//! Two locks on the file behind a name, both given back by the kernel when their holder dies.
//!
//! - *In use*: every handle holds it shared. Who gets it alone knows that nobody has the segment open, and nobody gets
//!   in meanwhile.
//! - *Name*: who holds it may take the name away from this file, by removing or replacing it. Held for a few system
//!   calls.
//!
//! They belong to open file descriptions, so that two handles in one process exclude each other like two processes,
//! and closing one leaves the other alone. A child made by fork shares the description, if only until it executes
//! another program. So locks are given back by word and not by closing alone; but if a process is killed that has forked
//! such a child, its segments count as in use until the child ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error::Error;
use crate::fork::Home;

/// How long a few system calls of somebody else may take before it is told as an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// The bytes of the file that stand for the locks; no byte is read or written for it.
const IN_USE: libc::off_t = 0;
const NAME: libc::off_t = 1;

/// An open file and the locks that were taken through it; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct LockFile {
    fd: OwnedFd,
    /// A child that drops its copy must not give back what is its parent's.
    home: Home,
}

impl LockFile {
    pub(super) fn new(fd: OwnedFd) -> Result<Self, Error> {
        Ok(Self { fd, home: Home::here()? })
    }

    /// Says that this handle uses the segment. False while somebody has it alone.
    pub(super) fn try_use(&self) -> Result<bool, Error> {
        self.lock(IN_USE, libc::F_RDLCK)
    }

    /// Takes the segment alone. False if a handle is open.
    pub(super) fn try_have_alone(&self) -> Result<bool, Error> {
        self.lock(IN_USE, libc::F_WRLCK)
    }

    /// Takes the right over the file's name. False if another has it.
    pub(super) fn try_name(&self) -> Result<bool, Error> {
        self.lock(NAME, libc::F_WRLCK)
    }

    fn lock(&self, byte: libc::off_t, kind: libc::c_int) -> Result<bool, Error> {
        let lock = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        match fcntl(&self.fd, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) => Ok(false),
            Err(errno) => Err(Error::System { what: "locking a segment's file", source: errno.into() }),
        }
    }
}

impl AsFd for LockFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.home.is_here() {
            // Should this fail, closing does it, unless a child has a copy at this moment.
            let _ = self.lock(IN_USE, libc::F_UNLCK);
            let _ = self.lock(NAME, libc::F_UNLCK);
        }
    }
}

/// Gives others time for the system calls they are in the middle of; an error when that was too long.
pub(super) fn pause(since: Instant) -> Result<(), Error> {
    if since.elapsed() > PATIENCE {
        let source = std::io::ErrorKind::TimedOut.into();
        return Err(Error::System { what: "waiting for somebody who replaces a segment", source });
    }
    // The kernel tells nobody when a lock comes free, short of waiting for it without a limit.
    std::thread::sleep(Duration::from_micros(200));
    Ok(())
}
