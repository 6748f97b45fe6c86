//! The consuming end: polls the header of the next frame, and gives room back in groups.

use std::time::{Duration, Instant};

use crate::arena::{ArenaReader, BlockRef};
use crate::error::{Error, RecvError};
use crate::event::Events;
use crate::raw::LINE;
use crate::segment::Segment;
use crate::signal::Signal;
use crate::spsc::control::Control;
use crate::spsc::cursor::{HEADER, Position, UNIT, frame_bytes};
use crate::spsc::frame::Frame;
use crate::spsc::layout::{self, SpscLayout};
use crate::spsc::producer::BLOCK_FRAME;
use crate::spsc::ring::{CLOSED, Ring};
use crate::spsc::word::{Common, Header, Kind, UNPUBLISHED};
use crate::sync::{Ordering, spin_loop};
#[cfg(not(loom))]
use crate::trust::Private;
use crate::trust::Trust;
use crate::wait::SpinBudget;

/// From so many frames in a row on a consumer that finds nothing more is taken for one that has caught up with a stream.
const STREAM: u64 = 8;

/// Pauses of about 24 ns before such a consumer looks again: at its heels it would take each line from the producer while
/// it is being written, and both would be slower than with some lines between them. About twice the way of a line between
/// near processors; doubled up to [`MOST_PAUSES`] as long as it has caught up again after fewer than [`STREAM`] frames.
const PAUSES: u32 = 6;

/// Bytes of a frame from which on neither side is quicker for some lines between them.
const SMALL: u64 = 4096;

/// Twice the way of a line between far processors.
const MOST_PAUSES: u32 = 48;

/// Looks at the header before the polling budget is asked: about 2 µs.
const EAGER: u32 = 64;

/// A committed frame that was found at the head. A few plain words, so that they stay in registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Where the payload is, unless it is in a block.
    pub(super) at: Position,
    /// Bytes of the payload.
    pub(super) len: usize,
    /// Where the next frame begins.
    pub(super) end: Position,
    /// What holds the payload.
    pub(super) place: Place,
}

/// Where a payload is. Of a block it was checked that there is such a one, and that it has so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Ring,
    Block(BlockRef),
    /// In the consumer's own memory, as it was copied out of the ring.
    Private,
    /// The same, out of a block.
    PrivateOf(BlockRef),
}

/// The consumer's own positions; kept apart from what its frames borrow.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) ring: Ring,
    arena: Option<ArenaReader>,
    /// The frames that take the short way.
    common: Common,
    pub(super) trust: Trust,
    /// The payload that was found last, if the producer is not trusted with it.
    #[cfg(not(loom))]
    pub(super) private: Private,
    /// Where the next frame is, or will be.
    head: Position,
    /// What the producer was told of it; at most a quarter of the ring behind.
    released: Position,
    received: u64,
    empty: u64,
    /// How many frames had been received when the ring was last found empty. At first one less than none, so that the
    /// first look counts as well.
    dry_at: u64,
    /// How many had been when it last paused for its producer, up to where, and for how long it did.
    paused_at: (u64, Position),
    pauses: u32,
    closed: bool,
    /// Why the last look found nothing.
    pub(super) missed: RecvError,
    /// What the last look found that was not the common case.
    found: Found,
}

impl Core {
    /// Looks for a committed frame: one load of the next header, if it is there. `None`: `missed` says why.
    #[inline(always)]
    pub(super) fn find(&mut self) -> Option<Found> {
        if !self.ring.is_here() {
            self.missed = RecvError::ForkedHandle;
            return None;
        }
        let at = self.head;
        // ORDERING: Acquire, pairs with the Release store in the producer's `Core::publish`.
        let word = self.ring.header(at).load(Ordering::Acquire).decode(|word| word);
        // The common case by one comparison; everything else, and everything impossible, takes the long way.
        let geometry = self.ring.geometry;
        if let Some(len) = Header::inline_len(word, at, self.common)
            && frame_bytes(len) <= geometry.to_end(at)
        {
            return Some(Found { at: at.plus(HEADER), len, end: at.plus(frame_bytes(len)), place: Place::Ring });
        }
        // Its answer is left in `found`, for what is returned through memory would take the common case there as well.
        self.find_other(word).then_some(self.found)
    }

    /// The long way, for a word that is no inline frame's.
    #[inline(never)]
    fn find_other(&mut self, word: u64) -> bool {
        let found = if word == UNPUBLISHED { self.look_again() } else { Ok(word) };
        match found.and_then(|word| self.decode(word)) {
            #[cfg(not(loom))]
            Ok(found) if self.trust.is_isolated() => self.found = self.isolate(found),
            Ok(found) => self.found = found,
            Err(missed) => {
                self.missed = missed;
                return false;
            }
        }
        true
    }

