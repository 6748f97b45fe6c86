//! The socket itself: one message a time, with descriptors beside it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::access::Access;
use super::directory::{RuntimeDir, SOCKET_SUFFIX};
use super::gifts::{pass_descriptors, refuse_descriptors};
use super::identity::Peer;
use crate::error::Error;
use crate::fork::Home;
use crate::segment::FileId;

/// Largest message, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Most descriptors beside one message.
pub(super) const MAX_FDS: usize = 6;

const BACKLOG: i32 = 1024;

fn stream() -> Result<OwnedFd, Error> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| Error::ResourceExhausted { what: "socket", bytes: 0, source: errno.into() })
}

fn address(dir: &RuntimeDir, file: &str) -> Result<SocketAddrUnix, Error> {
    SocketAddrUnix::new(dir.short_path(file)).map_err(Error::system("forming a socket address"))
}

/// The file of a name's socket.
pub(crate) fn file_name(name: &str) -> String {
    format!("{name}{SOCKET_SUFFIX}")
}

/// A socket that others find by its name in the directory. Dropped, its file is removed.
#[derive(Debug)]
pub struct Listener {
    fd: Arc<OwnedFd>,
    dir: Arc<RuntimeDir>,
    file: String,
    /// What the file is, whatever stands under its name later.
    socket: Option<FileId>,
    /// Where somebody listens; a child is not to remove the file.
    home: Home,
    closed: AtomicBool,
    /// Given up for a moment when descriptors run out, to take a connection off the queue and refuse it: left there,
    /// it would be news for ever.
    spare: Mutex<Option<OwnedFd>>,
}

impl Listener {
    /// Binds and listens. A file that a dead process left is replaced. Who connects cannot send descriptors, from Linux 6.16
    /// on: it is told `EPERM`.
    ///
    /// # Errors
    /// [`Error::AlreadyServed`] if a live process listens there.
    pub fn bind(dir: Arc<RuntimeDir>, name: &str) -> Result<Self, Error> {
        Self::bind_for(dir, name, &Access::default())
    }

    /// As [`bind`](Self::bind), for the users that `access` lets in.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); [`Error::System`] if the file cannot be given that group.
    pub fn bind_for(dir: Arc<RuntimeDir>, name: &str, access: &Access) -> Result<Self, Error> {
        let file = file_name(name);
        let address = address(&dir, &file)?;
        let fd = stream()?;
        // Before anybody can connect: what is sent until a connection is accepted is refused, too.
        refuse_descriptors(fd.as_fd())?;
        // Between the look at an old file and the new one nobody else may do the same.
        let lock = dir.lock()?;
        match probe(&address)? {
            Probed::Alive(pid) => {
                return Err(Error::AlreadyServed { name: name.to_owned(), pid });
            }
            Probed::Stale => rustix::fs::unlinkat(dir.fd(), &file, AtFlags::empty())
                .map_err(Error::system("removing a dead service's socket"))?,
            Probed::Absent => {}
        }
        rustix::net::bind(&fd, &address).map_err(|errno| match Error::of_answer("a socket's file", 0, errno) {
            Error::System { source, .. } => Error::RuntimeDir {
                dir: dir.path().display().to_string(),
                why: format!("no socket can be made in it: {source}"),
            },
            exhausted => exhausted,
        })?;
        let allowed = access.apply_to(&dir, &file);
        let listens = allowed.and_then(|()| rustix::net::listen(&fd, BACKLOG).map_err(Error::system("listening")));
        // Whatever stays of this would be taken for a dead service's.
        listens.inspect_err(|_| _ = rustix::fs::unlinkat(dir.fd(), &file, AtFlags::empty()))?;
        let socket = file_id(&dir, &file);
        drop(lock);
        Ok(Self {
            fd: Arc::new(fd),
            dir,
            file,
            socket,
            home: Home::here()?,
            closed: AtomicBool::new(false),
            spare: Mutex::new(spare()),
        })
    }

    /// The descriptor, to be watched: readable when somebody connects.
    pub fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// The socket's file, if it was there after the binding.
    pub(crate) fn socket(&self) -> Option<FileId> {
        self.socket
    }

    /// Listens no more, and removes the file: whoever binds or connects from now on finds nobody, even while somebody
    /// still holds this.
    pub fn close(&self) {
        // In a child of the process that listens this would be the parent's end.
        if !self.home.is_here() || self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        // A successor may have replaced the file: only our own is removed. Failures leave a stale file, which the next
        // start, list or connect recognises.
        if let Ok(_lock) = self.dir.lock()
            && self.socket.is_some()
            && file_id(&self.dir, &self.file) == self.socket
        {
            let _ = rustix::fs::unlinkat(self.dir.fd(), &self.file, AtFlags::empty());
        }
        // From here on nobody comes any more; a failure leaves that to the last descriptor's end.
        let _ = rustix::net::shutdown(&*self.fd, rustix::net::Shutdown::Both);
        // Who waits in the queue already sees the end of its connection.
        for _ in 0..=BACKLOG {
            match rustix::net::accept_with(&*self.fd, SocketFlags::CLOEXEC) {
                Ok(waiting) => drop(waiting),
                Err(_) => break,
            }
        }
    }

