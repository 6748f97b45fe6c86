//! The producing end: room for frames, and how they become visible.

use std::time::{Duration, Instant};

use crate::arena::{ArenaOwner, Block, BlockRef};
use crate::error::{ClaimError, Error};
use crate::event::Events;
use crate::raw::LINE;
use crate::segment::Segment;
use crate::signal::Signal;
use crate::spsc::claim::{Batch, Claim};
use crate::spsc::control::Control;
use crate::spsc::cursor::{HEADER, Place, Position, frame_bytes};
use crate::spsc::layout::{self, SpscLayout};
use crate::spsc::ring::{CLOSED, Ring};
use crate::spsc::word::{Header, Kind, UNPUBLISHED};
use crate::sync::Ordering;
use crate::wait::SpinBudget;

// ORDERING: Release, pairs with the Acquire load in `Consumer::find`; see `Core::publish`.
const PUBLISH: Ordering = if cfg!(weaken = "spsc_publish_relaxed") { Ordering::Relaxed } else { Ordering::Release };

/// How long a producer sleeps before it looks for room that it was not told of; doubles up to [`UNTOLD_LAST_NS`].
const UNTOLD_FIRST_NS: u64 = 10_000_000;
const UNTOLD_LAST_NS: u64 = 1_000_000_000;

/// How far a refused claim goes to find room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// To what the consumer gave back, a quarter of the ring at a time: for a loop of looks.
    Released,
    /// To what it has received up to this moment. Takes from it the line that it writes with each frame.
    Received,
}

/// What a claim of an end's own positions needs; kept apart from what it borrows.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) ring: Ring,
    /// Where the next frame goes. The header there is clear.
    pub(super) tail: Position,
    /// Up to where frames may reach, as far as is known; may lag, never leads.
    limit: Position,
    sent: u64,
    aborted: u64,
    full: u64,
    /// Whether the last claim was refused.
    is_full: bool,
    closed: bool,
    /// Why the last claim was refused. Here, and not in what a look for room returns, to keep that in registers.
    pub(super) refused: ClaimError,
}

impl Core {
    /// Room for a frame of so many bytes behind `tail`: two loads, unless the known room is used up. `None`: `refused`
    /// says why.
    #[inline(always)]
    pub(super) fn reserve(&mut self, tail: Position, bytes: usize, look: Look) -> Option<Place> {
        let place = self.ring.geometry.place(tail, bytes);
        let needed = place.pad + bytes;
        let is_known =
            self.ring.is_here() && needed as u64 <= self.limit.since(tail) && !self.ring.consumer_has_ended();
        (is_known || self.find_room(tail, needed, look)).then_some(place)
    }

    #[inline(never)]
    fn find_room(&mut self, tail: Position, needed: usize, look: Look) -> bool {
        self.look_for_room(tail, needed, look).map_err(|refused| self.refused = refused).is_ok()
    }

    fn look_for_room(&mut self, tail: Position, needed: usize, look: Look) -> Result<(), ClaimError> {
        if !self.ring.is_here() {
            return Err(ClaimError::ForkedHandle);
        }
        if self.closed || self.ring.consumer_has_ended() {
            return Err(ClaimError::Closed);
        }
        self.learn::<{ layout::RELEASED }>("released position")?;
        if look == Look::Received && needed as u64 > self.limit.since(tail) {
            self.learn::<{ layout::HEAD }>("head position")?;
        }
        let free = self.limit.since(tail) as usize;
        if needed <= free {
            self.is_full = false;
            return Ok(());
        }
        if !self.is_full {
            self.is_full = true;
            self.full += 1;
            self.ring.word::<{ layout::FULL }>().store(self.full, Ordering::Relaxed);
        }
        Err(ClaimError::Full { needed, free })
    }

