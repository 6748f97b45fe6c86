//! How a producer rings that shares no ready set with the consumer: it is another user's, or to be treated like that.
//!
//! Such a producer has a bell rope: one end of a socket pair. It pulls when the lane's `watch` says COLD; the consumer's
//! watcher thread, which has the other end under watch, passes the ring on as a ready bit and the bell of the consumer's
//! own [`ReadySet`]. Nothing that the producer can write is looked at by other producers.
//!
//! The same rope leads from a server to a client whose tasks wait for replies: there a [`Listener`] hears the pulls.
//!
//! A socket and no eventfd, because both sides of an eventfd hold the same open file: either could make it blocking and
//! full, and the other's next write would hang. Sends say for themselves that they do not block, and each side holds
//! an end of its own.

#[cfg(loom)]
use modelled as rope;
#[cfg(not(loom))]
use real as rope;

use super::{HOT, Rang, ReadySet, Watch};
use crate::sync::{Ordering, fence};

/// What was found at the consumer's end of a rope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// It was pulled since the last look; the lane's ready bit is set and the consumer woken.
    Yes,
    /// It was not.
    No,
    /// Nobody holds the other end any more.
    Ended,
}

/// The producer's end. Shared by its threads.
#[derive(Debug)]
pub struct Ringer(rope::End);

impl Ringer {
    /// Tells the consumer of a frame that was just committed. While the consumer polls: a fence and a load; else one
    /// system call, which never blocks.
    #[inline]
    pub fn announce(&self, watch: Watch<'_>) -> Rang {
        if cfg!(not(weaken = "relay_without_fence")) {
            // ORDERING: SeqCst fence between the commit and the load of `watch`, pairs with the sleeper's fence in
            // `ReadySet::park` and `cool`, as in `ReadySet::announce`. Without it the load can miss COLD while the scan
            // misses the frame: a lost wake-up (`relay_without_fence`).
            fence(Ordering::SeqCst);
        }
        if watch.0.load(Ordering::Relaxed).decode(|word| word == HOT) {
            return Rang::No;
        }
        self.ring();
        Rang::Yes
    }

    /// Rings whatever `watch` says. One system call, which never blocks.
    pub fn ring(&self) {
        self.0.pull();
    }
}

/// The end at which pulls are heard that are no ready set's business.
#[derive(Debug)]
pub struct Listener(rope::End);

impl Listener {
    /// Whether the rope was pulled since the last look. One system call, which never blocks; many pulls may count as one.
    pub fn take(&self) -> Pulled {
        self.0.take()
    }
}

/// The consumer's end: passes rings on to one lane of a ready set.
#[derive(Debug)]
pub struct Relay {
    end: rope::End,
    ready: ReadySet,
    lane: u32,
}

impl Relay {
    /// Looks whether the rope was pulled, and if so rings for the lane. Some system calls, none of which blocks; many
    /// pulls may count as one. To be called when the descriptor is readable.
    pub fn pass(&self) -> Pulled {
        if cfg!(weaken = "relay_before_look") {
            // Weakened, a pull between the ring and the look is forgotten.
            self.ready.ring(self.lane);
            return self.end.take();
        }
        // Taken in first, rung afterwards: a pull that comes meanwhile is there at the next look.
        let pulled = self.end.take();
        if pulled == Pulled::Yes {
            self.ready.ring(self.lane);
        }
        pulled
    }
}

#[cfg(not(loom))]
mod real {
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::Arc;

    use rustix::io::Errno;
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

    use super::{Listener, Pulled, ReadySet, Relay, Ringer};
    use crate::error::Error;
    use crate::rendezvous::refuse_descriptors;

    /// Most pulls that one look takes in.
    const AT_ONCE: usize = 256;

    #[derive(Debug)]
    pub(super) struct End(Arc<OwnedFd>);

    impl End {
        pub(super) fn pull(&self) {
            // EAGAIN: it is readable already, which is all that is wanted. EPIPE: nobody is there to be told.
            let _ = rustix::net::send(&*self.0, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }

        pub(super) fn take(&self) -> Pulled {
            let mut pulls = [0_u8; AT_ONCE];
            match rustix::net::recv(&*self.0, &mut pulls, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => Pulled::Ended,
                Ok(_) => Pulled::Yes,
                Err(Errno::AGAIN | Errno::INTR) => Pulled::No,
                Err(_) => Pulled::Ended,
            }
        }
    }

