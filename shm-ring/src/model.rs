//! The product's own modules in the smallest shapes that show their races, for `loom-tests`.
//!
//! Only in builds with `--cfg loom`. Nothing is re-implemented here: each function lays one module out on the heap.

use std::sync::Arc;

use crate::arena::{ArenaLayout, ArenaOwner, ArenaReader, CLASSES, Class};
use crate::cells::{CELL_BYTES, Consumer, Producer};
use crate::error::Error;
use crate::event::EventFd;
use crate::peer::PeerWord;
use crate::raw::LINE_PAIR;
use crate::ready::{Listener, Park, ReadyLayout, ReadySet, Relay, Ringer, Watch};
use crate::segment::{HEADER_BYTES, Layout, Memory, Segment};
use crate::slot::{ClientSlots, SLOT_BYTES, ServerSlots, section_bytes};
pub use crate::tasks::credits::Credits;

/// A segment of so many bytes after the header.
#[derive(Debug, Clone)]
struct Room(usize);

impl Layout for Room {
    const KIND: u64 = 0;
    fn params(&self) -> [u64; 8] {
        [self.0 as u64, 0, 0, 0, 0, 0, 0, 0]
    }
    fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
        Ok(Self(params[0] as usize))
    }
    fn bytes(&self) -> usize {
        HEADER_BYTES + self.0
    }
}

/// A cell ring of `cells` cells.
pub fn ring(cells: u32) -> (Producer, Consumer) {
    let segment = Segment::heap(Room(cells as usize * CELL_BYTES), 1).memory();
    let producer = Producer::new(Arc::clone(&segment), HEADER_BYTES, cells);
    (producer, Consumer::new(segment, HEADER_BYTES, cells))
}

/// A ring of frames of `capacity` bytes, whose positions begin at `start`.
///
/// # Panics
/// If the capacity is not a legal one.
pub fn spsc(capacity: usize, start: u64) -> (crate::spsc::Producer, crate::spsc::Consumer) {
    let layout = crate::spsc::SpscLayout::new(capacity).expect("a legal capacity");
    crate::spsc::pair_from(&Segment::heap(layout, 1), start)
}

/// Both ends of an mpsc ring of `cells` cells, whose counts begin at `start`. They sleep at once.
///
/// # Panics
/// If the number of cells is not a legal one.
pub fn mpsc(cells: u32, start: u64) -> (crate::mpsc::Sender, crate::mpsc::Receiver) {
    let layout = crate::mpsc::MpscLayout::new(cells).expect("a legal number");
    let (mut sender, mut receiver) = crate::mpsc::pair_from(&Segment::heap(layout, 1), start);
    sender.set_spin(std::time::Duration::ZERO);
    receiver.set_spin(std::time::Duration::ZERO);
    (sender, receiver)
}

/// A table of `count` call slots.
pub fn slots(count: u32) -> (ClientSlots, ServerSlots) {
    let bytes = count as usize * SLOT_BYTES + section_bytes(count);
    let segment = Segment::heap(Room(bytes), 1).memory();
    let client = ClientSlots::new(Arc::clone(&segment), HEADER_BYTES, count);
    (client, ServerSlots::new(segment, HEADER_BYTES, count))
}

/// A rope that leads to no ready set.
pub fn rope() -> (Ringer, Listener) {
    Listener::modelled()
}

/// One lane's `watch` word.
#[derive(Debug)]
pub struct WatchWord(Arc<Memory>);

impl WatchWord {
    /// The word, as both sides use it.
    pub fn watch(&self) -> Watch<'_> {
        Watch(PeerWord::at(self.0.region(), HEADER_BYTES))
    }
}

/// A `watch` word, COLD.
pub fn watch_word() -> WatchWord {
    WatchWord(Segment::heap(Room(LINE_PAIR), 1).memory())
}

/// A ready set for `lanes` lanes.
pub fn ready_set(lanes: u32) -> ReadySet {
    ReadySet::new(&Segment::heap(ReadyLayout::new(lanes), 1))
}

/// As [`ready_set`], whose consumer may sleep on an eventfd.
///
/// # Panics
/// Never: there is always a modelled eventfd.
pub fn ready_set_with_event(lanes: u32) -> (ReadySet, EventFd) {
    let event = EventFd::new().expect("models have eventfds");
    (ready_set(lanes).with_event(event.clone()), event)
}

/// The consumer's attempt to sleep on its eventfd, see [`ReadySet::park`].
pub fn park_on_event<T>(ready: &ReadySet, cool: impl FnOnce(), scan: impl FnOnce() -> Option<T>) -> Park<T> {
    ready.park_on_event(cool, scan)
}

/// What passes the rings of a producer without a ready set on to `lane` of `ready`, and the producer's end of it.
pub fn relay(ready: ReadySet, lane: u32) -> (Relay, Ringer) {
    Relay::modelled(ready, lane)
}

/// An arena of one block of 128 bytes.
///
/// # Panics
/// Never: the layout is a legal one, and the segment is new.
pub fn arena() -> (ArenaOwner, ArenaReader) {
    let mut classes = [Class::default(); CLASSES];
    classes[0] = Class { block: LINE_PAIR as u32, count: 1 };
    let layout = ArenaLayout::new(classes).expect("a legal layout");
    let segment = Segment::heap(layout, 1);
    let owner = ArenaOwner::over(&segment).expect("a new segment has no owner");
    (owner, ArenaReader::over(&segment).expect("nor a reader"))
}