    /// Right before a look of a waiting loop: the frame's second line is to travel together with its first. Asked for any
    /// earlier it would still be old, and the producer would have to take it back; any later, it would come after it.
    #[inline(always)]
    fn expect_frame(&self) {
        self.ring.frames.prefetch_for_read(self.head.plus(LINE).to_index());
    }

    /// Whether a header came: one load, and nothing else for a loop to get through before the next.
    #[inline(always)]
    fn peek(&self) -> bool {
        self.ring.header(self.head).load(Ordering::Relaxed).decode(|word| word != UNPUBLISHED)
    }

    /// Nothing was there: gives back what was received, and says why if nothing will come.
    fn look_again(&mut self) -> Result<u64, RecvError> {
        let frames = self.received.wrapping_sub(self.paused_at.0);
        let are_small = self.head.since(self.paused_at.1) / SMALL <= frames;
        if !cfg!(loom) && are_small && self.received.wrapping_sub(self.dry_at) >= STREAM {
            self.pauses = if frames < STREAM { (2 * self.pauses).min(MOST_PAUSES) } else { self.pauses };
            self.paused_at = (self.received, self.head);
            (0..self.pauses).for_each(|_| spin_loop());
            // ORDERING: Acquire, as in `find`.
            let later = self.ring.header(self.head).load(Ordering::Acquire).decode(|word| word);
            if later != UNPUBLISHED {
                return Ok(later);
            }
            self.pauses = PAUSES;
        }
        if self.dry_at != self.received {
            self.dry_at = self.received;
            self.empty += 1;
            self.ring.word::<{ layout::EMPTY }>().store(self.empty, Ordering::Relaxed);
            if self.released != self.head {
                self.tell();
            }
        }
        if !self.closed && !self.ring.producer_has_ended() {
            return Err(RecvError::Empty);
        }
        // What was committed before the end is visible now, and may not have been when we looked.
        // ORDERING: Acquire, as in `find`.
        let again = self.ring.header(self.head).load(Ordering::Acquire).decode(|word| word);
        if again == UNPUBLISHED || cfg!(weaken = "spsc_close_without_look") {
            Err(RecvError::Closed)
        } else {
            Ok(again)
        }
    }

    fn decode(&self, word: u64) -> Result<Found, RecvError> {
        let mut at = self.head;
        let mut header = self.check(at, word)?;
        if header.kind == Kind::Pad {
            (at, header) = self.behind_pad(at, header, word)?;
        }
        let (body, end) = (at.plus(HEADER), at.plus(header.bytes()));
        match header.kind {
            Kind::Inline => Ok(Found { at: body, len: header.len as usize, end, place: Place::Ring }),
            _ => self.named_block(body, end, header),
        }
    }

    fn check(&self, at: Position, word: u64) -> Result<Header, RecvError> {
        let geometry = self.ring.geometry;
        let header = Header::from_word(word, at, geometry.to_end(at));
        header.ok_or(RecvError::Corrupt { what: "frame header", found: word, at: at.to_word() })
    }

    /// The frame that caused a wrap: at the beginning of the memory, and committed before the padding.
    fn behind_pad(&self, at: Position, pad: Header, word: u64) -> Result<(Position, Header), RecvError> {
        if pad.bytes() != self.ring.geometry.to_end(at) {
            return Err(RecvError::Corrupt { what: "padding", found: word, at: at.to_word() });
        }
        let at = at.plus(pad.bytes());
        // ORDERING: Relaxed: the Acquire load of the padding has made it visible.
        let word = self.ring.header(at).load(Ordering::Relaxed).decode(|word| word);
        let header = self.check(at, word)?;
        if header.kind == Kind::Pad {
            return Err(RecvError::Corrupt { what: "frame behind a wrap", found: word, at: at.to_word() });
        }
        Ok((at, header))
    }

    /// The block that a frame names: a real one, and long enough.
    fn named_block(&self, body: Position, end: Position, header: Header) -> Result<Found, RecvError> {
        let word = |i: usize| self.ring.header(body.plus(i * 8)).load(Ordering::Relaxed).decode(|word| word);
        let (name, len) = (word(0), usize::try_from(word(1)).unwrap_or(usize::MAX));
        let block = BlockRef::from_word(name);
        let is_named = header.len as usize == BLOCK_FRAME;
        match self.arena.as_ref().filter(|_| is_named) {
            Some(arena) if arena.check(block, len).is_ok() => {
                Ok(Found { at: body, len, end, place: Place::Block(block) })
            }
            _ => Err(RecvError::Corrupt { what: "arena block", found: name, at: body.to_word() }),
        }
    }

