//! A segment opened for reading.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, SealFlags};
use rustix::io::Errno;

use super::figures::{ArenaStats, Figures, Report};
use super::lane::LaneStats;
use super::ready::ReadyStats;
use crate::arena::ArenaLayout;
use crate::error::Error;
use crate::lane::LaneLayout;
use crate::mpsc::{self, MpscLayout};
use crate::raw::View;
use crate::ready::ReadyLayout;
use crate::segment::{self, HEADER_BYTES, Head, Layout, NOTE_BYTES, Place};
use crate::spsc::{self, SpscLayout};
use crate::typed::{TYPED, TypeTag};

/// A segment of any kind, as a process sees it that has no part in it. Read-only: see the [module](super).
///
/// Keeps a mapping, and a descriptor unless the memory is sealed. Looking again costs no system call then.
#[derive(Debug)]
pub struct Onlooker {
    view: View,
    shape: Shape,
    epoch: u64,
    /// What a ring of messages carries.
    tag: Option<TypeTag>,
    /// Where the memory could be truncated: looked at before each look.
    unsealed: Option<OwnedFd>,
}

/// What is known of the segment from its header, which was checked.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Spsc(SpscLayout),
    Mpsc(MpscLayout),
    Ready(ReadyLayout),
    Lane(LaneLayout),
    Arena(ArenaLayout),
    Unknown(u64),
}

impl Shape {
    /// By the kind of a header, without what says that there is a tag; and the bytes that the layout comes to.
    fn of(kind: u64, params: &[u64; 8]) -> Result<(Self, Option<usize>), Error> {
        Ok(match kind {
            SpscLayout::KIND => {
                let layout = SpscLayout::for_onlooker(params)?;
                (Self::Spsc(layout), Some(layout.bytes()))
            }
            MpscLayout::KIND => {
                let layout = MpscLayout::for_onlooker(params)?;
                (Self::Mpsc(layout), Some(layout.bytes()))
            }
            ReadyLayout::KIND => {
                let layout = ReadyLayout::for_onlooker(params)?;
                (Self::Ready(layout), Some(layout.bytes()))
            }
            LaneLayout::KIND => {
                let layout = LaneLayout::from_params(params)?;
                (Self::Lane(layout), Some(layout.bytes()))
            }
            ArenaLayout::KIND => {
                let layout = ArenaLayout::from_params(params)?;
                (Self::Arena(layout), Some(layout.bytes()))
            }
            kind => (Self::Unknown(kind), None),
        })
    }
}

impl Onlooker {
    /// Maps the segment in a file of any origin for reading; a descriptor that is open for reading is enough.
    ///
    /// # Errors
    /// [`Error::BadSegment`] names what is wrong with something that is no complete segment, [`Error::LayoutVersion`] a
    /// program of another version; a kind that this crate does not know is no error.
    pub fn open(fd: BorrowedFd<'_>) -> Result<Self, Error> {
        let stat = segment::stat(fd)?;
        let there = segment::file_bytes(&stat)?;
        // Before the size, which says nothing where no segment is.
        if !segment::is_segment(fd)? {
            return Err(Error::BadSegment { what: "magic", found: 0, expected: 1 });
        }
        let bytes = segment::stated_bytes(fd)?;
        if !(HEADER_BYTES as u64..=there as u64).contains(&bytes) {
            return Err(Error::BadSegment { what: "size", found: bytes, expected: there as u64 });
        }
        // A hole would be filled by looking at it.
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        if allocated < bytes {
            return Err(Error::BadSegment { what: "allocated size", found: allocated, expected: bytes });
        }
        let bytes = bytes as usize;
        let exhausted = |source| Error::ResourceExhausted { what: "mapping", bytes, source };
        let view = View::map(fd, bytes).map_err(exhausted)?;
        let head = Head::read(|at| view.value(at))?;
        head.check(bytes)?;
        let is_sealed = rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        let keep = || {
            fd.try_clone_to_owned().map_err(|source| Error::ResourceExhausted {
                what: "descriptor of a segment",
                bytes: 0,
                source,
            })
        };
        let unsealed = if is_sealed { None } else { Some(keep()?) };
        Self::over(view, &head, unsealed)
    }