    /// Room for a payload of `len` bytes behind `tail`: for the payload, or for the name of a block. `None`: `refused`
    /// says why.
    #[inline(always)]
    pub(super) fn room(&mut self, arena: Option<&ArenaOwner>, tail: Position, len: usize, look: Look) -> Option<Room> {
        if len <= self.ring.inline_limit {
            return self.reserve(tail, frame_bytes(len), look).map(|place| Room { place, block: None });
        }
        let block = self.allocate(arena, tail, len, look)?;
        Some(Room { place: self.ring.geometry.place(tail, frame_bytes(BLOCK_FRAME)), block: Some(block) })
    }

    /// As [`room`](Self::room), for a loop that waits: `None` while the ring is full.
    pub(super) fn room_at_last(
        &mut self,
        arena: Option<&ArenaOwner>,
        len: usize,
        look: Look,
    ) -> Option<Result<Room, ClaimError>> {
        match self.room(arena, self.tail, len, look) {
            None if matches!(self.refused, ClaimError::Full { .. }) => None,
            room => Some(room.ok_or(self.refused)),
        }
    }

    /// A block for the payload, and room for its name.
    #[cold]
    fn allocate(&mut self, arena: Option<&ArenaOwner>, tail: Position, len: usize, look: Look) -> Option<BlockRef> {
        let limit = self.ring.layout.limit();
        let Some(arena) = arena.filter(|_| len <= limit) else {
            self.refused = ClaimError::TooLarge { len, limit };
            return None;
        };
        self.reserve(tail, frame_bytes(BLOCK_FRAME), look)?;
        // None is free: all that would do are with the consumer, and come back when it drops their frames.
        self.refused = ClaimError::Full { needed: len, free: 0 };
        arena.allocate(len).map(Block::suspend)
    }

    /// Learns how far the consumer is, from one of its words.
    fn learn<const AT: usize>(&mut self, what: &'static str) -> Result<(), ClaimError> {
        // ORDERING: Acquire, pairs with the Release stores of both words in the consumer's `Core::release`: its reads
        // of what we are about to write are over.
        let seen = self.ring.word::<AT>().load(Ordering::Acquire);
        let (geometry, tail) = (self.ring.geometry, self.tail);
        let limit = seen.decode(|word| {
            let head = Position::from_word(word);
            let is_possible = head.to_word() == word && tail.since(head) <= geometry.most_behind();
            is_possible.then(|| geometry.limit(head)).ok_or(ClaimError::Corrupt { what, found: word })
        })?;
        // The released position lags behind the head, from which a further limit may be known.
        if limit.is_ahead_of(self.limit) {
            self.limit = limit;
        }
        Ok(())
    }

    /// Writes every header of a frame that follows `tail` but the one at `tail`, and gives that one's word.
    #[inline(always)]
    pub(super) fn link(&self, tail: Position, place: Place, header: Header) -> u64 {
        let word = header.to_word(place.start);
        if place.pad == 0 {
            return word;
        }
        let pad = Header { kind: Kind::Pad, len: place.pad as u32 - 8 }.to_word(tail);
        if cfg!(weaken = "spsc_pad_first") {
            self.ring.header(tail).store(pad, PUBLISH);
        }
        // ORDERING: Relaxed: nobody looks here before the padding at `tail` is published.
        self.ring.header(place.start).store(word, Ordering::Relaxed);
        pad
    }

    /// Clears the header behind a frame that ends at `end`, before the frame is published: what lies there is old
    /// payload, and would be read as a header.
    #[inline(always)]
    pub(super) fn clear(&self, end: Position) {
        if cfg!(not(weaken = "spsc_clear_after_publish")) {
            self.ring.header(end).store(UNPUBLISHED, Ordering::Relaxed);
        }
    }