    /// Copies a payload out, before anybody looks at it.
    #[cfg(not(loom))]
    fn isolate(&mut self, found: Found) -> Found {
        let Self { ring, arena, private, .. } = self;
        let place = match (found.place, arena) {
            (Place::Block(block), Some(arena)) => {
                // Name and length were checked just now, and an arena never changes.
                let _ = arena.copy_out(block, private.room(found.len, 0));
                Place::PrivateOf(block)
            }
            _ => {
                ring.frames.copy_out(found.at.to_index(), private.room(found.len, HEADER % UNIT));
                Place::Private
            }
        };
        Found { place, ..found }
    }

    /// Copies the first bytes of a block out, which was checked when its frame was found.
    #[cfg(not(loom))]
    #[cold]
    pub(super) fn copy_block(&self, at: BlockRef, to: &mut [u8]) {
        let _ = self.arena.as_ref().map(|arena| arena.copy_out(at, to));
    }

    /// The payload in a block, which was checked when its frame was found.
    #[cfg(not(loom))]
    #[cold]
    pub(super) fn block(&self, at: BlockRef, len: usize) -> &[u8] {
        self.arena.as_ref().and_then(|arena| arena.bytes(at, len).ok()).unwrap_or(&[])
    }

    /// Gives a frame back: it, and all before it, may be written again. Wait-free.
    #[inline(always)]
    pub(super) fn release(&mut self, found: Found) {
        if !self.ring.is_here() {
            return;
        }
        self.head = found.end;
        self.received = self.received.wrapping_add(1);
        // ORDERING: Release, pairs with the Acquire load in the producer's `Core::learn`: our reads of the frame are
        // over. Weakened, a frame could be overwritten while it is read. (No model shows it: loom does not move loads
        // behind later stores.)
        self.ring.word::<{ layout::HEAD }>().store(self.head.to_word(), Ordering::Release);
        self.ring.word::<{ layout::RECEIVED }>().store(self.received, Ordering::Relaxed);
        if found.place != Place::Ring {
            self.give_back(found.place);
        }
        if self.head.since(self.released) >= self.ring.geometry.release_from() {
            self.tell();
        }
    }

    #[cold]
    fn give_back(&mut self, place: Place) {
        if let (Place::Block(at) | Place::PrivateOf(at), Some(arena)) = (place, &self.arena) {
            arena.give_back(at);
            // The producer may wait for this very block.
            self.tell();
        }
    }

    /// Tells the producer what was received, and wakes it if it waits for that.
    #[inline(never)]
    fn tell(&mut self) {
        self.released = self.head;
        // ORDERING: Release, pairs with the Acquire load in the producer's `Core::learn`, as for the head.
        self.ring.word::<{ layout::RELEASED }>().store(self.released.to_word(), Ordering::Release);
        self.ring.space.notify();
    }
}

/// The consuming end of a ring. One for the life of the ring; dropped, it closes the ring.
///
/// `try_` forms answer at once: wait-free, without a system call unless the producer sleeps. The others poll for an
/// adaptive while and then sleep until there is a frame.
///
/// In a forked child the memory is not there, and the ring is the parent's: to receive is [`RecvError::ForkedHandle`],
/// everything else does nothing, and a frame that is held over the fork can only be dropped.
#[derive(Debug)]
pub struct Consumer {
    pub(super) core: Core,
    pub(super) data: Signal,
    spin: SpinBudget,
}

impl Consumer {
    /// Becomes the consumer of a ring.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`] if the ring has, or had, one; [`Error::ForkedHandle`].
    pub fn attach(segment: &Segment<SpscLayout>, events: Events) -> Result<Self, Error> {
        let ring = Ring::over(segment, events);
        ring.take_role::<{ layout::CONSUMER_ROLE }>("consumer")?;
        let arena = ring.layout.arena().map(|arena| ArenaReader::new(segment.memory(), layout::ARENA_AT, arena));
        let head = Position::from_word(ring.value::<{ layout::HEAD }>());
        let data = ring.data.clone();
        let core = Core {
            ring,
            arena,
            common: Common::INLINE,
            trust: Trust::CHECKED,
            #[cfg(not(loom))]
            private: Private::default(),
            head,
            released: head,
            received: 0,
            empty: 0,
            dry_at: u64::MAX,
            paused_at: (0, head),
            pauses: PAUSES,
            closed: false,
            missed: RecvError::Empty,
            found: Found { at: head, len: 0, end: head, place: Place::Ring },
        };
        Ok(Self { core, data, spin: super::default_spin() })
    }

