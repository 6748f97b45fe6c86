//! Who is at the other end, by the kernel's word.
#![allow(unsafe_code)] // SO_PEERPIDFD is newer than the safe wrappers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::fallback::Feature;

/// The effective user of this process.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The effective group of this process.
pub fn own_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// The process that connected, or that listens; credentials of that moment.
#[derive(Debug)]
pub struct Peer {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Process id as this process sees it; only a number for texts and tools, never an identity.
    pub pid: u32,
    pidfd: OwnedFd,
}

impl Peer {
    /// Reads the credentials of a connected socket.
    ///
    /// # Errors
    /// [`Error::Closed`] if the peer is gone already, [`Error::System`] for other answers.
    pub(super) fn of(socket: BorrowedFd<'_>) -> Result<Self, Error> {
        let Credentials { uid, gid, pid } = credentials(socket)?;
        let pidfd = pidfd_of(socket, pid)?;
        Ok(Self { uid, gid, pid: pid.as_raw_nonzero().get().unsigned_abs(), pidfd })
    }

    /// Whether the process has died. One system call; a stopped process is alive.
    pub fn is_dead(&self) -> bool {
        is_readable(self.pidfd.as_fd())
    }

    /// Readable when the process is dead.
    pub(super) fn life(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// A second descriptor of the process's life: readable when it is dead.
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] if there is no descriptor left.
    pub fn pidfd(&self) -> Result<OwnedFd, Error> {
        rustix::io::fcntl_dupfd_cloexec(&self.pidfd, 0).map_err(Error::system("a second pidfd"))
    }
}

pub(super) struct Credentials {
    uid: u32,
    gid: u32,
    pub(super) pid: rustix::process::Pid,
}

/// The peer's credentials, if they say anything: a process of another pid namespace has the number zero here, a user
/// of another user namespace the overflow number, which many may share.
pub(super) fn credentials(socket: BorrowedFd<'_>) -> Result<Credentials, Error> {
    const OVERFLOW_UID: u32 = 65_534;
    let mut read = libc::ucred { pid: 0, uid: OVERFLOW_UID, gid: OVERFLOW_UID };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `read`, whose fields take any value, and updates `len`;
    // both are live locals.
    let answer = unsafe {
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut read).cast(),
            &raw mut len,
        )
    };
    if answer != 0 {
        let source = std::io::Error::last_os_error();
        return Err(Error::System { what: "reading peer credentials", source });
    }
    match rustix::process::Pid::from_raw(read.pid) {
        Some(pid) if read.uid != OVERFLOW_UID => Ok(Credentials { uid: read.uid, gid: read.gid, pid }),
        _ => Err(Error::BadMessage {
            during: "reading peer credentials",
            what: format!("process {} of user {} belongs to other namespaces", read.pid, read.uid),
        }),
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    // An interrupted look counts as "not yet": who needs certainty asks again.
    matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(n) if n > 0)
}

fn pidfd_of(socket: BorrowedFd<'_>, pid: rustix::process::Pid) -> Result<OwnedFd, Error> {
    if !Feature::PeerPidfd.is_disabled() {
        match peer_pidfd(socket) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOPROTOOPT) => {} // a kernel before 6.5
            // INVAL: how kernels before 6.15 say that the process is gone.
            Err(Errno::SRCH | Errno::NODATA | Errno::INVAL) => {
                return Err(Error::Closed { during: "reading peer credentials" });
            }
            Err(errno) => return Err(Error::system("the pidfd of a peer")(errno)),
        }
    }
    // The number could be somebody else's by now. If the socket is still connected after it was opened, its owner was
    // alive then, and the number its own.
    let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).map_err(|errno| match errno {
        Errno::SRCH => Error::Closed { during: "reading peer credentials" },
        errno => Error::system("a pidfd")(errno),
    })?;
    let mut polled = [PollFd::new(&socket, PollFlags::RDHUP)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut polled, Some(&now)) {
        Ok(0) => Ok(fd),
        Ok(_) => Err(Error::Closed { during: "reading peer credentials" }),
        Err(errno) => Err(Error::system("poll")(errno)),
    }
}

/// `getsockopt(SOL_SOCKET, SO_PEERPIDFD)`.
fn peer_pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    use std::os::fd::{AsRawFd, FromRawFd};

    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `fd`, and updates `len`; both are live locals.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, (&raw mut fd).cast(), &raw mut len)
    };
    if answer != 0 || fd < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
        return Err(Errno::from_raw_os_error(errno));
    }
    // SAFETY: the kernel installed this descriptor for this call, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
