//! Archives: how a type that derives rkyv's traits is written into a frame and read there.
#![allow(unsafe_code)] // One function reads the archives of trusted writers without validating them.

use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;

use rkyv::api::low::{LowSerializer, LowValidator};
use rkyv::api::{access_pos_unchecked, access_pos_with_context, serialize_using};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Failure, Source, Trace};
use rkyv::ser::allocator::ArenaHandle;
use rkyv::ser::{Positional, Serializer, Writer};
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::{Archive, Archived, Serialize};

use super::Malformed;
use super::ends::{FillFrame, append};
use super::receiver::COPIED_LEN;
use super::sender::{Scratch, SendError};
use super::tag::short_name;
use super::wire::{Prepared, Wire};
use crate::error::ClaimError;
use crate::trust::Trust;

/// Longest archive, in bytes: the offsets inside are signed and 32 bits wide.
pub const MAX_LEN: usize = i32::MAX as usize - PREFIX_MAX;

/// Most nested pointers of an archive that is read: a vector of vectors of texts has three.
///
/// Without it a recursive type would let the sender decide how deep our stack grows.
pub const MAX_DEPTH: usize = 128;

/// What decides how archived bytes are laid out, beside the type itself. What follows does not compile if this build
/// has other features of rkyv.
const FORMAT: &str = "rkyv 0.8 archive, little-endian, 32-bit offsets, aligned";
const _: () = assert!(size_of::<Archived<usize>>() == 4 && align_of::<Archived<u64>>() == 8);
const _: fn(Archived<u64>) -> rkyv::rend::u64_le = |little_endian| little_endian;

/// Every archive starts at a multiple of it, in bytes.
const ALIGN: usize = 16;
/// Bytes of the header in front of an archive.
const HEADER_LEN: usize = 8;
/// The header and what may be skipped behind it, in bytes.
const PREFIX_MAX: usize = 16;

/// A single text or vector of so many bytes is not copied twice: from it on a message is counted first.
const BULK_LEN: usize = 2048;

/// What is known of an archive before it has a frame.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Position of the root.
    root: usize,
    /// Bytes of the archive.
    len: usize,
    /// Whether all of it stands in the scratch; else it is written again.
    in_scratch: bool,
}

/// The serializer that a message type must support: a sink, scratch space, and no shared pointers.
pub type MessageSerializer<'s, 'a> = LowSerializer<&'s mut Sink<'a>, ArenaHandle<'s>, SendError>;

impl<T> Wire for T
where
    T: Archive<Archived: for<'a> CheckBytes<LowValidator<'a, Failure>>>
        + for<'s, 'a> Serialize<MessageSerializer<'s, 'a>>,
{
    type View = T::Archived;
    type Measure = Measure;

    /// Writes into the scratch, from where it is copied into the ring; a message that is too long for the scratch is only
    /// counted from there on, to be written straight into the claim. Counting skips over texts and numbers without
    /// touching them, so that costs little where a message is long because of those.
    #[inline]
    fn prepare<'a>(&'a self, scratch: &'a mut Scratch) -> Result<Prepared<'a, Measure>, SendError> {
        const { assert!(align_of::<T::Archived>() <= ALIGN, "an archive is aligned to 16 bytes at most") };
        let Scratch { arena, start } = scratch;
        let (header, room) = start.split_at_mut(HEADER_LEN);
        let mut sink = Sink { place: Place::Start(room), len: 0 };
        let root = write(self, &mut sink, arena.acquire())?;
        let (len, in_scratch) = (sink.len, matches!(sink.place, Place::Start(_)));
        if in_scratch && HEADER_LEN + len <= COPIED_LEN {
            header.copy_from_slice(&header_of(HEADER_LEN, root));
            return Ok(Prepared::Payload(&start[..HEADER_LEN + len]));
        }
        Ok(Prepared::Measured(PREFIX_MAX + len, Measure { root, len, in_scratch }))
    }

    /// It will be read in place, so it has to be aligned there.
    fn fill<C: FillFrame>(&self, scratch: &mut Scratch, measure: Measure, mut claim: C) -> Result<(), SendError> {
        let Measure { root, len, in_scratch } = measure;
        let is_aligned = (claim.skew() + HEADER_LEN).is_multiple_of(ALIGN);
        let skip = if is_aligned { HEADER_LEN } else { PREFIX_MAX };
        append(&mut claim, &header_of(skip, root))?;
        append(&mut claim, &[0; PREFIX_MAX][HEADER_LEN..skip])?;
        if in_scratch {
            append(&mut claim, &scratch.start[HEADER_LEN..][..len])?;
        } else {
            let mut sink = Sink { place: Place::Frame(&mut claim), len: 0 };
            let again = (write(self, &mut sink, scratch.arena.acquire())?, sink.len);
            if again != (root, len) {
                return Err(SendError::Changed { measured: claim.len() });
            }
        }
        claim.commit();
        Ok(())
    }

    #[inline]
    fn read(payload: &[u8], trust: Trust) -> Result<&T::Archived, Malformed> {
        let header = payload.first_chunk().map_or(0, |header| u64::from_le_bytes(*header));
        let (root, skip) = (header as u32 as usize, (header >> 32) as usize);
        let archive = payload.get(skip..).filter(|_| skip == HEADER_LEN || skip == PREFIX_MAX);
        let archive = archive.ok_or(Malformed::Header { found: header })?;
        if trust.is_trusted() {
            return read_trusted::<T>(archive, root).ok_or(Malformed::Header { found: header });
        }
        // One for the root, and rkyv's count must not come down to zero.
        let validator = ArchiveValidator::with_max_depth(archive, NonZeroUsize::new(MAX_DEPTH + 2));
        access_pos_with_context::<T::Archived, _, Failure>(archive, root, &mut Validator::new(validator, ()))
            .map_err(|Failure| Malformed::Archive)
    }

    fn describe() -> String {
        let (name, size, align) = (short_name(type_name::<T>()), size_of::<T::Archived>(), align_of::<T::Archived>());
        format!("`{name}` ({FORMAT}, root of {size} bytes aligned to {align})")
    }
}

