//! Messages of Rust types over any ring: written straight into the claim, read in place.
//!
//! The one idea: a ring end carries frames of bytes; [`Sender`] and [`Receiver`] wrap an end of any ring and say what
//! the bytes are. Three kinds of [`Message`] exist:
//!
//! | `T` of `Sender<T, _>` | how it travels | what [`Received::read`] gives |
//! |---|---|---|
//! | a type that derives rkyv's `Archive` and `Serialize` | as an archive | `&T::Archived`, checked |
//! | [`Plain<T>`](Plain), `T` plain old data for bytemuck | its own bytes | `&T` |
//! | `[T]`, `T` plain old data; `[u8]` are raw bytes | its own bytes | `&[T]` |
//!
//! `Rc`, `Arc`, `Weak` and trait objects in a message do not compile: an archive here is a tree, and neither the
//! serializer nor the validator has a notion of shared pointers.
//!
//! ```
//! use rkyv::{Archive, Serialize};
//! use shm_ring::Segment;
//! use shm_ring::spsc::{Consumer, Events, Producer, SpscLayout};
//! use shm_ring::typed::Typed;
//!
//! #[derive(Archive, Serialize)]
//! struct Order {
//!     symbol: String,
//!     fills: Vec<f64>,
//! }
//!
//! let segment = Segment::heap(Typed::<Order, _>::new(SpscLayout::new(4096)?), 1);
//! let mut sender = segment.sender(|ring| Producer::attach(ring, Events::default()))?;
//! let mut receiver = segment.receiver(|ring| Consumer::attach(ring, Events::default()))?;
//!
//! sender.send(&Order { symbol: "ABC".into(), fills: vec![1.5, 2.5] })?;
//! let received = receiver.recv()?;
//! let order = received.read()?;
//! assert_eq!((order.symbol.as_str(), order.fills.len()), ("ABC", 2));
//! drop(received);
//!
//! sender.end_mut().send(b"not an order")?;
//! let error = receiver.recv()?.read().map(drop).unwrap_err();
//! assert!(error.to_string().starts_with("message 1 of 12 bytes is no `"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Two programs that disagree about `T` find out when the second one opens the segment, not when it reads garbage: a
//! segment of the layout [`Typed<T, L>`](Typed) carries the [`TypeTag`] of `T`, and opening compares it. A queue between
//! processes tells its tag to each producer that opens it, by
//! [`QueueOptions::create_of`](crate::mpsc::QueueOptions::create_of) and
//! [`open_of`](crate::mpsc::QueueOptions::open_of).
//!
//! # What a sent archive looks like
//! ```text
//! byte 0         8                      skip            skip + root
//!      | header  | nothing, or 8 bytes  | archive ...   | root | ...
//! ```
//! The header's low half is `root`, the root's position in the archive; its upper half is `skip`, 8 or 16, where the
//! archive begins. An archive is laid out for a start at a multiple of 16; payloads up to [`COPIED_LEN`] bytes are read
//! from an aligned copy, larger ones in place, and there the sender picks the `skip` that aligns the archive.
//!
//! # Trust
//! | mode of the end below | payloads up to [`COPIED_LEN`] bytes | longer ones |
//! |---|---|---|
//! | `Checked` | copied out, then validated | validated in place: see the assumption of this crate's front page |
//! | `Isolated` | copied out, then validated | the same |
//! | `Trusted` | in place where they are aligned, archives not validated | in place, archives not validated |
//!
//! Whatever bytes come, [`read`] answers with an error or with a value whose every reference lies inside the payload. So
//! does [`Received::read`], but in `Trusted`, where the creator of the mode has promised that no other bytes come.

mod archive;
mod ends;
mod layout;
mod plain;
mod queue;
mod receiver;
mod sender;
mod tag;
mod tasks;

use crate::trust::Trust;

pub use archive::{MAX_DEPTH, MAX_LEN};
pub use ends::{ClaimFrames, FillFrame, ReadFrame, ReceiveFrames};
pub(crate) use layout::TYPED;
pub use layout::Typed;
pub use plain::Plain;
pub use receiver::{COPIED_LEN, DecodeError, Received, Receiver};
pub use sender::{SendError, Sender};
pub use tag::TypeTag;

/// What a receiver reads of a sent `T`: `T::Archived`, the plain value, or the slice.
pub type View<T> = <T as wire::Wire>::View;

/// A type that can be sent and received. Implemented for all that fit; not to be implemented.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent in a message",
    label = "not a message type",
    note = "a message type derives rkyv's `Archive` and `Serialize`, or is plain old data in `Plain<_>` or a slice",
    note = "shared pointers (`Rc`, `Arc`, `Weak`), trait objects and references are not message types"
)]
pub trait Message: wire::Wire {}

#[diagnostic::do_not_recommend]
impl<T: wire::Wire + ?Sized> Message for T {}

/// Checks the payload of one frame and reads it in place as a `T`.
///
/// A pure function of the bytes. Costs a walk over the message for archives, a comparison of lengths for plain data.
///
/// # Errors
/// [`Malformed`] if the bytes are no `T`.
#[inline]
pub fn read<T: Message + ?Sized>(payload: &[u8]) -> Result<&View<T>, Malformed> {
    T::read(payload, Trust::CHECKED)
}

/// Why bytes are not a message of the expected type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Plain data of another length, or at an address that its type cannot have.
    #[error("{found} bytes where {expected} are one value")]
    Length {
        /// Bytes in the payload.
        found: usize,
        /// Bytes of one value.
        expected: usize,
    },
    /// The header in front of an archive is missing or impossible.
    #[error("impossible archive header {found:#x}")]
    Header {
        /// The header; zero if it is missing.
        found: u64,
    },
    /// The validator refused the archive: a value or a pointer in it is impossible, or it is nested too deep.
    #[error("not a valid archive")]
    Archive,
}

/// The sealed half of [`Message`]: how a type is written and read.
mod wire {
    use super::Malformed;
    use super::Trust;
    use super::ends::FillFrame;
    use super::sender::{Scratch, SendError};

    /// A message before it has a frame.
    #[derive(Debug)]
    pub enum Prepared<'a, M> {
        /// The whole payload, to be sent in one piece.
        Payload(&'a [u8]),
        /// A payload that [`Wire::fill`] will write into a claim of so many bytes.
        Measured(usize, M),
    }

    pub trait Wire {
        type View: ?Sized;

        /// What is known of a payload that was measured; nothing is, where every payload is there at once.
        type Measure;

        /// Makes the payload, or measures it.
        fn prepare<'a>(&'a self, scratch: &'a mut Scratch) -> Result<Prepared<'a, Self::Measure>, SendError>;

        /// Writes a payload that was measured just before, and commits it.
        fn fill<C: FillFrame>(&self, scratch: &mut Scratch, measure: Self::Measure, claim: C) -> Result<(), SendError>;

        /// Checks a payload, as far as its writer's trust demands, and reads it in place.
        fn read(payload: &[u8], trust: Trust) -> Result<&Self::View, Malformed>;

        /// What both sides must agree on, in words; see [`TypeTag`](super::TypeTag).
        fn describe() -> String;
    }
}
