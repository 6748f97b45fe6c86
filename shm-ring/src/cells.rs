//! The ring of request cells of a call lane: any number of producing threads of one process, one consumer anywhere.
//!
//! Unlike [`crate::mpsc`], each cell is freed by a store into its own word, because a caller must be able to tell from
//! its own cell alone whether its request was taken.
//!
//! Each cell is 128 bytes: a header word, then [`BODY_WORDS`] words of payload. One frame takes one cell, so a header
//! word is never payload, and a claim that is never finished costs its cell and nothing else.
//!
//! ```text
//! header word   63            24   23          22     16  15        0
//!               lap (40 bits)    | committed | kind      | length   |
//! ```
//!
//! Lap and the committed bit together are the cell's *stage*: `FREE(lap)` < `COMMITTED(lap)` < `FREE(lap + 1)`. The
//! stage only grows, so a stale view can never match a later life of the cell.
//!
//! - The producers' `tail` is private to their process; nothing but the cell's own word is published.
//! - Claiming is lock-free (a compare-exchange on `tail`), committing, aborting and taking are wait-free.
//! - Order is first-in-first-out per producing thread, for claims committed in the order in which they were made.

use std::fmt;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::error::Error;
use crate::peer::{PeerWord, Untrusted};
use crate::raw::{LINE, LINE_PAIR};
use crate::segment::Memory;
use crate::sync::{AtomicU64, Ordering, fence};

/// Bytes of one cell.
pub const CELL_BYTES: usize = LINE_PAIR;

/// Words of payload in one cell.
pub const BODY_WORDS: usize = CELL_BYTES / 8 - 1;

/// Words of payload that share the header's line.
const FIRST_LINE_WORDS: usize = LINE / 8 - 1;

/// A frame that its producer took back; consumers step over it.
pub(crate) const KIND_ABORTED: u8 = 0;

const LAP_BITS: u32 = 40;
const STAGE_SHIFT: u32 = 23;
const STAGE_BITS: u32 = LAP_BITS + 1;
const KIND_SHIFT: u32 = 16;
const KIND_MAX: u8 = 0x7f;

// A header word is full: 16 bits of length, 7 of kind, the stage. A cell is two lines.
const _: () = assert!(STAGE_SHIFT + STAGE_BITS == u64::BITS && KIND_MAX as u32 >> (STAGE_SHIFT - KIND_SHIFT) == 0);
const _: () = assert!(CELL_BYTES == 128 && BODY_WORDS == 15 && FIRST_LINE_WORDS == 7);

// ORDERING: Release, pairs with the Acquire load in `Consumer::look`; see `Claim::publish`.
const PUBLISH: Ordering = if cfg!(weaken = "publish_relaxed") { Ordering::Relaxed } else { Ordering::Release };

/// Where in its life a cell is: twice the lap, plus one when committed; modulo 2^41.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stage(u64);

impl Stage {
    const MASK: u64 = (1 << STAGE_BITS) - 1;

    pub(crate) fn free(lap: u64) -> Self {
        Self((lap << 1) & Self::MASK)
    }

    pub(crate) fn committed(lap: u64) -> Self {
        Self(((lap << 1) | 1) & Self::MASK)
    }

    pub(crate) fn of(word: u64) -> Self {
        Self(word >> STAGE_SHIFT)
    }

    /// How often the cell was freed before, modulo 2^40.
    #[cfg(not(loom))]
    pub(crate) fn lap(self) -> u64 {
        self.0 >> 1
    }

    #[cfg(not(loom))]
    pub(crate) fn is_committed(self) -> bool {
        self.0 & 1 != 0
    }

    pub(crate) fn word(self, kind: u8, len: u16) -> u64 {
        self.0 << STAGE_SHIFT | u64::from(kind) << KIND_SHIFT | u64::from(len)
    }

    /// The caller's number in a word.
    pub(crate) fn kind(word: u64) -> u8 {
        (word >> KIND_SHIFT) as u8 & KIND_MAX
    }

    /// How far `self` is ahead of `other`; negative when behind.
    pub(crate) fn ahead_of(self, other: Self) -> i64 {
        let up = 64 - STAGE_BITS;
        ((self.0.wrapping_sub(other.0) << up) as i64) >> up
    }
}

/// The cells of one ring, as both sides address them.
#[derive(Debug, Clone)]
struct Cells {
    segment: Arc<Memory>,
    offset: usize,
    /// A power of two.
    count: u64,
}

impl Cells {
    fn new(segment: Arc<Memory>, offset: usize, count: u32) -> Self {
        assert!(count.is_power_of_two(), "checked by the layout");
        Self { segment, offset, count: count.into() }
    }