    /// The next connection, if one waits. Never blocks.
    ///
    /// # Errors
    /// [`Error::Closed`] if the peer left again at once, [`Error::ResourceExhausted`] if descriptors ran out.
    pub fn accept(&self) -> Result<Option<Connection>, Error> {
        match rustix::net::accept_with(&*self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(fd) => Connection::over(fd).map(Some),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)) => {
                let mut kept = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
                drop(kept.take());
                drop(rustix::net::accept_with(&*self.fd, SocketFlags::CLOEXEC));
                *kept = spare();
                Err(Error::ResourceExhausted { what: "accepted socket", bytes: 0, source: errno.into() })
            }
            Err(errno) => Err(Error::system("accept")(errno)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

fn spare() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()).ok()
}

fn file_id(dir: &RuntimeDir, file: &str) -> Option<FileId> {
    rustix::fs::statat(dir.fd(), file, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| FileId::of(&stat))
}

enum Probed {
    Alive(u32),
    Stale,
    Absent,
}

fn probe(address: &SocketAddrUnix) -> Result<Probed, Error> {
    let fd = stream()?;
    match rustix::net::connect(&fd, address) {
        Ok(()) => match Peer::of(fd.as_fd()) {
            Ok(peer) if !peer.is_dead() => Ok(Probed::Alive(peer.pid)),
            // A child of whoever listened has a copy of the socket, at which nobody is let in any more.
            Ok(_) | Err(Error::Closed { .. }) => Ok(Probed::Stale),
            // Whoever it is, it is there.
            Err(_) => Ok(Probed::Alive(0)),
        },
        // A full backlog is a live listener too.
        Err(Errno::AGAIN) => Ok(Probed::Alive(0)),
        Err(Errno::CONNREFUSED) => Ok(Probed::Stale),
        Err(Errno::NOENT) => Ok(Probed::Absent),
        Err(errno) => Err(Error::system("connecting")(errno)),
    }
}

/// What came in one message.
#[derive(Debug)]
pub struct Received {
    /// The message.
    pub bytes: Vec<u8>,
    /// The descriptors beside it, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// A connected socket and who is at its other end.
#[derive(Debug)]
pub struct Connection {
    fd: Arc<OwnedFd>,
    peer: Peer,
}

impl Connection {
    fn over(fd: OwnedFd) -> Result<Self, Error> {
        let peer = Peer::of(fd.as_fd())?;
        Ok(Self { fd: Arc::new(fd), peer })
    }

    /// Lets descriptors in that the other side sends, which a [`Listener`]'s connections refuse (see [`Listener::bind`]): for
    /// who takes the trouble to close them somewhere else than where others wait.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn let_descriptors_in(&self) -> Result<(), Error> {
        pass_descriptors(self.fd.as_fd(), true)
    }

