//! A ring's words, as both sides and observers reach them.

use std::fmt;
use std::sync::Arc;

use super::layout::{
    ABORTED_AT, CELLS_AT, DATA_AT, EMPTY_AT, ENDS_AT, FULL_AT, HEAD_AT, MpscLayout, RELEASED_AT, ROLES_AT, SEEN_AT,
    SPACE_AT, TAIL_AT, WATCH_AT,
};
use super::position::{Position, Tail};
use crate::error::Error;
use crate::event::EventFd;
use crate::fork::Home;
use crate::peer::PeerWord;
use crate::raw::{LINE, Section, Window};
use crate::ready::Watch;
use crate::segment::{Memory, Segment};
use crate::signal::Signal;
use crate::sync::Ordering;

/// An end that its owner closed, or somebody for it; what was claimed may still be committed.
pub(super) const CLOSED: u64 = 1;
/// An end of which no handle is left: what is not committed never will be.
pub(super) const GONE: u64 = 2;
/// An end whose process died.
pub(super) const DIED: u64 = 3;

/// Marks a role word as taken, whatever the process's number, which is the low half.
pub(super) const TAKEN: u64 = 1 << 32;

/// Bytes of a cell before its body.
pub(super) const HEADER: usize = 8;

/// One ring in one segment.
#[derive(Clone)]
pub(crate) struct Ring {
    words: Section<DATA_AT>,
    /// Where the words are by which the consumer speaks to the producers: in the ring's own segment, or in one that they
    /// cannot write.
    down: Section<DATA_AT>,
    is_split: bool,
    cells: Window,
    memory: Arc<Memory>,
    layout: MpscLayout,
    count: u64,
    lap_shift: u32,
    cell_shift: u32,
    /// Where the memory is: not in a forked child.
    home: Home,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("layout", &self.layout).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Ring {
    pub(crate) fn new(segment: &Segment<MpscLayout>) -> Self {
        Self::over(segment, segment.memory(), false)
    }

    /// With the consumer's words in the memory of a [`DownLayout`], which the producers may have mapped for reading only.
    #[cfg(not(loom))]
    pub(super) fn split(segment: &Segment<MpscLayout>, down: Arc<Memory>) -> Self {
        Self::over(segment, down, true)
    }

    fn over(segment: &Segment<MpscLayout>, down: Arc<Memory>, is_split: bool) -> Self {
        let layout = *segment.layout();
        Self {
            words: Section::new(segment.memory(), 0),
            down: Section::new(down, 0),
            is_split,
            cells: Window::new(segment.memory(), CELLS_AT, layout.cells() as usize * layout.cell_bytes()),
            memory: segment.memory(),
            layout,
            count: layout.cells().into(),
            lap_shift: layout.cells().trailing_zeros(),
            cell_shift: layout.cell_shift(),
            home: segment.home(),
        }
    }

    /// Makes a ring that nobody uses yet begin as if so many frames had passed through it.
    #[cfg(any(test, loom, fuzzing))]
    pub(crate) fn begin_at(&self, start: Position) {
        use crate::cells::Stage;
        self.tail().store(Tail::at(start).word(), Ordering::Relaxed);
        for word in [self.seen(), self.head(), self.released()] {
            word.store(start.get(), Ordering::Relaxed);
        }
        for ahead in 0..self.count {
            let position = start.plus(ahead);
            self.cell_word(position).store(Stage::free(self.lap(position)).word(0, 0), Ordering::Relaxed);
        }
    }

    pub(super) fn share(&self) -> Arc<Memory> {
        Arc::clone(&self.memory)
    }

    /// Whether the memory is there: in a forked child it is not. One load of a word that nobody writes.
    #[inline(always)]
    pub(super) fn is_here(&self) -> bool {
        self.home.is_here()
    }

    pub(super) fn layout(&self) -> &MpscLayout {
        &self.layout
    }

    /// Cells of the ring, a power of two.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    #[inline(always)]
    fn word<const AT: usize>(&self) -> PeerWord<'_> {
        PeerWord::of(self.words.word::<AT>())
    }

