//! A private copy of one payload at a time: what an isolated consumer looks at instead of shared memory.

use rkyv::util::AlignedVec;

/// Archives are aligned to so many bytes, counted from a payload's place in shared memory.
const ALIGN: usize = 16;

/// The copy. Keeps its memory, which grows to the largest payload that came, so that no frame costs an allocation.
#[derive(Debug, Default)]
pub(crate) struct Private {
    bytes: AlignedVec<ALIGN>,
    /// Where the payload is in `bytes`.
    at: usize,
    len: usize,
}

impl Private {
    /// Room for a payload of `len` bytes, `skew` behind a multiple of 16 as in shared memory: its writer has aligned what
    /// is in it for that. To be filled; what was there is forgotten.
    pub(crate) fn room(&mut self, len: usize, skew: usize) -> &mut [u8] {
        if self.bytes.len() < skew + len {
            self.bytes.resize(skew + len, 0);
        }
        (self.at, self.len) = (skew, len);
        &mut self.bytes[skew..skew + len]
    }

    /// The payload.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.at..self.at + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_keeps_its_skew_whatever_came_before_it() {
        let mut copy = Private::default();
        for (len, skew) in [(5, 8), (4000, 0), (0, 8), (17, 8)] {
            copy.room(len, skew).fill(len as u8);
            let bytes = copy.bytes();
            assert_eq!((bytes.len(), bytes.as_ptr().addr() % ALIGN), (len, skew));
            assert!(bytes.iter().all(|byte| *byte == len as u8));
        }
    }
}
