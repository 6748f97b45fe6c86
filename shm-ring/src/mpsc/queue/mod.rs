//! A queue between processes: any number of them send, one receives.
//!
//! Each sending process has a *lane* of its own: a ring of this module in a sealed memfd, handed out over the queue's
//! Unix socket. So a producer that is stopped or killed half-way through a frame holds up its own lane and nobody
//! else's, and a lane whose producer is gone is emptied, then given up; its memory is never used for another.
//!
//! - **Order** is first-in-first-out for each sending thread. Between lanes the consumer takes turns of 64 frames.
//! - **Waking**: the consumer polls at most eight lanes, those that were busy last; the others set their bit in a ready
//!   set, and ring a futex or an eventfd if the consumer sleeps (see [`crate::ready`]).
//! - **Trust**: a lane of another user, who comes in only if [`QueueOptions::access`] says so, is
//!   [isolated](crate::Trust::ISOLATED). Its payloads are copied out before anybody looks at them, its producer can write
//!   neither the consumer's words nor anything that other producers see, and rings by a rope of its own.
//! - **Ends** are the kernel's word: a socket that hung up, a process that died. Never a timer.
//! - **The name** is a socket file, `NAMESPACE/queues/NAME.sock` under the runtime directory. What a killed consumer leaves
//!   there is replaced by the next [`create`](QueueOptions::create). Nothing else has a name.

mod address;
mod door;
mod lanes;
mod link;
mod options;
mod poller;
mod table;
mod tasks;
mod welcome;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use address::QueueAddress;
pub(super) use link::{LaneBell, Link};
pub use options::QueueOptions;

use self::door::Door;
use self::lanes::Hub;
use self::poller::{At, Parked, Poller};
use super::frame::Frame;
use crate::account;
use crate::clock;
use crate::error::{Error, RecvError};
use crate::futex::Woken;
use crate::mpsc::Sender;
use crate::tasks::Tasks;
use crate::wait::SpinBudget;

/// What the memory of queues is called, for tools and for [`crate::inspect`].
pub(crate) const READY_NAME: &str = "queue-ready";
pub(crate) const LANE_NAME: &str = "queue-lane";
const DOWN_NAME: &str = "queue-lane-down";

/// First interval of the safety time-out; it doubles up to [`SAFETY_LAST_NS`] while nothing happens.
const SAFETY_FIRST_NS: u64 = 100_000_000;
const SAFETY_LAST_NS: u64 = 1_000_000_000;

/// The receiving end of a queue, in the process that created it; one thread at a time. Dropped, the queue is gone and its
/// producers are told; frames that were not received are lost.
///
/// `try_` functions never wait; the others poll for a while, then sleep. For an event loop: [`as_fd`](AsFd::as_fd) and
/// [`arm`](Self::arm).
///
/// In a forked child the memory is not there, and the queue is the parent's: to receive is [`RecvError::ForkedHandle`],
/// everything else does nothing, and a frame that is held over the fork can only be dropped.
pub struct Queue {
    address: QueueAddress,
    poller: Poller,
    spin: SpinBudget,
    rescues: u64,
    /// Looks at all lanes that found nothing.
    empty: u64,
    /// Those that wait for frames, on the hub's eventfd.
    tasks: Arc<Tasks>,
    /// Ends first: after it nobody comes in.
    door: Option<Door>,
    hub: Arc<Hub>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Queue {
    fn new(address: QueueAddress, hub: Arc<Hub>, door: Door) -> Self {
        let (poller, spin) = (Poller::default(), SpinBudget::new(None));
        let tasks = Tasks::new(hub.event.clone());
        Self { address, poller, spin, rescues: 0, empty: 0, tasks, door: Some(door), hub }
    }

    /// Creates the queue of that address with the defaults of [`QueueOptions`].
    ///
    /// # Errors
    /// [`Error::BadAddress`], and as [`QueueOptions::create`].
    pub fn create(address: &str) -> Result<Self, Error> {
        QueueOptions::new().create(&address.parse()?)
    }

    /// Opens the queue of that address as a producer, with the defaults of [`QueueOptions`].
    ///
    /// # Errors
    /// [`Error::BadAddress`], and as [`QueueOptions::open`].
    pub fn open(address: &str) -> Result<Sender, Error> {
        QueueOptions::new().open(&address.parse()?)
    }

    /// Its address: as text, a handle that any process can open.
    pub fn address(&self) -> &QueueAddress {
        &self.address
    }

    /// Sets how long the waiting forms poll before they sleep; by default [`DEFAULT_SPIN`](crate::wait::DEFAULT_SPIN).
    pub fn set_spin(&mut self, max: Duration) {
        self.spin = SpinBudget::new(Some(max));
    }

    #[inline]
    fn frame(&mut self, at: At) -> Frame<'_> {
        Frame::new(self.poller.taking(&at), at.found)
    }

