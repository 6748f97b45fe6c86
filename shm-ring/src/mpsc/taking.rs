//! The consumer's side of a ring: which frame is next, and what is given back.

use super::position::{Cell, Kind, Position, Tail};
use super::ring::{CLOSED, HEADER, Ring, Role};
use crate::arena::{ArenaReader, BlockRef};
use crate::error::{Error, RecvError};
use crate::signal::Signal;
use crate::sync::Ordering;
#[cfg(not(loom))]
use crate::trust::Private;
use crate::trust::Trust;

/// Most pauses in a row, of some 25 ns each.
const LONGEST_BREATH: u32 = 64;

/// A committed frame that was found and checked; it stays where it is until it is given back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) position: Position,
    /// Bytes of the payload: checked against the cell, or the block.
    pub(super) len: usize,
    /// Where the payload stands, if not in the cell.
    pub(super) block: Option<BlockRef>,
}

/// The consuming end of one ring.
#[derive(Debug)]
pub(super) struct Taking {
    ring: Ring,
    blocks: ArenaReader,
    space: Signal,
    trust: Trust,
    /// The payload of the frame that is out, if the producers are not trusted with it.
    #[cfg(not(loom))]
    private: Private,
    /// The lowest position that is not given back. Private; the word in the segment is a copy for others.
    head: Position,
    /// The head as producers that wait were told last.
    released: Position,
    /// The head when there was nothing last.
    rested: Position,
    /// How much is given back before producers that wait are told.
    share: i64,
    /// One bit a cell: given back, but behind a frame that is not.
    past_head: Box<[u64]>,
    /// Set bits in it.
    passed: u64,
    /// Private; the words in the segment are copies for others.
    aborted: u64,
    empty: u64,
}