    /// The next position to claim, and whether the ring is closed. Written by producers; either side closes.
    #[inline]
    pub(super) fn tail(&self) -> PeerWord<'_> {
        self.word::<{ TAIL_AT }>()
    }

    /// A head that some producer saw: may lag, never leads. Written by producers.
    #[inline]
    pub(super) fn seen(&self) -> PeerWord<'_> {
        self.word::<{ SEEN_AT }>()
    }

    /// Counts a claim that was refused because the ring was full.
    pub(super) fn count_full(&self) {
        self.word::<{ FULL_AT }>().fetch_add(1, Ordering::Relaxed);
    }

    /// The lowest position that is not given back. Written by the consumer for each frame.
    #[inline]
    pub(super) fn head(&self) -> PeerWord<'_> {
        PeerWord::of(self.down.word::<{ HEAD_AT }>())
    }

    /// Consumer: so many frames were stepped over so far.
    pub(super) fn note_aborted(&self, count: u64) {
        self.word::<{ ABORTED_AT }>().store(count, Ordering::Relaxed);
    }

    /// Consumer: so often there was nothing so far.
    pub(super) fn note_empty(&self, count: u64) {
        self.word::<{ EMPTY_AT }>().store(count, Ordering::Relaxed);
    }

    /// The head as of now and then: what producers that wait for room poll. Written by the consumer.
    #[inline]
    pub(super) fn released(&self) -> PeerWord<'_> {
        PeerWord::of(self.down.word::<{ RELEASED_AT }>())
    }

    /// Consumer: everything before `head` is given back, as of now and then.
    #[inline]
    pub(super) fn release(&self, head: Position) {
        self.released().store(head.get(), Ordering::Relaxed);
        if self.is_split {
            // For onlookers, who look at the ring's own segment.
            self.word::<{ HEAD_AT }>().store(head.get(), Ordering::Relaxed);
        }
    }

    /// By which the consumer of many lanes says whether it polls this one. Written by the consumer.
    #[inline(always)]
    pub(super) fn watch(&self) -> Watch<'_> {
        Watch(PeerWord::of(self.down.word::<{ WATCH_AT }>()))
    }

    fn role(&self, role: Role) -> PeerWord<'_> {
        match role {
            Role::Producers => self.word::<{ ROLES_AT }>(),
            Role::Consumer => self.word::<{ ROLES_AT + 8 }>(),
        }
    }

    fn end(&self, role: Role) -> PeerWord<'_> {
        match role {
            Role::Producers => self.word::<{ ENDS_AT }>(),
            Role::Consumer => self.word::<{ ENDS_AT + 8 }>(),
        }
    }

    /// Takes an end of the ring for this process, once for ever.
    pub(super) fn take_role(&self, role: Role) -> Result<(), Error> {
        self.home.check("the ring")?;
        let ours = TAKEN | u64::from(std::process::id());
        // ORDERING: Relaxed: who is first is decided by the exchange, and nothing is published by it.
        let taken = self.role(role).compare_exchange(0, ours, Ordering::Relaxed, Ordering::Relaxed);
        taken.map_err(|found| Error::AlreadyAttached { role: role.name(), pid: found.decode(|word| word as u32) })
    }

    /// Says how an end has ended, unless it is known to be worse already, and that nothing can be claimed from now on.
    /// Wait-free, whatever a peer does to the words.
    pub(super) fn finish(&self, role: Role, how: u64) {
        let end = self.end(role);
        let before = end.load(Ordering::Relaxed).decode(|how| how);
        // ORDERING: Release, pairs with the Acquire in `producers_are_gone`: what they committed is visible to whoever
        // sees the end.
        let exchange = |before| end.compare_exchange(before, how, Ordering::Release, Ordering::Relaxed);
        if !raise(before, how, |before| exchange(before).map_err(|found| found.decode(|how| how))) {
            // ORDERING: Release, as above.
            end.store(how, Ordering::Release);
        }
        // ORDERING: AcqRel: whoever reads the bit sees what its setter did before, and the setter's wake-up that follows
        // is not moved before it.
        self.tail().fetch_or(Tail::CLOSED, Ordering::AcqRel);
    }

    /// Whether nothing more is committed, whatever is claimed.
    pub(super) fn producers_are_gone(&self) -> bool {
        // ORDERING: Acquire, pairs with the Release in `finish`.
        self.end(Role::Producers).load(Ordering::Acquire).decode(|how| how >= GONE)
    }

    /// The consumer waits here for frames.
    pub(super) fn data_signal(&self, event: Option<EventFd>) -> Signal {
        Signal::new(self.share(), DATA_AT, self.layout.fencing(), event)
    }

    /// Producers wait here for room.
    pub(super) fn space_signal(&self, event: Option<EventFd>) -> Signal {
        Signal::new(self.share(), SPACE_AT, self.layout.fencing(), event)
    }

    #[inline]
    pub(super) fn lap(&self, position: Position) -> u64 {
        position.get() >> self.lap_shift
    }

    /// Where a position's cell begins in [`cells`](Self::cells).
    #[inline(always)]
    fn cell_at(&self, position: Position) -> usize {
        ((position.get() & (self.count - 1)) as usize) << self.cell_shift
    }

    #[inline(always)]
    pub(super) fn cell_word(&self, position: Position) -> PeerWord<'_> {
        PeerWord::of(self.cells.word(self.cell_at(position)))
    }

    /// A word of a cell's body.
    pub(super) fn body_word(&self, position: Position, i: usize) -> PeerWord<'_> {
        PeerWord::of(self.cells.word(self.cell_at(position) + HEADER + i * 8))
    }

    /// Writes a part of a payload that stands in its cell. The range was checked against the cell's room.
    #[inline(always)]
    pub(super) fn write_body(&self, position: Position, at: usize, bytes: &[u8]) {
        debug_assert!(at + bytes.len() <= self.layout.inline_limit(), "checked by the claim");
        self.cells.copy_in(self.cell_at(position) + HEADER + at, bytes);
    }

    /// The cells, and where in them a position's body begins.
    #[inline(always)]
    pub(super) fn body(&self, position: Position) -> (&Window, usize) {
        (&self.cells, self.cell_at(position) + HEADER)
    }

    /// Asks for a cell's first lines ahead of their being written, as many as a payload of `len` bytes takes.
    #[inline(always)]
    pub(super) fn fetch(&self, position: Position, len: usize) {
        let at = self.cell_at(position);
        self.cells.prefetch_for_write(at);
        if len > LINE - HEADER {
            self.cells.prefetch_for_write(at + LINE);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.tail().load(Ordering::Relaxed).decode(|word| Tail::of(word).is_closed())
    }

    /// What an onlooker counts, at the end of a ring's life.
    #[cfg(not(loom))]
    pub(super) fn counts(&self) -> Counts {
        let count = |word: PeerWord<'_>| word.load(Ordering::Relaxed).decode(|count| count);
        Counts {
            given_back: count(self.head()),
            aborted: count(self.word::<{ ABORTED_AT }>()),
            full: count(self.word::<{ FULL_AT }>()),
        }
    }

    /// Frames claimed and not yet given back; also those that are still being written or were taken back. Two loads,
    /// right to the moment of the first.
    pub(super) fn len(&self) -> u64 {
        let head = self.head().load(Ordering::Relaxed).decode(Position::new);
        let tail = self.tail().load(Ordering::Relaxed).decode(|word| Tail::of(word).position());
        u64::try_from(tail.since(head)).unwrap_or(0).min(self.count)
    }
}