    /// The next frame, if one is committed. A system call only if a producer sleeps.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if nothing is there; [`RecvError::Closed`] after a [`close`](Self::close), once everything
    /// was received. A producer that writes an impossible word is thrown out and counted; the others are not affected.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Frame<'_>, RecvError> {
        self.at_home()?;
        let at = match self.poller.look(&self.hub) {
            Some(at) => at,
            None => self.search()?,
        };
        Ok(self.frame(at))
    }

    /// In a forked child there is nothing to receive.
    #[inline(always)]
    fn at_home(&self) -> Result<(), RecvError> {
        if self.hub.home.is_here() { Ok(()) } else { Err(RecvError::ForkedHandle) }
    }

    #[cold]
    fn search(&mut self) -> Result<At, RecvError> {
        match self.poller.search(&self.hub) {
            Some(at) => Ok(at),
            None if self.poller.is_finished(&self.hub) => Err(RecvError::Closed),
            None => {
                self.empty += 1;
                self.hub.account.note::<{ account::EMPTY_AT }>(self.empty);
                Err(RecvError::Empty)
            }
        }
    }

    /// The next frame; blocks the thread while there is none.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), but never `Empty`.
    #[inline]
    pub fn recv(&mut self) -> Result<Frame<'_>, RecvError> {
        self.recv_until(None)
    }

    /// The next frame; blocks the thread while there is none, up to a deadline.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::TimedOut`].
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Frame<'_>, RecvError> {
        self.recv_until(Some(clock::ns_of(deadline)))
    }

    #[inline]
    fn recv_until(&mut self, until_ns: Option<u64>) -> Result<Frame<'_>, RecvError> {
        self.at_home()?;
        let at = match self.poller.look(&self.hub) {
            Some(at) => at,
            None => self.wait(until_ns)?,
        };
        Ok(self.frame(at))
    }

    #[cold]
    fn wait(&mut self, until_ns: Option<u64>) -> Result<At, RecvError> {
        let Self { poller, hub, spin, rescues, empty, .. } = self;
        for _ in 0..poller.breath() {
            crate::sync::spin_loop();
        }
        if let Some(at) = spin.poll(until_ns, || poller.look(hub)) {
            return Ok(at);
        }
        let mut interval_ns = SAFETY_FIRST_NS;
        loop {
            if poller.is_finished(hub) {
                return Err(RecvError::Closed);
            }
            let bell = match poller.park(hub, false) {
                Parked::Found(at) => return Ok(at),
                Parked::Again => match poller.look(hub) {
                    Some(at) => return Ok(at),
                    // Whoever rings for nothing all the time puts off no deadline.
                    None if until_ns.is_some_and(|until| clock::kernel_ns() >= until) => {
                        return Err(RecvError::TimedOut);
                    }
                    None => continue,
                },
                Parked::Sleep(bell) => bell,
            };
            *empty += 1;
            hub.account.note::<{ account::EMPTY_AT }>(*empty);
            let now_ns = clock::kernel_ns();
            if until_ns.is_some_and(|until| now_ns >= until) {
                poller.awake(hub);
                return Err(RecvError::TimedOut);
            }
            let safety_ns = now_ns.saturating_add(interval_ns);
            let woken = hub.ready.sleep(bell, Some(until_ns.map_or(safety_ns, |until| until.min(safety_ns))));
            if let Some(at) = poller.look(hub) {
                if woken == Woken::TimedOut && hub.ready.bell() == bell {
                    *rescues += 1;
                    hub.account.note::<{ account::RESCUES_AT }>(*rescues);
                }
                return Ok(at);
            }
            if woken == Woken::TimedOut {
                interval_ns = (interval_ns * 2).min(SAFETY_LAST_NS);
            }
        }
    }

    /// Hands up to `budget` frames to `f` without waiting; says how many there were.
    #[inline]
    pub fn drain(&mut self, budget: usize, mut f: impl FnMut(Frame<'_>)) -> usize {
        let mut drained = 0;
        while drained < budget
            && self.hub.home.is_here()
            && let Some(at) = self.poller.look(&self.hub)
        {
            f(self.frame(at));
            drained += 1;
        }
        if drained > 0 {
            self.poller.tell_producers();
        }
        drained
    }

    /// Says to all producers that the consumer waits for its descriptor to become readable. `false`: something may be
    /// there already, look again instead. Afterwards, when the descriptor is readable: look, until nothing is there,
    /// then arm again.
    ///
    /// Some 1 µs, plus a look at every polled lane.
    pub fn arm(&mut self) -> bool {
        if !self.hub.home.is_here() {
            return false;
        }
        // A task may have waited before, and the watcher thread would empty the descriptor for it.
        self.tasks.retire();
        self.hub.event.drain();
        // Asked after the parking: a producer whose end is the queue's own rings then.
        matches!(self.poller.park(&self.hub, true), Parked::Sleep(_)) && !self.poller.is_finished(&self.hub)
    }

    /// Ends the queue: nobody can open it any more, and every later claim is refused. What was claimed before is still
    /// received, then [`RecvError::Closed`].
    pub fn close(&mut self) {
        if !self.hub.home.is_here() {
            return;
        }
        self.door = None;
        let lanes = self.hub.close();
        self.poller.close(lanes);
    }

    /// Frames on their way, in all lanes: claimed or committed, and not yet given back. Some loads per lane.
    pub fn len(&self) -> usize {
        if self.hub.home.is_here() { self.poller.hot_len() + self.hub.cold_len() } else { 0 }
    }

    /// Whether no frame is on its way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Producers at this moment, those included that left and whose frames are not all received.
    pub fn producers(&self) -> usize {
        if self.hub.home.is_here() { self.hub.count() } else { 0 }
    }

    /// Ends all lanes of a process; says how many. What it has committed by the time of the last look at a lane is still
    /// received, what it holds claimed never is; its next claim is refused, and so is one that waits.
    ///
    /// For a process that is stopped or does not keep to what was agreed. Whatever it goes on to write goes to memory
    /// that nobody reads. A system call for each lane, which is gone when it is next looked at and found empty.
    pub fn evict(&self, pid: u32) -> usize {
        self.hub.evict(pid)
    }

    /// Producers that were thrown out because they wrote an impossible word, or, of another user, rang for nothing all the
    /// time.
    pub fn thrown_out(&self) -> u64 {
        self.hub.thrown_out()
    }

    /// Sleeps that only the safety time-out ended although something was there. Expected 0.
    pub fn rescues(&self) -> u64 {
        self.rescues
    }
}