    /// Connects to a name in the directory. Waits up to `timeout` only if the listener's backlog is full.
    ///
    /// # Errors
    /// [`Error::NotFound`] at once if nobody listens there; a dead process's file is removed, if the directory is ours.
    /// [`Error::RuntimeDir`] if the file system does not let us in.
    pub fn connect(dir: &RuntimeDir, name: &str, timeout: Duration) -> Result<Self, Error> {
        let file = file_name(name);
        let address = address(dir, &file)?;
        let not_found = || Error::NotFound { name: name.to_owned(), dir: dir.path().display().to_string() };
        let fd = stream()?;
        let until = Instant::now() + timeout;
        loop {
            match rustix::net::connect(&fd, &address) {
                Ok(()) => match Self::over(fd) {
                    Ok(connection) if !connection.peer.is_dead() => return Ok(connection),
                    // As in `probe`: the socket has outlived its process in a child.
                    Ok(_) => {
                        remove_if_stale(dir, &file, &address)?;
                        return Err(not_found());
                    }
                    Err(Error::Closed { .. }) if remove_if_stale(dir, &file, &address)? => return Err(not_found()),
                    Err(error) => return Err(error),
                },
                Err(Errno::NOENT) => return Err(not_found()),
                Err(Errno::CONNREFUSED) => {
                    remove_if_stale(dir, &file, &address)?;
                    return Err(not_found());
                }
                // The backlog is full. Unix sockets give no event for room in it, so look again shortly.
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err(errno @ Errno::ACCESS) => {
                    let dir = dir.path().display().to_string();
                    return Err(Error::RuntimeDir {
                        dir,
                        why: format!("no permission to connect to `{name}`: {errno}"),
                    });
                }
                Err(errno) => return Err(Error::system("connecting")(errno)),
            }
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The descriptor, to be watched.
    pub fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Ends the connection for both sides; what was sent before can still be read. The descriptors stay ours.
    pub fn hang_up(&self) {
        // A socket that is disconnected already is what is wanted.
        let _ = rustix::net::shutdown(&*self.fd, rustix::net::Shutdown::Both);
    }

    /// Has the kernel keep less of what the other side does not read: some forty short messages, of which it is told of
    /// [`is_read`](Self::is_read) after ten. Messages of more than 16 KiB cannot be sent any more.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn keep_little_unread(&self) -> Result<(), Error> {
        rustix::net::sockopt::set_socket_send_buffer_size(&*self.fd, 16 << 10).map_err(Error::system("SO_SNDBUF"))
    }

    /// Whether the other side reads: of what was sent, most is not there any more. A system call, which does not block.
    pub fn is_read(&self) -> bool {
        self.polled(PollFlags::OUT) == PollFlags::OUT
    }

    /// Whether the other side hung up, which may have left messages that can still be read. A system call, which does not
    /// block.
    pub fn is_over(&self) -> bool {
        self.polled(PollFlags::RDHUP).intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
    }

    /// What is so at this moment; nothing if the kernel cannot say.
    fn polled(&self, flags: PollFlags) -> PollFlags {
        let mut news = [PollFd::new(&*self.fd, flags)];
        let now = rustix::event::Timespec::default();
        rustix::event::poll(&mut news, Some(&now)).map_or(PollFlags::empty(), |_| news[0].revents())
    }

    /// Sends one message. Never blocks.
    ///
    /// # Errors
    /// [`Error::TooLarge`] over [`MAX_MESSAGE`]; [`Error::Closed`] if the peer is gone; [`Error::System`] with
    /// `WouldBlock` if the peer has not read what was sent before.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
            return Err(Error::TooLarge { len: bytes.len(), limit: MAX_MESSAGE });
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "room for MAX_FDS was made");
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match rustix::net::sendmsg(&*self.fd, &[IoSlice::new(bytes)], &mut control, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                    return Err(Error::Closed { during: "sending" });
                }
                Err(errno) => return Err(Error::system("sendmsg")(errno)),
            }
        }
    }

    /// The next message, if one is there. Never blocks.
    ///
    /// # Errors
    /// [`Error::Closed`] at the end, [`Error::BadMessage`] for one that is too long or brings too many descriptors
    /// (all of which are closed); [`Error::ResourceExhausted`] if this process has no number left for a descriptor: the
    /// message is lost.
    pub fn try_receive(&self) -> Result<Option<Received>, Error> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match rustix::net::recvmsg(&*self.fd, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::CONNRESET) => {
                    return Err(Error::Closed { during: "receiving" });
                }
                Err(errno) => return Err(Error::system("recvmsg")(errno)),
            }
        };
        let fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        // The kernel drops descriptors that the process has no number for, and says no more than that some are missing.
        let is_cut = received.flags.contains(ReturnFlags::CTRUNC);
        if is_cut && fds.len() < MAX_FDS && !received.flags.contains(ReturnFlags::TRUNC) {
            return Err(Error::system("descriptors beside a message")(Errno::MFILE));
        }
        // The space is rounded up for its alignment, so one descriptor more may have found room.
        if is_cut || fds.len() > MAX_FDS || received.flags.contains(ReturnFlags::TRUNC) {
            let what = format!("over {MAX_MESSAGE} bytes or {MAX_FDS} descriptors");
            return Err(Error::BadMessage { during: "receiving", what });
        }
        if received.bytes == 0 {
            return Err(Error::Closed { during: "receiving" });
        }
        bytes.truncate(received.bytes);
        Ok(Some(Received { bytes, fds }))
    }

    /// The next message, waiting up to `timeout` for it; `None` if none came.
    ///
    /// # Errors
    /// As [`try_receive`](Self::try_receive); [`Error::Closed`] also if the peer's process dies and leaves its socket to a
    /// child.
    pub fn receive_within(&self, timeout: Duration) -> Result<Option<Received>, Error> {
        let until = Instant::now() + timeout;
        loop {
            // Asked before the look: what was sent before the death is then seen.
            let is_dead = self.peer.is_dead();
            if let Some(received) = self.try_receive()? {
                return Ok(Some(received));
            }
            if is_dead {
                return Err(Error::Closed { during: "receiving" });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let left = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let death = PollFd::from_borrowed_fd(self.peer.life(), PollFlags::IN);
            let mut polled = [PollFd::new(&*self.fd, PollFlags::IN), death];
            match rustix::event::poll(&mut polled, Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::system("poll")(errno)),
            }
        }
    }
}

/// Says whether nobody is there.
fn remove_if_stale(dir: &RuntimeDir, file: &str, address: &SocketAddrUnix) -> Result<bool, Error> {
    if !dir.is_own() {
        return Ok(!matches!(probe(address)?, Probed::Alive(_)));
    }
    let _lock = dir.lock()?;
    let probed = probe(address)?;
    if matches!(probed, Probed::Stale) {
        // Gone already is as good.
        let _ = rustix::fs::unlinkat(dir.fd(), file, AtFlags::empty());
    }
    Ok(!matches!(probed, Probed::Alive(_)))
}
