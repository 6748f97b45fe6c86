//! One region of memory shared by processes, and the one door into it.
//!
//! A segment begins with a header of [`HEADER_BYTES`] (see `header.rs` for its words) that names the kind of what
//! follows and the parameters from which everything about it is computed. A descriptor from a peer becomes a
//! [`Segment`] in [`Segment::open`] only: seals, type and size of the file, then every header word, read once and
//! checked. After the door nobody reads the header again, and a segment never parts from its layout.

mod header;
#[cfg(not(loom))]
mod memfd;

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::raw::{LINE_PAIR, Region};

/// Bytes before the first section of a segment.
pub const HEADER_BYTES: usize = LINE_PAIR;

/// Version of every shared layout of this crate. Any change to any of them raises it.
pub const LAYOUT_VERSION: u32 = 2;

/// The shape of one kind of segment: everything about it is computed from a few parameters that both sides check.
pub trait Layout: Clone + fmt::Debug {
    /// Tells kinds apart.
    const KIND: u64;

    /// The parameters as they stand in the header.
    fn params(&self) -> [u64; 8];

    /// The layout for parameters read from a header.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if a parameter is out of its range.
    fn from_params(params: &[u64; 8]) -> Result<Self, Error>;

    /// Bytes of the whole segment, header included.
    fn bytes(&self) -> usize;
}

/// What the sections of a segment are reached through; shared by the handles that use them.
pub(crate) struct Memory {
    region: Region,
    epoch: u64,
}

impl Memory {
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("bytes", &self.region.len()).field("epoch", &self.epoch).finish()
    }
}

/// A mapped region with a checked header, and the layout that the header states. A clone is a second handle to the
/// same mapping.
#[derive(Debug, Clone)]
pub struct Segment<L> {
    memory: Arc<Memory>,
    layout: L,
}

impl<L: Layout> Segment<L> {
    /// A segment in this process's own memory: for tests, models and rings between threads.
    pub fn heap(layout: L, epoch: u64) -> Self {
        Self::make(Region::heap(layout.bytes()), layout, epoch)
    }

    /// Over fresh, zeroed memory of the layout's size: writes the header.
    fn make(region: Region, layout: L, epoch: u64) -> Self {
        header::write(&region, &layout, epoch);
        Self { memory: Arc::new(Memory { region, epoch }), layout }
    }

    /// Over memory that another process made: reads and checks the header.
    #[cfg(not(loom))]
    fn check(region: Region) -> Result<Self, Error> {
        let (layout, epoch) = header::read(&region)?;
        Ok(Self { memory: Arc::new(Memory { region, epoch }), layout })
    }

    /// What the header states.
    pub fn layout(&self) -> &L {
        &self.layout
    }

    /// A number that tells this segment's owner from its former lives.
    pub fn epoch(&self) -> u64 {
        self.memory.epoch
    }

    /// Bytes, header included.
    pub fn bytes(&self) -> usize {
        self.memory.region.len()
    }

    pub(crate) fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.memory)
    }
}
