//! Streams of a call: its items, one ring for each direction.
//!
//! A ring is shm-ring's [`spsc`](shm_ring::spsc), between processes in sealed memory, within one on the heap. Each stream
//! has rings of its own, so a full one holds its sender and nobody else. An item is one frame, or several if it is longer
//! than a quarter of the ring ([`frame`]); an end that was said comes as a frame as well, so that rings that ended well
//! can be used by another stream ([`lease`]). Whatever else ends a ring closes it: one side breaks off, or a process dies.
//!
//! - [`Sender`](sender::Sender), [`Receiver`](receiver::Receiver): the ends, as service-core knows them.
//! - [`rings`]: memory and eventfds of a call's rings, made by the client, checked by the service.

mod alarm;
mod frame;
mod lease;
mod receiver;
mod rings;
mod sender;
#[cfg(test)]
mod tests;
mod until;

use std::fmt;
use std::sync::Arc;

use service_core::{Code, Outcome, Status};

pub(crate) use lease::{Ends, Lease, Owner};
pub(crate) use receiver::Receiver;
pub(crate) use rings::{Rings, end};
pub(crate) use sender::Sender;
#[cfg(test)]
pub(crate) use tests::ROLES;

/// Bytes of a ring: some hundred small items, or four of the longest that go as one frame.
const RING_BYTES: usize = 64 << 10;

/// Longest item, in bytes. What a receiver holds of an item in parts grows with what came of it.
const MAX_ITEM: usize = 64 << 20;

/// Streams that a client opens at once on one connection, those included whose rings wait for the next one.
pub(crate) const MOST_STREAMS: usize = 64;

/// Who is at the other end, for texts.
#[derive(Clone)]
pub(crate) struct Peer(Arc<str>);

impl Peer {
    pub(crate) fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// A client, of whom no more is known.
    pub(crate) fn of_process(pid: u32) -> Self {
        Self::new(format!("process {pid}"))
    }

    #[cold]
    pub(crate) fn status(&self, code: Code, what: impl fmt::Display) -> Status {
        Status::new(code, Outcome::MayHaveRun, format!("stream with {}: {what}", self.0))
    }

    #[cold]
    fn late(&self) -> Status {
        self.status(Code::DeadlineExceeded, "the call's deadline has passed")
    }

    #[cold]
    pub(crate) fn gone(&self) -> Status {
        self.status(Code::Unavailable, "the process died, or the connection to it ended")
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
