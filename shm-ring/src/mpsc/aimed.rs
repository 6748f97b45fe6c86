//! A peer that writes words which mean something, where they do harm: each is answered by a typed error or by a payload
//! inside the ring, in bounded work.

use super::layout::{CELLS_AT, ENDS_AT, HEAD_AT, MpscLayout, TAIL_AT};
use super::position::{Cell, Kind, Position, Tail};
use super::ring::Ring;
use super::{Receiver, Sender, pair};
use crate::arena::{ArenaLayout, CLASSES, Class};
use crate::error::{ClaimError, RecvError};
use crate::segment::Segment;
use crate::sync::Ordering;

const CELLS: u32 = 8;

struct Site {
    segment: Segment<MpscLayout>,
    sender: Sender,
    receiver: Receiver,
}

impl Site {
    fn new() -> Self {
        let mut classes = [Class::default(); CLASSES];
        classes[0] = Class { block: 256, count: 2 };
        let arena = ArenaLayout::new(classes).expect("a legal class");
        let segment = Segment::heap(MpscLayout::new(CELLS).expect("a power of two").with_arena(arena), 1);
        let (sender, receiver) = pair(&segment).expect("nobody has attached");
        Self { segment, sender, receiver }
    }

    /// After `sent` frames, of which `received` were received.
    fn after(sent: usize, received: usize) -> Self {
        let mut site = Self::new();
        (0..sent).for_each(|_| site.sender.try_send(b"honest").expect("there is room"));
        assert_eq!(site.receiver.drain(received, |_frame| ()), received);
        site
    }

    fn poke(&self, at: usize, word: u64) {
        self.segment.memory().region().word(at).store(word, Ordering::Relaxed);
    }

    fn tail(&self, position: u64) {
        self.poke(TAIL_AT, Tail::at(Position::new(position)).word());
    }

    /// Writes the header of a cell, and the two words behind it.
    fn cell(&self, position: u64, word: u64, body: [u64; 2]) {
        let at = CELLS_AT + (position % u64::from(CELLS)) as usize * self.segment.layout().cell_bytes();
        [word, body[0], body[1]].into_iter().enumerate().for_each(|(i, word)| self.poke(at + i * 8, word));
    }

    /// Commits a frame of that kind and length in every cell, for one lap.
    fn fill(&self, lap: u64, kind: Kind, len: u16) {
        let first = lap * u64::from(CELLS);
        let lap = Ring::new(&self.segment).lap(Position::new(first));
        (first..first + u64::from(CELLS)).for_each(|at| self.cell(at, Cell::committed_word(lap, kind, len), [0; 2]));
        self.tail(first + u64::from(CELLS));
    }

    /// What the next look answers: the length of a frame, or why there is none.
    fn recv(&mut self) -> Result<usize, RecvError> {
        let frame = self.receiver.try_recv()?;
        assert_eq!(frame.bytes().len(), frame.len());
        Ok(frame.len())
    }
}

fn is_corrupt(answer: Result<usize, RecvError>, wrong: &str) -> bool {
    matches!(answer, Err(RecvError::Corrupt { what, .. }) if what == wrong)
}

#[test]
fn tail_random_u64() {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..1_000 {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut site = Site::after(5, 5);
        site.poke(TAIL_AT, word);
        let claimed = Tail::of(word).position().since(Position::new(5));
        let answer = site.recv();
        if (0..=i64::from(CELLS)).contains(&claimed) {
            assert!(matches!(answer, Err(RecvError::Empty | RecvError::Closed)), "{word:#x}: {answer:?}");
        } else {
            assert!(is_corrupt(answer, "tail"), "{word:#x}");
        }
        assert!(site.receiver.len() <= CELLS as usize && site.receiver.free() <= CELLS as usize);
    }
}

#[test]
fn tail_backwards() {
    let mut site = Site::after(3, 3);
    site.tail(2);
    assert!(is_corrupt(site.recv(), "tail"));
}