    impl Relay {
        /// A new rope for a lane of `ready`: the consumer's end, and the descriptor for the producer.
        ///
        /// # Errors
        /// [`Error::ResourceExhausted`] if the process has no descriptor left.
        ///
        /// # Panics
        /// If the set has no such lane.
        pub fn new(ready: ReadySet, lane: u32) -> Result<(Self, OwnedFd), Error> {
            assert!(lane < ready.lanes(), "lane {lane} of {}", ready.lanes());
            let (ours, theirs) = new_rope()?;
            refuse_descriptors(ours.as_fd())?;
            // An urgent byte would be news for the watcher thread that no read finds, and nobody would count it.
            rustix::net::sockopt::set_socket_oobinline(&ours, true).map_err(Error::system("preparing a bell rope"))?;
            Ok((Self { end: End(Arc::new(ours)), ready, lane }, theirs))
        }

        /// The descriptor, to be watched: readable when [`pass`](Self::pass) has something to do.
        pub fn fd(&self) -> Arc<OwnedFd> {
            Arc::clone(&self.end.0)
        }
    }

    fn new_rope() -> Result<(OwnedFd, OwnedFd), Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|errno| Error::ResourceExhausted { what: "bell rope", bytes: 0, source: errno.into() })
    }

    fn expect_rope(fd: OwnedFd) -> Result<End, Error> {
        let is_rope = rustix::net::sockopt::socket_domain(fd.as_fd()) == Ok(AddressFamily::UNIX)
            && rustix::net::sockopt::socket_type(fd.as_fd()) == Ok(SocketType::STREAM);
        if !is_rope {
            let what = "the bell rope is something else".to_owned();
            return Err(Error::BadMessage { during: "taking a bell rope", what });
        }
        Ok(End(Arc::new(fd)))
    }

    impl Ringer {
        /// The producer's end, as it came from a consumer.
        ///
        /// # Errors
        /// [`Error::BadMessage`] if it is no connected Unix socket of bytes: what it is to be pulled for is then unknown.
        pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
            expect_rope(fd).map(Self)
        }

        /// A new rope to somebody who listens by himself: our end, and the descriptor for [`Listener::from_fd`].
        ///
        /// # Errors
        /// [`Error::ResourceExhausted`] if the process has no descriptor left.
        pub fn to_listener() -> Result<(Self, OwnedFd), Error> {
            let (ours, theirs) = new_rope()?;
            Ok((Self(End(Arc::new(ours))), theirs))
        }
    }

    impl Listener {
        /// The listening end, as it came from whoever pulls. Descriptors that come along are refused.
        ///
        /// # Errors
        /// As [`Ringer::from_fd`]; [`Error::System`] if the socket cannot be prepared.
        pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
            let end = expect_rope(fd)?;
            refuse_descriptors(end.0.as_fd())?;
            rustix::net::sockopt::set_socket_oobinline(&*end.0, true)
                .map_err(Error::system("preparing a bell rope"))?;
            Ok(Self(end))
        }

        /// The descriptor, to be watched: readable when [`take`](Self::take) has something.
        pub fn fd(&self) -> Arc<OwnedFd> {
            Arc::clone(&self.0.0)
        }
    }
}

#[cfg(loom)]
mod modelled {
    use super::{Listener, Pulled, ReadySet, Relay, Ringer};
    use crate::event::EventFd;

    #[derive(Debug)]
    pub(super) struct End(EventFd);

    impl End {
        pub(super) fn pull(&self) {
            self.0.signal();
        }

        pub(super) fn take(&self) -> Pulled {
            if self.0.drain() { Pulled::Yes } else { Pulled::No }
        }
    }

    impl Relay {
        pub(crate) fn modelled(ready: ReadySet, lane: u32) -> (Self, Ringer) {
            let event = EventFd::new().expect("models have eventfds");
            (Self { end: End(event.clone()), ready, lane }, Ringer(End(event)))
        }

