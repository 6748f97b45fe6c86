//! A lane: everything that one client process and one server process share for their calls.
//!
//! | byte | section | written by |
//! |---|---|---|
//! | 0 | header | server, once |
//! | 128 | `watch` | server |
//! | 256 | `closed` | server |
//! | 384 | request cells | both, see [`crate::cells`] |
//! | .. | call slots, and which calls of tasks have ended | both, see [`crate::slot`] |
//! | .. | request arena: `returned` words (unused: a block is free when its call is done), blocks | client |
//! | .. | reply arena: `returned` words | client |
//! | .. | reply arena: blocks | server |
//!
//! Towards a client in the mode `Isolated` it is two segments. `up` is as above without the last section, and with room
//! for the `returned` words of segments that are added later; its first two words are not used. `down` has `watch`,
//! `closed` and the reply blocks, and the client can only read it. See [`LaneLayout::apart`].
//!
//! A lane is made for one client and never given to another: a process that lost its lane may go on writing, and
//! writes to memory that nobody reads.

use std::sync::Arc;

#[cfg(not(loom))]
use crate::arena::Arena;
use crate::arena::{ArenaLayout, ArenaOwner, ArenaReader, CLASSES, RequestBlocks};
#[cfg(not(loom))]
use crate::arena::{Returned, Spot};
use crate::cells::{CELL_BYTES, Consumer, Producer};
use crate::error::Error;
use crate::peer::PeerWord;
use crate::raw::LINE_PAIR;
use crate::ready::{Rang, ReadySet, Ringer, Watch};
#[cfg(not(loom))]
use crate::segment::ReadOnly;
use crate::segment::{HEADER_BYTES, Layout, Memory, Role, Segment};
use crate::slot::{ClientSlots, SLOT_BYTES, ServerSlots, section_bytes};
use crate::sync::Ordering;

pub(crate) const WATCH_AT: usize = HEADER_BYTES;
pub(crate) const CLOSED_AT: usize = WATCH_AT + LINE_PAIR;
pub(crate) const CELLS_AT: usize = CLOSED_AT + LINE_PAIR;

/// Most calls in flight, and most cells, of one lane.
pub const MAX_CALLS: u32 = 16_384;

// The table above: words that one side polls and the other writes lie on pairs of lines of their own.
const _: () = assert!(WATCH_AT == 128 && CLOSED_AT == 256 && CELLS_AT == 384);

/// Segments for replies that a lane in two parts may get later.
pub const ADDED: u8 = 60;

/// Most blocks of such a segment.
pub const ADDED_BLOCKS: u32 = 16;

const ADDED_BYTES: usize = ADDED as usize * ADDED_BLOCKS as usize * 8;

/// Shape of a lane's segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLayout {
    calls: u32,
    requests: ArenaLayout,
    replies: ArenaLayout,
    /// The reply blocks are elsewhere.
    is_up: bool,
}

/// Shape of the part of a lane that its client can only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownLayout {
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
        Ok(Self { calls, requests, replies, is_up: false })
    }

    /// The same lane in two parts: what both sides write, and what only the server writes.
    #[must_use]
    pub fn apart(self) -> (Self, DownLayout) {
        (Self { is_up: true, ..self }, DownLayout { replies: self.replies })
    }

    /// Whether the server's words and blocks are in another segment.
    #[cfg(not(loom))]
    pub(crate) fn is_up(&self) -> bool {
        self.is_up
    }

    #[cfg(not(loom))]
    fn expect(&self, is_up: bool) -> Result<(), Error> {
        crate::segment::expect("part of a lane", self.is_up.into(), is_up.into())
    }

    /// Where replies in another segment are given back.
    #[cfg(not(loom))]
    fn added_at(&self) -> usize {
        self.replies_at() + self.replies.returned_bytes()
    }

    #[cfg(not(loom))]
    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    pub(crate) fn slots_at(&self) -> usize {
        CELLS_AT + self.calls as usize * CELL_BYTES
    }

    fn requests_at(&self) -> usize {
        self.slots_at() + self.calls as usize * SLOT_BYTES + section_bytes(self.calls)
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
        [self.calls.into(), a, b, c, d, e, f, self.is_up.into()]
    }

    fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
        let calls = u32::try_from(params[0]).unwrap_or(0);
        let requests = ArenaLayout::from_words(&params[1..=CLASSES])?;
        let replies = ArenaLayout::from_words(&params[1 + CLASSES..=2 * CLASSES])?;
        let is_up = match params[7] {
            0 => false,
            1 => true,
            found => return Err(Error::BadSegment { what: "part of a lane", found, expected: 1 }),
        };
        Ok(Self { is_up, ..Self::new(calls, requests, replies)? })
    }

    fn bytes(&self) -> usize {
        let rest = if self.is_up { ADDED_BYTES } else { self.replies.block_bytes() };
        self.replies_at() + self.replies.returned_bytes() + rest
    }
}

