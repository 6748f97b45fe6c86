//! Messages of the one-way rows: written anew each time, read whole, and checked.
//!
//! The first word of a message tells its sender, its number and whether it is the last of a chunk; the rest is a pattern.
//! The reader sums all words and compares the sum with what it must be, so every byte has been written and read; the
//! number must be the next of its sender, so nothing was lost, doubled or overtaken.

use crate::subject::Failure;

/// An odd constant that spreads consecutive numbers over all bits (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const LAST: u64 = 1 << 63;
const SENDER_SHIFT: u32 = 48;
/// Senders that one sink can tell apart.
pub const MOST_SENDERS: usize = 16;

/// A message of one size, as a plain value on a line of its own where it fills one.
pub trait Message: Copy + Send + Sync + 'static {
    /// Its size.
    const BYTES: usize;

    /// The pattern with a first word of 0.
    fn pattern() -> Self;

    /// All of it.
    fn bytes(&self) -> &[u8];

    /// Sets the first word.
    fn set_first(&mut self, word: u64);

    /// The first word and the sum of all words; `None` unless these are [`Self::BYTES`] bytes.
    fn first_and_sum(bytes: &[u8]) -> Option<(u64, u64)>;
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident, $bytes:literal, $align:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        #[repr(C, align($align))]
        pub struct $name([u8; $bytes]);

        impl Message for $name {
            const BYTES: usize = $bytes;

            fn pattern() -> Self {
                let mut bytes = [0; $bytes];
                for (number, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                    *word = SPREAD.wrapping_mul(number as u64).to_le_bytes();
                }
                Self(bytes)
            }

            #[inline]
            fn bytes(&self) -> &[u8] {
                &self.0
            }

            #[inline]
            fn set_first(&mut self, word: u64) {
                self.0[..8].copy_from_slice(&word.to_le_bytes());
            }

            #[inline]
            fn first_and_sum(bytes: &[u8]) -> Option<(u64, u64)> {
                let bytes: &[u8; $bytes] = bytes.try_into().ok()?;
                let words = bytes.as_chunks::<8>().0;
                let sum = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_le_bytes(*word)));
                Some((u64::from_le_bytes(words[0]), sum))
            }
        }
    )*};
}

messages! {
    /// 8 bytes: nothing but the first word.
    Bytes8, 8, 8;
    /// 64 bytes: as long as a line.
    Bytes64, 64, 64;
    /// 1 KiB.
    Bytes1K, 1024, 64;
    /// 64 KiB.
    Bytes64K, 65536, 64;
}

/// Makes the messages of one sender.
#[derive(Debug)]
pub struct Source<M> {
    message: Box<M>,
    sender: u64,
    next: u64,
}

impl<M: Message> Source<M> {
    /// Begins at number 0; `sender` is below [`MOST_SENDERS`].
    #[must_use]
    pub fn new(sender: usize) -> Self {
        Self { message: Box::new(M::pattern()), sender: (sender as u64) << SENDER_SHIFT, next: 0 }
    }

    /// The next message. `is_last` ends the chunk for this sender.
    #[inline]
    pub fn next(&mut self, is_last: bool) -> &M {
        self.message.set_first(self.next | self.sender | if is_last { LAST } else { 0 });
        self.next += 1;
        &self.message
    }
}

/// Checks the messages of up to [`MOST_SENDERS`] senders.
#[derive(Debug)]
pub struct Sink<M> {
    pattern_sum: u64,
    next: [u64; MOST_SENDERS],
    open: usize,
    wrong: Option<(u64, usize)>,
    _message: std::marker::PhantomData<M>,
}

impl<M: Message> Sink<M> {
    /// Expects number 0 of each sender first.
    #[must_use]
    pub fn new() -> Self {
        let pattern_sum = M::first_and_sum(M::pattern().bytes()).map_or(0, |(_, sum)| sum);
        Self { pattern_sum, next: [0; MOST_SENDERS], open: 0, wrong: None, _message: std::marker::PhantomData }
    }

    /// Begins a chunk to which so many senders contribute.
    pub fn open(&mut self, senders: usize) {
        self.open = senders;
    }

    /// Reads one message as it came.
    #[inline]
    pub fn read(&mut self, bytes: &[u8]) {
        let Some((first, sum)) = M::first_and_sum(bytes) else { return self.refuse(0, bytes.len()) };
        let expected = &mut self.next[(first >> SENDER_SHIFT) as usize % MOST_SENDERS];
        let is_next = first << (64 - SENDER_SHIFT) == *expected << (64 - SENDER_SHIFT);
        if !is_next || sum != self.pattern_sum.wrapping_add(first) {
            return self.refuse(first, bytes.len());
        }
        *expected += 1;
        if first & LAST != 0 {
            self.open -= 1;
        }
    }

    /// Whether every sender has ended the chunk, or something was wrong.
    #[inline]
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.open == 0
    }

    /// Ends the chunk.
    ///
    /// # Errors
    /// A message of it was not what was sent.
    pub fn finish(&self) -> Result<(), Failure> {
        match self.wrong {
            None => Ok(()),
            Some((first, len)) => {
                Err(format!("a message of {len} bytes came that begins with {first:#x}: wrong").into())
            }
        }
    }

    #[cold]
    fn refuse(&mut self, first: u64, len: usize) {
        self.wrong = Some((first, len));
        self.open = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk_of(messages: &[Bytes64]) -> Result<(), Failure> {
        let mut sink = Sink::<Bytes64>::new();
        sink.open(1);
        for message in messages {
            sink.read(message.bytes());
        }
        assert!(sink.is_done(), "the last message is marked");
        sink.finish()
    }

    fn three_messages() -> [Bytes64; 3] {
        let mut source = Source::new(3);
        [false, false, true].map(|is_last| *source.next(is_last))
    }

    #[test]
    fn a_chunk_as_sent_is_accepted() {
        chunk_of(&three_messages()).expect("nothing is wrong");
    }

    #[test]
    fn a_lost_message_is_noticed() {
        let [first, _, third] = three_messages();
        assert!(chunk_of(&[first, third]).is_err());
    }

    #[test]
    fn one_flipped_bit_is_noticed() {
        let [first, second, mut third] = three_messages();
        third.0[63] ^= 1;
        assert!(chunk_of(&[first, second, third]).is_err());
    }

    #[test]
    fn a_message_of_another_length_is_noticed() {
        let mut sink = Sink::<Bytes64>::new();
        sink.open(1);
        sink.read(&[0; 63]);
        assert!(sink.finish().is_err());
    }
}