/// The root of an archive whose writer is trusted, if there can be one at that position.
#[inline]
fn read_trusted<T: Archive>(archive: &[u8], root: usize) -> Option<&T::Archived> {
    let room = archive.len().checked_sub(root)?;
    let is_aligned = archive.as_ptr().addr().wrapping_add(root).is_multiple_of(align_of::<T::Archived>());
    if room < size_of::<T::Archived>() || !is_aligned {
        return None;
    }
    // SAFETY: whoever made the mode has promised that its peers write only valid archives of the type that is read, into
    // frames that they do not change afterwards; the root lies inside the payload and is aligned, as was just seen.
    Some(unsafe { access_pos_unchecked::<T::Archived>(archive, root) })
}

/// Serialises a value; gives the position of its root.
#[inline]
fn write<T>(value: &T, sink: &mut Sink<'_>, arena: ArenaHandle<'_>) -> Result<usize, SendError>
where
    T: for<'s, 'a> Serialize<MessageSerializer<'s, 'a>>,
{
    serialize_using::<_, SendError>(value, &mut Serializer::new(sink, arena, ()))
}

fn header_of(skip: usize, root: usize) -> [u8; HEADER_LEN] {
    // Positions are below `MAX_LEN`, so the root fits the lower half.
    ((skip as u64) << 32 | root as u64).to_le_bytes()
}

/// Where an archive's bytes go.
#[derive(Debug)]
pub struct Sink<'a> {
    place: Place<'a>,
    /// Bytes taken so far; at most [`MAX_LEN`].
    len: usize,
}

enum Place<'a> {
    /// Room for the start of an archive; turns into `Count` when that is full.
    Start(&'a mut [u8]),
    Count,
    Frame(&'a mut dyn FillFrame),
}

impl fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start(_) => "Start",
            Self::Count => "Count",
            Self::Frame(_) => "Frame",
        })
    }
}

impl Positional for Sink<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.len
    }
}

impl Writer<SendError> for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        // Most padding is empty, and copying nothing would cost a call.
        if bytes.is_empty() {
            return Ok(());
        }
        if let Place::Start(start) = &mut self.place
            && bytes.len() < BULK_LEN
            && let Some(room) = start.get_mut(self.len..self.len + bytes.len())
        {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
            return Ok(());
        }
        self.write_behind_start(bytes)
    }
}

impl Sink<'_> {
    #[cold]
    fn write_behind_start(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        // rkyv panics on offsets of more than 31 bits, so a longer archive must end here.
        let end = self.len.saturating_add(bytes.len());
        if end > MAX_LEN {
            return Err(ClaimError::TooLarge { len: end, limit: MAX_LEN }.into());
        }
        match &mut self.place {
            Place::Start(_) => self.place = Place::Count,
            Place::Count => {}
            Place::Frame(claim) => append(*claim, bytes)?,
        }
        self.len = end;
        Ok(())
    }
}

impl Trace for SendError {
    fn trace<R>(self, _: R) -> Self
    where
        R: fmt::Debug + fmt::Display + Send + Sync + 'static,
    {
        self
    }
}

impl Source for SendError {
    #[cold]
    fn new<T: Error + Send + Sync + 'static>(source: T) -> Self {
        Self::Refused(source.to_string().into())
    }
}