impl Layout for DownLayout {
    const KIND: u64 = 0x646f_776e; // "down"

    fn params(&self) -> [u64; 8] {
        let [a, b, c] = self.replies.to_words();
        [a, b, c, 0, 0, 0, 0, 0]
    }

    fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
        ArenaLayout::from_words(&params[..CLASSES]).map(|replies| Self { replies })
    }

    fn bytes(&self) -> usize {
        // The words stand where they do in a lane of one part, and the blocks where that has its cells.
        CELLS_AT + self.replies.block_bytes()
    }
}

/// How a client tells its server of requests.
#[derive(Debug)]
enum Door {
    /// By a bit of the server's ready set, which it shares with other clients.
    Bit(ReadySet, u32),
    /// By a rope of its own.
    Rope(Ringer),
}

/// The calling side of a lane; shared by the threads of the client process.
#[derive(Debug)]
pub struct ClientLane {
    /// Where the server's words are.
    down: Arc<Memory>,
    door: Door,
    /// Requests go in here.
    pub requests: Producer,
    /// Calls in flight.
    pub slots: ClientSlots,
    /// Room for large requests.
    pub request_blocks: ArenaOwner,
    /// Large replies.
    pub reply_blocks: ArenaReader,
    #[cfg(not(loom))]
    added: Option<AddedWords>,
}

impl ClientLane {
    /// The calling side over a checked segment. `index` is the lane's bit in `ready`, as the server assigned it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the server named a bit that its ready set does not have, [`Error::AlreadyAttached`] if the
    /// lane has, or had, a client, [`Error::BadSegment`] if it is one part of a lane.
    pub fn new(segment: &Segment<LaneLayout>, ready: ReadySet, index: u32) -> Result<Self, Error> {
        if index >= ready.lanes() {
            return Err(Error::Corrupt { what: "lane index", found: index.into(), at: 0 });
        }
        let layout = *segment.layout();
        #[cfg(not(loom))]
        layout.expect(false)?;
        let memory = segment.memory();
        let replies = ArenaReader::new(Arc::clone(&memory), layout.replies_at(), layout.replies);
        Self::over(segment, memory, Door::Bit(ready, index), replies)
    }

    /// The same over the two parts of a lane. Payloads of replies are to be copied out.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if the two do not belong together; [`Error::AlreadyAttached`] as for [`new`](Self::new).
    #[cfg(not(loom))]
    pub fn apart(up: &Segment<LaneLayout>, down: &ReadOnly<DownLayout>, rope: Ringer) -> Result<Self, Error> {
        let added = AddedWords::new(up, down.layout(), down.epoch())?;
        let (blocks, returned) = reply_spots(up, down.memory());
        let replies = ArenaReader::of(Arena::apart(blocks, returned, up.layout().replies));
        let lane = Self::over(up, down.memory(), Door::Rope(rope), replies)?;
        Ok(Self { added: Some(added), ..lane })
    }

    fn over(up: &Segment<LaneLayout>, down: Arc<Memory>, door: Door, reply_blocks: ArenaReader) -> Result<Self, Error> {
        up.take_role(Role::Producer)?;
        let layout = *up.layout();
        let share = || up.memory();
        Ok(Self {
            requests: Producer::new(share(), CELLS_AT, layout.calls),
            slots: ClientSlots::new(share(), layout.slots_at(), layout.calls),
            request_blocks: ArenaOwner::new(share(), layout.requests_at(), layout.requests),
            reply_blocks,
            down,
            door,
            #[cfg(not(loom))]
            added: None,
        })
    }

