//! A lane: everything that one client process and one server process share for their calls.
//!
//! | byte | section | written by |
//! |---|---|---|
//! | 0 | header | server, once |
//! | 128 | `watch` | server |
//! | 256 | `closed` | server |
//! | 384 | request cells | both, see [`crate::cells`] |
//! | .. | call slots | both, see [`crate::slot`] |
//! | .. | request arena: `returned` words (unused: a block is free when its call is done), blocks | client |
//! | .. | reply arena: `returned` words | client |
//! | .. | reply arena: blocks | server |
//!
//! A lane is made for one client and never given to another: a process that lost its lane may go on writing, and
//! writes to memory that nobody reads.

use std::sync::Arc;

use crate::arena::{ArenaLayout, ArenaOwner, ArenaReader, CLASSES};
use crate::cells::{CELL_BYTES, Consumer, Producer};
use crate::error::Error;
use crate::peer::PeerWord;
use crate::raw::LINE_PAIR;
use crate::ready::{Rang, ReadySet, Watch};
use crate::segment::{HEADER_BYTES, Layout, Memory, Segment};
use crate::slot::{ClientSlots, SLOT_BYTES, ServerSlots};
use crate::sync::Ordering;

pub(crate) const WATCH_AT: usize = HEADER_BYTES;
pub(crate) const CLOSED_AT: usize = WATCH_AT + LINE_PAIR;
pub(crate) const CELLS_AT: usize = CLOSED_AT + LINE_PAIR;

/// Most calls in flight, and most cells, of one lane.
pub const MAX_CALLS: u32 = 16_384;

// The table above: words that one side polls and the other writes lie on pairs of lines of their own.
const _: () = assert!(WATCH_AT == 128 && CLOSED_AT == 256 && CELLS_AT == 384);

/// Shape of a lane's segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLayout {
    calls: u32,
    requests: ArenaLayout,
    replies: ArenaLayout,
}

impl LaneLayout {
    /// Room for `calls` calls in flight (a power of two up to [`MAX_CALLS`]) and the two arenas.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if `calls` is out of range.
    pub fn new(calls: u32, requests: ArenaLayout, replies: ArenaLayout) -> Result<Self, Error> {
        if !calls.is_power_of_two() || calls > MAX_CALLS {
            return Err(Error::BadSegment { what: "number of calls", found: calls.into(), expected: MAX_CALLS.into() });
        }
        Ok(Self { calls, requests, replies })
    }

    #[cfg(not(loom))]
    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    pub(crate) fn slots_at(&self) -> usize {
        CELLS_AT + self.calls as usize * CELL_BYTES
    }

    fn requests_at(&self) -> usize {
        self.slots_at() + self.calls as usize * SLOT_BYTES
    }

    fn replies_at(&self) -> usize {
        self.requests_at() + self.requests.section_bytes()
    }
}

impl Layout for LaneLayout {
    const KIND: u64 = 0x6c61_6e65; // "lane"

    fn params(&self) -> [u64; 8] {
        let [a, b, c] = self.requests.to_words();
        let [d, e, f] = self.replies.to_words();
        [self.calls.into(), a, b, c, d, e, f, 0]
    }

    fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
        let calls = u32::try_from(params[0]).unwrap_or(0);
        let requests = ArenaLayout::from_words(&params[1..=CLASSES])?;
        let replies = ArenaLayout::from_words(&params[1 + CLASSES..=2 * CLASSES])?;
        Self::new(calls, requests, replies)
    }

    fn bytes(&self) -> usize {
        self.replies_at() + self.replies.section_bytes()
    }
}

/// The calling side of a lane; shared by the threads of the client process.
#[derive(Debug)]
pub struct ClientLane {
    segment: Arc<Memory>,
    ready: ReadySet,
    index: u32,
    /// Requests go in here.
    pub requests: Producer,
    /// Calls in flight.
    pub slots: ClientSlots,
    /// Room for large requests.
    pub request_blocks: ArenaOwner,
    /// Large replies.
    pub reply_blocks: ArenaReader,
}

impl ClientLane {
    /// The calling side over a checked segment. `index` is the lane's bit in `ready`, as the server assigned it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the server named a bit that its ready set does not have.
    pub fn new(segment: &Segment<LaneLayout>, ready: ReadySet, index: u32) -> Result<Self, Error> {
        if index >= ready.lanes() {
            return Err(Error::Corrupt { what: "lane index", found: index.into(), at: 0 });
        }
        let layout = *segment.layout();
        let segment = segment.memory();
        let share = || Arc::clone(&segment);
        Ok(Self {
            requests: Producer::new(share(), CELLS_AT, layout.calls),
            slots: ClientSlots::new(share(), layout.slots_at(), layout.calls),
            request_blocks: ArenaOwner::new(share(), layout.requests_at(), layout.requests),
            reply_blocks: ArenaReader::new(share(), layout.replies_at(), layout.replies),
            segment,
            ready,
            index,
        })
    }

    fn watch(&self) -> Watch<'_> {
        Watch(PeerWord::at(self.segment.region(), WATCH_AT))
    }

    /// Tells the server of a request that was just committed; see [`ReadySet::announce`].
    #[inline]
    pub fn announce(&self) -> Rang {
        self.ready.announce(self.index, self.watch())
    }

    /// Rings whatever the server said; see [`ReadySet::ring`].
    pub fn ring(&self) {
        self.ready.ring(self.index);
    }

    /// Whether the server has said that it takes no more requests from this lane.
    pub fn server_has_closed(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release store in `ServerLane::close`: a request that is untaken after this
        // load will never be taken.
        PeerWord::at(self.segment.region(), CLOSED_AT).load(Ordering::Acquire).decode(|word| word != 0)
    }
}

/// The answering side of a lane; shared by the workers of the server process. The consumer is separate, because only
/// one worker may take at a time.
#[derive(Debug)]
pub struct ServerLane {
    segment: Arc<Memory>,
    /// Calls in flight.
    pub slots: ServerSlots,
    /// Large requests.
    pub request_blocks: ArenaReader,
    /// Room for large replies.
    pub reply_blocks: ArenaOwner,
}

impl ServerLane {
    /// The answering side over a segment that this process made, and the consumer of its requests.
    pub fn new(segment: &Segment<LaneLayout>) -> (Self, Consumer) {
        let layout = *segment.layout();
        let segment = segment.memory();
        let share = || Arc::clone(&segment);
        let consumer = Consumer::new(share(), CELLS_AT, layout.calls);
        let lane = Self {
            slots: ServerSlots::new(share(), layout.slots_at(), layout.calls),
            request_blocks: ArenaReader::new(share(), layout.requests_at(), layout.requests),
            reply_blocks: ArenaOwner::new(share(), layout.replies_at(), layout.replies),
            segment,
        };
        (lane, consumer)
    }

    /// The word by which producers know whether this side polls.
    #[inline]
    pub fn watch(&self) -> Watch<'_> {
        Watch(PeerWord::at(self.segment.region(), WATCH_AT))
    }

    /// Says that no further request will be taken. By the last worker that stops taking, after its last take.
    pub fn close(&self) {
        // ORDERING: Release, pairs with the Acquire load in `ClientLane::server_has_closed`: all takes are visible.
        PeerWord::at(self.segment.region(), CLOSED_AT).store(1, Ordering::Release);
    }
}
