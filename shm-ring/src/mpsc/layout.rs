//! The bytes of a ring, one by one.

use crate::arena::{ArenaLayout, CLASSES, Class};
use crate::barrier::Fencing;
use crate::error::Error;
use crate::raw::{LINE, LINE_PAIR};
use crate::segment::{HEADER_BYTES, Layout};
use crate::signal::SIGNAL_BYTES;

/// Most cells of one ring.
pub const MAX_CELLS: u32 = 1 << 20;

/// Largest payload that can stand in a cell, in bytes: whatever is larger goes into the arena.
pub const MAX_INLINE: usize = 4096 - 8;

/// Bytes of a cell unless something else is asked for: room for 120 bytes beside the header word.
const CELL_SHIFT: u32 = 7;

pub(super) const ROLES_AT: usize = HEADER_BYTES;
pub(super) const ENDS_AT: usize = ROLES_AT + 16;
pub(super) const TAIL_AT: usize = ROLES_AT + LINE_PAIR;
pub(super) const SEEN_AT: usize = TAIL_AT + 8;
pub(super) const FULL_AT: usize = TAIL_AT + LINE_PAIR;
pub(super) const HEAD_AT: usize = FULL_AT + LINE_PAIR;
pub(super) const ABORTED_AT: usize = HEAD_AT + 8;
pub(super) const EMPTY_AT: usize = HEAD_AT + 16;
pub(super) const RELEASED_AT: usize = HEAD_AT + LINE_PAIR;
pub(super) const WATCH_AT: usize = RELEASED_AT + LINE_PAIR;
pub(super) const DATA_AT: usize = WATCH_AT + LINE_PAIR;
pub(super) const SPACE_AT: usize = DATA_AT + SIGNAL_BYTES;
pub(super) const CELLS_AT: usize = SPACE_AT + SIGNAL_BYTES;

// Words of different writers lie on different pairs of lines; cells begin on one.
const _: () = assert!(ROLES_AT == 128 && TAIL_AT == 256 && FULL_AT == 384 && HEAD_AT == 512 && RELEASED_AT == 640);
const _: () = assert!(WATCH_AT == 768 && DATA_AT == 896 && SPACE_AT == 1024 && CELLS_AT == 1152);
const _: () = assert!(CELLS_AT.is_multiple_of(LINE_PAIR));
const _: () = assert!(ENDS_AT == 144 && SEEN_AT == 264 && ABORTED_AT == 520 && EMPTY_AT == 528);

/// Shape of a ring: how many cells, how large a payload fits in one, and the arena for larger ones.
///
/// A ring of N cells holds N frames of any size; memory is `1152 + N × cell + arena` bytes, all of it allocated when
/// the segment is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MpscLayout {
    cells: u32,
    cell_shift: u32,
    fencing: Fencing,
    arena: ArenaLayout,
}

impl MpscLayout {
    /// A ring of `cells` cells, a power of two up to [`MAX_CELLS`], for payloads up to 120 bytes.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if the number is out of range.
    pub fn new(cells: u32) -> Result<Self, Error> {
        let arena = ArenaLayout::new([Class::default(); CLASSES])?;
        Self::check(cells, CELL_SHIFT, Fencing::best(), arena)
    }

    /// With cells that hold payloads up to `bytes` without the arena, at most [`MAX_INLINE`]. A cell takes the next
    /// power of two from 64 bytes on, of which eight are its header: 56 is the largest payload that shares its
    /// header's cache line.
    ///
    /// # Errors
    /// [`Error::TooLarge`] over [`MAX_INLINE`].
    pub fn with_inline(self, bytes: usize) -> Result<Self, Error> {
        if bytes > MAX_INLINE {
            return Err(Error::TooLarge { len: bytes, limit: MAX_INLINE });
        }
        let cell = (bytes + 8).next_power_of_two().max(LINE);
        Ok(Self { cell_shift: cell.trailing_zeros(), ..self })
    }

    /// With room for payloads that do not fit in a cell, up to the largest block.
    #[must_use]
    pub fn with_arena(self, arena: ArenaLayout) -> Self {
        Self { arena, ..self }
    }

    /// From a header's parameters, for whoever only looks and takes no part in the way of fencing.
    #[cfg(not(loom))]
    pub(crate) fn for_onlooker(params: &[u64; 8]) -> Result<Self, Error> {
        let mut params = *params;
        params[2] = Fencing::Both.to_param();
        Self::from_params(&params)
    }

    fn check(cells: u32, cell_shift: u32, fencing: Fencing, arena: ArenaLayout) -> Result<Self, Error> {
        if !cells.is_power_of_two() || cells > MAX_CELLS {
            return Err(Error::BadSegment { what: "number of cells", found: cells.into(), expected: MAX_CELLS.into() });
        }
        if !(6..=12).contains(&cell_shift) {
            return Err(Error::BadSegment { what: "size of a cell", found: cell_shift.into(), expected: 12 });
        }
        Ok(Self { cells, cell_shift, fencing, arena })
    }