    fn watch(&self) -> Watch<'_> {
        Watch(PeerWord::at(self.down.region(), WATCH_AT))
    }

    /// Tells the server of a request that was just committed; see [`ReadySet::announce`] and [`Ringer::announce`].
    #[inline]
    pub fn announce(&self) -> Rang {
        match &self.door {
            Door::Bit(ready, index) => ready.announce(*index, self.watch()),
            Door::Rope(rope) => rope.announce(self.watch()),
        }
    }

    /// Rings whatever the server said; see [`ReadySet::ring`] and [`Ringer::ring`].
    pub fn ring(&self) {
        match &self.door {
            Door::Bit(ready, index) => ready.ring(*index),
            Door::Rope(rope) => rope.ring(),
        }
    }

    /// Where the blocks of the added segment `index` are given back, if this is a lane in two parts.
    #[cfg(not(loom))]
    pub fn returned(&self, index: u8) -> Option<Returned> {
        self.added.as_ref()?.of(index)
    }

    /// Whether the server has said that it takes no more requests from this lane.
    pub fn server_has_closed(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release store in `ServerLane::close`: a request that is untaken after this
        // load will never be taken.
        PeerWord::at(self.down.region(), CLOSED_AT).load(Ordering::Acquire).decode(|word| word != 0)
    }
}

/// The answering side of a lane; shared by the workers of the server process. The consumer is separate, because only
/// one worker may take at a time.
#[derive(Debug)]
pub struct ServerLane {
    down: Arc<Memory>,
    /// Calls in flight.
    pub slots: ServerSlots,
    /// Large requests.
    pub request_blocks: RequestBlocks,
    /// Room for large replies.
    pub reply_blocks: ArenaOwner,
    #[cfg(not(loom))]
    added: Option<AddedWords>,
}

impl ServerLane {
    /// The answering side over a segment that this process made, and the consumer of its requests.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`] if the lane has, or had, a server, [`Error::BadSegment`] if it is one part of a lane.
    pub fn new(segment: &Segment<LaneLayout>) -> Result<(Self, Consumer), Error> {
        let layout = *segment.layout();
        #[cfg(not(loom))]
        layout.expect(false)?;
        let memory = segment.memory();
        let replies = ArenaOwner::new(Arc::clone(&memory), layout.replies_at(), layout.replies);
        Self::over(segment, memory, replies)
    }

    /// The same over the two parts of a lane, of which the client gets the second for reading only. Payloads of requests
    /// are to be copied out.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if the two do not belong together; [`Error::AlreadyAttached`] as for [`new`](Self::new).
    #[cfg(not(loom))]
    pub fn apart(up: &Segment<LaneLayout>, down: &Segment<DownLayout>) -> Result<(Self, Consumer), Error> {
        let added = AddedWords::new(up, down.layout(), down.epoch())?;
        let (blocks, returned) = reply_spots(up, down.memory());
        let replies = ArenaOwner::of(Arena::apart(blocks, returned, up.layout().replies));
        let (lane, consumer) = Self::over(up, down.memory(), replies)?;
        Ok((Self { added: Some(added), ..lane }, consumer))
    }

    fn over(up: &Segment<LaneLayout>, down: Arc<Memory>, reply_blocks: ArenaOwner) -> Result<(Self, Consumer), Error> {
        up.take_role(Role::Consumer)?;
        let layout = *up.layout();
        let share = || up.memory();
        let consumer = Consumer::new(share(), CELLS_AT, layout.calls);
        let lane = Self {
            slots: ServerSlots::new(share(), layout.slots_at(), layout.calls),
            request_blocks: RequestBlocks::new(share(), layout.requests_at(), layout.requests),
            reply_blocks,
            down,
            #[cfg(not(loom))]
            added: None,
        };
        Ok((lane, consumer))
    }

