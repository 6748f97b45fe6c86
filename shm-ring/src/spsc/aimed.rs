//! A peer that writes words which mean something, where they do harm: each is answered by a typed error or by a payload
//! inside the ring, in bounded work. (A tail is not among them: a consumer reads none.)

use super::cursor::Position;
use super::layout::{RELEASED, SpscLayout, WORDS_AT};
use super::word::{Header, Kind};
use super::{Consumer, Producer, pair_from};
use crate::error::{ClaimError, RecvError};
use crate::segment::Segment;
use crate::sync::Ordering;

const CAPACITY: usize = 256;

struct Site {
    segment: Segment<SpscLayout>,
    producer: Producer,
    consumer: Consumer,
}

impl Site {
    fn new() -> Self {
        let segment = Segment::heap(SpscLayout::new(CAPACITY).expect("a power of two"), 1);
        let (producer, consumer) = pair_from(&segment, 0);
        Self { segment, producer, consumer }
    }

    /// Publishes a header at a position, whatever it says, and clears the one behind the smallest frame.
    fn header(&self, at: u64, kind: Kind, len: u32) {
        let position = Position::from_word(at);
        self.poke(at + 16, 0);
        self.poke(at, Header { kind, len }.to_word(position));
    }

    fn poke(&self, at: u64, word: u64) {
        let at = self.segment.layout().frames_at() + at as usize % CAPACITY;
        self.segment.memory().region().word(at).store(word, Ordering::Relaxed);
    }

    /// What the next look answers: the length of a frame, or why there is none.
    fn recv(&mut self) -> Result<usize, RecvError> {
        let frame = self.consumer.try_recv()?;
        assert_eq!(frame.bytes().len(), frame.len());
        Ok(frame.len())
    }
}

/// A frame without a byte is one frame of work, however many there are.
#[test]
fn len_zero_flood() {
    let mut site = Site::new();
    for at in (0..1_000 * CAPACITY as u64).step_by(16) {
        site.header(at, Kind::Inline, 0);
        assert_eq!(site.consumer.drain(usize::MAX, |frame| assert!(frame.is_empty())), 1);
    }
}

#[test]
fn len_u32_max() {
    for (at, len) in [(0, u32::MAX), (0, u32::MAX - 15), (0, CAPACITY as u32), (240, 9), (128, 121)] {
        let mut site = Site::new();
        (0..at).step_by(16).for_each(|at| {
            site.header(at, Kind::Inline, 0);
            assert_eq!(site.recv(), Ok(0));
        });
        site.header(at, Kind::Inline, len);
        let answer = site.recv();
        assert!(matches!(answer, Err(RecvError::Corrupt { what: "frame header", .. })), "{len} at {at}: {answer:?}");
    }
}

/// Lengths need no alignment: each that ends inside the memory is a payload.
#[test]
fn len_not_aligned() {
    for len in [1, 7, 9, 100, 247, 248] {
        let mut site = Site::new();
        site.header(0, Kind::Inline, len);
        assert_eq!(site.recv(), Ok(len as usize));
    }
}

/// Padding comes once before a wrap: after it there is a frame or an error.
#[test]
fn pad_only_flood() {
    let mut site = Site::new();
    site.header(0, Kind::Pad, CAPACITY as u32 - 8);
    site.poke(0, Header { kind: Kind::Pad, len: CAPACITY as u32 - 8 }.to_word(Position::from_word(0)));
    let answer = site.recv();
    assert!(
        matches!(answer, Err(RecvError::Corrupt { what: "frame header" | "frame behind a wrap", .. })),
        "{answer:?}"
    );
    // Not up to the end of the memory.
    let mut site = Site::new();
    site.header(0, Kind::Pad, 8);
    assert!(matches!(site.recv(), Err(RecvError::Corrupt { what: "padding", .. })));
}

/// A consumer that says it has read what it has not: the producer writes over its own frames, and stops where the lie
/// leaves the ring.
#[test]
fn head_forward_lie() {
    let mut site = Site::new();
    while site.producer.try_send(&[1; 24]).is_ok() {}
    let released = |word: u64| site.segment.memory().region().word(WORDS_AT + RELEASED).store(word, Ordering::Relaxed);
    released(64);
    assert_eq!(site.producer.try_send(&[2; 24]), Ok(()), "there is room, it was said");
    for word in [64 + 8, 1 << 20, 1 << 63] {
        released(word);
        while let Ok(()) = site.producer.try_send(&[3; 24]) {}
        let refused = site.producer.try_send(&[3; 24]).unwrap_err();
        assert_eq!(refused, ClaimError::Corrupt { what: "released position", found: word });
    }
}
