//! Descriptors that nobody asked for, kept out of a socket.
#![allow(unsafe_code)] // SO_PASSRIGHTS is newer than the safe wrappers.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::error::Error;
use crate::fallback::Feature;

/// From here on nobody can send descriptors to this socket, or to one that is accepted from it: the sender is told `EPERM`.
///
/// To close a descriptor can take as long as its sender likes (a TCP socket that lingers, a file of a hung file system),
/// and whoever takes a message out of a socket, or closes the socket over it, closes what came beside it. Kernels before
/// 6.16 know no such thing; on those, who can connect can hold up the thread that reads.
///
/// # Errors
/// [`Error::System`] if the kernel knows of this and refuses all the same.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) -> Result<(), Error> {
    pass_descriptors(socket, false)
}

/// Whether descriptors can be sent to this socket; see [`refuse_descriptors`].
pub(super) fn pass_descriptors(socket: BorrowedFd<'_>, pass: bool) -> Result<(), Error> {
    const SO_PASSRIGHTS: libc::c_int = 83;
    if Feature::PassRights.is_disabled() {
        return Ok(());
    }
    let pass = libc::c_int::from(pass);
    let len = size_of_val(&pass) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes, the size of `pass`, a live local.
    let answer =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const pass).cast(), len) };
    let source = std::io::Error::last_os_error();
    if answer == 0 || source.raw_os_error() == Some(libc::ENOPROTOOPT) {
        return Ok(());
    }
    Err(Error::System { what: "choosing whether descriptors may be sent", source })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn a_socket_that_has_no_such_option_is_an_error_and_an_old_kernel_is_none() {
        let (ours, _theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        assert!(refuse_descriptors(ours.as_fd()).is_ok());
        let (pipe, _writer) = std::io::pipe().unwrap();
        assert!(matches!(refuse_descriptors(pipe.as_fd()), Err(Error::System { .. })));
    }
}
