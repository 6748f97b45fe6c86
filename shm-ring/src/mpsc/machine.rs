//! The ring against a plain queue, one operation after the other: `histories.rs` and the fuzz targets say which.

use std::collections::VecDeque;

use super::{Claim, MpscLayout, Receiver, Sender, pair_from};
use crate::arena::{ArenaLayout, CLASSES, Class};
use crate::error::{ClaimError, RecvError};
use crate::segment::Segment;

pub(crate) const INLINE: usize = 56;
const CELL: usize = 64;
pub(crate) const BLOCK: usize = 256;
const BLOCKS: usize = 2;

/// What is done to both.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Send(usize),
    /// Claims so much and commits so much of it.
    Commit(usize, usize),
    Abort(usize),
    /// Claims and keeps it.
    Hold(usize),
    /// Commits a claim that is held, or takes it back.
    LetGo {
        which: usize,
        commit: bool,
    },
    /// Claims so many frames and sends payloads of these lengths, or not.
    Batch {
        frames: usize,
        lens: Vec<usize>,
        commit: bool,
    },
    Recv,
    Drain(usize),
}

#[derive(Debug, Clone, PartialEq)]
enum Cell {
    /// Claimed; whether it has a block.
    Held(bool),
    Committed(Vec<u8>),
    Aborted,
    Gone,
}

/// What the ring should be: the cells from the head on.
struct Model {
    cells: usize,
    claimed: VecDeque<Cell>,
    /// Cells before the first in `claimed`.
    head: usize,
    blocks: usize,
}

impl Model {
    fn claim(&mut self, len: usize) -> Result<usize, ClaimError> {
        if len > BLOCK {
            return Err(ClaimError::TooLarge { len, limit: BLOCK });
        }
        let block = len > INLINE;
        if block && self.blocks == 0 {
            return Err(ClaimError::Full { needed: len, free: 0 });
        }
        self.room(1)?;
        self.blocks -= usize::from(block);
        self.claimed.push_back(Cell::Held(block));
        Ok(self.head + self.claimed.len() - 1)
    }

    fn room(&self, cells: usize) -> Result<(), ClaimError> {
        let free = self.cells - self.claimed.len();
        if cells > free {
            return Err(ClaimError::Full { needed: cells * CELL, free: free * CELL });
        }
        Ok(())
    }

    fn settle(&mut self, at: usize, payload: Option<Vec<u8>>) {
        let cell = &mut self.claimed[at - self.head];
        let Cell::Held(block) = *cell else { panic!("only held claims are settled") };
        *cell = match payload {
            Some(payload) => Cell::Committed(payload),
            None => Cell::Aborted,
        };
        // The block of a claim that is taken back is free at once.
        self.blocks += usize::from(block && *cell == Cell::Aborted);
    }

    /// The next frame, past held claims; what it steps over is gone.
    fn recv(&mut self, blocks_of: &VecDeque<(usize, bool)>) -> Option<Vec<u8>> {
        let mut received = None;
        for i in 0..self.claimed.len() {
            match std::mem::replace(&mut self.claimed[i], Cell::Gone) {
                Cell::Committed(payload) => {
                    self.blocks += usize::from(blocks_of.contains(&(self.head + i, true)));
                    received = Some(payload);
                    break;
                }
                Cell::Aborted | Cell::Gone => {}
                held @ Cell::Held(_) => self.claimed[i] = held,
            }
        }
        while self.claimed.front() == Some(&Cell::Gone) {
            self.claimed.pop_front();
            self.head += 1;
        }
        received
    }
}

/// Runs a history from beginning to end: on a ring of so many cells that begins as if `start` frames had passed.
pub(crate) fn run(cells: u32, start: u64, ops: impl IntoIterator<Item = Op>) {
    let mut classes = [Class::default(); CLASSES];
    classes[0] = Class { block: BLOCK as u32, count: BLOCKS as u32 };
    let layout = MpscLayout::new(cells).unwrap().with_inline(INLINE).unwrap();
    let layout = layout.with_arena(ArenaLayout::new(classes).unwrap());
    let (sender, receiver) = pair_from(&Segment::heap(layout, 1), start);
    let model = Model { cells: cells as usize, claimed: VecDeque::new(), head: 0, blocks: BLOCKS };
    let mut machine =
        Machine { sender: &sender, receiver, model, held: Vec::new(), blocks_of: VecDeque::new(), count: 0 };
    ops.into_iter().for_each(|op| machine.step(op));
    machine.close();
}

struct Machine<'a> {
    sender: &'a Sender,
    receiver: Receiver,
    model: Model,
    held: Vec<(usize, Claim<'a>)>,
    /// Which positions have a block.
    blocks_of: VecDeque<(usize, bool)>,
    count: u8,
}

impl<'a> Machine<'a> {
    fn payload(&mut self, len: usize) -> Vec<u8> {
        self.count = self.count.wrapping_add(1);
        (0..len).map(|i| self.count.wrapping_mul(31).wrapping_add(i as u8)).collect()
    }

