//! A descriptor that becomes readable when a sleeper is to look again: for epoll loops and reactors.

#[cfg(loom)]
pub use modelled::EventFd;
#[cfg(not(loom))]
pub use real::EventFd;

#[cfg(not(loom))]
mod real {
    use std::io::IoSliceMut;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::sync::Arc;

    use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};
    use rustix::io::{Errno, ReadWriteFlags};
    use rustix::time::Timespec;

    use crate::error::Error;

    /// An eventfd: a hint, never a count of anything. Clones share it; a duplicate may be sent to another process.
    #[derive(Debug, Clone)]
    pub struct EventFd(Arc<OwnedFd>);

    impl EventFd {
        /// A new one: close-on-exec, non-blocking.
        ///
        /// # Errors
        /// [`Error::ResourceExhausted`] if the process has no descriptor left.
        pub fn new() -> Result<Self, Error> {
            let made = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
            let exhausted = |errno: Errno| Error::ResourceExhausted { what: "eventfd", bytes: 0, source: errno.into() };
            Ok(Self(Arc::new(made.map_err(exhausted)?)))
        }

        /// One that came from another process.
        ///
        /// # Errors
        /// [`Error::BadMessage`] if it is a file, a pipe or a socket: whatever waits at those for its own reasons.
        /// [`Error::System`] if it cannot be made non-blocking. As [`new`](Self::new), because it is compared with one.
        pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
            let known = Self::new()?;
            let system = |what| Error::system(what);
            let [theirs, ours] = [&fd, &*known.0].map(fstat);
            let theirs = theirs.map_err(system("looking at an event descriptor"))?;
            let ours = ours.map_err(system("looking at an eventfd"))?;
            // All files that the kernel makes without a name are one inode.
            if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino) {
                let what = format!("a descriptor of mode {:o} instead of an eventfd", theirs.st_mode);
                return Err(Error::BadMessage { during: "taking an event descriptor", what });
            }
            let flags = fcntl_getfl(&fd).map_err(system("reading an event descriptor's flags"))?;
            fcntl_setfl(&fd, flags | OFlags::NONBLOCK).map_err(system("making an event descriptor non-blocking"))?;
            Ok(Self(Arc::new(fd)))
        }

        /// Makes it readable. Two system calls. Does not block: neither if a peer has made the descriptor blocking and
        /// filled its counter. Only one that fills it between the two calls, again and again, can hold this up.
        pub(crate) fn signal(&self) {
            // A write waits at a full counter, if the open file is set to block, which is the peer's as well; and eventfds
            // refuse `RWF_NOWAIT` for writes. (The end of an asynchronous operation counts up without a wait, but a
            // process that has a context for those takes 30 ms longer to die.)
            let mut fds = [PollFd::new(&*self.0, PollFlags::OUT)];
            let has_room = poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready == 1)
                && fds[0].revents().contains(PollFlags::OUT);
            if has_room {
                // It fails if it is no eventfd, or has become full; in this case it is readable, which is all that was
                // wanted. In the other the peer misses its own hints.
                let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
            }
        }

        /// Makes it unreadable until the next signal, and says whether it was readable. One system call, never blocks.
        /// To be followed by a look.
        pub fn drain(&self) -> bool {
            let mut count = [0_u8; 8];
            // Whether it blocks belongs to the open file, which the peer has too: it is said for each read anew. For the
            // offset that stands for none.
            let buffer = &mut [IoSliceMut::new(&mut count)];
            match rustix::io::preadv2(&*self.0, buffer, u64::MAX, ReadWriteFlags::NOWAIT) {
                // A kernel before 5.8, or one that is not let do it.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => rustix::io::read(&*self.0, &mut count).is_ok(),
                // EAGAIN: nobody signalled since.
                read => read.is_ok(),
            }
        }

        /// The descriptor, for whoever watches it.
        pub(crate) fn descriptor(&self) -> Arc<OwnedFd> {
            Arc::clone(&self.0)
        }
    }

    impl AsFd for EventFd {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

/// The eventfds of a ring whose ends wait in tasks or event loops. By default none: then only threads can wait.
///
/// Both processes give duplicates of the same two: each end makes the other's readable.
#[derive(Debug, Clone, Default)]
pub struct Events {
    /// Readable when a consumer that waits is to look for a frame.
    pub data: Option<EventFd>,
    /// Readable when a producer that waits is to look for room.
    pub space: Option<EventFd>,
}

impl Events {
    /// Both, new: any end may wait in any way.
    ///
    /// # Errors
    /// As [`EventFd::new`].
    pub fn new() -> Result<Self, crate::error::Error> {
        Ok(Self { data: Some(EventFd::new()?), space: Some(EventFd::new()?) })
    }
}

#[cfg(loom)]
mod modelled {
    use loom::sync::{Arc, Condvar, Mutex};

    /// What an eventfd and a blocking poll on it come to.
    #[derive(Debug, Clone)]
    pub struct EventFd(Arc<(Mutex<bool>, Condvar)>);

    impl EventFd {
        /// An unreadable one.
        ///
        /// # Errors
        /// None in models.
        pub fn new() -> Result<Self, crate::error::Error> {
            Ok(Self(Arc::new((Mutex::new(false), Condvar::new()))))
        }

        pub(crate) fn signal(&self) {
            *self.0.0.lock().expect("models do not panic under the lock") = true;
            self.0.1.notify_all();
        }

        /// Makes it unreadable, and says whether it was readable.
        pub fn drain(&self) -> bool {
            std::mem::take(&mut *self.0.0.lock().expect("models do not panic under the lock"))
        }

        /// Blocks until it is readable: the reactor's poll.
        pub fn wait(&self) {
            let mut readable = self.0.0.lock().expect("models do not panic under the lock");
            while !*readable {
                readable = self.0.1.wait(readable).expect("models do not panic under the lock");
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};
    use std::time::Duration;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use rustix::io::{read, write};

    use super::EventFd;
    use crate::error::Error;

    /// The same eventfd as a peer has it, made blocking.
    fn in_hostile_hands(event: &EventFd) -> OwnedFd {
        let theirs = event.as_fd().try_clone_to_owned().unwrap();
        let flags = fcntl_getfl(&theirs).unwrap();
        fcntl_setfl(&theirs, flags - OFlags::NONBLOCK).unwrap();
        theirs
    }

    /// What an operation gives on a thread of its own, because it might hang.
    fn without_hanging<T: Send + 'static>(operation: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(operation()));
        is_done.recv_timeout(Duration::from_secs(60)).expect("it hangs")
    }

    #[test]
    fn a_peer_that_makes_the_descriptor_blocking_holds_up_no_look() {
        let ours = EventFd::new().unwrap();
        let _theirs = in_hostile_hands(&ours);
        let seen = without_hanging(move || {
            let before = ours.drain();
            ours.signal();
            [before, ours.drain(), ours.drain()]
        });
        assert_eq!(seen, [false, true, false]);
    }

    #[test]
    fn a_peer_that_fills_the_counter_of_a_blocking_descriptor_holds_up_no_signal() {
        let ours = EventFd::new().unwrap();
        let theirs = in_hostile_hands(&ours);
        write(&theirs, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        let seen = without_hanging(move || {
            ours.signal();
            let full = ours.drain();
            ours.signal();
            [full, ours.drain(), ours.drain()]
        });
        assert_eq!(seen, [true, true, false], "readable while full; then a signal is one again");
    }

    #[test]
    fn several_signals_make_it_readable_once() {
        let ours = EventFd::new().unwrap();
        ours.signal();
        ours.signal();
        assert_eq!([ours.drain(), ours.drain()], [true, false]);
    }

    #[test]
    fn what_came_from_another_process_and_is_no_eventfd_is_refused() {
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/zero").unwrap();
        for fd in [pipe, socket.into(), file.into()] {
            assert!(matches!(EventFd::from_fd(fd), Err(Error::BadMessage { .. })));
        }
        let maker = EventFd::new().unwrap();
        let theirs = in_hostile_hands(&maker);
        let ours = EventFd::from_fd(theirs.try_clone().unwrap()).unwrap();
        ours.signal();
        let mut count = [0; 8];
        assert_eq!((read(&theirs, &mut count), u64::from_ne_bytes(count)), (Ok(8), 1));
        assert!(fcntl_getfl(&theirs).unwrap().contains(OFlags::NONBLOCK));
    }
}
