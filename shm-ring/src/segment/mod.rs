//! One region of memory shared by processes, and the one door into it.
//!
//! A segment begins with a header of [`HEADER_BYTES`] (see `header.rs` for its words) that names the kind of what
//! follows and the parameters from which everything about it is computed. A descriptor from a peer becomes a
//! [`Segment`] in [`Segment::open`] only: seals, type and size of the file, then every header word, read once and
//! checked. After the door nobody reads the header again, and a segment never parts from its layout.
//!
//! | backing | made by | opened by | lives until |
//! |---|---|---|---|
//! | heap | [`Segment::heap`] | a clone | its last handle is dropped |
//! | sealed memfd | [`Segment::memfd`] | [`Segment::open`], by descriptor | its last descriptor and mapping are gone |
//! | the same, that its maker alone writes | [`Segment::memfd_for_readers`] | [`ReadOnly::open`] | the same |
//! | a name of the system, a file | [`Place::create`], [`Place::open_or_create`] | [`Place::open`] | [`Place::remove`] |
//! | a file of the caller's | [`Segment::from_fd`] | [`Segment::open_unsealed`] | the caller ends it |
//!
//! All of them have exactly the size of their layout, are allocated in full when they are made, cannot be executed and
//! are not inherited over fork. All but those on the heap keep one descriptor open for as long as they are mapped, by
//! which [`crate::inspect`] finds them.

mod header;
#[cfg(not(loom))]
mod mapping;
#[cfg(not(loom))]
mod memfd;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod owned;
#[cfg(not(loom))]
mod place;
#[cfg(not(loom))]
mod sealed;

use std::fmt;
#[cfg(not(loom))]
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

pub(crate) use header::Role;
#[cfg(all(any(test, fuzzing), not(loom)))]
pub(crate) use header::hash_of;
#[cfg(not(loom))]
pub(crate) use header::{Head, expect, is_in as is_segment, stated_bytes};
#[cfg(not(loom))]
pub(crate) use mapping::{FileId, file_bytes, stat};
#[cfg(not(loom))]
pub use memfd::ReadOnly;
#[cfg(not(loom))]
pub use options::SegmentOptions;
#[cfg(not(loom))]
use place::LockFile;
#[cfg(not(loom))]
pub use place::{Origin, Place};
#[cfg(not(loom))]
pub use sealed::{SealedPayload, SealedWriter};

use crate::error::Error;
use crate::fork::Home;
use crate::raw::{LINE_PAIR, Region};

/// Bytes before the first section of a segment.
pub const HEADER_BYTES: usize = LINE_PAIR;

/// Bytes of the note at the end of a segment, where a kind has one.
pub const NOTE_BYTES: usize = 256;

/// Version of every shared layout of this crate. Any change to any of them raises it.
pub const LAYOUT_VERSION: u32 = 4;

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

    /// Bytes of the whole segment, header and note included.
    fn bytes(&self) -> usize;

    /// What the maker writes into the last [`NOTE_BYTES`] of the segment before anybody can open it, if this kind has
    /// a note.
    fn note(&self) -> Option<[u8; NOTE_BYTES]> {
        None
    }

    /// Judges the note of a segment that somebody else made. Any bytes at all may stand there.
    ///
    /// # Errors
    /// Why the segment is refused.
    fn check_note(&self, theirs: &[u8; NOTE_BYTES]) -> Result<(), Error> {
        let _ = theirs;
        Ok(())
    }
}

/// What the sections of a segment are reached through; shared by the handles that use them.
pub(crate) struct Memory {
    region: Region,
    epoch: u64,
    #[cfg(not(loom))]
    #[allow(dead_code, reason = "held for its lock, which says that the segment is in use")]
    in_use: Option<LockFile>,
    #[cfg(not(loom))]
    #[allow(dead_code, reason = "held for `/proc`, where an onlooker finds the memory by it")]
    file: Option<OwnedFd>,
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

    /// Over fresh, zeroed memory of the layout's size: writes the note and then the header.
    fn make(region: Region, layout: L, epoch: u64) -> Self {
        if let Some(note) = layout.note() {
            region.copy_in(region.len() - NOTE_BYTES, &note);
        }
        header::write(&region, &layout, epoch);
        Self::over(region, layout, epoch)
    }

    /// Over memory that another process made: reads and checks the header and the note.
    #[cfg(not(loom))]
    pub(crate) fn check(region: Region) -> Result<Self, Error> {
        let (layout, epoch): (L, u64) = header::read(&region)?;
        if layout.note().is_some() {
            layout.check_note(&header::read_note(&region))?;
        }
        Ok(Self::over(region, layout, epoch))
    }

    fn over(region: Region, layout: L, epoch: u64) -> Self {
        let memory = Memory {
            region,
            epoch,
            #[cfg(not(loom))]
            in_use: None,
            #[cfg(not(loom))]
            file: None,
        };
        Self { memory: Arc::new(memory), layout }
    }

    /// A segment that says, as long as it is mapped, that it is in use.
    #[cfg(not(loom))]
    fn in_use_by(mut self, lock: LockFile) -> Self {
        let memory = Arc::get_mut(&mut self.memory).expect("a segment that was just made has one handle");
        memory.in_use = Some(lock);
        self
    }

    /// A segment that keeps a descriptor of its memory, so that it can be found under this process in `/proc`; a
    /// mapping alone cannot be reopened there.
    #[cfg(not(loom))]
    fn found_by(mut self, fd: BorrowedFd<'_>) -> Result<Self, Error> {
        let exhausted = |source| Error::ResourceExhausted { what: "descriptor of a segment", bytes: 0, source };
        let memory = Arc::get_mut(&mut self.memory).expect("a segment that was just made has one handle");
        memory.file = Some(fd.try_clone_to_owned().map_err(exhausted)?);
        Ok(self)
    }

    /// Takes a role, once for the life of the segment, whoever opens it.
    pub(crate) fn take_role(&self, role: Role) -> Result<(), Error> {
        header::take_role(&self.memory.region, role).map_err(|pid| {
            let role = match role {
                Role::Producer => "producer",
                Role::Consumer => "consumer",
            };
            Error::AlreadyAttached { role, pid }
        })
    }

    /// What the header states.
    pub fn layout(&self) -> &L {
        &self.layout
    }

    /// A number that tells this segment's owner from its former lives.
    pub fn epoch(&self) -> u64 {
        self.memory.epoch
    }

    /// Where the memory can be used. A segment that is used in another process, a forked child, ends it.
    pub(crate) fn home(&self) -> Home {
        self.memory.region.home()
    }

    /// Bytes, header included.
    pub fn bytes(&self) -> usize {
        self.memory.region.len()
    }

    /// Bytes of it that stand on huge pages in this process; 0 on the heap and where none were to be had. Reads
    /// `/proc/self/smaps`: for start-up and tools.
    #[cfg(not(loom))]
    pub fn huge_bytes(&self) -> usize {
        mapping::huge_bytes(&self.memory.region)
    }

    /// The same memory seen as the part of it that `layout` describes.
    #[cfg(not(loom))]
    pub(crate) fn with_layout<P: Layout>(&self, layout: P) -> Segment<P> {
        Segment { memory: self.memory(), layout }
    }

    pub(crate) fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.memory)
    }
}