    /// Fills the frame behind `tail` with what is to be found there in the common case: room that is known, and memory up
    /// to its end. Gives where it ends. `clears`: the header behind it as well.
    #[inline(always)]
    pub(super) fn fill(&self, tail: Position, payload: &[u8], clears: bool) -> Option<Position> {
        let ring = &self.ring;
        let (len, bytes) = (payload.len(), frame_bytes(payload.len()));
        if len > ring.inline_limit
            || bytes as u64 > self.limit.since(tail)
            || !ring.is_here()
            || ring.consumer_has_ended()
        {
            return None;
        }
        let end = tail.plus(bytes);
        // What lies behind the first line first, because the consumer polls that one: were we to go for another line
        // between its payload and its header, it would be taken from us and would have to come back.
        let before = || {
            self.prefetch(tail, end);
            if clears {
                self.clear(end);
            }
        };
        ring.frames.try_copy_in(tail.plus(HEADER).to_index(), payload, before).then_some(end)
    }

    /// Asks for the lines of a frame to come, which the consumer still has: one by one, as the stores reach them, a stream
    /// of small frames would wait for each. Not those next to `end`, which the consumer polls, and not what it has yet
    /// to read.
    #[inline(always)]
    fn prefetch(&self, tail: Position, end: Position) {
        const AHEAD: usize = 1024;
        if end.since(tail) >= AHEAD as u64 {
            return;
        }
        let (mut line, to) = (tail.plus(AHEAD).line(), end.plus(AHEAD).line());
        while line != to {
            line = line.plus(LINE);
            if self.limit.is_ahead_of(line.plus(LINE)) {
                self.ring.frames.prefetch_for_write(line.to_index());
            }
        }
    }

    /// Makes the frames from the tail up to `end` visible, by the header at the tail; the one at `end` is clear. Wait-free.
    #[inline(always)]
    pub(super) fn publish(&mut self, tail: Position, first: u64, end: Position, frames: u64) {
        // ORDERING: Release, pairs with the Acquire load in `Consumer::find`: whoever sees this header sees the payload,
        // the headers behind it and that the one behind the last is clear (`spsc_publish_relaxed`).
        self.ring.header(tail).store(first, PUBLISH);
        if cfg!(weaken = "spsc_clear_after_publish") {
            self.ring.header(end).store(UNPUBLISHED, Ordering::Relaxed);
        }
        // After the publication: the account is for onlookers, and a consumer waits for the header.
        self.tail = end;
        self.sent = self.sent.wrapping_add(frames);
        self.ring.word::<{ layout::TAIL }>().store(end.to_word(), Ordering::Relaxed);
        self.ring.word::<{ layout::SENT }>().store(self.sent, Ordering::Relaxed);
        self.ring.data.notify();
    }

    pub(super) fn count_aborted(&mut self, claims: u64) {
        if !self.ring.is_here() {
            return;
        }
        self.aborted = self.aborted.wrapping_add(claims);
        self.ring.word::<{ layout::ABORTED }>().store(self.aborted, Ordering::Relaxed);
    }
}

/// Where a claimed payload goes. A few plain words, so that they stay in registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Of its frame.
    pub(super) place: Place,
    /// The block for it, if it goes into the arena.
    pub(super) block: Option<BlockRef>,
}

/// Bytes of payload of a frame that names a block.
pub(super) const BLOCK_FRAME: usize = 16;

/// The producing end of a ring. One for the life of the ring; dropped, it closes the ring.
///
/// `try_` forms answer at once: wait-free, without a system call unless the consumer sleeps. The others poll for an
/// adaptive while and then sleep until there is room.
///
/// In a forked child the memory is not there, and the ring is the parent's: to claim and to send is
/// [`ClaimError::ForkedHandle`], everything else does nothing, and a claim that is held over the fork can only be dropped.
#[derive(Debug)]
pub struct Producer {
    pub(super) core: Core,
    pub(super) arena: Option<ArenaOwner>,
    pub(super) space: Signal,
    spin: SpinBudget,
}