impl Taking {
    pub(super) fn new(ring: Ring, space: Signal) -> Self {
        let head = ring.head().load(Ordering::Relaxed).decode(Position::new);
        Self {
            blocks: ArenaReader::new(ring.share(), ring.layout().arena_at(), ring.layout().arena()),
            space,
            trust: Trust::CHECKED,
            #[cfg(not(loom))]
            private: Private::default(),
            head,
            released: head,
            rested: head,
            share: (ring.count() / 4).max(1) as i64,
            past_head: vec![0; ring.count().div_ceil(64) as usize].into(),
            passed: 0,
            aborted: 0,
            empty: 0,
            ring,
        }
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The lowest position that is not given back.
    #[cfg(not(loom))]
    pub(super) fn head(&self) -> Position {
        self.head
    }

    pub(super) fn blocks(&self) -> &ArenaReader {
        &self.blocks
    }

    #[inline]
    pub(super) fn trust(&self) -> Trust {
        self.trust
    }

    pub(super) fn set_trust(&mut self, trust: Trust) {
        self.trust = trust;
    }

    /// The payload as [`isolate`](Self::isolate) copied it last.
    #[cfg(not(loom))]
    pub(super) fn private(&self) -> &[u8] {
        self.private.bytes()
    }

    /// Copies a payload out, before anybody looks at it.
    #[cfg(not(loom))]
    #[cold]
    pub(super) fn isolate(&mut self, found: &Found) {
        let Self { ring, blocks, private, .. } = self;
        match found.block {
            None => {
                let (cells, at) = ring.body(found.position);
                cells.copy_out(at, private.room(found.len, HEADER));
            }
            // Name and length were checked when the frame was found, and an arena never changes.
            Some(block) => _ = blocks.copy_out(block, private.room(found.len, 0)),
        }
    }

    /// Every later claim is refused, and so are those that wait for room.
    pub(super) fn close(&self) {
        if !self.ring.is_here() {
            return;
        }
        self.ring.finish(Role::Consumer, CLOSED);
        if cfg!(not(weaken = "mpsc_end_without_wake")) {
            self.space.wake_all();
        }
    }

    /// The frame at the head, if it is committed. Wait-free: one load if there is nothing.
    ///
    /// Frames behind a claim that is held at the head are not found; see [`search`](Self::search).
    #[inline]
    pub(super) fn look(&mut self) -> Result<Option<Found>, RecvError> {
        // Each round moves `head` on; no honest ring has more than `count` frames to step over.
        for _ in 0..self.ring.count() {
            match self.cell(self.head) {
                Cell::Pending => return Ok(None),
                Cell::Committed(Kind::Inline, len) => return self.found_inline(self.head, len).map(Some),
                Cell::Committed(Kind::Block, len) => return self.found_block(self.head, len).map(Some),
                Cell::Committed(Kind::Aborted, _) => self.step_over(self.head),
                Cell::Impossible => return Err(self.corrupt(self.head)),
            }
        }
        Ok(None)
    }

    /// The first committed frame anywhere in the ring, held claims notwithstanding. Two loads if nothing is claimed,
    /// else a load per claimed cell, several times if frames are committed meanwhile.
    pub(super) fn search(&mut self) -> Result<Option<Found>, RecvError> {
        // Asked before the look: what was committed before the end is then seen.
        let gone = self.ring.producers_are_gone();
        if let Some(found) = self.look()? {
            return Ok(Some(found));
        }
        let end = self.head.plus(self.claimed()?);
        let Some(mut found) = self.first_committed(end)? else {
            if gone {
                self.step_over_all(end);
            }
            return Ok(None);
        };
        // A frame that was committed before the one just seen may lie in front of it, missed when we passed. Having seen
        // the later one we look again, until a pass finds nothing earlier: one pass would break the order of a producer
        // that committed both while we went by.
        // Weakened (`mpsc_search_once`), the order is lost.
        while cfg!(not(weaken = "mpsc_search_once"))
            && let Some(earlier) = self.first_committed(found.position)?
        {
            found = earlier;
        }
        Ok(Some(found))
    }

    /// How many pauses a consumer that found nothing makes before it looks again: about as long as the run of frames
    /// before took. In a stream the producers get ahead meanwhile, and the lines of many frames travel together instead
    /// of one by one; after a single frame there is no pause.
    pub(super) fn breath(&mut self) -> u32 {
        let run = self.head.since(self.rested);
        self.rested = self.head;
        u32::try_from(run / 2).unwrap_or(0).min(LONGEST_BREATH)
    }

    /// Whether a frame waits anywhere in the ring, or something impossible: whoever takes it will find out.
    pub(super) fn has_committed(&mut self) -> bool {
        !matches!(self.search(), Ok(None))
    }

    /// Whether the ring is closed and every frame that was claimed has been given back or stepped over.
    pub(super) fn is_finished(&self) -> bool {
        // ORDERING: Acquire, pairs with the AcqRel in `Ring::finish`.
        let tail = self.ring.tail().load(Ordering::Acquire).decode(Tail::of);
        tail.is_closed() && tail.position() == self.head
    }

    /// Cells from the head on that are claimed.
    fn claimed(&self) -> Result<u64, RecvError> {
        // ORDERING: Relaxed: what a cell holds is ordered by its own word; that a frame's claim is seen by a sleeper's last
        // look follows from the fences of its signal, as for the frame itself.
        let (word, tail) = self.ring.tail().load(Ordering::Relaxed).decode(|word| (word, Tail::of(word)));
        match u64::try_from(tail.position().since(self.head)) {
            Ok(claimed) if claimed <= self.ring.count() => Ok(claimed),
            _ => Err(RecvError::Corrupt { what: "tail", found: word, at: self.head.get() }),
        }
    }

    /// The first frame from the head on and before `end`. Steps over all that were taken back on the way, at once: were
    /// it to begin anew at each, a ring full of them would take the square of its cells.
    fn first_committed(&mut self, end: Position) -> Result<Option<Found>, RecvError> {
        let mut next = self.head;
        while end.since(next) > 0 {
            let position = next;
            next = next.plus(1);
            // The head moves when the cell that it stands at is stepped over, and unmarks what it passes.
            if position.since(self.head) < 0 || self.is_passed(position) {
                continue;
            }
            match self.cell(position) {
                Cell::Pending => {}
                Cell::Committed(Kind::Inline, len) => return self.found_inline(position, len).map(Some),
                Cell::Committed(Kind::Block, len) => return self.found_block(position, len).map(Some),
                Cell::Committed(Kind::Aborted, _) => self.step_over(position),
                Cell::Impossible => return Err(self.corrupt(position)),
            }
        }
        Ok(None)
    }

    #[inline]
    fn cell(&self, position: Position) -> Cell {
        let lap = self.ring.lap(position);
        // ORDERING: Acquire, pairs with the Release store in `Producing::publish`.
        self.ring.cell_word(position).load(Ordering::Acquire).decode(|word| Cell::of(word, lap))
    }

    #[inline]
    fn found_inline(&self, position: Position, len: u16) -> Result<Found, RecvError> {
        let len = usize::from(len);
        if len > self.ring.layout().inline_limit() {
            return Err(RecvError::Corrupt { what: "length", found: len as u64, at: position.get() });
        }
        Ok(Found { position, len, block: None })
    }

    #[cold]
    fn found_block(&self, position: Position, _: u16) -> Result<Found, RecvError> {
        let body = |i| self.ring.body_word(position, i).load(Ordering::Relaxed);
        let block = body(0).decode(BlockRef::from_word);
        let len = body(1).decode(|len| usize::try_from(len).unwrap_or(usize::MAX));
        match self.blocks.check(block, len) {
            Ok(_) => Ok(Found { position, len, block: Some(block) }),
            Err(Error::Corrupt { what, found, .. }) => Err(RecvError::Corrupt { what, found, at: position.get() }),
            Err(_) => Err(self.corrupt(position)),
        }
    }

    #[cold]
    fn corrupt(&self, position: Position) -> RecvError {
        let found = self.ring.cell_word(position).load(Ordering::Relaxed).decode(|word| word);
        RecvError::Corrupt { what: "cell word", found, at: position.get() }
    }

    /// Gives a frame's memory back to the producers. Those that wait are told once a good share is free: after each
    /// frame would cost a wake-up and two changes of thread a frame.
    #[inline]
    pub(super) fn give_back(&mut self, found: &Found) {
        if !self.ring.is_here() {
            return;
        }
        if let Some(block) = found.block {
            self.blocks.give_back(block);
        }
        self.pass(found.position);
        if self.head.since(self.released) >= self.share || found.block.is_some() {
            self.tell_producers();
        }
    }

    #[inline]
    fn pass(&mut self, position: Position) {
        if position == self.head {
            self.head = position.plus(1);
            if self.passed > 0 {
                self.catch_up();
            }
            // ORDERING: Release, pairs with the Acquire load in `Producing::room`: our reads of the cell are over.
            self.ring.head().store(self.head.get(), Ordering::Release);
        } else {
            let (word, bit) = self.past_head_bit(position);
            self.past_head[word] |= bit;
            self.passed += 1;
        }
    }

    /// Moves the head over what was given back out of order.
    #[cold]
    fn catch_up(&mut self) {
        while self.passed > 0 && self.is_passed(self.head) {
            let (word, bit) = self.past_head_bit(self.head);
            self.past_head[word] &= !bit;
            self.passed -= 1;
            self.head = self.head.plus(1);
        }
    }

    fn past_head_bit(&self, position: Position) -> (usize, u64) {
        let cell = position.get() & (self.ring.count() - 1);
        ((cell / 64) as usize, 1 << (cell % 64))
    }

    fn is_passed(&self, position: Position) -> bool {
        let (word, bit) = self.past_head_bit(position);
        self.past_head[word] & bit != 0
    }

    #[cold]
    fn step_over(&mut self, position: Position) {
        self.aborted += 1;
        self.ring.note_aborted(self.aborted);
        self.pass(position);
        // It may be what others wait for, its block as well, and perhaps no frame comes after it by which they are told.
        self.tell_all_producers();
    }

    /// Counts a look that found nothing.
    pub(super) fn count_empty(&mut self) {
        self.empty += 1;
        self.ring.note_empty(self.empty);
    }

    /// Steps over claims before `end` that their dead producers will never finish.
    fn step_over_all(&mut self, end: Position) {
        // A producer may say that it never claimed what was received past a held claim.
        self.aborted += end.since(self.head).unsigned_abs().saturating_sub(self.passed);
        self.ring.note_aborted(self.aborted);
        self.past_head.fill(0);
        self.passed = 0;
        self.head = end;
        // ORDERING: Release, as in `pass`.
        self.ring.head().store(self.head.get(), Ordering::Release);
    }

    /// Tells producers that wait for room how far everything is given back; of those that sleep, one. A store and a
    /// load; a system call if one sleeps.
    #[inline]
    pub(super) fn tell_producers(&mut self) {
        self.publish_released();
        self.space.notify_one();
    }

    /// As [`tell_producers`](Self::tell_producers), all that sleep: the consumer may not come again for long.
    pub(super) fn tell_all_producers(&mut self) {
        self.publish_released();
        self.space.notify();
    }

    #[inline]
    fn publish_released(&mut self) {
        if self.released != self.head {
            self.released = self.head;
            self.ring.release(self.head);
        }
    }
}
