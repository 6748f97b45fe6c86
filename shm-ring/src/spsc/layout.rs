//! Where everything lies in the segment of an spsc ring.

use crate::arena::{ArenaLayout, CLASSES};
use crate::barrier::Fencing;
use crate::error::Error;
use crate::raw::LINE_PAIR;
use crate::segment::{HEADER_BYTES, Layout};
use crate::signal::SIGNAL_BYTES;
use crate::spsc::cursor::UNIT;

/// Smallest capacity in bytes: room for the smallest frame, the header behind it and a wrap.
pub const MIN_CAPACITY: usize = 64;

/// Largest capacity in bytes.
pub const MAX_CAPACITY: usize = 1 << 30;

/// Control words begin here; the places below count from here.
pub(super) const WORDS_AT: usize = HEADER_BYTES;

// Who is attached, and who has ended: written once each.
pub(super) const PRODUCER_ROLE: usize = 0;
pub(super) const CONSUMER_ROLE: usize = 8;
pub(super) const PRODUCER_END: usize = 16;
pub(super) const CONSUMER_END: usize = 24;

// The producer's own account, of each operation.
pub(super) const TAIL: usize = LINE_PAIR;
pub(super) const SENT: usize = TAIL + 8;
pub(super) const ABORTED: usize = TAIL + 16;
pub(super) const FULL: usize = TAIL + 24;

// The consumer's own account, of each operation.
pub(super) const HEAD: usize = TAIL + LINE_PAIR;
pub(super) const RECEIVED: usize = HEAD + 8;
pub(super) const EMPTY: usize = HEAD + 16;

// What the consumer gave back: in groups, because the producer reads it.
pub(super) const RELEASED: usize = HEAD + LINE_PAIR;

/// Bytes of control words.
pub(super) const WORDS_BYTES: usize = RELEASED + LINE_PAIR;

/// The signal of the consumer, which waits for data.
pub(super) const DATA_SIGNAL_AT: usize = WORDS_AT + WORDS_BYTES;
/// The signal of the producer, which waits for space.
pub(super) const SPACE_SIGNAL_AT: usize = DATA_SIGNAL_AT + SIGNAL_BYTES;
/// The arena, if there is one; then the frames.
pub(super) const ARENA_AT: usize = SPACE_SIGNAL_AT + SIGNAL_BYTES;

// The table on the module's page, byte for byte.
const _: () = {
    assert!(WORDS_AT + PRODUCER_ROLE == 128 && WORDS_AT + CONSUMER_ROLE == 136);
    assert!(WORDS_AT + PRODUCER_END == 144 && WORDS_AT + CONSUMER_END == 152);
    assert!(WORDS_AT + TAIL == 256 && WORDS_AT + SENT == 264);
    assert!(WORDS_AT + ABORTED == 272 && WORDS_AT + FULL == 280);
    assert!(WORDS_AT + HEAD == 384 && WORDS_AT + RECEIVED == 392 && WORDS_AT + EMPTY == 400);
    assert!(WORDS_AT + RELEASED == 512);
    assert!(DATA_SIGNAL_AT == 640 && SPACE_SIGNAL_AT == 768 && ARENA_AT == 896);
};

/// Shape of an spsc ring's segment: how many bytes of frames, and an arena for what is too large for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpscLayout {
    capacity: usize,
    fencing: Fencing,
    arena: ArenaLayout,
}

impl SpscLayout {
    /// A ring of `capacity` bytes, headers included: a power of two from [`MIN_CAPACITY`] to [`MAX_CAPACITY`]. No arena.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if the capacity is none of these.
    pub fn new(capacity: usize) -> Result<Self, Error> {
        Self::checked(capacity, Fencing::best(), ArenaLayout::default())
    }

    /// A ring for payloads of mostly `len` bytes, with the capacity that measured best for them.
    ///
    /// Small frames stream best through a ring that stays in the caches of both sides; large ones need a few in flight.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if no ring has room for two such payloads: those belong into an arena.
    pub fn for_payload(len: usize) -> Result<Self, Error> {
        const SMALL: usize = 64 << 10;
        const IN_FLIGHT: usize = 16;
        let wanted = len.saturating_add(2 * UNIT).saturating_mul(IN_FLIGHT);
        Self::new(wanted.clamp(SMALL, MAX_CAPACITY).next_power_of_two())
    }

    /// With an arena for payloads over [`inline_limit`](Self::inline_limit).
    #[must_use]
    pub fn with_arena(self, arena: ArenaLayout) -> Self {
        Self { arena, ..self }
    }

    /// From a header's parameters, for whoever only looks and takes no part in the way of fencing.
    #[cfg(not(loom))]
    pub(crate) fn for_onlooker(params: &[u64; 8]) -> Result<Self, Error> {
        let mut params = *params;
        params[1] = Fencing::Both.to_param();
        Self::from_params(&params)
    }

    fn checked(capacity: usize, fencing: Fencing, arena: ArenaLayout) -> Result<Self, Error> {
        if !capacity.is_power_of_two() || !(MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity) {
            let expected = capacity.clamp(MIN_CAPACITY, MAX_CAPACITY).next_power_of_two() as u64;
            return Err(Error::BadSegment { what: "capacity of a ring", found: capacity as u64, expected });
        }
        Ok(Self { capacity, fencing, arena })
    }

    /// Bytes of frames, their headers included.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Longest payload in bytes that goes into the ring itself: such a frame fits wherever the ring happens to wrap.
    pub fn inline_limit(&self) -> usize {
        self.capacity / 2 - 8
    }

    /// Longest payload in bytes that can be sent at all.
    pub fn limit(&self) -> usize {
        self.inline_limit().max(self.arena.largest())
    }

    pub(super) fn fencing(&self) -> Fencing {
        self.fencing
    }

    pub(super) fn arena(&self) -> Option<ArenaLayout> {
        (self.arena.largest() > 0).then_some(self.arena)
    }

    pub(super) fn frames_at(&self) -> usize {
        ARENA_AT + self.arena.section_bytes()
    }
}

impl Layout for SpscLayout {
    const KIND: u64 = 0x6373_7073; // "spsc"

    fn params(&self) -> [u64; 8] {
        let [a, b, c] = self.arena.to_words();
        [self.capacity as u64, self.fencing.to_param(), a, b, c, 0, 0, 0]
    }

    fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
        let capacity = usize::try_from(params[0]).unwrap_or(0);
        let what = "fencing that this process can take part in";
        let fencing =
            Fencing::from_param(params[1]).ok_or(Error::BadSegment { what, found: params[1], expected: 0 })?;
        Self::checked(capacity, fencing, ArenaLayout::from_words(&params[2..2 + CLASSES])?)
    }

    fn bytes(&self) -> usize {
        self.frames_at() + self.capacity
    }
}
