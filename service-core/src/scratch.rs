//! Scratch memory for serialising nested collections, kept per thread.
//!
//! rkyv needs a few bytes per element of a nested collection while it writes that collection, and
//! none for flat messages. A thread therefore starts without scratch, makes some when a message
//! first needs it, and keeps it: flat messages never allocate, others not once the thread is warm.

use std::cell::Cell;
use std::mem::MaybeUninit;

use crate::message::{EncodeError, Sink};

/// First scratch of a thread that needs any, in bytes.
const START_LEN: usize = 4 << 10;
/// Largest scratch that a thread keeps behind a written message, in bytes.
const KEPT_LEN: usize = 1 << 20;
/// Largest scratch that a message gets, in bytes: enough for tens of millions of elements.
const MAX_LEN: usize = 256 << 20;

thread_local! {
    /// Whether this thread has met a message that needs scratch. Apart from the scratch, because a plain
    /// flag costs a flat message nothing, taking and putting back the scratch a few nanoseconds.
    static IN_USE: Cell<bool> = const { Cell::new(false) };
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `write` with this thread's scratch, and again with more until it is enough.
///
/// rkyv reports a scratch that is too short in the same way as a value that its type refuses, so a
/// refused value is tried up to the largest scratch: slow, but only where a call fails anyway.
#[inline]
pub(crate) fn with_scratch(
    sink: &mut Sink<'_>,
    write: impl Fn(&mut Sink<'_>, &mut [MaybeUninit<u8>]) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = sink.len();
    if !IN_USE.get() {
        let result = write(sink, &mut []);
        if !matches!(result, Err(EncodeError::Refused(_))) || !sink.rewind(start) {
            return result;
        }
        IN_USE.set(true);
    }
    with_kept_scratch(sink, start, write)
}

#[inline(never)]
fn with_kept_scratch(
    sink: &mut Sink<'_>,
    start: usize,
    write: impl Fn(&mut Sink<'_>, &mut [MaybeUninit<u8>]) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    // While a thread ends its scratch may be gone already; then each message makes its own.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    let result = loop {
        let result = write(sink, scratch.spare_capacity_mut());
        let len = scratch.capacity();
        let enough = !matches!(result, Err(EncodeError::Refused(_))) || len >= MAX_LEN;
        if enough || !sink.rewind(start) {
            break result;
        }
        scratch = Vec::with_capacity((len * 2).max(START_LEN));
    };
    // A message that was only measured is written next: a block cannot be begun again with more
    // scratch, so the writing must find what the measuring needed.
    let is_written_next = sink.is_counting() && result.is_ok();
    if scratch.capacity() <= KEPT_LEN || is_written_next {
        // Fails only while the thread ends, when there is nothing to keep the scratch for.
        let _ = SCRATCH.try_with(|kept| kept.set(scratch));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{BlockWriter, Encode, SinkFull, encode_block};
    use crate::typed::Message;

    struct Block(Vec<u8>);

    impl BlockWriter for Block {
        fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }

    /// Runs a test's body on a thread that has no scratch yet.
    fn on_a_new_thread(body: impl FnOnce() + Send) {
        std::thread::scope(|scope| scope.spawn(body).join().unwrap());
    }

    fn kept_len() -> usize {
        SCRATCH.with(|kept| {
            let scratch = kept.take();
            let len = scratch.capacity();
            kept.set(scratch);
            len
        })
    }

    #[test]
    fn flat_messages_need_no_scratch() {
        on_a_new_thread(|| {
            let floats = vec![1.5_f32; 100_000];
            Message(&floats).encode(&mut Sink::count()).unwrap();
            Message(&[7_u64; 8]).encode(&mut Sink::count()).unwrap();
            assert_eq!(kept_len(), 0);
        });
    }

    #[test]
    fn scratch_of_a_measured_message_is_there_when_it_is_written() {
        on_a_new_thread(|| {
            let words: Vec<String> = (0..500_000).map(|n| n.to_string()).collect();
            let mut count = Sink::count();
            Message(&words).encode(&mut count).unwrap();
            assert!(kept_len() > KEPT_LEN, "the message is too small to test anything");

            let mut block = Block(Vec::new());
            encode_block(&Message(&words), &mut block).unwrap();

            assert_eq!(block.0.len(), count.len());
            assert_eq!(kept_len(), 0, "a large scratch is given back behind the message");
        });
    }
}