    /// Claims on both sides, which must agree.
    fn claim(&mut self, len: usize) -> Option<(usize, Claim<'a>)> {
        match (self.sender.try_claim(len), self.model.claim(len)) {
            (Ok(claim), Ok(at)) => {
                self.blocks_of.push_back((at, len > INLINE));
                Some((at, claim))
            }
            (Err(refused), Err(expected)) => {
                assert_eq!(refused, expected);
                None
            }
            (claim, expected) => panic!("{claim:?}, {expected:?} expected"),
        }
    }

    fn commit(&mut self, at: usize, mut claim: Claim<'_>, part: usize) {
        let payload = self.payload(part);
        claim.write(&payload);
        claim.commit();
        self.model.settle(at, Some(payload));
    }

    fn batch(&mut self, frames: usize, lens: &[usize], commit: bool) {
        let expected = if frames > self.model.cells {
            Err(ClaimError::TooLarge { len: frames * CELL, limit: self.model.cells * CELL })
        } else {
            self.model.room(frames)
        };
        let mut batch = match (self.sender.try_batch(frames), expected) {
            (Ok(batch), Ok(())) => batch,
            (Err(refused), Err(expected)) => return assert_eq!(refused, expected),
            (batch, expected) => panic!("{batch:?}, {expected:?} expected"),
        };
        let first = self.model.head + self.model.claimed.len();
        self.model.claimed.extend((0..frames).map(|_| Cell::Aborted));
        let mut filled = Vec::new();
        for &len in lens {
            let payload = self.payload(len);
            let is_large = len > INLINE;
            let expected = match len {
                _ if filled.len() == frames => Err(ClaimError::Full { needed: CELL, free: 0 }),
                len if len > BLOCK => Err(ClaimError::TooLarge { len, limit: BLOCK }),
                len if is_large && self.model.blocks == 0 => Err(ClaimError::Full { needed: len, free: 0 }),
                _ => Ok(()),
            };
            assert_eq!(batch.try_send(&payload), expected);
            if expected.is_ok() {
                self.model.blocks -= usize::from(is_large);
                self.blocks_of.push_back((first + filled.len(), is_large));
                filled.push(payload);
            }
        }
        if commit {
            batch.commit();
            for (i, payload) in filled.into_iter().enumerate() {
                self.model.claimed[first - self.model.head + i] = Cell::Committed(payload);
            }
        } else {
            drop(batch);
            self.model.blocks += filled.iter().filter(|payload| payload.len() > INLINE).count();
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Send(len) => {
                let payload = self.payload(len);
                match (self.sender.try_send(&payload), self.model.claim(len)) {
                    (Ok(()), Ok(at)) => {
                        self.blocks_of.push_back((at, len > INLINE));
                        self.model.settle(at, Some(payload));
                    }
                    (sent, expected) => assert_eq!(sent, expected.map(|_| ())),
                }
            }
            Op::Commit(len, part) => {
                if let Some((at, claim)) = self.claim(len) {
                    self.commit(at, claim, part.min(len));
                }
            }
            Op::Abort(len) => {
                if let Some((at, claim)) = self.claim(len) {
                    drop(claim);
                    self.model.settle(at, None);
                }
            }
            Op::Hold(len) => {
                if let Some(held) = self.claim(len) {
                    self.held.push(held);
                }
            }
            Op::LetGo { which, commit } => {
                if self.held.is_empty() {
                    return;
                }
                let (at, claim) = self.held.swap_remove(which % self.held.len());
                if commit {
                    let len = claim.len();
                    self.commit(at, claim, len);
                } else {
                    drop(claim);
                    self.model.settle(at, None);
                }
            }
            Op::Batch { frames, lens, commit } => self.batch(frames, &lens, commit),
            Op::Recv => {
                let expected = self.model.recv(&self.blocks_of).ok_or(RecvError::Empty);
                assert_eq!(self.receiver.try_recv().map(|frame| frame.bytes().to_vec()), expected);
            }
            Op::Drain(budget) => {
                let mut seen = Vec::new();
                let count = self.receiver.drain(budget, |frame| seen.push(frame.bytes().to_vec()));
                let mut expected = Vec::new();
                while expected.len() < budget
                    && let Some(payload) = self.model.recv(&self.blocks_of)
                {
                    expected.push(payload);
                }
                assert_eq!((count, seen), (expected.len(), expected));
            }
        }
        let (len, free) = (self.model.claimed.len(), self.model.cells - self.model.claimed.len());
        assert_eq!((self.sender.len(), self.sender.free()), (len, free));
        assert_eq!((self.receiver.len(), self.receiver.free()), (len, free));
    }

    /// What is left comes out, and then the end.
    fn close(mut self) {
        self.held.clear();
        let held = self.model.claimed.iter_mut().filter(|cell| matches!(cell, Cell::Held(_)));
        held.for_each(|cell| *cell = Cell::Aborted);
        self.sender.close();
        loop {
            let expected = self.model.recv(&self.blocks_of).ok_or(RecvError::Closed);
            let over = expected.is_err();
            assert_eq!(self.receiver.recv().map(|frame| frame.bytes().to_vec()), expected);
            if over {
                break;
            }
        }
    }
}