    /// Frames that fit, whatever their size.
    pub fn cells(&self) -> u32 {
        self.cells
    }

    /// Bytes of the largest payload that stands in a cell.
    pub fn inline_limit(&self) -> usize {
        self.cell_bytes() - 8
    }

    /// Bytes of the largest payload that can ever be sent.
    pub fn limit(&self) -> usize {
        self.inline_limit().max(self.arena.largest())
    }

    pub(super) fn cell_bytes(&self) -> usize {
        1 << self.cell_shift
    }

    pub(super) fn cell_shift(&self) -> u32 {
        self.cell_shift
    }

    pub(super) fn fencing(&self) -> Fencing {
        self.fencing
    }

    pub(super) fn arena(&self) -> ArenaLayout {
        self.arena
    }

    pub(super) fn arena_at(&self) -> usize {
        (CELLS_AT + ((self.cells as usize) << self.cell_shift)).next_multiple_of(LINE_PAIR)
    }
}

impl Layout for MpscLayout {
    const KIND: u64 = 0x6d70_7363; // "mpsc"

    fn params(&self) -> [u64; 8] {
        let [a, b, c] = self.arena.to_words();
        [self.cells.into(), self.cell_shift.into(), self.fencing.to_param(), a, b, c, 0, 0]
    }

    fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
        let fencing = Fencing::from_param(params[2]).ok_or(Error::BadSegment {
            what: "way of fencing",
            found: params[2],
            expected: Fencing::best().to_param(),
        })?;
        let number = |param: u64| u32::try_from(param).unwrap_or(0);
        Self::check(number(params[0]), number(params[1]), fencing, ArenaLayout::from_words(&params[3..3 + CLASSES])?)
    }

    fn bytes(&self) -> usize {
        self.arena_at() + self.arena.section_bytes()
    }
}

/// Shape of the segment for the words by which the consumer of an isolated lane speaks to its producers: `head`,
/// `released` and `watch`, at the places that they have in a ring. The consumer alone writes it.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DownLayout;

#[cfg(not(loom))]
impl Layout for DownLayout {
    const KIND: u64 = 0x6e77_6f64; // "down"

    fn params(&self) -> [u64; 8] {
        [0; 8]
    }

    fn from_params(_: &[u64; 8]) -> Result<Self, Error> {
        Ok(Self)
    }

    fn bytes(&self) -> usize {
        DATA_AT
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_layout_survives_its_way_through_a_header() {
        let arena = ArenaLayout::new([Class { block: 4096, count: 3 }, Class::default(), Class::default()]).unwrap();
        let layout = MpscLayout::new(64).unwrap().with_inline(300).unwrap().with_arena(arena);
        assert_eq!(MpscLayout::from_params(&layout.params()).unwrap(), layout);
        assert_eq!((layout.inline_limit(), layout.limit()), (504, 4096));
        assert_eq!(layout.bytes(), 1152 + 64 * 512 + 128 + 3 * 4096);
    }

    #[test]
    fn cells_are_whole_cache_lines_and_hold_what_was_asked_for() {
        for (asked, limit) in [(0, 56), (56, 56), (57, 120), (120, 120), (121, 248), (MAX_INLINE, MAX_INLINE)] {
            assert_eq!(MpscLayout::new(2).unwrap().with_inline(asked).unwrap().inline_limit(), limit, "{asked}");
        }
        let refused = MpscLayout::new(2).unwrap().with_inline(MAX_INLINE + 1);
        assert!(matches!(refused, Err(Error::TooLarge { len: 4089, limit: 4088 })), "{refused:?}");
    }

    #[test]
    fn impossible_parameters_are_refused_by_name() {
        assert!(matches!(MpscLayout::new(0), Err(Error::BadSegment { what: "number of cells", found: 0, .. })));
        assert!(matches!(MpscLayout::new(3), Err(Error::BadSegment { what: "number of cells", found: 3, .. })));
        assert!(matches!(MpscLayout::new(1 << 21), Err(Error::BadSegment { what: "number of cells", .. })));
        let good = MpscLayout::new(4).unwrap().params();
        for (i, what) in [(0, "number of cells"), (1, "size of a cell"), (2, "way of fencing")] {
            let mut params = good;
            params[i] = u64::MAX;
            match MpscLayout::from_params(&params) {
                Err(Error::BadSegment { what: named, .. }) => assert_eq!(named, what),
                other => panic!("{what}: {other:?}"),
            }
        }
    }
}
