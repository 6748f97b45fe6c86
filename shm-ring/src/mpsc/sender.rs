//! The sending handle: try, wait, wait until a deadline; one frame or several.

use std::fmt;
use std::sync::Arc;
#[cfg(not(loom))]
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::Events;
use super::claim::{Batch, Claim};
use super::layout::MpscLayout;
use super::position::{Kind, Position};
use super::producing::Producing;
#[cfg(not(loom))]
use super::queue::{LaneBell, Link, QueueAddress};
use super::ring::{CLOSED, GONE, Ring, Role};
use crate::error::{ClaimError, Error};
#[cfg(not(loom))]
use crate::ready::Ringer;
use crate::segment::Segment;
use crate::signal::Signal;
use crate::sync::Ordering;
use crate::wait::SpinBudget;

/// How the consumer learns of a frame.
#[derive(Debug)]
pub(super) enum Doorbell {
    /// It waits for this ring alone.
    Ring(Signal),
    /// It has many lanes, of which this is one.
    #[cfg(not(loom))]
    Lane(LaneBell),
    /// The same, and it shares no ready set with these producers.
    #[cfg(not(loom))]
    Rope(Ringer),
}

/// What the handles of one process share. Dropped with the last of them, the ring is closed.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(super) producing: Producing,
    doorbell: Doorbell,
    pub(super) space: Signal,
    /// What ties it to its queue. Dropped last, after the ring was closed.
    #[cfg(not(loom))]
    link: OnceLock<Link>,
}

impl Sending {
    pub(super) fn new(ring: Ring, doorbell: Doorbell, space: Signal) -> Self {
        Self {
            producing: Producing::new(ring),
            doorbell,
            space,
            #[cfg(not(loom))]
            link: OnceLock::new(),
        }
    }

    /// Keeps the tie to a queue for as long as there are handles.
    #[cfg(not(loom))]
    pub(super) fn keep(&self, link: Link) {
        // Once, by whoever made this.
        let _ = self.link.set(link);
    }

    /// After a commit or an abort.
    #[inline]
    pub(super) fn frame_is_there(&self) {
        match &self.doorbell {
            Doorbell::Ring(data) => data.notify(),
            #[cfg(not(loom))]
            Doorbell::Lane(lane) => lane.announce(&self.producing.ring),
            #[cfg(not(loom))]
            Doorbell::Rope(ringer) => _ = ringer.announce(self.producing.ring.watch()),
        }
    }

    /// Nothing is sent any more; whoever waits, on either side, learns of it.
    fn finish(&self, how: u64) {
        if !self.producing.ring.is_here() {
            return;
        }
        self.producing.ring.finish(Role::Producers, how);
        self.space.wake_all();
        match &self.doorbell {
            Doorbell::Ring(data) => data.wake_all(),
            #[cfg(not(loom))]
            Doorbell::Lane(lane) => lane.ring(),
            #[cfg(not(loom))]
            Doorbell::Rope(ringer) => ringer.ring(),
        }
    }

    /// The consumer's process is gone.
    #[cfg(not(loom))]
    pub(super) fn consumer_died(&self) {
        self.producing.ring.finish(Role::Consumer, super::ring::DIED);
        self.space.wake_all();
    }

    /// In a forked child there is nothing to send to.
    #[inline(always)]
    fn at_home(&self) -> Result<(), ClaimError> {
        if self.producing.ring.is_here() { Ok(()) } else { Err(ClaimError::ForkedHandle) }
    }