impl Producer {
    /// Becomes the producer of a ring.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`] if the ring has, or had, one; [`Error::ForkedHandle`].
    pub fn attach(segment: &Segment<SpscLayout>, events: Events) -> Result<Self, Error> {
        let ring = Ring::over(segment, events);
        ring.take_role::<{ layout::PRODUCER_ROLE }>("producer")?;
        let arena = ring.layout.arena().map(|arena| ArenaOwner::new(segment.memory(), layout::ARENA_AT, arena));
        let tail = Position::from_word(ring.value::<{ layout::TAIL }>());
        let space = ring.space.clone();
        // No room is known yet: the first claim looks for it.
        let core = Core {
            ring,
            tail,
            limit: tail,
            sent: 0,
            aborted: 0,
            full: 0,
            is_full: false,
            closed: false,
            refused: ClaimError::Closed,
        };
        Ok(Self { core, arena, space, spin: super::default_spin() })
    }

    /// Sets how long the waiting forms poll before they sleep; by default [`DEFAULT_SPIN`](crate::wait::DEFAULT_SPIN).
    pub fn set_spin(&mut self, max: Duration) {
        self.spin = SpinBudget::new(Some(max));
    }

    /// Claims a frame for a payload of up to `len` bytes. Wait-free, no system call.
    ///
    /// # Errors
    /// [`ClaimError::Full`] with the bytes needed and free, [`ClaimError::TooLarge`] if it can never fit,
    /// [`ClaimError::Closed`] if the consumer has closed or died, [`ClaimError::Corrupt`] if it wrote what cannot be.
    #[inline(always)]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, ClaimError> {
        let Self { core, arena, .. } = self;
        match core.room(arena.as_ref(), core.tail, len, Look::Received) {
            Some(room) => Ok(Claim::new(core, arena.as_ref(), None, room, len)),
            None => Err(core.refused),
        }
    }

    /// As [`try_claim`](Self::try_claim), but waits while the ring is full: for a quarter of it to be received, or for all
    /// that is there. Of less it learns after 10 ms, later of twice as much each time up to a second.
    ///
    /// # Errors
    /// As [`try_claim`](Self::try_claim), but never `Full`.
    #[inline(always)]
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_>, ClaimError> {
        self.claim_at_once_or(len, |this| this.claim_until(len, None))
    }

    /// As [`claim`](Self::claim), but no longer than until `deadline`.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), and [`ClaimError::TimedOut`].
    #[inline(always)]
    pub fn claim_deadline(&mut self, len: usize, deadline: Instant) -> Result<Claim<'_>, ClaimError> {
        self.claim_at_once_or(len, |this| this.claim_until(len, Some(crate::clock::ns_of(deadline))))
    }

    #[inline(always)]
    fn claim_at_once_or<'a>(
        &'a mut self,
        len: usize,
        wait: impl FnOnce(&'a mut Self) -> Result<Claim<'a>, ClaimError>,
    ) -> Result<Claim<'a>, ClaimError> {
        let tail = self.core.tail;
        match self.core.room(self.arena.as_ref(), tail, len, Look::Released) {
            Some(room) => Ok(Claim::new(&mut self.core, self.arena.as_ref(), None, room, len)),
            None => wait(self),
        }
    }

    #[inline(never)]
    fn claim_until(&mut self, len: usize, until_ns: Option<u64>) -> Result<Claim<'_>, ClaimError> {
        let Self { core, arena, space, spin, .. } = self;
        let arena = arena.as_ref();
        let mut look = |how| core.room_at_last(arena, len, how);
        // While it polls or sleeps it counts on what the consumer gives back, for which it is woken; in between, and at
        // the end, on every byte.
        let room = spin
            .poll(until_ns, || look(Look::Released))
            .or_else(|| look(Look::Received))
            .or_else(|| sleep(space, until_ns, look));
        let late = match core.refused {
            ClaimError::Full { needed, free } => ClaimError::TimedOut { needed, free },
            refused => refused,
        };
        let room = room.ok_or(late)??;
        Ok(Claim::new(core, arena, None, room, len))
    }

    /// Sends a payload. Wait-free; a system call only if the consumer sleeps.
    ///
    /// # Errors
    /// As [`try_claim`](Self::try_claim).
    #[inline(always)]
    pub fn try_send(&mut self, payload: &[u8]) -> Result<(), ClaimError> {
        self.put(payload, Look::Received)
    }

    #[inline(always)]
    fn put(&mut self, payload: &[u8], look: Look) -> Result<(), ClaimError> {
        let core = &mut self.core;
        let tail = core.tail;
        let Some(end) = core.fill(tail, payload, true) else { return self.put_late(payload, look) };
        core.publish(tail, Header::inline(payload.len()).to_word(tail), end, 1);
        Ok(())
    }

    /// What is not the common case: no room is known, the frame wraps, or its payload goes into a block.
    #[inline(never)]
    fn put_late(&mut self, payload: &[u8], look: Look) -> Result<(), ClaimError> {
        let Self { core, arena, .. } = self;
        let (arena, len) = (arena.as_ref(), payload.len());
        let Some(room) = core.room(arena, core.tail, len, look) else { return Err(core.refused) };
        Claim::new(core, arena, None, room, len).send(payload);
        Ok(())
    }

    /// As [`try_send`](Self::try_send), but waits while the ring is full.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    #[inline(always)]
    pub fn send(&mut self, payload: &[u8]) -> Result<(), ClaimError> {
        match self.put(payload, Look::Released) {
            Err(ClaimError::Full { .. }) => self.send_late(payload),
            settled => settled,
        }
    }

    #[cold]
    #[inline(never)]
    fn send_late(&mut self, payload: &[u8]) -> Result<(), ClaimError> {
        self.claim(payload.len()).map(|claim| claim.send(payload))
    }

    /// As [`send`](Self::send), but no longer than until `deadline`.
    ///
    /// # Errors
    /// As [`claim_deadline`](Self::claim_deadline).
    pub fn send_deadline(&mut self, payload: &[u8], deadline: Instant) -> Result<(), ClaimError> {
        self.claim_deadline(payload.len(), deadline).map(|claim| claim.send(payload))
    }

    /// Begins a batch: frames that become visible together, by one store.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_> {
        Batch::new(&mut self.core, self.arena.as_ref())
    }

    /// Sends no more: the consumer receives what was committed, and then [`RecvError::Closed`](crate::RecvError::Closed).
    /// Wakes whoever sleeps on either side. Some system calls.
    pub fn close(&mut self) {
        if !self.core.closed {
            self.core.closed = true;
            // Leaves no room, so that every later claim comes to look why.
            self.core.limit = self.core.tail;
            self.core.ring.end::<{ layout::PRODUCER_END }>(CLOSED);
        }
    }

    /// A handle to look at the ring, and to end it, from another thread.
    pub fn control(&self) -> Control {
        Control(self.core.ring.clone())
    }

    /// Frames that were committed and are not received yet. Two loads.
    pub fn len(&self) -> u64 {
        self.core.ring.queued()
    }

    /// Whether every frame was received.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that further frames may take, headers and what a wrap loses included. Two loads.
    pub fn free(&self) -> usize {
        self.core.ring.free()
    }

    /// The ring's shape.
    pub fn layout(&self) -> SpscLayout {
        self.core.ring.layout
    }
}

/// Sleeps until `look` finds room. The consumer may stop for good when it has received less than it tells of, so now and
/// then every byte counts.
#[cold]
fn sleep<T>(space: &Signal, until_ns: Option<u64>, mut look: impl FnMut(Look) -> Option<T>) -> Option<T> {
    let mut untold_ns = UNTOLD_FIRST_NS;
    loop {
        let until = crate::clock::kernel_ns().saturating_add(untold_ns);
        let (until, is_last) = until_ns.map_or((until, false), |end| (until.min(end), until >= end));
        let room = space.wait(&SpinBudget::none(), Some(until), || look(Look::Released));
        let room = room.or_else(|| look(Look::Received));
        if room.is_some() || is_last {
            return room;
        }
        untold_ns = (untold_ns * 2).min(UNTOLD_LAST_NS);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.close();
    }
}