        /// Blocks until the rope was pulled: the watcher's `epoll_wait`.
        pub fn wait(&self) {
            self.end.0.wait();
        }
    }

    impl Listener {
        pub(crate) fn modelled() -> (Ringer, Self) {
            let event = EventFd::new().expect("models have eventfds");
            (Ringer(End(event.clone())), Self(End(event)))
        }

        /// As [`Relay::wait`].
        pub fn wait(&self) {
            self.0.0.wait();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;
    use crate::error::Error;
    use crate::peer::PeerWord;
    use crate::ready::{BITS_AT, ReadyLayout};
    use crate::segment::Segment;

    fn set() -> ReadySet {
        ReadySet::new(&Segment::heap(ReadyLayout::new(2), 1))
    }

    fn ready(set: &ReadySet) -> Vec<u32> {
        let mut lanes = Vec::new();
        set.take_ready(set.lanes(), |lane| lanes.push(lane));
        lanes
    }

    #[test]
    fn a_pull_becomes_the_ready_bit_and_the_bell_of_the_consumers_own_set() {
        let set = set();
        let (relay, rope) = Relay::new(set.clone(), 1).unwrap();
        let ringer = Ringer::from_fd(rope).unwrap();
        assert_eq!(relay.pass(), Pulled::No);
        let before = set.bell();
        ringer.ring();
        ringer.ring();
        assert_eq!((relay.pass(), ready(&set)), (Pulled::Yes, vec![1]));
        assert_ne!(set.bell(), before);
        assert_eq!(relay.pass(), Pulled::No, "two pulls were taken in at once");
        drop(ringer);
        assert_eq!(relay.pass(), Pulled::Ended);
    }

    #[test]
    fn a_polled_lane_is_not_announced() {
        let set = set();
        let memory = Segment::heap(ReadyLayout::new(64), 1).memory();
        let watch = Watch(PeerWord::at(memory.region(), BITS_AT));
        let (relay, rope) = Relay::new(set, 0).unwrap();
        let ringer = Ringer::from_fd(rope).unwrap();
        watch.heat();
        assert_eq!((ringer.announce(watch), relay.pass()), (Rang::No, Pulled::No));
        watch.cool();
        assert_eq!((ringer.announce(watch), relay.pass()), (Rang::Yes, Pulled::Yes));
    }

    #[test]
    fn a_peer_that_makes_its_end_blocking_and_full_holds_up_nobody() {
        let (relay, rope) = Relay::new(set(), 0).unwrap();
        let theirs = rope.as_fd().try_clone_to_owned().unwrap();
        fcntl_setfl(&theirs, fcntl_getfl(&theirs).unwrap() - OFlags::NONBLOCK).unwrap();
        let ringer = Ringer::from_fd(rope).unwrap();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Far more than the socket holds.
            (0..100_000).for_each(|_| ringer.ring());
            let mut looks = 0;
            while relay.pass() == Pulled::Yes {
                looks += 1;
            }
            done.send(looks)
        });
        let looks = is_done.recv_timeout(std::time::Duration::from_secs(60)).expect("it hangs");
        assert!((1..100_000).contains(&looks), "{looks}");
    }

    #[test]
    fn an_urgent_pull_counts_as_any_other() {
        let (relay, rope) = Relay::new(set(), 0).unwrap();
        for _ in 0..3 {
            match rustix::net::send(&rope, &[1], rustix::net::SendFlags::OOB) {
                // A kernel before 5.15, or one without them.
                Err(rustix::io::Errno::OPNOTSUPP) => return,
                sent => assert_eq!(sent, Ok(1)),
            }
            assert_eq!((relay.pass(), relay.pass()), (Pulled::Yes, Pulled::No));
        }
    }

    #[test]
    fn what_is_no_rope_is_refused() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(matches!(Ringer::from_fd(reader.into()), Err(Error::BadMessage { .. })));
        let event = crate::event::EventFd::new().unwrap().as_fd().try_clone_to_owned().unwrap();
        assert!(matches!(Ringer::from_fd(event), Err(Error::BadMessage { .. })));
    }
}