    #[inline]
    fn lap(&self, position: u64) -> u64 {
        position >> self.count.trailing_zeros()
    }

    #[inline]
    fn at(&self, position: u64) -> usize {
        self.offset + (position & (self.count - 1)) as usize * CELL_BYTES
    }

    #[inline]
    fn word(&self, position: u64) -> PeerWord<'_> {
        PeerWord::at(self.segment.region(), self.at(position))
    }

    fn corrupt(what: &'static str, found: u64, position: u64) -> Error {
        Error::Corrupt { what, found, at: position }
    }
}

/// Why no cell could be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The consumer has not freed the next cell yet. Stable until it does.
    Full,
    /// The next cell's word is impossible: the consumer is broken or hostile.
    Corrupt,
}

/// The producing side; shared by the threads of one process.
#[derive(Debug)]
pub struct Producer {
    cells: Cells,
    /// The next position to claim. Private to the process, so it is never anybody's index into shared memory.
    tail: CachePadded<AtomicU64>,
}

impl Producer {
    pub(crate) fn new(segment: Arc<Memory>, offset: usize, count: u32) -> Self {
        Self { cells: Cells::new(segment, offset, count), tail: CachePadded::new(AtomicU64::new(0)) }
    }

    /// Claims the next cell. Lock-free, no system call.
    ///
    /// # Errors
    /// [`Refused::Full`] while the consumer is a whole ring behind, or while the next cell is still claimed from a lap
    /// ago.
    #[inline]
    pub fn try_claim(&self) -> Result<Claim<'_>, Refused> {
        loop {
            // ORDERING: Relaxed: `tail` only hands out positions; what a cell holds is ordered by its own word.
            let tail = self.tail.load(Ordering::Relaxed);
            let free = Stage::free(self.cells.lap(tail));
            // The word is looked at before the exchange: a claim of a cell that is still full could not be undone.
            // ORDERING: Acquire, pairs with the Release store of FREE in `Consumer::take`: the consumer's reads of
            // the cell are over before we write it.
            let ahead = self.cells.word(tail).load(Ordering::Acquire).decode(|w| Stage::of(w).ahead_of(free));
            if ahead == 0 {
                // ORDERING: Relaxed, as for the load: the winner owns the position, nothing is published by it.
                let next = tail.wrapping_add(1);
                if self.tail.compare_exchange(tail, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    return Ok(Claim { producer: self, position: tail, open: true });
                }
            } else if self.tail.load(Ordering::Relaxed) == tail {
                return Err(if ahead < 0 { Refused::Full } else { Refused::Corrupt });
            }
            // `tail` was stale: another thread moved it on, which is somebody's progress.
        }
    }

    /// Whether the frame at a position that this process committed is still untaken. One load.
    ///
    /// After the consumer's death an untaken frame has certainly not been handled (see [`Consumer::try_take`]).
    pub fn is_untaken(&self, position: u64) -> bool {
        let committed = Stage::committed(self.cells.lap(position));
        // ORDERING: Acquire, pairs with the release fence in `Consumer::take`: whoever saw an effect of the handler
        // sees here that the cell was freed before.
        self.cells.word(position).load(Ordering::Acquire).decode(|w| Stage::of(w) == committed)
    }
}

/// A cell that is ours until it is committed. Dropped without that, the frame is taken back.
#[must_use = "a claim that is dropped is taken back"]
pub struct Claim<'a> {
    producer: &'a Producer,
    position: u64,
    open: bool,
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Claim<'_> {
    /// Writes the body and makes the frame visible; gives its position. Wait-free.
    ///
    /// `kind` is the caller's, 1 to 127. `len` is the body's length in bytes; the consumer copies so much out.
    ///
    /// By reference, because a claim that is moved is copied on the stack, by loads that wait for earlier stores: also
    /// for one to a line that the other side has.
    ///
    /// # Panics
    /// If `kind` is out of range, `body` is longer than a cell, or the claim was committed before.
    #[inline]
    pub fn commit(&mut self, kind: u8, len: u16, body: &[u64]) -> u64 {
        assert!(self.open, "a claim is committed once");
        assert!(kind != KIND_ABORTED && kind <= KIND_MAX && body.len() <= BODY_WORDS, "frame does not fit its cell");
        let cells = &self.producer.cells;
        let at = cells.at(self.position) + 8;
        // The line behind first: the consumer polls the first line, and would take it away from us between its words
        // and its header if we went for the other line in between.
        let (first, behind) = body.split_at(body.len().min(FIRST_LINE_WORDS));
        cells.segment.region().store_words(at + FIRST_LINE_WORDS * 8, behind);
        cells.segment.region().store_words(at, first);
        self.publish(kind, len);
        self.position
    }

    #[inline]
    fn publish(&mut self, kind: u8, len: u16) {
        let cells = &self.producer.cells;
        let word = Stage::committed(cells.lap(self.position)).word(kind, len);
        // ORDERING: Release, pairs with the Acquire load in `Consumer::look`: whoever sees COMMITTED(lap) sees the
        // body. Weakened to Relaxed (`publish_relaxed`), a torn body is read.
        cells.word(self.position).store(word, PUBLISH);
        self.open = false;
    }
}