    fn over(view: View, head: &Head, unsealed: Option<OwnedFd>) -> Result<Self, Error> {
        let is_ring_with_tag = [SpscLayout::KIND ^ TYPED, MpscLayout::KIND ^ TYPED].contains(&head.kind);
        let kind = if is_ring_with_tag { head.kind ^ TYPED } else { head.kind };
        let (shape, layout_bytes) = Shape::of(kind, &head.params)?;
        let note_bytes = if is_ring_with_tag { NOTE_BYTES } else { 0 };
        if let Some(layout_bytes) = layout_bytes {
            let stated = layout_bytes.next_multiple_of(8) as u64 + note_bytes as u64;
            segment::expect("size by its parameters", view.len() as u64, stated)?;
        }
        let tag = is_ring_with_tag.then(|| read_tag(&view));
        Ok(Self { view, shape, epoch: head.epoch, tag, unsealed })
    }

    /// Maps the segment under a name or in a file for reading. It does not count as in use by that: its place can be
    /// given to another meanwhile, and this goes on showing the old one.
    ///
    /// # Errors
    /// [`Error::NoSegment`] if nothing stands there, [`Error::System`] for missing rights, and as [`open`](Self::open).
    pub fn at(place: &Place) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        match rustix::fs::open(place.path(), flags, Mode::empty()) {
            Ok(file) => Self::open(file.as_fd()),
            Err(Errno::NOENT) => Err(Error::NoSegment { place: place.to_string() }),
            Err(errno) => Err(Error::system("opening a segment for reading")(errno)),
        }
    }

    /// Bytes of the segment.
    pub fn bytes(&self) -> usize {
        self.view.len()
    }

    /// The number by which its maker tells it from its former lives; the segments of one queue have the same.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Looks at everything once. Some ten to thirty loads, 20 ns, and one more for each frame on its way in a ring of cells, or for
    /// each cell and slot of a call lane. A system call if the memory is not sealed.
    ///
    /// # Errors
    /// [`Error::BadSegment`] if the file was truncated since it was opened.
    pub fn look(&self) -> Result<Report, Error> {
        if let Some(file) = &self.unsealed {
            let there = segment::file_bytes(&segment::stat(file.as_fd())?)?;
            if there < self.view.len() {
                let (found, expected) = (there as u64, self.view.len() as u64);
                return Err(Error::BadSegment { what: "size of the file", found, expected });
            }
        }
        let value = |at| self.view.value(at);
        let figures = match &self.shape {
            Shape::Spsc(layout) => Figures::Spsc(spsc::Stats::read(layout, value)),
            Shape::Mpsc(layout) => Figures::Mpsc(mpsc::Stats::read(layout, value)),
            Shape::Ready(layout) => Figures::Ready(ReadyStats::read(layout, value)),
            Shape::Lane(layout) => Figures::Lane(LaneStats::read(layout, value)),
            Shape::Arena(layout) => Figures::Arena(ArenaStats::of(layout)),
            Shape::Unknown(kind) => Figures::Unknown { kind: *kind },
        };
        let (bytes, epoch, message) = (self.bytes(), self.epoch, self.tag.as_ref().map(TypeTag::to_string));
        Ok(Report { pids: Vec::new(), name: None, bytes, epoch, message, figures })
    }
}

/// The tag at the end of the segment.
fn read_tag(view: &View) -> TypeTag {
    let mut bytes = [0; TypeTag::BYTES];
    let first = view.len() - TypeTag::BYTES;
    for (i, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&view.value(first + i * 8).to_le_bytes());
    }
    TypeTag::from_bytes(&bytes)
}
