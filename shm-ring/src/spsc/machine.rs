//! The ring against a plain queue, one operation after the other: `histories.rs` and the fuzz targets say which.
//!
//! The queue knows nothing of headers: it computes where frames go from the rules on the module's page alone.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Claim, Consumer, Producer, SpscLayout, pair_from};
use crate::arena::{ArenaLayout, CLASSES, Class};
use crate::error::{ClaimError, RecvError};
use crate::segment::Segment;

/// Largest payload that goes through the arena, and how many at a time.
pub(crate) const BLOCK: usize = 1024;
const BLOCKS: usize = 2;

/// What is done to both.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    TrySend(usize),
    SendDeadline(usize),
    /// Claims so many bytes, writes so many percent of them in pieces, then commits or not.
    Claim {
        len: usize,
        percent: usize,
        commit: bool,
    },
    Batch {
        lens: Vec<usize>,
        commit: bool,
    },
    TryRecv,
    RecvDeadline,
    /// Receives a frame and sends while it is held.
    Hold(usize),
    Drain(usize),
}

struct Frame {
    payload: Vec<u8>,
    /// Where it ends.
    end: u64,
    is_inline: bool,
}

/// The ring as a plain queue.
struct Model {
    capacity: usize,
    tail: u64,
    head: u64,
    queue: VecDeque<Frame>,
    sent: u64,
}

impl Model {
    /// The payload of the next frame.
    fn payload(&self, len: usize) -> Vec<u8> {
        (0..len).map(|i| (self.sent as usize * 31 + i * 7) as u8).collect()
    }

    fn used(&self) -> usize {
        self.tail.wrapping_sub(self.head) as usize
    }

    fn is_inline(&self, len: usize) -> bool {
        len <= self.capacity / 2 - 8
    }

    /// Where a frame with so much payload ends, or why it does not go in.
    fn admit(&self, len: usize) -> Result<u64, ClaimError> {
        let limit = BLOCK.max(self.capacity / 2 - 8);
        if len > limit {
            return Err(ClaimError::TooLarge { len, limit });
        }
        let in_ring = if self.is_inline(len) { len } else { 16 };
        let bytes = (8 + in_ring).div_ceil(16) * 16;
        let to_end = self.capacity - self.tail as usize % self.capacity;
        let needed = if bytes <= to_end { bytes } else { to_end + bytes };
        let free = self.capacity - 16 - self.used();
        if needed > free {
            return Err(ClaimError::Full { needed, free });
        }
        let lent = self.queue.iter().filter(|frame| !frame.is_inline).count();
        if !self.is_inline(len) && lent == BLOCKS {
            return Err(ClaimError::Full { needed: len, free: 0 });
        }
        Ok(self.tail.wrapping_add(needed as u64))
    }

    /// Takes in a frame that was claimed for `len` bytes.
    fn push(&mut self, len: usize, payload: Vec<u8>, end: u64) {
        self.queue.push_back(Frame { payload, end, is_inline: self.is_inline(len) });
        self.tail = end;
        self.sent += 1;
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let frame = self.queue.pop_front()?;
        self.head = frame.end;
        Some(frame.payload)
    }

    /// What a frame of `len` bytes that was claimed for more takes.
    fn shrunk(&self, claimed: usize, end: u64, written: usize) -> u64 {
        let bytes = |len: usize| (8 + len).div_ceil(16) as u64 * 16;
        if self.is_inline(claimed) { end.wrapping_sub(bytes(claimed)).wrapping_add(bytes(written)) } else { end }
    }
}

/// Both ends and the queue that they are held against.
pub(crate) struct Machine {
    producer: Producer,
    consumer: Consumer,
    model: Model,
    aborted: u64,
}

impl Machine {
    pub(crate) fn new(capacity: usize, start: u64) -> Self {
        let mut classes = [Class::default(); CLASSES];
        classes[0] = Class { block: BLOCK as u32, count: BLOCKS as u32 };
        let arena = ArenaLayout::new(classes).expect("a legal class");
        let layout = SpscLayout::new(capacity).expect("a power of two").with_arena(arena);
        let (producer, consumer) = pair_from(&Segment::heap(layout, 1), start);
        let model = Model { capacity, tail: start, head: start, queue: VecDeque::new(), sent: 0 };
        Self { producer, consumer, model, aborted: 0 }
    }

    /// What a send that was admitted up to `end`, or not, ought to answer.
    fn sent(&mut self, len: usize, admitted: Result<u64, ClaimError>) -> Result<(), ClaimError> {
        admitted.map(|end| self.model.push(len, self.model.payload(len), end))
    }

    pub(super) fn try_send(&mut self, len: usize) {
        let admitted = self.model.admit(len);
        // What is refused for its size alone is not worth making.
        let answer = if len > 2 * BLOCK {
            self.producer.try_claim(len).map(drop)
        } else {
            self.producer.try_send(&self.model.payload(len))
        };
        assert_eq!(answer, self.sent(len, admitted));
    }

    fn send_deadline(&mut self, len: usize) {
        let admitted = match self.model.admit(len) {
            Err(ClaimError::Full { needed, free }) => Err(ClaimError::TimedOut { needed, free }),
            admitted => admitted,
        };
        let payload = self.model.payload(len.min(2 * BLOCK));
        let answer = match self.producer.claim_deadline(len, Instant::now()) {
            Ok(mut claim) => {
                claim.write(&payload);
                claim.commit();
                Ok(())
            }
            Err(refused) => Err(refused),
        };
        assert_eq!(answer, self.sent(len, admitted));
    }