    /// With another trust in the producer than [`Trust::CHECKED`].
    ///
    /// With [`Trust::ISOLATED`] each frame is copied out as it is received, into memory of this handle that grows to the
    /// largest payload that came, at most the ring's [`limit`](SpscLayout::limit).
    #[cfg(not(loom))]
    #[must_use]
    pub fn with_trust(mut self, trust: Trust) -> Self {
        self.core.trust = trust;
        self.core.common = if trust.is_isolated() { Common::NONE } else { Common::INLINE };
        self
    }

    /// Sets how long the waiting forms poll before they sleep; by default [`DEFAULT_SPIN`](crate::wait::DEFAULT_SPIN).
    pub fn set_spin(&mut self, max: Duration) {
        self.spin = SpinBudget::new(Some(max));
    }

    /// The next frame, in place; dropped, it is given back. Wait-free, no system call unless the producer sleeps.
    ///
    /// # Errors
    /// [`RecvError::Empty`]; [`RecvError::Closed`] once nothing will come any more; [`RecvError::Corrupt`] if the
    /// producer wrote what cannot be.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Frame<'_>, RecvError> {
        match self.core.find() {
            Some(found) => Ok(Frame::new(&mut self.core, found)),
            None => Err(self.core.missed),
        }
    }

    /// As [`try_recv`](Self::try_recv), but waits while the ring is empty.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), but never `Empty`.
    #[inline(always)]
    pub fn recv(&mut self) -> Result<Frame<'_>, RecvError> {
        match self.core.find() {
            Some(found) => Ok(Frame::new(&mut self.core, found)),
            None => self.late(None),
        }
    }

    /// As [`recv`](Self::recv), but no longer than until `deadline`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::TimedOut`].
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Frame<'_>, RecvError> {
        match self.core.find() {
            Some(found) => Ok(Frame::new(&mut self.core, found)),
            None => self.late(Some(crate::clock::ns_of(deadline))),
        }
    }

    /// The frame that was not there at the first look.
    #[inline(always)]
    fn late(&mut self, until_ns: Option<u64>) -> Result<Frame<'_>, RecvError> {
        // Found again, by a load of a line that is here: handed over through memory, where the payload is would be known
        // later.
        if self.wait(until_ns)
            && let Some(found) = self.core.find()
        {
            return Ok(Frame::new(&mut self.core, found));
        }
        Err(self.core.missed)
    }

    /// Waits for a frame; says whether it is there, or leaves in `missed` why there is none.
    #[cold]
    #[inline(never)]
    fn wait(&mut self, until_ns: Option<u64>) -> bool {
        let Self { core, data, spin, .. } = self;
        if core.missed != RecvError::Empty {
            return false;
        }
        // The budget looks at the clock now and then, which would delay the answer to a peer that is quick.
        let eager = if spin.ns() > 0 { EAGER } else { 0 };
        for _ in 0..eager {
            spin_loop();
            core.expect_frame();
            if core.peek() {
                return true;
            }
        }
        let look = || {
            core.expect_frame();
            match core.find() {
                None if core.missed == RecvError::Empty => None,
                settled => Some(settled.is_some()),
            }
        };
        data.wait(spin, until_ns, look).unwrap_or_else(|| {
            core.missed = RecvError::TimedOut;
            false
        })
    }

    /// Receives up to `budget` frames, as long as there are any; gives their number. Wait-free but for `receive`.
    ///
    /// Zero: [`try_recv`](Self::try_recv) tells why.
    #[inline]
    pub fn drain(&mut self, budget: usize, mut receive: impl FnMut(Frame<'_>)) -> usize {
        let mut drained = 0;
        while drained < budget
            && let Ok(frame) = self.try_recv()
        {
            receive(frame);
            drained += 1;
        }
        drained
    }

    /// Says that nothing sent from now on will be read: the producer's next claim is
    /// [`ClaimError::Closed`](crate::ClaimError::Closed). What is there already can still be received. Wakes whoever
    /// sleeps on either side. Some system calls.
    pub fn close(&mut self) {
        if !self.core.closed {
            self.core.closed = true;
            self.core.ring.end::<{ layout::CONSUMER_END }>(CLOSED);
        }
    }

    /// A handle to look at the ring, and to end it, from another thread.
    pub fn control(&self) -> Control {
        Control(self.core.ring.clone())
    }

    /// Frames that wait to be received. Two loads.
    pub fn len(&self) -> u64 {
        self.core.ring.queued()
    }

    /// Whether no frame waits.
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

impl Drop for Consumer {
    fn drop(&mut self) {
        self.close();
    }
}
