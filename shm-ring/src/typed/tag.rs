//! What two programs must agree on before they exchange messages of a type, in 256 bytes.
//!
//! | byte | content |
//! |---|---|
//! | 0..8 | FNV-1a of the whole description, little-endian |
//! | 8..16 | bytes of the description that follow, little-endian; at most 240 |
//! | 16..256 | the description, UTF-8, cut at 240 bytes, zeros behind it |
//!
//! The description names the type without its module path, the format (rkyv version and settings, or plain data), size
//! and alignment of the root, and [`LAYOUT_VERSION`]. So it catches another type, another format, and a field that
//! changes the size. It does **not** look into fields: two that swap places, or change their meaning and keep the size,
//! leave it as it was, and what arrives is then a valid value of the wrong meaning. Give the type a new name when its
//! fields change. Names are as the compiler prints them, which could differ between compiler versions: a needless
//! refusal, never garbage.

use std::fmt;

use crate::error::Error;
use crate::segment::LAYOUT_VERSION;

use super::Message;

/// Bytes of the description that a tag has room for.
const TEXT_LEN: usize = TypeTag::BYTES - TEXT_AT;
const HASH_AT: usize = 0;
const LEN_AT: usize = 8;
const TEXT_AT: usize = 16;
const _: () = assert!(TEXT_AT + TEXT_LEN == TypeTag::BYTES && TEXT_LEN == 240);

/// The type that a ring carries, as its maker states it and its opener compares it.
#[derive(Clone, PartialEq, Eq)]
pub struct TypeTag {
    hash: u64,
    /// At most [`TEXT_LEN`] bytes.
    text: Box<str>,
}

impl TypeTag {
    /// Bytes of a tag in a segment or a handshake.
    pub const BYTES: usize = 256;

    /// The tag of a message type.
    pub fn of<T: Message + ?Sized>() -> Self {
        Self::new(&format!("{}, layout {LAYOUT_VERSION}", T::describe()))
    }

    fn new(description: &str) -> Self {
        // FNV-1a (Fowler, Noll, Vo): against mistakes, not against forgers.
        let hash = description
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let cut = (0..=TEXT_LEN).rev().find(|at| description.is_char_boundary(*at)).unwrap_or(0);
        let text = description.get(..cut).unwrap_or(description);
        Self { hash, text: text.into() }
    }

    /// The tag as it stands in a segment or a handshake.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[HASH_AT..LEN_AT].copy_from_slice(&self.hash.to_le_bytes());
        bytes[LEN_AT..TEXT_AT].copy_from_slice(&(self.text.len() as u64).to_le_bytes());
        bytes[TEXT_AT..TEXT_AT + self.text.len()].copy_from_slice(self.text.as_bytes());
        bytes
    }

    /// A tag that somebody else wrote: any bytes at all give one, with what cannot be shown replaced.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| {
            let (_, rest) = bytes.split_at(at);
            rest.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
        };
        let len = usize::try_from(word(LEN_AT)).unwrap_or(usize::MAX).min(TEXT_LEN);
        let text = String::from_utf8_lossy(&bytes[TEXT_AT..TEXT_AT + len]);
        Self { hash: word(HASH_AT), text: text.replace(char::is_control, "\u{fffd}").into() }
    }

    /// Compares this side's tag with the bytes of the other's, whatever they are.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] with both descriptions.
    pub fn check(&self, theirs: &[u8]) -> Result<(), Error> {
        let theirs = match theirs.try_into() {
            Ok(bytes) => Self::from_bytes(bytes),
            Err(_) => Self::new("of no stated type"),
        };
        if *self == theirs {
            return Ok(());
        }
        Err(Error::TypeMismatch { ours: self.to_string(), theirs: theirs.to_string() })
    }
}

impl fmt::Display for TypeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{:016x}", self.text, self.hash)
    }
}

impl fmt::Debug for TypeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypeTag({self})")
    }
}

/// A type's name without module paths: where a type lives is no part of what it means.
pub(super) fn short_name(full: &str) -> String {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    full.split_inclusive(|c| !is_path(c)).map(|part| part.rsplit("::").next().unwrap_or(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_modules_wherever_they_stand() {
        assert_eq!(short_name("alloc::vec::Vec<(u8, a::b_c::D)>"), "Vec<(u8, D)>");
        assert_eq!(short_name("[[f32; 4]]"), "[[f32; 4]]");
        assert_eq!(short_name("m::Pair<x::A, core::option::Option<y::B>>"), "Pair<A, Option<B>>");
    }

    #[test]
    fn a_tag_comes_back_from_its_bytes() {
        let tag = TypeTag::of::<Vec<(u32, String)>>();
        assert_eq!(TypeTag::from_bytes(&tag.to_bytes()), tag);
        assert!(tag.to_string().starts_with("`Vec<(u32, String)>` (rkyv"), "{tag}");
    }

    #[test]
    fn a_description_that_is_cut_still_counts_wholly() {
        let common = "é".repeat(150);
        let (a, b) = (TypeTag::new(&format!("{common}a")), TypeTag::new(&format!("{common}b")));
        assert_eq!(a.text, b.text);
        assert!(a.text.len() <= TEXT_LEN);
        assert!(matches!(a.check(&b.to_bytes()), Err(Error::TypeMismatch { .. })));
        assert_eq!(TypeTag::from_bytes(&a.to_bytes()), a);
    }

    #[test]
    fn bytes_that_nobody_would_write_give_a_tag_that_can_be_shown() {
        for bytes in [[0xff; TypeTag::BYTES], [0; TypeTag::BYTES], [b'\n'; TypeTag::BYTES]] {
            let Err(error) = TypeTag::of::<u32>().check(&bytes) else { panic!("{bytes:?} is a u32") };
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    }
}
