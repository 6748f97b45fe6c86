//! A request that is kept for longer than its worker has it in hand.

use service_core::{Code, Outcome, Status};
use shm_ring::SealedPayload;
use shm_ring::arena::BlockRef;

use super::dispatch::copied_request;
use super::lane::Lane;
use crate::copy::Copy;
use crate::errors::no_memory;
use crate::frame::{Cell, Payload, SEALED};
use crate::trust::request_in_place;

/// Where the payload is kept.
#[derive(Debug)]
pub(super) enum Request {
    /// In the frame itself, of which this is a copy.
    Inline(Cell, usize),
    /// In a block, which is the call's until it is answered.
    Block { place: u8, at: BlockRef, len: usize },
    /// Copied out, because the client may go on writing.
    Copied(Copy, usize),
    /// In memory that nobody can write.
    Sealed(SealedPayload),
}

impl Request {
    /// Keeps what a frame names; `None` if there is no such thing, or it is shorter.
    ///
    /// # Errors
    /// `ResourceExhausted`, not run, if there is no memory for a copy.
    pub(super) fn keep(lane: &Lane, cell: &Cell, payload: Payload) -> Result<Option<Self>, Status> {
        match payload {
            Payload::Inline(len) => Ok(Some(Self::Inline(cell.clone(), len))),
            Payload::Block { place: SEALED, at, len } => Ok(lane.sealed.take(at.to_word(), len).map(Self::Sealed)),
            Payload::Block { place, at, len } if lane.trust.is_isolated() => {
                // A block can be named by many calls, and each has a copy of its own.
                if !lane.in_hand.copy(len, lane.added_requests.limit()) {
                    return Err(too_much(len));
                }
                let mut copy = Copy::new();
                let copied = copied_request(lane, place, at, len, &mut copy).map(|found| found.is_some());
                if !matches!(copied, Ok(true)) {
                    lane.in_hand.give_back(len);
                }
                let is_there = copied.map_err(|error| no_memory(len, &error, Outcome::NotRun))?;
                Ok(is_there.then_some(Self::Copied(copy, len)))
            }
            Payload::Block { place, at, len } => {
                let found = lane.requests().at(place).and_then(|arena| request_in_place(arena, at, len).ok());
                Ok(found.map(|_| Self::Block { place, at, len }))
            }
        }
    }

    /// The payload; begins at a multiple of 16.
    pub(super) fn bytes<'a>(&'a self, lane: &'a Lane) -> &'a [u8] {
        match self {
            Self::Inline(cell, len) => &cell.payload()[..*len],
            // A lane's arenas stay, so what was there is there still.
            Self::Block { place, at, len } => {
                lane.requests().at(*place).and_then(|arena| request_in_place(arena, *at, *len).ok()).unwrap_or_default()
            }
            Self::Copied(copy, len) => copy.filled(*len),
            Self::Sealed(payload) => payload.bytes(),
        }
    }

    /// To be called when nobody needs the payload any more.
    pub(super) fn settle(&self, lane: &Lane) {
        if let Self::Copied(_, len) = self {
            lane.in_hand.give_back(*len);
        }
    }
}

#[cold]
fn too_much(len: usize) -> Status {
    let text =
        format!("no room for a copy of a request of {len} bytes: the connection's calls have more than it can send");
    Status::new(Code::ResourceExhausted, Outcome::NotRun, text)
}