    #[inline]
    pub(super) fn try_claim(&self, len: usize) -> Result<Claim<'_>, ClaimError> {
        self.at_home()?;
        let block =
            if len <= self.producing.layout().inline_limit() { None } else { Some(self.producing.claim_block(len)?) };
        let position = self.producing.claim_cells(1, len)?;
        Ok(Claim::new(self, position, len, block))
    }

    /// As a claim that is filled and committed at once, without its guard.
    #[inline]
    fn try_send_inline(&self, payload: &[u8]) -> Result<(), ClaimError> {
        self.at_home()?;
        let position = self.producing.claim_cells(1, payload.len())?;
        self.producing.ring.write_body(position, 0, payload);
        self.producing.publish(position, Kind::Inline, payload.len() as u16);
        self.frame_is_there();
        Ok(())
    }

    pub(super) fn try_batch(&self, frames: u64) -> Result<Batch<'_>, ClaimError> {
        self.at_home()?;
        let cells = self.producing.ring.count();
        if frames > cells {
            let cell = self.producing.layout().cell_bytes();
            return Err(ClaimError::TooLarge {
                len: (frames as usize).saturating_mul(cell),
                limit: cells as usize * cell,
            });
        }
        let first = if frames == 0 { Position::new(0) } else { self.producing.claim_cells(frames, 0)? };
        Ok(Batch::new(self, first, frames))
    }

    /// Tries until there is room, or no hope of it.
    #[cold]
    fn wait<T>(
        &self,
        spin: &SpinBudget,
        until_ns: Option<u64>,
        first: ClaimError,
        mut attempt: impl FnMut() -> Result<T, ClaimError>,
    ) -> Result<T, ClaimError> {
        let ClaimError::Full { mut needed, mut free } = first else { return Err(first) };
        let mut attempt = || match attempt() {
            Err(ClaimError::Full { needed: n, free: f }) => {
                (needed, free) = (n, f);
                None
            }
            done => Some(done),
        };
        // While polling, only what the consumer gives back in shares is looked at: the line of its exact head would be
        // taken from it at every frame.
        let released = || self.producing.ring.released().load(Ordering::Relaxed).decode(|word| word);
        let mut before = released();
        let polled = spin.poll(until_ns, || {
            let now = released();
            if now == before {
                return None;
            }
            before = now;
            attempt()
        });
        let done = polled.or_else(|| {
            let slept = self.space.wait(&SpinBudget::none(), until_ns, &mut attempt);
            // Of those that sleep the consumer wakes one. There may be room for more, and it may not come again for long:
            // so each wakes the next.
            if slept.is_some() && self.producing.ring.len() < self.producing.ring.count() {
                self.space.notify_one();
            }
            slept
        });
        done.unwrap_or(Err(ClaimError::TimedOut { needed, free }))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // In a forked child the memory is not mapped, and the ring is the parent's.
        if self.producing.ring.is_here() {
            // No claim outlives its handle: one that is still open was forgotten.
            self.finish(GONE);
            #[cfg(not(loom))]
            if let Some(link) = self.link.get() {
                link.hang_up();
            }
        }
    }
}

/// Sends frames into a ring, from any thread. Clones share it; the ring is closed when the last is dropped.
///
/// - `try_` functions are lock-free and never wait; the others poll for a while, then sleep until the consumer has given
///   back a quarter of the ring, or has nothing more to read.
/// - Order is first-in-first-out for the frames of one thread, if it commits them in the order in which it claimed them.
/// - In a forked child the memory is not there, and the ring is the parent's: to claim and to send is
///   [`ClaimError::ForkedHandle`], everything else does nothing, and a claim that is held over the fork can only be dropped.
#[derive(Clone)]
pub struct Sender {
    pub(super) shared: Arc<Sending>,
    /// Shared by the clones made after it was set.
    spin: Arc<SpinBudget>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("ring", &self.shared.producing.ring).finish_non_exhaustive()
    }
}

impl Sender {
    pub(super) fn over(shared: Arc<Sending>) -> Self {
        Self { shared, spin: Arc::new(SpinBudget::new(None)) }
    }

    /// The producers' end of the ring in a segment. One process has it, for the life of the ring; its threads share it
    /// by clones.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`] if the end has, or had, an owner; [`Error::ForkedHandle`].
    pub fn attach(segment: &Segment<MpscLayout>, events: Events) -> Result<Self, Error> {
        let ring = Ring::new(segment);
        ring.take_role(Role::Producers)?;
        let bell = Doorbell::Ring(ring.data_signal(events.data));
        let space = ring.space_signal(events.space);
        Ok(Self::over(Arc::new(Sending::new(ring, bell, space))))
    }

    /// Sets how long this handle, and clones made of it from now on, poll before they sleep; by default
    /// [`DEFAULT_SPIN`](crate::wait::DEFAULT_SPIN).
    pub fn set_spin(&mut self, max: Duration) {
        self.spin = Arc::new(SpinBudget::new(Some(max)));
    }

