//! The header of a segment: written last by whoever makes it, read and checked once by whoever opens it.
//!
//! Eight-byte words, little-endian:
//!
//! | byte | word |
//! |---|---|
//! | 0 | magic (upper half) and layout version (lower half); written last, so a half-made segment is refused |
//! | 8 | kind |
//! | 16 | bytes in all |
//! | 24 | hash over kind, size and parameters |
//! | 32 | epoch |
//! | 40..104 | eight parameters of the kind |
//! | 104, 112 | who writes payloads here, who reads them: taken once each, by exchange; not used by the rings, which have such words of their own |

#[cfg(not(loom))]
use std::os::fd::BorrowedFd;

#[cfg(not(loom))]
use super::NOTE_BYTES;
use super::{HEADER_BYTES, LAYOUT_VERSION, Layout};
#[cfg(not(loom))]
use crate::error::Error;
use crate::peer::PeerWord;
use crate::raw::Region;
use crate::sync::Ordering;

pub(super) const MAGIC: u64 = 0x5357_4244_0000_0000; // "SWBD" in the upper half
const PARAMS: usize = 8;
pub(super) const MAGIC_AT: usize = 0;
pub(super) const KIND_AT: usize = 8;
pub(super) const SIZE_AT: usize = 16;
pub(super) const HASH_AT: usize = 24;
const EPOCH_AT: usize = 32;
const PARAMS_AT: usize = 40;
const PRODUCER_AT: usize = 104;
const CONSUMER_AT: usize = 112;
const _: () = assert!(PARAMS_AT + PARAMS * 8 <= HEADER_BYTES);
// docs/layout.md, byte for byte.
const _: () = assert!(EPOCH_AT == 32 && PARAMS_AT == 40 && PARAMS_AT + PARAMS * 8 == 104 && HEADER_BYTES == 128);

/// A side of a segment whose kind has no words of its own for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Producer,
    Consumer,
}

/// Takes a role, once for the life of the segment; on failure tells the process that has it.
pub(super) fn take_role(region: &Region, role: Role) -> Result<(), u32> {
    /// Marks a word as taken, whatever the process's number; the number is the low half.
    const TAKEN: u64 = 1 << 32;
    let at = match role {
        Role::Producer => PRODUCER_AT,
        Role::Consumer => CONSUMER_AT,
    };
    let ours = TAKEN | u64::from(std::process::id());
    // ORDERING: Relaxed: the exchange decides who has the role; nothing is published by it.
    let taken = PeerWord::at(region, at).compare_exchange(0, ours, Ordering::Relaxed, Ordering::Relaxed);
    taken.map_err(|found| found.decode(|word| word as u32))
}

fn hash<L: Layout>(layout: &L) -> u64 {
    hash_of(L::KIND, layout.bytes(), &layout.params())
}

