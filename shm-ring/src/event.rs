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

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::io::{Errno, ReadWriteFlags};

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

        /// One that came from another process. Whatever it is, it is only ever written and read without blocking.
        ///
        /// # Errors
        /// [`Error::System`] if it cannot be made non-blocking.
        pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
            let flags = rustix::fs::fcntl_getfl(&fd).map_err(Error::system("reading an event descriptor's flags"))?;
            rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)
                .map_err(Error::system("making an event descriptor non-blocking"))?;
            Ok(Self(Arc::new(fd)))
        }

        /// Makes it readable. One system call, never blocks.
        pub(crate) fn signal(&self) {
            // EAGAIN: it is readable already, which is all that was wanted. Any other failure means that the peer gave
            // us something else than an eventfd; it then misses its own hints.
            let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
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
    use std::os::fd::AsFd;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    use super::EventFd;

    #[test]
    fn a_peer_that_makes_the_descriptor_blocking_holds_up_no_look() {
        let ours = EventFd::new().unwrap();
        let theirs = ours.as_fd().try_clone_to_owned().unwrap();
        let (done, is_done) = std::sync::mpsc::channel();
        let flags = fcntl_getfl(&theirs).unwrap();
        fcntl_setfl(&theirs, flags - OFlags::NONBLOCK).unwrap();
        std::thread::spawn(move || {
            let before = ours.drain();
            ours.signal();
            done.send([before, ours.drain(), ours.drain()])
        });
        let seen = is_done.recv_timeout(std::time::Duration::from_secs(60)).expect("it hangs");
        assert_eq!(seen, [false, true, false]);
    }
}