impl Drop for Claim<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.open {
            self.publish(KIND_ABORTED, 0);
        }
    }
}

/// A frame's header after it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The producer's word for what the frame is.
    pub kind: u8,
    /// The producer's length, unchecked against the body's meaning.
    pub len: u16,
}

enum Look {
    Committed(Taken),
    /// Nobody committed this position yet.
    Free,
    /// Taken earlier, out of order, and freed.
    Past,
}

/// The consuming side.
#[derive(Debug)]
pub struct Consumer {
    cells: Cells,
    /// The lowest position that may be untaken. Private.
    head: u64,
    aborted: u64,
}

impl Consumer {
    pub(crate) fn new(segment: Arc<Memory>, offset: usize, count: u32) -> Self {
        Self { cells: Cells::new(segment, offset, count), head: 0, aborted: 0 }
    }

    /// Frames that their producers took back, so far.
    pub fn aborted(&self) -> u64 {
        self.aborted
    }

    /// Takes the frame at the head, if it is there: copies its body out and frees the cell. Wait-free; if there is
    /// nothing, one load.
    ///
    /// A claim that is held at the head hides the frames behind it from this call; [`scan`](Self::scan) finds those.
    ///
    /// When this returns a frame, "taken" is visible to the producer before anything that the caller does next.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the head's word is impossible.
    #[inline]
    pub fn try_take(&mut self, body: &mut [u64; BODY_WORDS]) -> Result<Option<Taken>, Error> {
        // Each round moves `head` on, and no honest ring has more than `count` cells to step over.
        for _ in 0..self.cells.count {
            let position = self.head;
            match self.look(position)? {
                Look::Free => {
                    // Whoever polls the first line will want the second one together with it, not after it.
                    self.cells.segment.region().prefetch_for_read(self.cells.at(position) + LINE);
                    return Ok(None);
                }
                Look::Past => self.head = position.wrapping_add(1),
                Look::Committed(taken) => {
                    self.head = position.wrapping_add(1);
                    if self.take(position, taken, body) {
                        return Ok(Some(taken));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes the first committed frame anywhere in the ring, held claims notwithstanding. Looks at every cell if
    /// there is none; bounded by the square of the cells, wait-free.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a cell's word is impossible, or if the producer takes back frames faster than they can be
    /// stepped over.
    pub fn scan(&mut self, body: &mut [u64; BODY_WORDS]) -> Result<Option<Taken>, Error> {
        // A round without an answer stepped over a frame that was taken back; an honest ring has `count` at most.
        for _ in 0..=self.cells.count {
            if let Some(taken) = self.try_take(body)? {
                return Ok(Some(taken));
            }
            let Some((mut position, mut taken)) = self.first_committed(self.cells.count)? else {
                return Ok(None);
            };
            // A frame that was committed before the one just seen may lie in front of it, missed when we passed.
            // Having seen the later one we look again, until a pass finds nothing earlier: one pass would break the
            // order of a producer that committed both while we went by.
            while let Some(earlier) = self.first_committed(position.wrapping_sub(self.head))? {
                (position, taken) = earlier;
            }
            if self.take(position, taken, body) {
                return Ok(Some(taken));
            }
        }
        Err(Cells::corrupt("number of frames taken back", self.aborted, self.head))
    }

    /// Whether a frame waits anywhere in the ring. Looks at every cell if not.
    pub fn has_committed(&self) -> bool {
        // An impossible word is work too: whoever takes it will find out.
        !matches!(self.first_committed(self.cells.count), Ok(None))
    }

    fn first_committed(&self, within: u64) -> Result<Option<(u64, Taken)>, Error> {
        for ahead in 0..within {
            let position = self.head.wrapping_add(ahead);
            if let Look::Committed(taken) = self.look(position)? {
                return Ok(Some((position, taken)));
            }
        }
        Ok(None)
    }

    #[inline]
    fn look(&self, position: u64) -> Result<Look, Error> {
        // ORDERING: Acquire, pairs with the Release store in `Claim::publish`.
        let seen: Untrusted = self.cells.word(position).load(Ordering::Acquire);
        seen.decode(|word| {
            let ahead = Stage::of(word).ahead_of(Stage::free(self.cells.lap(position)));
            match ahead {
                0 => Ok(Look::Free),
                1 => Ok(Look::Committed(Taken { kind: Stage::kind(word), len: word as u16 })),
                2.. => Ok(Look::Past),
                _ => Err(Cells::corrupt("cell word", word, position)),
            }
        })
    }

    /// Copies the body, frees the cell; says whether the frame was a real one.
    #[inline]
    fn take(&mut self, position: u64, taken: Taken, body: &mut [u64; BODY_WORDS]) -> bool {
        let cells = &self.cells;
        let real = taken.kind != KIND_ABORTED;
        if real {
            let words = usize::from(taken.len).div_ceil(8).min(BODY_WORDS);
            cells.segment.region().load_words(cells.at(position) + 8, &mut body[..words]);
        } else {
            self.aborted += 1;
        }
        let free = Stage::free(cells.lap(position).wrapping_add(1)).word(0, 0);
        // ORDERING: Release, pairs with the Acquire load in `Producer::try_claim`: our reads of the cell are over.
        cells.word(position).store(free, Ordering::Release);
        if cfg!(not(weaken = "taken_without_fence")) {
            // ORDERING: Release fence, pairs with the Acquire load in `Producer::is_untaken`: "taken" is visible
            // before any effect of the handler. Without it a caller could conclude "not run" of a call that ran.
            fence(Ordering::Release);
        }
        real
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::segment::{HEADER_BYTES, Segment};

    #[derive(Debug, Clone)]
    struct Ring(u32);

    impl crate::Layout for Ring {
        const KIND: u64 = 0x7465_7374;
        fn params(&self) -> [u64; 8] {
            [self.0.into(), 0, 0, 0, 0, 0, 0, 0]
        }
        fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
            Ok(Self(params[0] as u32))
        }
        fn bytes(&self) -> usize {
            HEADER_BYTES + self.0 as usize * CELL_BYTES
        }
    }

    fn ring(cells: u32) -> (Producer, Consumer) {
        let segment = Segment::heap(Ring(cells), 1).memory();
        let producer = Producer::new(Arc::clone(&segment), HEADER_BYTES, cells);
        (producer, Consumer::new(segment, HEADER_BYTES, cells))
    }

    fn next(consumer: &mut Consumer) -> Option<u64> {
        let mut body = [0; BODY_WORDS];
        consumer.try_take(&mut body).unwrap().map(|_| body[0])
    }

    fn next_by_scan(consumer: &mut Consumer) -> Option<u64> {
        let mut body = [0; BODY_WORDS];
        consumer.scan(&mut body).unwrap().map(|_| body[0])
    }

    #[test]
    fn frames_come_out_in_the_order_they_went_in_over_many_laps() {
        let (producer, mut consumer) = ring(4);
        for i in 0..if cfg!(miri) { 50 } else { 1000 } {
            producer.try_claim().unwrap().commit(1, 8, &[i]);
            assert_eq!(next(&mut consumer), Some(i));
        }
        assert_eq!(next(&mut consumer), None);
    }

    #[test]
    fn a_ring_of_four_takes_exactly_four_frames() {
        let (producer, mut consumer) = ring(4);
        for i in 0..4 {
            producer.try_claim().unwrap().commit(1, 8, &[i]);
        }
        assert_eq!(producer.try_claim().unwrap_err(), Refused::Full);
        assert_eq!(next(&mut consumer), Some(0));
        producer.try_claim().unwrap().commit(1, 8, &[4]);
        assert_eq!(producer.try_claim().unwrap_err(), Refused::Full);
    }

    #[test]
    fn a_frame_arrives_with_its_kind_its_length_and_every_word_of_its_body() {
        let (producer, mut consumer) = ring(4);
        let body: [u64; BODY_WORDS] = std::array::from_fn(|i| i as u64 + 1);
        for (position, kind) in [1, 2, KIND_MAX].into_iter().enumerate() {
            assert_eq!(producer.try_claim().unwrap().commit(kind, 120, &body), position as u64);
        }
        for kind in [1, 2, KIND_MAX] {
            let mut taken = [0; BODY_WORDS];
            assert_eq!(consumer.try_take(&mut taken).unwrap(), Some(Taken { kind, len: 120 }));
            assert_eq!(taken, body);
        }
    }

    #[test]
    fn a_stage_tells_its_lap_and_whether_it_is_committed() {
        for lap in [0, 1, 5] {
            let (free, committed) =
                (Stage::of(Stage::free(lap).word(0, 0)), Stage::of(Stage::committed(lap).word(3, 9)));
            assert_eq!((free.lap(), free.is_committed()), (lap, false));
            assert_eq!((committed.lap(), committed.is_committed()), (lap, true));
        }
    }

    #[test]
    fn a_frame_anywhere_in_the_ring_is_known_to_wait_until_it_is_taken() {
        let (producer, mut consumer) = ring(4);
        assert!(!consumer.has_committed());
        let _held = producer.try_claim().unwrap();
        producer.try_claim().unwrap().commit(1, 8, &[7]);
        assert!(consumer.has_committed());
        assert_eq!(next_by_scan(&mut consumer), Some(7));
        assert!(!consumer.has_committed());
    }

    #[test]
    fn a_dropped_claim_is_stepped_over_and_counted() {
        let (producer, mut consumer) = ring(4);
        assert_eq!(consumer.aborted(), 0);
        drop(producer.try_claim().unwrap());
        drop(producer.try_claim().unwrap());
        producer.try_claim().unwrap().commit(1, 8, &[7]);
        assert_eq!(next(&mut consumer), Some(7));
        assert_eq!(consumer.aborted(), 2);
    }

    #[test]
    fn a_claim_dropped_by_a_panic_is_stepped_over() {
        let (producer, mut consumer) = ring(4);
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _claim = producer.try_claim().unwrap();
            panic!("in the middle of a frame");
        }));
        assert!(unwound.is_err());
        producer.try_claim().unwrap().commit(1, 8, &[7]);
        assert_eq!(next(&mut consumer), Some(7));
    }

    #[test]
    fn a_held_claim_costs_its_cell_and_hides_nothing_from_a_scan() {
        let (producer, mut consumer) = ring(4);
        let mut held = producer.try_claim().unwrap();
        for i in 1..4 {
            producer.try_claim().unwrap().commit(1, 8, &[i]);
        }
        assert_eq!(next(&mut consumer), None);
        for i in 1..4 {
            assert_eq!(next_by_scan(&mut consumer), Some(i));
        }
        assert_eq!(producer.try_claim().unwrap_err(), Refused::Full);
        held.commit(1, 8, &[0]);
        assert_eq!(next(&mut consumer), Some(0));
        producer.try_claim().unwrap().commit(1, 8, &[4]);
        assert_eq!(next(&mut consumer), Some(4));
    }

    #[test]
    fn a_frame_is_untaken_until_the_consumer_takes_it() {
        let (producer, mut consumer) = ring(4);
        let position = producer.try_claim().unwrap().commit(1, 8, &[1]);
        assert!(producer.is_untaken(position));
        assert_eq!(next(&mut consumer), Some(1));
        assert!(!producer.is_untaken(position));
    }

    #[test]
    fn an_impossible_word_is_corrupt_for_either_side_and_never_a_panic() {
        for word in [u64::MAX, 1 << 63, Stage::committed(0).0.wrapping_sub(2) << STAGE_SHIFT] {
            let (producer, mut consumer) = ring(4);
            producer.cells.word(0).store(word, Ordering::Relaxed);
            let behind = consumer.try_take(&mut [0; BODY_WORDS]);
            assert!(matches!(behind, Err(Error::Corrupt { found, .. }) if found == word), "{word:#x}: {behind:?}");
        }
        let (producer, _consumer) = ring(4);
        producer.cells.word(0).store(Stage::free(9).word(0, 0), Ordering::Relaxed);
        assert_eq!(producer.try_claim().unwrap_err(), Refused::Corrupt);
    }

    #[test]
    fn four_threads_lose_and_repeat_nothing() {
        let (producer, mut consumer) = ring(8);
        let each = if cfg!(miri) { 20 } else { 20_000 };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let producer = &producer;
                scope.spawn(move || {
                    for i in 0..each {
                        let mut claim = loop {
                            match producer.try_claim() {
                                Ok(claim) => break claim,
                                Err(_) => std::thread::yield_now(),
                            }
                        };
                        claim.commit(1, 16, &[thread, i]);
                    }
                });
            }
            let mut seen = [0; 4];
            let mut body = [0; BODY_WORDS];
            while seen.iter().sum::<u64>() < 4 * each {
                if consumer.scan(&mut body).unwrap().is_some() {
                    let thread = body[0] as usize;
                    assert_eq!(body[1], seen[thread], "thread {thread} out of order");
                    seen[thread] += 1;
                } else {
                    std::thread::yield_now();
                }
            }
        });
    }
}