impl AsFd for Queue {
    /// Becomes readable when there is something to receive, after [`arm`](Self::arm).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.hub.event.as_fd()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::mpsc::channel;
    use std::task::{Context, Waker};

    use super::*;

    /// A queue without a door in the file system that others use.
    fn queue(name: &str) -> Queue {
        let dir = std::env::temp_dir().join(format!("shm-ring-{}-{name}", std::process::id()));
        let queue = QueueOptions::new().runtime_dir(&dir).create(&"tests/bits".parse().unwrap()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        queue
    }

    /// Runs it on a thread that may never come back.
    fn comes_back<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, is_done) = channel();
        std::thread::spawn(move || done.send(run()));
        is_done.recv_timeout(Duration::from_secs(60)).expect("it does not come back")
    }

    #[test]
    fn a_ready_bit_of_a_lane_that_was_never_given_holds_nobody_up() {
        let mut queue = queue("stray");
        comes_back(move || {
            queue.hub.ready.ring(900);
            let soon = Instant::now() + Duration::from_millis(5);
            assert_eq!(queue.recv_deadline(soon).unwrap_err(), RecvError::TimedOut);
            queue.hub.ready.ring(900);
            let mut receives = pin!(queue.recv_async());
            assert!(receives.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        });
    }

    #[test]
    fn a_peer_that_rings_for_nothing_all_the_time_puts_off_no_deadline() {
        let mut queue = queue("noise");
        let hub = Arc::clone(&queue.hub);
        let quiet = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (told, noise) = (
            Arc::clone(&quiet),
            std::thread::spawn(move || {
                while !quiet.load(std::sync::atomic::Ordering::Relaxed) {
                    hub.ready.ring(900);
                }
            }),
        );
        comes_back(move || {
            let soon = Instant::now() + Duration::from_millis(5);
            assert_eq!(queue.recv_deadline(soon).unwrap_err(), RecvError::TimedOut);
            let mut receives = pin!(queue.recv_async());
            assert!(receives.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        });
        told.store(true, std::sync::atomic::Ordering::Relaxed);
        noise.join().unwrap();
    }
}
