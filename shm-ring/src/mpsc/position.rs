//! Where in a ring's life something is: ever-growing counts, and the two words that carry them.

use crate::cells::Stage;

/// A count of cells since the ring began, modulo 2^63. Reduced to memory by [`super::ring::Ring`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position(u64);

impl Position {
    pub(crate) fn new(count: u64) -> Self {
        Self(count & (u64::MAX >> 1))
    }

    pub(super) fn get(self) -> u64 {
        self.0
    }

    #[inline]
    pub(super) fn plus(self, cells: u64) -> Self {
        Self::new(self.0.wrapping_add(cells))
    }

    /// Cells from `earlier` to `self`; negative if `self` is the earlier one.
    #[inline]
    pub(super) fn since(self, earlier: Self) -> i64 {
        ((self.0.wrapping_sub(earlier.0) << 1) as i64) >> 1
    }
}

/// The producers' word: the next position to claim, and whether claiming is over. Both in one word, so that every claim
/// is either before the end or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail(u64);

impl Tail {
    pub(super) const CLOSED: u64 = 1;

    #[cfg(any(test, loom, fuzzing))]
    pub(super) fn at(position: Position) -> Self {
        Self(position.0 << 1)
    }

    #[inline]
    pub(super) fn of(word: u64) -> Self {
        Self(word)
    }

    #[inline]
    pub(super) fn word(self) -> u64 {
        self.0
    }

    #[inline]
    pub(super) fn position(self) -> Position {
        Position(self.0 >> 1)
    }

    #[inline]
    pub(super) fn is_closed(self) -> bool {
        self.0 & Self::CLOSED != 0
    }

    /// After a claim of so many cells. The closed bit stays as it is.
    #[inline]
    pub(super) fn plus(self, cells: u64) -> Self {
        Self(self.0.wrapping_add(cells << 1))
    }
}

/// What the header word of a cell says of the frame in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Taken back; consumers step over it.
    Aborted,
    /// The payload follows the header.
    Inline,
    /// The payload is in the arena: the body is the block's name and the length.
    Block,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Aborted => 0,
            Self::Inline => 1,
            Self::Block => 2,
        }
    }

    fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Aborted),
            1 => Some(Self::Inline),
            2 => Some(Self::Block),
            _ => None,
        }
    }
}

/// What a cell's header word means for a position that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// Nobody committed this position yet.
    Pending,
    Committed(Kind, u16),
    /// No honest producer wrote this.
    Impossible,
}

impl Cell {
    #[inline]
    pub(super) fn committed_word(lap: u64, kind: Kind, len: u16) -> u64 {
        Stage::committed(lap).word(kind.number(), len)
    }

    /// As [`committed_word`](Self::committed_word), but not visible yet.
    #[inline]
    pub(super) fn staged_word(lap: u64, kind: Kind, len: u16) -> u64 {
        Stage::free(lap).word(kind.number(), len)
    }

    /// The committed word for what was staged. Kind and length are taken as they are found: they are checked by whoever
    /// receives the frame.
    #[inline]
    pub(super) fn commit_staged(word: u64, lap: u64) -> u64 {
        Stage::committed(lap).word(Stage::kind(word), word as u16)
    }

    #[inline]
    pub(super) fn of(word: u64, lap: u64) -> Self {
        match Stage::of(word).ahead_of(Stage::committed(lap)) {
            0 => Kind::of(Stage::kind(word)).map_or(Self::Impossible, |kind| Self::Committed(kind, word as u16)),
            ..0 => Self::Pending,
            _ => Self::Impossible,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn distances_are_right_across_the_wrap_at_two_to_the_63() {
        let last = Position::new(u64::MAX);
        assert_eq!(last.plus(1), Position::new(0));
        assert_eq!(last.plus(3).since(last), 3);
        assert_eq!(last.since(last.plus(3)), -3);
    }

    #[test]
    fn a_closed_tail_keeps_its_position_and_its_bit() {
        for start in [0, 1 << 32, (1 << 62) - 1, u64::MAX >> 1] {
            let tail = Tail::at(Position::new(start));
            assert!(!tail.is_closed());
            let closed = Tail::of(tail.word() | Tail::CLOSED);
            assert!(closed.is_closed());
            assert_eq!(closed.position(), Position::new(start));
            assert_eq!(closed.plus(2).position(), Position::new(start).plus(2));
            assert!(closed.plus(2).is_closed());
        }
    }

    #[test]
    fn a_cell_is_committed_for_its_own_lap_only() {
        for lap in [0, 1, (1 << 40) - 1, 1 << 40, (1 << 40) + 1] {
            let word = Cell::committed_word(lap, Kind::Inline, 65_535);
            assert_eq!(Cell::of(word, lap), Cell::Committed(Kind::Inline, 65_535));
            assert_eq!(Cell::of(word, lap.wrapping_add(1)), Cell::Pending);
            assert_eq!(Cell::of(word, lap.wrapping_sub(1)), Cell::Impossible);
        }
        assert_eq!(Cell::of(0, 0), Cell::Pending);
        assert_eq!(Cell::of(Stage::committed(5).word(3, 0), 5), Cell::Impossible);
    }
}