pub(crate) fn hash_of(kind: u64, bytes: usize, params: &[u64; PARAMS]) -> u64 {
    // FNV-1a (Fowler, Noll, Vo): a check against mistakes, not against forgers.
    let words = [LAYOUT_VERSION.into(), kind, bytes as u64];
    words
        .into_iter()
        .chain(*params)
        .flat_map(u64::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(super) fn write<L: Layout>(region: &Region, layout: &L, epoch: u64) {
    let put = |at: usize, value: u64, order| PeerWord::at(region, at).store(value, order);
    put(KIND_AT, L::KIND, Ordering::Relaxed);
    put(SIZE_AT, layout.bytes() as u64, Ordering::Relaxed);
    put(HASH_AT, hash(layout), Ordering::Relaxed);
    put(EPOCH_AT, epoch, Ordering::Relaxed);
    for (i, param) in layout.params().into_iter().enumerate() {
        put(PARAMS_AT + i * 8, param, Ordering::Relaxed);
    }
    // ORDERING: Release, pairs with the Acquire load in `read`: whoever sees the magic sees the whole header.
    // Weakened, an opener could refuse a good segment.
    put(MAGIC_AT, MAGIC | u64::from(LAYOUT_VERSION), Ordering::Release);
}

/// Whether a file begins with a segment of any version: what is not ours is never replaced or removed.
#[cfg(not(loom))]
pub(crate) fn is_in(fd: BorrowedFd<'_>) -> Result<bool, Error> {
    Ok(word_in(fd, MAGIC_AT)? >> 32 == MAGIC >> 32)
}

/// Refuses a file that begins with no segment, or with one of another version: before it is mapped.
#[cfg(not(loom))]
pub(super) fn check_version_in(fd: BorrowedFd<'_>) -> Result<(), Error> {
    check_version(word_in(fd, MAGIC_AT)?)
}

#[cfg(not(loom))]
fn check_version(magic: u64) -> Result<(), Error> {
    expect("magic", magic >> 32, MAGIC >> 32)?;
    match magic as u32 {
        LAYOUT_VERSION => Ok(()),
        theirs => Err(Error::LayoutVersion { ours: LAYOUT_VERSION, theirs }),
    }
}

/// The size that a segment in a file states for itself; not checked against anything.
#[cfg(not(loom))]
pub(crate) fn stated_bytes(fd: BorrowedFd<'_>) -> Result<u64, Error> {
    word_in(fd, SIZE_AT)
}

/// A word of a file that is not mapped yet; zero behind its end.
#[cfg(not(loom))]
fn word_in(fd: BorrowedFd<'_>, at: usize) -> Result<u64, Error> {
    let mut bytes = [0; 8];
    rustix::io::pread(fd, &mut bytes, at as u64).map_err(Error::system("reading the header of a segment"))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(not(loom))]
pub(crate) fn expect(what: &'static str, found: u64, expected: u64) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::BadSegment { what, found, expected }) }
}

/// Reads the header of a region word by word.
#[cfg(not(loom))]
pub(super) fn read<L: Layout>(region: &Region) -> Result<(L, u64), Error> {
    // ORDERING: Acquire, pairs with the Release store of the magic in `write`, which is the first word to be read.
    let head = Head::read(|at| PeerWord::at(region, at).load(Ordering::Acquire).decode(|word| word))?;
    expect("kind", head.kind, L::KIND)?;
    expect("size", head.bytes, region.len() as u64)?;
    let layout = L::from_params(&head.params)?;
    expect("size by its parameters", region.len() as u64, layout.bytes() as u64)?;
    expect("layout hash", head.hash, hash(&layout))?;
    Ok((layout, head.epoch))
}

/// A header of this version: words that nobody has checked but for the magic.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: u64,
    pub(crate) bytes: u64,
    hash: u64,
    pub(crate) epoch: u64,
    pub(crate) params: [u64; PARAMS],
}

#[cfg(not(loom))]
impl Head {
    /// Reads each word once, by a load that is at least Acquire.
    pub(crate) fn read(get: impl Fn(usize) -> u64) -> Result<Self, Error> {
        check_version(get(MAGIC_AT))?;
        Ok(Self {
            kind: get(KIND_AT),
            bytes: get(SIZE_AT),
            hash: get(HASH_AT),
            epoch: get(EPOCH_AT),
            params: std::array::from_fn(|i| get(PARAMS_AT + i * 8)),
        })
    }

    /// Whether it is the header that the maker of a segment of so many bytes wrote, of whatever kind.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), Error> {
        expect("size", self.bytes, bytes as u64)?;
        expect("layout hash", self.hash, hash_of(self.kind, bytes, &self.params))
    }
}

/// The note of a segment whose kind has one, copied out. It stands at the end, complete since before the magic.
#[cfg(not(loom))]
pub(super) fn read_note(region: &Region) -> [u8; NOTE_BYTES] {
    let mut words = [0; NOTE_BYTES / 8];
    region.load_words(region.len() - NOTE_BYTES, &mut words);
    let mut note = [0; NOTE_BYTES];
    for (bytes, word) in note.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    note
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_taken_once_by_a_word_that_names_its_process() {
        let region = Region::heap(HEADER_BYTES);
        for (role, at) in [(Role::Producer, 104), (Role::Consumer, 112)] {
            assert_eq!(take_role(&region, role), Ok(()));
            assert_eq!(take_role(&region, role), Err(std::process::id()));
            let word = PeerWord::at(&region, at).load(Ordering::Relaxed).decode(|word| word);
            assert_eq!(word, 1 << 32 | u64::from(std::process::id()));
        }
    }
}
