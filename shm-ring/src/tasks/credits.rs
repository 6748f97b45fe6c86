//! The smallest thing that tasks can wait for: a count in shared memory, given by one side and taken by the other.
//!
//! For tests and models of waiting by itself; a ring gives and takes frames in the same way.

use std::sync::Arc;

use crate::barrier::Fencing;
use crate::error::Error;
use crate::event::EventFd;
use crate::peer::PeerWord;
use crate::raw::LINE_PAIR;
use crate::segment::{HEADER_BYTES, Layout, Memory, Segment};
use crate::signal::{SIGNAL_BYTES, Signal};
use crate::sync::Ordering;

const SIGNAL_AT: usize = HEADER_BYTES;
const COUNT_AT: usize = SIGNAL_AT + SIGNAL_BYTES;

#[derive(Debug, Clone)]
struct Room;

impl Layout for Room {
    const KIND: u64 = 0;
    fn params(&self) -> [u64; 8] {
        [0; 8]
    }
    fn from_params(_: &[u64; 8]) -> Result<Self, Error> {
        Ok(Self)
    }
    fn bytes(&self) -> usize {
        COUNT_AT + LINE_PAIR
    }
}

/// The count, as both sides hold it.
#[derive(Debug, Clone)]
pub struct Credits {
    memory: Arc<Memory>,
    signal: Signal,
}

impl Credits {
    /// None yet.
    ///
    /// # Errors
    /// As [`EventFd::new`].
    pub fn new() -> Result<Self, Error> {
        let memory = Segment::heap(Room, 1).memory();
        let signal = Signal::new(Arc::clone(&memory), SIGNAL_AT, Fencing::best(), Some(EventFd::new()?));
        Ok(Self { memory, signal })
    }

    fn count(&self) -> PeerWord<'_> {
        PeerWord::at(self.memory.region(), COUNT_AT)
    }

    /// Gives so many and tells whoever sleeps.
    pub fn give(&self, count: u64) {
        self.give_silently(count);
        self.signal.notify();
    }

    /// Gives so many like one that is killed before it could tell.
    pub fn give_silently(&self, count: u64) {
        // ORDERING: Release, pairs with the Acquire in `try_take`, as a ring publishes a frame.
        self.count().fetch_add(count, Ordering::Release);
    }

    /// Takes so many, all or none.
    pub fn try_take(&self, wanted: u64) -> Option<()> {
        loop {
            // ORDERING: Acquire, pairs with the Release in `give_silently`, as a ring looks for a frame.
            let there = self.count().load(Ordering::Acquire).decode(|count| count);
            let left = there.checked_sub(wanted)?;
            // ORDERING: AcqRel: as the load and the store that it stands for.
            let exchanged = self.count().compare_exchange(there, left, Ordering::AcqRel, Ordering::Relaxed);
            if exchanged.is_ok() {
                return Some(());
            }
        }
    }

    /// Waits until there are so many and takes them.
    ///
    /// # Panics
    /// If this process can have no reactor.
    pub async fn take(&self, wanted: u64) {
        let taken = self.signal.wait_async(wanted as usize, || self.try_take(wanted)).await;
        taken.expect("a reactor can be had");
    }

    /// The reactor's part: blocks until there is an event, and calls a task.
    ///
    /// # Panics
    /// Never: there is an eventfd.
    #[cfg(loom)]
    pub fn react(&self) {
        self.signal.event().expect("made with an eventfd").wait();
        self.signal.turn();
    }

    /// The same, but only if there is an event already.
    #[cfg(loom)]
    pub fn react_if_due(&self) {
        self.signal.turn();
    }

    /// Ends the reactor's thread.
    ///
    /// # Panics
    /// Never: there is an eventfd.
    #[cfg(loom)]
    pub fn end(&self) {
        // ORDERING: Release, pairs with the Acquire in `is_over`; the eventfd's lock orders them anyway.
        PeerWord::at(self.memory.region(), COUNT_AT + 8).store(1, Ordering::Release);
        self.signal.event().expect("made with an eventfd").signal();
    }

    /// Whether [`end`](Self::end) was called.
    #[cfg(loom)]
    pub fn is_over(&self) -> bool {
        // ORDERING: Acquire, see `end`.
        PeerWord::at(self.memory.region(), COUNT_AT + 8).load(Ordering::Acquire).decode(|over| over == 1)
    }

    /// The side that waits.
    #[cfg(not(loom))]
    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }
}