    /// Claims a frame with `len` bytes of payload. Lock-free, no system call; for a payload that stands in its cell, one
    /// compare-exchange.
    ///
    /// # Errors
    /// [`ClaimError::Full`] with the numbers of this moment, [`ClaimError::TooLarge`] at once, [`ClaimError::Closed`];
    /// [`ClaimError::Corrupt`] if the consumer wrote an impossible word.
    #[inline]
    pub fn try_claim(&self, len: usize) -> Result<Claim<'_>, ClaimError> {
        self.shared.try_claim(len)
    }

    /// As [`try_claim`](Self::try_claim), but waits for room. Blocks the thread.
    ///
    /// # Errors
    /// As [`try_claim`](Self::try_claim), but never `Full`.
    #[inline]
    pub fn claim(&self, len: usize) -> Result<Claim<'_>, ClaimError> {
        self.claim_until(len, None)
    }

    /// As [`claim`](Self::claim), up to a deadline.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), and [`ClaimError::TimedOut`].
    pub fn claim_deadline(&self, len: usize, deadline: Instant) -> Result<Claim<'_>, ClaimError> {
        self.claim_until(len, Some(crate::clock::ns_of(deadline)))
    }

    #[inline]
    fn claim_until(&self, len: usize, until_ns: Option<u64>) -> Result<Claim<'_>, ClaimError> {
        match self.shared.try_claim(len) {
            Ok(claim) => Ok(claim),
            Err(refused) => self.shared.wait(&self.spin, until_ns, refused, || self.shared.try_claim(len)),
        }
    }

    /// Claims `frames` frames in a row, all or none, with one compare-exchange; their payloads are said later.
    ///
    /// # Errors
    /// As [`try_claim`](Self::try_claim); `TooLarge` if the ring has fewer cells.
    pub fn try_batch(&self, frames: usize) -> Result<Batch<'_>, ClaimError> {
        self.shared.try_batch(frames as u64)
    }

    /// As [`try_batch`](Self::try_batch), but waits for room. Blocks the thread.
    ///
    /// # Errors
    /// As [`try_batch`](Self::try_batch), but never `Full`.
    pub fn batch(&self, frames: usize) -> Result<Batch<'_>, ClaimError> {
        match self.shared.try_batch(frames as u64) {
            Ok(batch) => Ok(batch),
            Err(refused) => self.shared.wait(&self.spin, None, refused, || self.shared.try_batch(frames as u64)),
        }
    }

    /// Sends a copy of `payload`.
    ///
    /// # Errors
    /// As [`try_claim`](Self::try_claim).
    #[inline]
    pub fn try_send(&self, payload: &[u8]) -> Result<(), ClaimError> {
        if payload.len() <= self.shared.producing.layout().inline_limit() {
            return self.shared.try_send_inline(payload);
        }
        let mut claim = self.try_claim(payload.len())?;
        claim.write(payload);
        claim.commit();
        Ok(())
    }

    /// Sends a copy of `payload`, waiting for room. Blocks the thread.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    #[inline]
    pub fn send(&self, payload: &[u8]) -> Result<(), ClaimError> {
        self.send_until(payload, None)
    }

    /// Sends a copy of `payload`, waiting for room up to a deadline.
    ///
    /// # Errors
    /// As [`claim_deadline`](Self::claim_deadline).
    pub fn send_deadline(&self, payload: &[u8], deadline: Instant) -> Result<(), ClaimError> {
        self.send_until(payload, Some(crate::clock::ns_of(deadline)))
    }

    #[inline]
    fn send_until(&self, payload: &[u8], until_ns: Option<u64>) -> Result<(), ClaimError> {
        match self.try_send(payload) {
            Ok(()) => Ok(()),
            Err(refused) => self.shared.wait(&self.spin, until_ns, refused, || self.try_send(payload)),
        }
    }

    /// Ends the ring: every later claim, from any handle, is [`ClaimError::Closed`], and so are those that wait. Frames
    /// claimed before can still be committed, and are received.
    pub fn close(&self) {
        self.shared.finish(CLOSED);
    }

    /// Whether nothing can be sent any more: either side closed the ring, or the consumer is gone. One load.
    pub fn is_closed(&self) -> bool {
        !self.shared.producing.ring.is_here() || self.shared.producing.ring.is_closed()
    }

    /// Frames on their way: claimed or committed, and not yet given back by the consumer. Right from every process;
    /// may have changed by the time it is read.
    pub fn len(&self) -> usize {
        if self.shared.producing.ring.is_here() { self.shared.producing.ring.len() as usize } else { 0 }
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
        self.shared.producing.ring.count() as usize
    }

    /// Bytes of the largest payload that can be sent.
    pub fn limit(&self) -> usize {
        self.shared.producing.layout().limit()
    }

    /// The queue that this sends to; `None` for a ring of its own.
    #[cfg(not(loom))]
    pub fn queue(&self) -> Option<&QueueAddress> {
        self.shared.link.get().map(Link::address)
    }

    /// What the queue's creator says that frames mean: [`QueueOptions::tag`](super::QueueOptions::tag).
    #[cfg(not(loom))]
    pub fn tag(&self) -> &[u8] {
        self.shared.link.get().map_or(&[], Link::tag)
    }
}
