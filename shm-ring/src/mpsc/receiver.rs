//! The receiving handle of one ring.

use std::fmt;
use std::time::{Duration, Instant};

use super::Events;
use super::frame::Frame;
use super::layout::MpscLayout;
use super::ring::{Ring, Role};
use super::taking::{Found, Taking};
use crate::error::{Error, RecvError};
use crate::segment::Segment;
use crate::signal::Signal;
use crate::trust::Trust;
use crate::wait::SpinBudget;

/// Of so many looks at the head, one goes past held claims: such a look takes the line from the producers on which they
/// claim.
const THOROUGH: u32 = 64;

/// Receives the frames of a ring, one thread at a time. Dropped, the ring is closed; frames that were not received are
/// lost.
///
/// `try_` functions are wait-free and never wait; the others poll for a while, then sleep.
///
/// In a forked child the memory is not there, and the ring is the parent's: to receive is [`RecvError::ForkedHandle`],
/// everything else does nothing, and a frame that is held over the fork can only be dropped.
pub struct Receiver {
    pub(super) taking: Taking,
    pub(super) data: Signal,
    spin: SpinBudget,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("ring", self.taking.ring()).finish_non_exhaustive()
    }
}

impl Receiver {
    /// The consumer's end of the ring in a segment. One process has it, for the life of the ring.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`] if the end has, or had, an owner; [`Error::ForkedHandle`].
    pub fn attach(segment: &Segment<MpscLayout>, events: Events) -> Result<Self, Error> {
        let ring = Ring::new(segment);
        ring.take_role(Role::Consumer)?;
        let (data, space) = (ring.data_signal(events.data), ring.space_signal(events.space));
        Ok(Self { taking: Taking::new(ring, space), data, spin: SpinBudget::new(None) })
    }

    /// With another trust in the producers than [`Trust::CHECKED`].
    ///
    /// With [`Trust::ISOLATED`] each frame is copied out as it is received, into memory of this handle that grows to the
    /// largest payload that came, at most the ring's [`limit`](MpscLayout::limit).
    #[must_use]
    pub fn with_trust(mut self, trust: Trust) -> Self {
        self.taking.set_trust(trust);
        self
    }

    /// Sets how long the waiting forms poll before they sleep; by default [`DEFAULT_SPIN`](crate::wait::DEFAULT_SPIN).
    pub fn set_spin(&mut self, max: Duration) {
        self.spin = SpinBudget::new(Some(max));
    }

    /// The next frame, if one is committed; also one that lies behind a claim that is held. No system call while no
    /// producer sleeps.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if nothing is there, [`RecvError::Closed`] if nothing ever will be, [`RecvError::Corrupt`] if
    /// a producer wrote an impossible word.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Frame<'_>, RecvError> {
        self.at_home()?;
        let found = match self.taking.look()? {
            Some(found) => found,
            None => self.search()?.ok_or(RecvError::Empty)?,
        };
        Ok(Frame::new(&mut self.taking, found))
    }

    /// In a forked child there is nothing to receive.
    #[inline(always)]
    pub(super) fn at_home(&self) -> Result<(), RecvError> {
        if self.taking.ring().is_here() { Ok(()) } else { Err(RecvError::ForkedHandle) }
    }

    /// What to do when there is nothing at the head. `None`: nothing is there, and there may be more.
    #[cold]
    fn search(&mut self) -> Result<Option<Found>, RecvError> {
        // Who finds nothing gives back first: the producers may wait for just that.
        self.taking.tell_all_producers();
        let found = self.taking.search()?;
        if found.is_none() {
            if self.taking.is_finished() {
                return Err(RecvError::Closed);
            }
            self.taking.count_empty();
        }
        Ok(found)
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
        self.recv_until(Some(crate::clock::ns_of(deadline)))
    }

    #[inline]
    fn recv_until(&mut self, until_ns: Option<u64>) -> Result<Frame<'_>, RecvError> {
        self.at_home()?;
        let found = match self.taking.look()? {
            Some(found) => found,
            None => self.wait(until_ns)?,
        };
        Ok(Frame::new(&mut self.taking, found))
    }

    #[cold]
    fn wait(&mut self, until_ns: Option<u64>) -> Result<Found, RecvError> {
        // Polling looks at the head's own word only, which no producer but the next one writes; now and then at all.
        self.taking.tell_producers();
        for _ in 0..self.taking.breath() {
            crate::sync::spin_loop();
        }
        let mut looks = 0_u32;
        let polled = self.spin.poll(until_ns, || {
            looks += 1;
            let found = self.taking.look().transpose();
            if found.is_none() && looks.is_multiple_of(THOROUGH) {
                return self.taking.search().transpose();
            }
            found
        });
        if let Some(found) = polled {
            return found;
        }
        if let Some(found) = self.search()? {
            return Ok(found);
        }
        let Self { taking, data, .. } = self;
        let slept = data.wait(&SpinBudget::none(), until_ns, || match taking.search() {
            Ok(None) if taking.is_finished() => Some(Err(RecvError::Closed)),
            found => found.transpose(),
        });
        slept.unwrap_or(Err(RecvError::TimedOut))
    }

    /// Hands up to `budget` frames to `f` without waiting, those behind a claim that is held too; says how many there
    /// were. An end or an error shows at the next `recv`.
    #[inline]
    pub fn drain(&mut self, budget: usize, mut f: impl FnMut(Frame<'_>)) -> usize {
        let mut drained = 0;
        while drained < budget
            && let Ok(frame) = self.try_recv()
        {
            f(frame);
            drained += 1;
        }
        if drained > 0 {
            self.taking.tell_producers();
        }
        drained
    }

    /// Ends the ring: every later claim is refused, and those that wait for room are. What was claimed before is still
    /// received, then [`RecvError::Closed`].
    pub fn close(&mut self) {
        self.taking.close();
    }

    /// Frames on their way: claimed or committed, and not yet given back. Right from every process.
    pub fn len(&self) -> usize {
        if self.taking.ring().is_here() { self.taking.ring().len() as usize } else { 0 }
    }

    /// Whether no frame is on its way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frames for which there is room: [`capacity`](Self::capacity) less [`len`](Self::len).
    pub fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Frames that the ring holds.
    pub fn capacity(&self) -> usize {
        self.taking.ring().count() as usize
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.close();
    }
}
