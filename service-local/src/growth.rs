//! Arenas that a lane gets after it was made, for payloads that its first segment has no block for.
//!
//! The server makes every segment, for requests as for replies, and hands it over through the connection's socket.
//! Segments are only ever added, so readers need no lock.

use std::sync::{Mutex, OnceLock, PoisonError};

use shm_ring::arena::{ArenaLayout, ArenaOwner, Class};
use shm_ring::lane::{ADDED, ADDED_BLOCKS};

/// The place of the lane's own arena; zero is inline.
pub(crate) const OWN_ARENA: u8 = 1;

const FIRST: u8 = 2;

/// Most added segments of one direction.
const MAX_ADDED: usize = ADDED as usize;

/// Smallest block of an added segment, in bytes.
const MIN_BLOCK: usize = 64 << 10;

/// Small blocks share a segment of about this many bytes.
const SHARED_BYTES: usize = 1 << 20;

// A lane in two parts has so many words for each added segment.
const _: () = assert!(SHARED_BYTES / MIN_BLOCK == ADDED_BLOCKS as usize);

/// Most bytes of all added segments of one direction of one connection.
pub(crate) const MAX_BYTES: usize = 1 << 30;

/// Which added segment a place names, counted from zero; any number, for a peer's place.
pub(crate) fn index_of(place: u8) -> u8 {
    place.wrapping_sub(FIRST)
}

/// The arenas added to one direction, as one side sees them: owners or readers.
#[derive(Debug)]
pub(crate) struct Added<T> {
    arenas: [OnceLock<T>; MAX_ADDED],
    /// Bytes of all of them; the lock is what makes additions one at a time.
    bytes: Mutex<usize>,
    /// Most bytes of all of them.
    limit: usize,
}

impl<T> Added<T> {
    pub(crate) fn up_to(limit: usize) -> Self {
        Self { arenas: [const { OnceLock::new() }; MAX_ADDED], bytes: Mutex::new(0), limit: limit.min(MAX_BYTES) }
    }

    /// Most bytes of all of them.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The arena at a peer's place; `None` if there is none (yet).
    pub(crate) fn get(&self, place: u8) -> Option<&T> {
        self.arenas.get(usize::from(place.checked_sub(FIRST)?))?.get()
    }

    /// Puts an arena at the place that the other side named; says whether the place was free.
    pub(crate) fn put(&self, place: u8, arena: T) -> bool {
        let slot = place.checked_sub(FIRST).and_then(|index| self.arenas.get(usize::from(index)));
        slot.is_some_and(|slot| slot.set(arena).is_ok())
    }

    /// All arenas with their places, oldest first. There may be places between them that this side could not map.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &T)> {
        let places = (FIRST..).zip(&self.arenas);
        places.filter_map(|(place, arena)| Some((place, arena.get()?)))
    }

    /// Makes room for one more arena of a block of `len` bytes: `make` is told its place and layout and does the
    /// rest, under the lock. The arena can be used as soon as this returns, with what `make` gave beside it. `None`
    /// if `len` is over the limit or the limit is reached.
    pub(crate) fn add<E, X>(
        &self,
        len: usize,
        make: impl FnOnce(u8, ArenaLayout) -> Result<(T, X), E>,
    ) -> Option<Result<(u8, X), E>> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let (layout, size) = layout_for(len)?;
        let index = self.arenas.iter().position(|arena| arena.get().is_none())?;
        if *bytes + size > self.limit {
            return None;
        }
        let place = FIRST + index as u8;
        Some(make(place, layout).map(|(arena, beside)| {
            *bytes += size;
            // Additions are one at a time, and this place was free.
            let _ = self.arenas[index].set(arena);
            (place, beside)
        }))
    }
}

/// The size of the block that a payload of `len` bytes gets in an added segment: what is asked for, so that threads
/// with payloads of about one size ask once. `None` if there is none.
pub(crate) fn block_for(len: usize) -> Option<usize> {
    layout_for(len).map(|(layout, _)| layout.largest())
}

/// Bytes of the segment that a payload of `len` bytes gets; zero if there is none for it.
pub(crate) fn segment_for(len: usize) -> usize {
    layout_for(len).map_or(0, |(_, size)| size)
}

/// One class of blocks that hold `len` bytes.
fn layout_for(len: usize) -> Option<(ArenaLayout, usize)> {
    let block = len.max(MIN_BLOCK).checked_next_power_of_two()?;
    let count = (SHARED_BYTES / block).max(1);
    let class = Class { block: u32::try_from(block).ok()?, count: count as u32 };
    let layout = ArenaLayout::new([class, Class::default(), Class::default()]).ok()?;
    Some((layout, block * count))
}

/// Both kinds of arena, own and added, for who writes payloads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owners<'a> {
    pub(crate) own: &'a ArenaOwner,
    pub(crate) added: &'a Added<ArenaOwner>,
}

impl<'a> Owners<'a> {
    /// A block of `len` bytes in what there is, and its place.
    pub(crate) fn allocate(self, len: usize) -> Option<(u8, shm_ring::arena::Block<'a>)> {
        let own = self.own.allocate(len).map(|block| (OWN_ARENA, block));
        own.or_else(|| self.added.iter().find_map(|(place, arena)| Some((place, arena.allocate(len)?))))
    }

    pub(crate) fn at(self, place: u8) -> Option<&'a ArenaOwner> {
        if place == OWN_ARENA { Some(self.own) } else { self.added.get(place) }
    }
}

/// The same for who reads them.
#[derive(Debug)]
pub(crate) struct Readers<'a, R> {
    pub(crate) own: &'a R,
    pub(crate) added: &'a Added<R>,
}

impl<'a, R> Readers<'a, R> {
    pub(crate) fn at(self, place: u8) -> Option<&'a R> {
        if place == OWN_ARENA { Some(self.own) } else { self.added.get(place) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_for_any_length_up_to_the_limit_is_large_enough() {
        for len in [1, MIN_BLOCK, MIN_BLOCK + 1, (1 << 20) + 1, MAX_BYTES] {
            assert!(layout_for(len).unwrap().0.largest() >= len, "{len}");
        }
        assert!(layout_for(MAX_BYTES + 1).is_none());
        assert!(layout_for(usize::MAX).is_none());
    }

    #[test]
    fn additions_stop_at_the_limit_of_bytes() {
        let added = Added::up_to(MAX_BYTES);
        assert_eq!(added.add(MAX_BYTES / 2, |place, _| Ok::<_, ()>((place, ()))), Some(Ok((2, ()))));
        assert_eq!(added.add(MAX_BYTES / 2, |place, _| Ok::<_, ()>((place, ()))), Some(Ok((3, ()))));
        assert_eq!(added.add(1, |place, _| Ok::<_, ()>((place, ()))), None);
        assert_eq!(added.get(3), Some(&3));
        assert_eq!(added.get(4), None);
    }

    #[test]
    fn a_place_that_could_not_be_mapped_hides_none_behind_it() {
        let added = Added::<u8>::up_to(MAX_BYTES);
        assert!(added.put(2, 20) && added.put(4, 40));
        assert_eq!(added.iter().collect::<Vec<_>>(), [(2, &20), (4, &40)]);
    }

    #[test]
    fn places_that_no_segment_has_give_nothing() {
        let added = Added::<u8>::up_to(MAX_BYTES);
        for place in [0, 1, 2, 61, 62, 255] {
            assert_eq!(added.get(place), None);
        }
        assert!(!added.put(1, 0) && !added.put(62, 0) && added.put(61, 0) && !added.put(61, 0));
    }
}