    fn claim(&mut self, len: usize, percent: usize, commit: bool) {
        let admitted = self.model.admit(len);
        let written = len.min(2 * BLOCK) * percent / 100;
        let payload = self.model.payload(written);
        match (self.producer.try_claim(len), admitted) {
            (Ok(claim), Ok(end)) => {
                fill(claim, &payload, commit);
                if commit {
                    let end = self.model.shrunk(len, end, written);
                    self.model.push(len, payload, end);
                } else {
                    self.aborted += 1;
                }
            }
            (answer, admitted) => assert_eq!(answer.map(drop), admitted.map(|_| ())),
        }
    }

    fn batch(&mut self, lens: &[usize], commit: bool) {
        let before = (self.model.tail, self.model.sent, self.model.queue.len());
        let mut batch = self.producer.batch();
        for len in lens {
            let admitted = self.model.admit(*len);
            let answer = if *len > 2 * BLOCK {
                batch.try_claim(*len).map(drop)
            } else {
                batch.try_send(&self.model.payload(*len))
            };
            assert_eq!(answer, admitted.map(|_| ()));
            if let Ok(end) = admitted {
                self.model.push(*len, self.model.payload(*len), end);
            }
        }
        let frames = (self.model.queue.len() - before.2) as u64;
        assert_eq!((batch.len(), batch.is_empty()), (frames, frames == 0));
        if commit {
            assert_eq!(batch.commit(), frames);
        } else {
            drop(batch);
            self.aborted += frames;
            (self.model.tail, self.model.sent) = (before.0, before.1);
            self.model.queue.truncate(before.2);
        }
    }

    pub(super) fn recv(&mut self, by_deadline: bool) {
        let received = if by_deadline { self.consumer.recv_deadline(Instant::now()) } else { self.consumer.try_recv() };
        let none = if by_deadline { RecvError::TimedOut } else { RecvError::Empty };
        let received = received.map(|frame| frame.bytes().to_vec());
        assert_eq!(received, self.model.pop().ok_or(none));
    }

    fn hold(&mut self, len: usize) {
        let Ok(frame) = self.consumer.try_recv() else { return assert!(self.model.queue.is_empty()) };
        let admitted = self.model.admit(len);
        let payload = self.model.payload(len.min(2 * BLOCK));
        let answer = self.producer.try_claim(len).map(|claim| fill(claim, &payload, true));
        assert_eq!(answer, admitted.map(|_| ()));
        // The producer wrote nothing of what is held.
        assert_eq!(Some(frame.bytes()), self.model.queue.front().map(|held| &held.payload[..]));
        drop(frame);
        let _ = self.sent(len, admitted);
        self.model.pop();
    }

    fn drain(&mut self, budget: usize) {
        let mut received = Vec::new();
        let drained = self.consumer.drain(budget, |frame| received.push(frame.bytes().to_vec()));
        let expected: Vec<_> = std::iter::from_fn(|| self.model.pop()).take(budget).collect();
        assert_eq!((drained, received), (expected.len(), expected));
    }

    pub(crate) fn run(&mut self, op: &Op) {
        match op {
            Op::TrySend(len) => self.try_send(*len),
            Op::SendDeadline(len) => self.send_deadline(*len),
            Op::Claim { len, percent, commit } => self.claim(*len, *percent, *commit),
            Op::Batch { lens, commit } => self.batch(lens, *commit),
            Op::TryRecv => self.recv(false),
            Op::RecvDeadline => self.recv(true),
            Op::Hold(len) => self.hold(*len),
            Op::Drain(budget) => self.drain(*budget),
        }
        self.check();
    }

    /// The counts of both ends and of an onlooker are the queue's.
    pub(super) fn check(&self) {
        let (len, used) = (self.model.queue.len() as u64, self.model.used());
        let free = self.model.capacity - 16 - used;
        assert_eq!((self.producer.len(), self.consumer.len()), (len, len));
        assert_eq!((self.producer.free(), self.consumer.free()), (free, free));
        let stats = self.consumer.control().stats();
        assert_eq!((stats.frames, stats.used, stats.free), (len, used, free));
        assert_eq!((stats.sent, stats.received), (self.model.sent, self.model.sent - len));
        assert_eq!((stats.tail, stats.head, stats.aborted), (self.model.tail, self.model.head, self.aborted));
    }

    /// The end of the producer: what was committed is received, and then nothing.
    pub(crate) fn close(mut self) {
        self.producer.close();
        assert_eq!(self.producer.try_claim(0).map(drop), Err(ClaimError::Closed));
        while let Some(payload) = self.model.pop() {
            assert_eq!(self.consumer.recv().map(|frame| frame.bytes().to_vec()), Ok(payload));
        }
        assert_eq!(self.consumer.recv().map(drop), Err(RecvError::Closed));
    }
}

/// Fills a claim in two pieces, the first one written twice.
fn fill(mut claim: Claim<'_>, payload: &[u8], commit: bool) {
    let (first, rest) = payload.split_at(payload.len() / 3);
    claim.write(&vec![0xff; first.len()]);
    claim.write(rest);
    claim.write_at(0, first);
    assert_eq!(claim.written(), payload.len());
    if commit {
        claim.commit();
    }
}
