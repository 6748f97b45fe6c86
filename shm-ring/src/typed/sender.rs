//! The sending end of typed messages.

use std::fmt;
use std::marker::PhantomData;
use std::time::Instant;

use rkyv::ser::allocator::Arena;

use super::Message;
use super::ends::ClaimFrames;
use crate::error::ClaimError;

/// Bytes of payload up to which an archive is made in private memory and copied into the claim, in one pass.
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

/// A ring's end for one message, and how long to wait for room.
#[derive(Debug)]
pub struct Outlet<'a, E> {
    end: &'a mut E,
    wait: Wait,
}

#[derive(Debug, Clone, Copy)]
enum Wait {
    Never,
    Forever,
    Until(Instant),
}

impl<'a, E: ClaimFrames> Outlet<'a, E> {
    #[inline]
    pub(super) fn claim(self, len: usize) -> Result<E::Claim<'a>, ClaimError> {
        match self.wait {
            Wait::Never => self.end.try_claim(len),
            Wait::Forever => self.end.claim(len),
            Wait::Until(deadline) => self.end.claim_deadline(len, deadline),
        }
    }

    #[inline]
    pub(super) fn send(self, payload: &[u8]) -> Result<(), ClaimError> {
        match self.wait {
            Wait::Never => self.end.try_send(payload),
            Wait::Forever => self.end.send(payload),
            Wait::Until(deadline) => self.end.send_deadline(payload, deadline),
        }
    }
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

/// Sends messages of type `T` through a ring's end `E`.
///
/// Clones have scratch memory of their own, so threads that share a ring each send through a clone.
pub struct Sender<T: Message + ?Sized, E> {
    end: E,
    scratch: Scratch,
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
    /// Costs a copy of the message; archives of more than 4 KiB are measured first. Never blocks; allocates only while
    /// the scratch memory grows to the largest message so far.
    ///
    /// # Errors
    /// [`SendError::Claim`] with what [`ClaimFrames::try_claim`] answered, or another [`SendError`].
    #[inline]
    pub fn try_send(&mut self, message: &T) -> Result<(), SendError> {
        self.send_waiting(message, Wait::Never)
    }

    /// Sends a message; blocks the thread while the ring is full.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), but never `Full`.
    #[inline]
    pub fn send(&mut self, message: &T) -> Result<(), SendError> {
        self.send_waiting(message, Wait::Forever)
    }

    /// Sends a message; blocks the thread up to `deadline` while the ring is full.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ClaimError::TimedOut`].
    #[inline]
    pub fn send_deadline(&mut self, message: &T, deadline: Instant) -> Result<(), SendError> {
        self.send_waiting(message, Wait::Until(deadline))
    }

    #[inline]
    fn send_waiting(&mut self, message: &T, wait: Wait) -> Result<(), SendError> {
        message.send(&mut self.scratch, Outlet { end: &mut self.end, wait })
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
