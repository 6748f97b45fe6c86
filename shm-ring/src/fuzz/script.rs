//! Input bytes read as a series of choices. Behind the end every choice is zero.

use crate::raw::Region;
use crate::sync::Ordering;

/// What is left of an input.
#[derive(Debug)]
pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn number<const BYTES: usize>(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let (number, rest) = self.0.split_at(BYTES.min(self.0.len()));
        bytes[..number.len()].copy_from_slice(number);
        self.0 = rest;
        u64::from_le_bytes(bytes)
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.number::<1>() as u8
    }

    pub(super) fn bit(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// A number from 0 up to, and without, `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.number::<2>() as usize % end.max(1)
    }

    pub(super) fn word(&mut self) -> u64 {
        self.number::<8>()
    }

    /// One of a few.
    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// Up to so many bytes of the input.
    pub(super) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Writes a word of a region as a hostile peer would, somewhere in a range of bytes: a number of the input's, or
    /// the word that stands there with a little changed, which gets past checks that no random number passes.
    pub(super) fn poke(&mut self, region: &Region, range: std::ops::Range<usize>) {
        let words = (range.end - range.start) / 8;
        if words == 0 {
            return;
        }
        let at = range.start + self.below(words) * 8;
        let word = region.word(at);
        let stands = word.load(Ordering::Relaxed);
        let value = match self.byte() % 8 {
            0 | 1 => self.word(),
            2 => stands.wrapping_add(self.byte().into()),
            3 => stands.wrapping_sub(self.byte().into()),
            4 => stands ^ 1 << (self.byte() % 64),
            5 => stands.wrapping_add(u64::from(self.byte()) << 32),
            6 => u64::from(self.byte()),
            _ => u64::from(self.byte()).wrapping_neg(),
        };
        word.store(value, Ordering::Relaxed);
    }
}