    /// The client's tasks are told of replies by this rope.
    #[must_use]
    pub fn telling_by(self, rope: Ringer) -> Self {
        Self { slots: self.slots.telling_by(rope), ..self }
    }

    /// The word by which producers know whether this side polls.
    #[inline]
    pub fn watch(&self) -> Watch<'_> {
        Watch(PeerWord::at(self.down.region(), WATCH_AT))
    }

    /// Where the blocks of the added segment `index` are given back, if this is a lane in two parts.
    #[cfg(not(loom))]
    pub fn returned(&self, index: u8) -> Option<Returned> {
        self.added.as_ref()?.of(index)
    }

    /// Says that no further request will be taken. By the last worker that stops taking, after its last take.
    pub fn close(&self) {
        // ORDERING: Release, pairs with the Acquire load in `ClientLane::server_has_closed`: all takes are visible.
        PeerWord::at(self.down.region(), CLOSED_AT).store(1, Ordering::Release);
    }
}

/// Blocks of replies in `down`, and the words in `up` by which they are given back.
#[cfg(not(loom))]
fn reply_spots(up: &Segment<LaneLayout>, down: Arc<Memory>) -> (Spot, Spot) {
    let blocks = Spot { memory: down, offset: CELLS_AT };
    (blocks, Spot { memory: up.memory(), offset: up.layout().replies_at() })
}

/// The words of `up` for segments that are added later.
#[cfg(not(loom))]
#[derive(Debug)]
struct AddedWords(Spot);

#[cfg(not(loom))]
impl AddedWords {
    /// Of a lane whose two parts belong together.
    fn new(up: &Segment<LaneLayout>, down: &DownLayout, epoch: u64) -> Result<Self, Error> {
        up.layout().expect(true)?;
        let theirs = down.params();
        let ours = up.layout().apart().1.params();
        for (found, expected) in theirs.into_iter().zip(ours) {
            crate::segment::expect("reply arena of the other part", found, expected)?;
        }
        crate::segment::expect("epoch of the other part", epoch, up.epoch())?;
        Ok(Self(Spot { memory: up.memory(), offset: up.layout().added_at() }))
    }

