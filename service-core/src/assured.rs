//! Messages that are read without being validated, on somebody's word.
//!
//! This is the one place of the crate with `unsafe`: what it promises is about memory that only types with archives know,
//! and no transport knows those.
#![allow(unsafe_code)]

use rkyv::Archive;

/// The word of whoever set a transport up that what comes through it are messages of the expected types. A transport that
/// has none validates everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assurance(());

impl Assurance {
    /// Gives the word.
    ///
    /// # Safety
    /// Whatever bytes come with this were written by [`Encode`](crate::Encode) for a message of the very type that reads
    /// them, in a program built from the same sources with the same options, begin at a multiple of 16, and are not written
    /// by anybody as long as they are read.
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

/// Reads a message in place without a look at what it holds. `None` if there are fewer bytes than any such message has, or
/// they do not begin where it may.
pub(crate) fn assured<T: Archive>(bytes: &[u8], Assurance(()): Assurance) -> Option<&T::Archived> {
    let root = bytes.len().checked_sub(size_of::<T::Archived>())?;
    let is_aligned = bytes[root..].as_ptr().cast::<T::Archived>().is_aligned();
    // SAFETY: by the word of whoever made the assurance these bytes are an archive of a `T` that nobody writes meanwhile;
    // its root ends them, and was just seen to lie inside and to be aligned.
    is_aligned.then(|| unsafe { rkyv::access_unchecked::<T::Archived>(bytes) })
}

#[cfg(test)]
mod tests {
    use rkyv::util::AlignedVec;

    use super::*;
    use crate::message::{Encode, Sink};
    use crate::typed::Message;

    fn message() -> AlignedVec {
        let mut bytes = vec![0; 256];
        let mut sink = Sink::slice(&mut bytes);
        Message(&(7_u64, vec![1_u32, 2, 3])).encode(&mut sink).unwrap();
        let len = sink.len();
        let mut message = AlignedVec::new();
        message.extend_from_slice(&bytes[..len]);
        message
    }

    // SAFETY: `message` is what `Encode` made of the type that the tests read.
    const WORD: Assurance = unsafe { Assurance::new() };

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let message = message();
        let read = assured::<(u64, Vec<u32>)>(&message, WORD).unwrap();
        assert_eq!((read.0.to_native(), read.1.len(), read.1[2].to_native()), (7, 3, 3));
    }

    #[test]
    fn what_cannot_be_a_message_is_not_read_in_spite_of_the_word() {
        let message = message();
        for len in 0..size_of::<rkyv::Archived<(u64, Vec<u32>)>>() {
            assert!(assured::<(u64, Vec<u32>)>(&message[..len], WORD).is_none());
        }
        assert!(assured::<(u64, Vec<u32>)>(&message[..message.len() - 1], WORD).is_none(), "not aligned");
    }
}
