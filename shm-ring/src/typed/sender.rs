//! The sending end of typed messages.

use std::fmt;
use std::marker::PhantomData;
use std::time::Instant;

use rkyv::ser::allocator::Arena;

use super::Message;
use super::ends::ClaimFrames;
use super::wire::Prepared;
use crate::error::ClaimError;

/// Bytes of payload up to which an archive is made in private memory and copied into the ring, in one pass. Beyond it is
/// measured first: a second pass over a thousand texts costs ten times the copy.
pub(super) const START_LEN: usize = 64 << 10;

/// Why a message was not sent. Nothing of it is visible to the receiver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The ring gave no frame.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The type's own serialisation refused the value.
    #[error("the value cannot be serialised: {0}")]
    Refused(Box<str>),
    /// The value serialised differently when it was written than when it was measured just before. Its type has
    /// interior mutability, or an order of its own each time.
    #[error("the value changed while it was written: it was measured as {measured} bytes of payload")]
    Changed {
        /// Bytes that were claimed for it.
        measured: usize,
    },
}

/// Memory that serialising uses again and again, so that a warm sender never allocates.
pub struct Scratch {
    /// For a few bytes per element of nested collections. Grows to the largest message and stays.
    pub(super) arena: Arena,
    /// A header, and the start of an archive behind it.
    pub(super) start: Box<[u8]>,
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("start", &self.start.len()).finish_non_exhaustive()
    }
}

/// Sends a message by one of the ways in which an end claims a frame, and the same way to send a payload in one piece.
macro_rules! send {
    ($sender:ident, $message:ident, $claim:ident($($how:ident)?), $send:ident($($same:ident)?) $(, $wait:ident)?) => {{
        let Sender { end, scratch, .. } = $sender;
        match $message.prepare(scratch)? {
            Prepared::Payload(payload) => Ok(end.$send(payload $(, $same)?)$(.$wait)??),
            Prepared::Measured(len, measure) => {
                let claim = end.$claim(len $(, $how)?)$(.$wait)??;
                $message.fill(scratch, measure, claim)
            }
        }
    }};
}
pub(super) use send;

/// Sends messages of type `T` through a ring's end `E`.
///
/// Clones have scratch memory of their own, so threads that share a ring each send through a clone.
pub struct Sender<T: Message + ?Sized, E> {
    pub(super) end: E,
    pub(super) scratch: Scratch,
    of: PhantomData<fn(&T)>,
}

impl<T: Message + ?Sized, E> Sender<T, E> {
    /// Sends through an end whose other side is known to expect `T`, such as one of the same program. Between
    /// programs a [`Typed`](super::Typed) segment compares the types first.
    pub fn new(end: E) -> Self {
        Self { end, scratch: Scratch { arena: Arena::new(), start: vec![0; START_LEN].into() }, of: PhantomData }
    }

    /// The end below.
    pub fn end(&self) -> &E {
        &self.end
    }

    /// The end below, to close it, to wait for it, or to send bytes that are no `T`: those the receiver refuses.
    pub fn end_mut(&mut self) -> &mut E {
        &mut self.end
    }
}

impl<T: Message + ?Sized, E: ClaimFrames> Sender<T, E> {
    /// Sends a message if the ring has room for it now.
    ///
    /// Costs a pass over the message and a copy; two passes for an archive of more than 64 KiB, or with a text or a vector
    /// of more than 2 KiB, which are copied once. Never blocks, and allocates only while the scratch memory grows to what
    /// the largest message needs.
    ///
    /// # Errors
    /// [`SendError::Claim`] with what [`ClaimFrames::try_claim`] answered, or another [`SendError`].
    #[inline]
    pub fn try_send(&mut self, message: &T) -> Result<(), SendError> {
        send!(self, message, try_claim(), try_send())
    }

    /// Sends a message; blocks the thread while the ring is full.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), but never `Full`.
    #[inline]
    pub fn send(&mut self, message: &T) -> Result<(), SendError> {
        send!(self, message, claim(), send())
    }

    /// Sends a message; blocks the thread up to `deadline` while the ring is full.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ClaimError::TimedOut`].
    #[inline]
    pub fn send_deadline(&mut self, message: &T, deadline: Instant) -> Result<(), SendError> {
        send!(self, message, claim_deadline(deadline), send_deadline(deadline))
    }
}

impl<T: Message + ?Sized, E: Clone> Clone for Sender<T, E> {
    fn clone(&self) -> Self {
        Self::new(self.end.clone())
    }
}

impl<T: Message + ?Sized, E: fmt::Debug> fmt::Debug for Sender<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = std::any::type_name::<T>();
        f.debug_struct("Sender").field("of", &of).field("end", &self.end).finish_non_exhaustive()
    }
}
