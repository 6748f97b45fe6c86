//! A peer that writes anything anywhere: the other side answers with an error or with bytes of the ring, and never
//! panics or looks outside.

use proptest::collection::vec;
use proptest::prelude::*;

use super::cursor::Position;
use super::layout::{HEAD, PRODUCER_ROLE, RELEASED, SpscLayout, WORDS_AT};
use super::pair_from;
use super::word::{Header, Kind};
use crate::arena::{ArenaLayout, CLASSES, Class};
use crate::error::{ClaimError, RecvError};
use crate::segment::{Layout, Segment};
use crate::sync::Ordering;

const CAPACITY: usize = 128;

fn layout() -> SpscLayout {
    let mut classes = [Class::default(); CLASSES];
    classes[0] = Class { block: 256, count: 2 };
    let arena = ArenaLayout::new(classes).expect("a legal class");
    SpscLayout::new(CAPACITY).expect("a power of two").with_arena(arena)
}

#[derive(Debug, Clone)]
enum Op {
    Send(usize),
    Batch(Vec<usize>),
    Recv,
    /// Writes a word somewhere behind the segment's header.
    Poke {
        word: usize,
        value: u64,
    },
}

/// Words that mean something where they are put, and words that do not.
fn value() -> impl Strategy<Value = u64> {
    let header = (0..30_u64, 0..4_u64, prop_oneof![0..300_u64, Just(u64::from(u32::MAX))])
        .prop_map(|(units, kind, len)| units << 36 | kind << 32 | len);
    prop_oneof![header, (0..40_u64).prop_map(|units| units * 16), Just(u64::MAX), any::<u64>()]
}

fn op() -> impl Strategy<Value = Op> {
    // Not the signals: whoever writes those makes the other side sleep or wake, which is its right. Not the roles.
    let words = (PRODUCER_ROLE + 2 * 8) / 8..layout().bytes() / 8 - WORDS_AT / 8;
    prop_oneof![
        3 => (0..300_usize).prop_map(Op::Send),
        1 => vec(0..60_usize, 0..5).prop_map(Op::Batch),
        3 => Just(Op::Recv),
        3 => (words, value()).prop_map(|(word, value)| Op::Poke { word, value }),
    ]
}

proptest! {
    #[test]
    fn whatever_is_written_is_an_error_or_a_payload_of_the_ring(ops in vec(op(), 1..100)) {
        let segment = Segment::heap(layout(), 1);
        let (mut producer, mut consumer) = pair_from(&segment, 0);
        for op in ops {
            match op {
                // Any answer is right.
                Op::Send(len) => _ = producer.try_send(&vec![1; len]),
                Op::Batch(lens) => {
                    let mut batch = producer.batch();
                    lens.iter().for_each(|len| _ = batch.try_send(&vec![2; *len]));
                    batch.commit();
                }
                Op::Recv => match consumer.try_recv() {
                    Ok(frame) => prop_assert!(frame.bytes().len() <= 256 && frame.bytes().len() == frame.len()),
                    Err(error) => prop_assert!(error != RecvError::TimedOut),
                },
                Op::Poke { word, value } => {
                    segment.memory().region().word(WORDS_AT + word * 8).store(value, Ordering::Relaxed);
                }
            }
            let stats = consumer.control().stats();
            prop_assert!(stats.used <= CAPACITY && stats.free <= CAPACITY && stats.frames <= CAPACITY as u64);
        }
    }
}

#[test]
fn impossible_positions_of_the_consumer_are_named_and_end_nothing_else() {
    // Between two frames, ahead of the tail, far behind it.
    for word in [8, 1 << 20, u64::wrapping_neg(1 << 20)] {
        for (at, what) in [(RELEASED, "released position"), (HEAD, "head position")] {
            let segment = Segment::heap(layout(), 1);
            let (mut producer, _consumer) = pair_from(&segment, 0);
            (0..7).for_each(|_| producer.try_send(&[0; 8]).expect("room"));
            segment.memory().region().word(WORDS_AT + at).store(word, Ordering::Relaxed);
            assert_eq!(producer.try_send(&[0; 8]), Err(ClaimError::Corrupt { what, found: word }));
        }
    }
}

#[test]
fn impossible_headers_are_named_with_their_position() {
    let pad = |len| Header { kind: Kind::Pad, len }.to_word(Position::from_word(0));
    let block = |len| Header { kind: Kind::Block, len }.to_word(Position::from_word(0));
    for (word, what) in [
        (u64::MAX, "frame header"),
        (1 << 36 | 1 << 32, "frame header"),         // of another position
        (1 << 32 | CAPACITY as u64, "frame header"), // over the end
        (pad(8), "padding"),                         // not up to the end
        (block(8), "arena block"),
        (block(16), "arena block"),
    ] {
        let segment = Segment::heap(layout(), 1);
        let (_producer, mut consumer) = pair_from(&segment, 0);
        let frames = segment.layout().frames_at();
        let at = |word: usize| frames + word * 8;
        segment.memory().region().word(at(0)).store(word, Ordering::Relaxed);
        segment.memory().region().word(at(1)).store(u64::MAX, Ordering::Relaxed);
        let refused = consumer.try_recv().map(|frame| frame.len());
        let found = if what == "arena block" { u64::MAX } else { word };
        let is_named = |at| refused == Err(RecvError::Corrupt { what, found, at });
        // A block is named with the position of its name.
        assert!(is_named(if what == "arena block" { 8 } else { 0 }), "{word:#x}: {refused:?}");
    }
}