/// Raises the word of an end from `before` to `how`, if it is lower; `exchange` tries to replace the value that it is given,
/// and gives what it found instead. `false` if somebody keeps writing the word: an end only ever becomes worse, so honest
/// processes come between no more often than there are ways to end.
fn raise(mut before: u64, how: u64, mut exchange: impl FnMut(u64) -> Result<(), u64>) -> bool {
    for _ in 0..=DIED {
        if before >= how {
            return true;
        }
        match exchange(before) {
            Ok(()) => return true,
            Err(found) => before = found,
        }
    }
    before >= how
}

/// What a ring's words count.
#[cfg(not(loom))]
pub(super) struct Counts {
    /// Cells given back.
    pub(super) given_back: u64,
    pub(super) aborted: u64,
    pub(super) full: u64,
}

/// One end of a ring. An end belongs to one process for the life of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Producers,
    Consumer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Producers => "producer",
            Self::Consumer => "consumer",
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_others_make_worse_at_the_same_time_becomes_the_worst() {
        let mut found = [CLOSED, GONE].into_iter();
        let mut replaced = None;
        let raised = raise(0, DIED, |before| match found.next() {
            Some(found) => Err(found),
            None => {
                replaced = Some(before);
                Ok(())
            }
        });
        assert!(raised);
        assert_eq!(replaced, Some(GONE));
        assert!(raise(0, GONE, |_| Err(DIED)), "what is worse already is left");
        assert!(raise(GONE, GONE, |_| panic!("there is nothing to replace")));
    }

    #[test]
    fn a_peer_that_keeps_writing_the_word_of_an_end_holds_nobody_up() {
        let mut tries = 0;
        let raised = raise(0, DIED, |_| {
            tries += 1;
            Err(tries % 2)
        });
        assert!(!raised);
        assert!(tries <= 4, "{tries}");
    }

    #[test]
    fn an_end_becomes_worse_and_never_better() {
        let ring = Ring::new(&Segment::heap(MpscLayout::new(4).unwrap(), 1));
        ring.finish(Role::Consumer, CLOSED);
        assert!(ring.is_closed() && !ring.producers_are_gone());
        ring.finish(Role::Producers, CLOSED);
        assert!(!ring.producers_are_gone(), "what was claimed may still be committed");
        ring.finish(Role::Producers, DIED);
        ring.finish(Role::Producers, GONE);
        assert_eq!(ring.end(Role::Producers).load(Ordering::Relaxed).decode(|how| how), DIED);
        assert!(ring.producers_are_gone());
    }

    #[test]
    fn each_end_is_taken_once_and_notes_by_whom() {
        let ring = Ring::new(&Segment::heap(MpscLayout::new(4).unwrap(), 1));
        let pid = std::process::id();
        let memory = ring.share();
        let roles = || [ROLES_AT, ROLES_AT + 8].map(crate::peer::values(memory.region()));
        let taken = TAKEN | u64::from(pid);
        ring.take_role(Role::Consumer).unwrap();
        assert_eq!(roles(), [0, taken]);
        ring.take_role(Role::Producers).unwrap();
        assert_eq!(roles(), [taken, taken]);
        for (role, name) in [(Role::Producers, "producer"), (Role::Consumer, "consumer")] {
            let again = ring.take_role(role);
            assert!(matches!(again, Err(Error::AlreadyAttached { role, pid: by }) if role == name && by == pid));
        }
    }
}