/// Producers that say they are gone, and that they never claimed what the consumer has received past a held claim.
#[test]
fn tail_behind_what_was_received() {
    let mut site = Site::new();
    std::mem::forget(site.sender.try_claim(5).expect("there is room"));
    site.sender.try_send(b"honest").expect("there is room");
    drop(site.receiver.try_recv().expect("it is found past the claim"));
    site.poke(ENDS_AT, u64::MAX);
    site.tail(0);
    let answer = site.recv();
    assert!(matches!(answer, Err(RecvError::Empty | RecvError::Closed)), "{answer:?}");
}

#[test]
fn tail_plus_cap_plus_16() {
    let mut site = Site::after(3, 3);
    site.tail(3 + u64::from(CELLS) + 16);
    assert!(is_corrupt(site.recv(), "tail"));
    // As far as it may be, it is a ring of claims that are not committed.
    site.tail(3 + u64::from(CELLS));
    assert_eq!(site.recv(), Err(RecvError::Empty));
}

/// A frame without a byte is one frame of work, however many there are.
#[test]
fn len_zero_flood() {
    let mut site = Site::new();
    for lap in 0..1_000 {
        site.fill(lap, Kind::Inline, 0);
        let lens = std::cell::Cell::new(0);
        assert_eq!(site.receiver.drain(3, |frame| lens.set(lens.get() + frame.len())), 3);
        assert_eq!(site.receiver.drain(usize::MAX, |frame| lens.set(lens.get() + frame.len())), CELLS as usize - 3);
        assert_eq!((lens.get(), site.recv()), (0, Err(RecvError::Empty)));
    }
}

#[test]
fn len_u32_max() {
    let mut site = Site::new();
    site.fill(0, Kind::Inline, u16::MAX);
    assert!(is_corrupt(site.recv(), "length"));
    // A payload in a block states its length in a word of its own.
    for len in [u64::from(u32::MAX), u64::MAX, 257] {
        let mut site = Site::new();
        site.fill(0, Kind::Block, 16);
        site.cell(0, Cell::committed_word(0, Kind::Block, 16), [1 << 32, len]);
        assert!(is_corrupt(site.recv(), "block length"), "{len}");
    }
}

/// Lengths need no alignment: each up to the cell's room is a payload, and the next is an error.
#[test]
fn len_not_aligned() {
    let limit = Site::new().segment.layout().inline_limit();
    for len in [1, 3, 7, 9, limit - 1, limit, limit + 1] {
        let mut site = Site::new();
        site.fill(0, Kind::Inline, len as u16);
        let answer = site.recv();
        assert!(if len > limit { is_corrupt(answer, "length") } else { answer == Ok(len) }, "{len}");
    }
}

/// Frames that were taken back are stepped over, a ring of them at most in one look.
#[test]
fn pad_only_flood() {
    let mut site = Site::new();
    for lap in 0..1_000 {
        site.fill(lap, Kind::Aborted, 0);
        assert_eq!(site.recv(), Err(RecvError::Empty));
        let head = site.segment.memory().region().word(HEAD_AT).load(Ordering::Relaxed);
        assert_eq!(head, (lap + 1) * u64::from(CELLS), "one look goes round once");
    }
    site.fill(1_000, Kind::Inline, 5);
    assert_eq!(site.recv(), Ok(5));
}

/// A consumer that says it has read what it has not: the producer writes over its own frames, and stops where the lie
/// leaves the ring.
#[test]
fn head_forward_lie() {
    let mut site = Site::after(CELLS as usize, 0);
    assert!(matches!(site.sender.try_send(b"more"), Err(ClaimError::Full { .. })));
    site.poke(HEAD_AT, u64::from(CELLS));
    (0..CELLS).for_each(|_| site.sender.try_send(b"over it").expect("there is room, it was said"));
    // The frames of the lap before are gone, and their cells are not taken for what they were.
    let answer = site.recv();
    assert!(answer.is_err(), "{answer:?}");
    for word in [2 * u64::from(CELLS) + 1, u64::from(CELLS) - 1, u64::MAX >> 1, u64::MAX] {
        site.poke(HEAD_AT, word);
        let refused = site.sender.try_send(b"never").unwrap_err();
        assert_eq!(refused, ClaimError::Corrupt { what: "head", found: word });
    }
}