    fn of(&self, index: u8) -> Option<Returned> {
        let offset = self.0.offset + usize::from(index) * ADDED_BLOCKS as usize * 8;
        let at = Spot { memory: Arc::clone(&self.0.memory), offset };
        (index < ADDED).then_some(Returned { at, words: ADDED_BLOCKS })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::arena::Class;
    use crate::ready::{ReadyLayout, Relay};
    use crate::segment::SegmentOptions;

    fn layout() -> LaneLayout {
        let mut classes = [Class::default(); CLASSES];
        classes[0] = Class { block: 1024, count: 2 };
        let arena = ArenaLayout::new(classes).unwrap();
        LaneLayout::new(4, arena, arena).unwrap()
    }

    #[test]
    fn a_lane_has_one_client_and_one_server() {
        let segment = Segment::heap(layout(), 1);
        let ready = ReadySet::new(&Segment::heap(ReadyLayout::new(1), 1));
        let _client = ClientLane::new(&segment, ready.clone(), 0).unwrap();
        let _server = ServerLane::new(&segment).unwrap();
        assert!(matches!(ClientLane::new(&segment, ready, 0), Err(Error::AlreadyAttached { role: "producer", .. })));
        assert!(matches!(ServerLane::new(&segment), Err(Error::AlreadyAttached { role: "consumer", .. })));
    }

    /// Of four calls, and of two blocks of 1 KiB each way: the numbers are those of `docs/layout.md`.
    #[test]
    fn the_sections_of_a_lane_lie_one_behind_the_other_and_fill_it() {
        let whole = layout();
        let places = |lane: &LaneLayout| [lane.slots_at(), lane.requests_at(), lane.replies_at()];
        // The set of finished calls: a pair of lines for what the client wants, and one for up to 1,024 bits.
        let requests_at = 384 + 8 * 128 + 256;
        assert_eq!(places(&whole), [384 + 4 * 128, requests_at, requests_at + 128 + 2048]);
        assert_eq!(whole.bytes(), requests_at + 2 * (128 + 2048));
        let (up, down) = whole.apart();
        assert_eq!(places(&up), places(&whole));
        assert_eq!((up.added_at(), up.bytes()), (requests_at + 128 + 2048 + 128, up.added_at() + 60 * 16 * 8));
        assert_eq!(down.bytes(), 384 + 2048);
        for lane in [whole, up] {
            assert_eq!(LaneLayout::from_params(&lane.params()).unwrap(), lane);
        }
        assert_eq!((whole.is_up(), up.is_up(), whole.calls()), (false, true, 4));
        assert_eq!(DownLayout::from_params(&down.params()).unwrap(), down);
    }

    #[test]
    fn a_lane_in_two_parts_carries_calls_and_replies_in_blocks_both_its_own_and_added_ones() {
        let (up, down) = layout().apart();
        let (up, up_fd) = Segment::memfd("up", up, 7).unwrap();
        let (down, down_fd) = Segment::memfd_for_readers("down", down, 7, &SegmentOptions::new()).unwrap();
        let (server, mut requests) = ServerLane::apart(&up, &down).unwrap();
        let set = ReadySet::new(&Segment::heap(ReadyLayout::new(1), 1));
        let (relay, rope) = Relay::new(set, 0).unwrap();
        let up = Segment::open(up_fd.as_fd()).unwrap();
        let down = ReadOnly::open(down_fd.as_fd()).unwrap();
        let client = ClientLane::apart(&up, &down, Ringer::from_fd(rope).unwrap()).unwrap();

        client.requests.try_claim().unwrap().commit(1, 8, &[9]);
        assert_eq!((client.announce(), relay.pass()), (Rang::Yes, crate::ready::Pulled::Yes));
        let mut body = [0; crate::cells::BODY_WORDS];
        assert!(requests.try_take(&mut body).unwrap().is_some());

        let (added, added_fd) =
            Segment::memfd_for_readers("added", layout().replies, 0, &SegmentOptions::new()).unwrap();
        let owner = ArenaOwner::over_with(&added, server.returned(59).unwrap()).unwrap();
        let opened = ReadOnly::open(added_fd.as_fd()).unwrap();
        let reader = ArenaReader::over_read_only(&opened, client.returned(59).unwrap()).unwrap();
        for (owner, reader) in [(&server.reply_blocks, &client.reply_blocks), (&owner, &reader)] {
            for round in 0..5 {
                let lent = [0, 1].map(|_| {
                    let mut block = owner.allocate(1000).unwrap();
                    assert!(block.append(&[round; 1000]));
                    block.lend()
                });
                assert!(owner.allocate(1000).is_none(), "both are with the reader");
                for at in lent {
                    let mut copy = [0; 1000];
                    reader.copy_out(at, &mut copy).unwrap();
                    assert_eq!(copy, [round; 1000]);
                    reader.discard(at);
                }
            }
        }
        let last = client.returned(59).unwrap();
        assert_eq!(last.at.offset + last.words as usize * 8, up.bytes());
        assert!(client.returned(60).is_none() && server.returned(60).is_none());
        assert!(!client.server_has_closed());
        client.ring();
        assert_eq!(relay.pass(), crate::ready::Pulled::Yes);
        server.close();
        assert!(client.server_has_closed());
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let (up, down) = layout().apart();
        let whole = Segment::heap(layout(), 1);
        let (up, down) = (Segment::heap(up, 1), Segment::heap(down, 1));
        let other = Segment::heap(*down.layout(), 2);
        let small = Segment::heap(DownLayout { replies: ArenaLayout::default() }, 1);
        assert!(matches!(ServerLane::apart(&whole, &down), Err(Error::BadSegment { what: "part of a lane", .. })));
        assert!(matches!(ServerLane::new(&up), Err(Error::BadSegment { what: "part of a lane", .. })));
        assert!(matches!(ServerLane::apart(&up, &other), Err(Error::BadSegment { .. })));
        assert!(matches!(ServerLane::apart(&up, &small), Err(Error::BadSegment { .. })));
        assert!(ServerLane::apart(&up, &down).is_ok());
    }
}
