//! The producers' side of a ring: who gets which cell.

use super::layout::MpscLayout;
use super::position::{Cell, Kind, Position, Tail};
use super::ring::Ring;
use crate::arena::{ArenaOwner, Block, BlockRef};
use crate::error::ClaimError;
use crate::sync::Ordering;

// ORDERING: Release, pairs with the Acquire load in `Taking::cell`; see `Producing::publish`.
const PUBLISH: Ordering = if cfg!(weaken = "mpsc_publish_relaxed") { Ordering::Relaxed } else { Ordering::Release };

// ORDERING: of the loads and the exchange of `tail`, which pair with one another; see `Producing::claim_cells`.
const TAIL_LOAD: Ordering = if cfg!(weaken = "mpsc_tail_relaxed") { Ordering::Relaxed } else { Ordering::Acquire };
const TAIL_EXCHANGE: Ordering = if cfg!(weaken = "mpsc_tail_relaxed") { Ordering::Relaxed } else { Ordering::Release };

/// How far ahead of a claim its successors' lines are asked for: a claim's exchange waits for the stores before it, and
/// those for their lines.
const FETCH_AHEAD: u64 = 16;

/// What all producing threads of one process share.
#[derive(Debug)]
pub(super) struct Producing {
    pub(super) ring: Ring,
    blocks: ArenaOwner,
    /// At most [`FETCH_AHEAD`], and never so far that the consumer has not read what is there.
    fetch_ahead: u64,
}

impl Producing {
    pub(super) fn new(ring: Ring) -> Self {
        let blocks = ArenaOwner::new(ring.share(), ring.layout().arena_at(), ring.layout().arena());
        let fetch_ahead = FETCH_AHEAD.min(ring.count() / 4);
        Self { ring, blocks, fetch_ahead }
    }

    pub(super) fn layout(&self) -> &MpscLayout {
        self.ring.layout()
    }

    /// Claims `cells` cells in a row. Lock-free, no system call.
    #[inline]
    pub(super) fn claim_cells(&self, cells: u64, len: usize) -> Result<Position, ClaimError> {
        let ring = &self.ring;
        // ORDERING: Acquire, pairs with the exchange below: whoever sees a claim sees the head that allowed it, or a later
        // one. Weakened to Relaxed (`mpsc_tail_relaxed`), an older head makes more cells claimed than there are.
        let mut tail = ring.tail().load(TAIL_LOAD).decode(Tail::of);
        loop {
            if tail.is_closed() {
                return Err(ClaimError::Closed);
            }
            // ORDERING: Acquire, pairs with the Release store in `room`: the thread that saw this head saw the reads of
            // the cells before it to be over, and so do we.
            let seen = ring.seen().load(Ordering::Acquire).decode(Position::new);
            let used = tail.position().since(seen);
            let fits = u64::try_from(used).is_ok_and(|used| used + cells <= ring.count());
            if !fits && !self.room(tail, cells)? {
                // ORDERING: Acquire, as above.
                tail = ring.tail().load(TAIL_LOAD).decode(Tail::of);
                continue;
            }
            let next = tail.plus(cells).word();
            // ORDERING: Release, pairs with the loads of `tail`; Acquire if it fails, as they.
            match ring.tail().compare_exchange(tail.word(), next, TAIL_EXCHANGE, TAIL_LOAD) {
                Ok(()) => {
                    ring.fetch(tail.position().plus(cells - 1 + self.fetch_ahead), len);
                    return Ok(tail.position());
                }
                Err(found) => tail = found.decode(Tail::of),
            }
        }
    }

    /// The head that the producers remember leaves no room: looks at the consumer's own. Says whether there is room
    /// behind `tail`; `false` if `tail` is out of date.
    #[cold]
    fn room(&self, tail: Tail, cells: u64) -> Result<bool, ClaimError> {
        let ring = &self.ring;
        // ORDERING: Acquire, pairs with the Release store in `Taking::pass`: the consumer's reads of the cells before this
        // head are over. Without it a frame could be overwritten while it is read.
        let (word, head) = ring.head().load(Ordering::Acquire).decode(|word| (word, Position::new(word)));
        if ring.tail().load(Ordering::Relaxed).decode(Tail::of) != tail {
            return Ok(false);
        }
        let Some(used) = u64::try_from(tail.position().since(head)).ok().filter(|used| *used <= ring.count()) else {
            return Err(ClaimError::Corrupt { what: "head", found: word });
        };
        if used + cells > ring.count() {
            return Err(self.full_of_cells(cells, ring.count() - used));
        }
        // ORDERING: Release, pairs with the Acquire load in `claim_cells`: passes on what we acquired above. A slower
        // thread may put back an older head, which only costs another look.
        ring.seen().store(head.get(), Ordering::Release);
        Ok(true)
    }

    #[cold]
    fn full_of_cells(&self, cells: u64, free: u64) -> ClaimError {
        self.ring.count_full();
        let bytes = |cells: u64| cells as usize * self.layout().cell_bytes();
        ClaimError::Full { needed: bytes(cells), free: bytes(free) }
    }

    /// A block for a payload that no cell holds.
    ///
    /// # Errors
    /// [`ClaimError::TooLarge`], or [`ClaimError::Full`] while every block that would do is with the consumer.
    #[cold]
    pub(super) fn claim_block(&self, len: usize) -> Result<Block<'_>, ClaimError> {
        let limit = self.layout().limit();
        if len > limit {
            return Err(ClaimError::TooLarge { len, limit });
        }
        self.blocks.allocate(len).ok_or_else(|| {
            self.ring.count_full();
            ClaimError::Full { needed: len, free: self.blocks.largest_free() }
        })
    }

    /// Writes the body of a frame whose payload stands in a block.
    pub(super) fn write_block_body(&self, position: Position, block: BlockRef, len: usize) {
        self.ring.body_word(position, 0).store(block.to_word(), Ordering::Relaxed);
        self.ring.body_word(position, 1).store(len as u64, Ordering::Relaxed);
    }

    /// Makes the frame at a claimed position visible, or takes it back. Wait-free: one store.
    #[inline]
    pub(super) fn publish(&self, position: Position, kind: Kind, len: u16) {
        let word = Cell::committed_word(self.ring.lap(position), kind, len);
        // ORDERING: Release, pairs with the Acquire load in `Taking::cell`: whoever sees the frame committed sees its
        // payload. Weakened to Relaxed (`mpsc_publish_relaxed`), a torn payload is read.
        self.ring.cell_word(position).store(word, PUBLISH);
    }

    /// Notes in a claimed cell what its frame will be, without making it visible.
    #[inline]
    pub(super) fn stage(&self, position: Position, kind: Kind, len: u16) {
        let word = Cell::staged_word(self.ring.lap(position), kind, len);
        self.ring.cell_word(position).store(word, Ordering::Relaxed);
    }

    /// Makes a staged frame visible. Wait-free: a load and a store.
    #[inline]
    pub(super) fn publish_staged(&self, position: Position) {
        let cell = self.ring.cell_word(position);
        let word = cell.load(Ordering::Relaxed).decode(|word| Cell::commit_staged(word, self.ring.lap(position)));
        // ORDERING: Release, as in `publish`.
        cell.store(word, PUBLISH);
    }

    /// Takes back a block whose name was written into a frame that is not to be sent after all.
    pub(super) fn reclaim(&self, block: BlockRef) {
        self.blocks.reclaim(block);
    }
}
