//! What both ends and every onlooker share: the words, the frames and the two signals of one ring.

use std::fmt;

use crate::error::Error;
use crate::event::Events;
use crate::fork::Home;
use crate::peer::PeerWord;
use crate::raw::{Section, Window};
use crate::segment::{Memory, Segment};
use crate::signal::Signal;
use crate::spsc::cursor::{Geometry, Position};
use crate::spsc::layout::{self, SpscLayout, WORDS_BYTES};
use crate::sync::Ordering;

/// How an end of a ring stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Nobody has attached yet.
    Free,
    /// At work.
    Attached,
    /// Closed by its owner, or by a [`Control`](super::Control).
    Closed,
    /// Its process died; see [`Control::producer_died`](super::Control::producer_died).
    Died,
}

pub(super) const OPEN: u64 = 0;
pub(super) const CLOSED: u64 = 1;
pub(super) const DIED: u64 = 2;

/// Marks a role word as taken, whatever the process's number; the number is the low half.
const TAKEN: u64 = 1 << 32;

#[derive(Clone)]
pub(super) struct Ring {
    words: Section<WORDS_BYTES>,
    pub(super) frames: Window,
    pub(super) geometry: Geometry,
    /// Longest payload that goes into the ring itself.
    pub(super) inline_limit: usize,
    pub(super) layout: SpscLayout,
    pub(super) data: Signal,
    pub(super) space: Signal,
    /// Where the memory is: not in a forked child.
    home: Home,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Ring {
    pub(super) fn over(segment: &Segment<SpscLayout>, events: Events) -> Self {
        let layout = *segment.layout();
        let signal = |at, event| Signal::new(segment.memory(), at, layout.fencing(), event);
        Self {
            words: Section::new(segment.memory(), layout::WORDS_AT),
            frames: Window::new(segment.memory(), layout.frames_at(), layout.capacity()),
            geometry: Geometry::new(layout.capacity()),
            inline_limit: layout.inline_limit(),
            layout,
            data: signal(layout::DATA_SIGNAL_AT, events.data),
            space: signal(layout::SPACE_SIGNAL_AT, events.space),
            home: segment.home(),
        }
    }

    pub(super) fn memory(&self) -> &Memory {
        self.words.memory()
    }

    /// Whether the memory is there: in a forked child it is not. One load of a word that nobody writes.
    #[inline(always)]
    pub(super) fn is_here(&self) -> bool {
        self.home.is_here()
    }

    /// A control word.
    #[inline(always)]
    pub(super) fn word<const AT: usize>(&self) -> PeerWord<'_> {
        PeerWord::of(self.words.word::<AT>())
    }

    /// A control word's value, where nothing hangs on it but what is told to a reader.
    #[inline]
    pub(super) fn value<const AT: usize>(&self) -> u64 {
        self.word::<AT>().load(Ordering::Relaxed).decode(|value| value)
    }

    /// The header word of the frame at a position.
    #[inline(always)]
    pub(super) fn header(&self, at: Position) -> PeerWord<'_> {
        PeerWord::of(self.frames.word(at.to_index()))
    }

    /// Takes a role, once for the life of the segment.
    pub(super) fn take_role<const AT: usize>(&self, role: &'static str) -> Result<(), Error> {
        self.home.check("the ring")?;
        let ours = TAKEN | u64::from(std::process::id());
        // ORDERING: Relaxed: the exchange decides who has the role; nothing is published by it.
        let taken = self.word::<AT>().compare_exchange(OPEN, ours, Ordering::Relaxed, Ordering::Relaxed);
        taken.map_err(|found| Error::AlreadyAttached { role, pid: found.decode(|word| word as u32) })
    }

    /// Whether the consumer has closed, or its process died. One load of a line that is written once.
    #[inline(always)]
    pub(super) fn consumer_has_ended(&self) -> bool {
        self.word::<{ layout::CONSUMER_END }>().load(Ordering::Relaxed).decode(|end| end != OPEN)
    }

    /// Whether the producer has: what it committed before is then visible.
    #[inline]
    pub(super) fn producer_has_ended(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release in `end`: a frame that is not seen after this was never committed.
        self.word::<{ layout::PRODUCER_END }>().load(Ordering::Acquire).decode(|end| end != OPEN)
    }

    /// Ends one side, if it has not ended yet, and wakes whoever sleeps on either.
    pub(super) fn end<const AT: usize>(&self, how: u64) {
        if !self.is_here() {
            return;
        }
        // ORDERING: Release, pairs with the Acquire in `producer_has_ended`: who sees the end sees every frame that was
        // committed before. Failed, somebody else has ended it.
        let _ = self.word::<AT>().compare_exchange(OPEN, how, Ordering::Release, Ordering::Relaxed);
        if cfg!(not(weaken = "spsc_end_without_wake")) {
            self.data.wake_all();
            self.space.wake_all();
        }
    }

    /// Frames that are committed and not received.
    pub(super) fn queued(&self) -> u64 {
        if !self.is_here() {
            return 0;
        }
        let received = self.value::<{ layout::RECEIVED }>();
        self.geometry.queued(received, self.value::<{ layout::SENT }>())
    }

    /// Bytes that queued frames take, what is lost to wraps included.
    pub(super) fn used(&self) -> usize {
        if !self.is_here() {
            return 0;
        }
        // ORDERING: Acquire, pairs with the Release in `Core::release` of the consumer: the tail read next is not
        // older than the frames that this head says were received.
        let head = self.word::<{ layout::HEAD }>().load(Ordering::Acquire).decode(Position::from_word);
        self.geometry.used(head, Position::from_word(self.value::<{ layout::TAIL }>()))
    }

    /// Bytes that further frames may take, headers and what a wrap loses included.
    pub(super) fn free(&self) -> usize {
        self.geometry.most_used().saturating_sub(self.used())
    }
}
