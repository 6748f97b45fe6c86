//! The receiving end of typed messages.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::time::Instant;

use super::ends::{ReadFrame, ReceiveFrames};
use super::{Malformed, Message, View};
use crate::error::RecvError;
use crate::trust::Trust;

/// Bytes of payload up to which a message is copied out before it is checked, whatever the trust mode that checks; larger
/// ones are read where the frame below gives them.
pub const COPIED_LEN: usize = 512;

/// A frame arrived whose bytes are not a message of the expected type. The frames behind it are untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message {number} of {len} bytes is no `{of}`: {why}")]
#[non_exhaustive]
pub struct DecodeError {
    /// Which message: frames that this receiver took before it.
    pub number: u64,
    /// Bytes of payload.
    pub len: usize,
    /// The type that was expected.
    pub of: &'static str,
    /// What is wrong with the bytes.
    pub why: Malformed,
}

/// Room for a payload that is copied out. Behind the lead, so that an archive, which begins 8 bytes into its payload,
/// lies at a multiple of 16.
#[repr(C, align(16))]
pub(super) struct Copied {
    lead: [u8; 8],
    bytes: [u8; COPIED_LEN],
}

/// Receives messages of type `T` from a ring's end `E`.
pub struct Receiver<T: Message + ?Sized, E> {
    pub(super) end: E,
    pub(super) copied: Box<Copied>,
    /// Frames taken so far.
    pub(super) count: u64,
    of: PhantomData<fn(&T)>,
}

impl<T: Message + ?Sized, E> Receiver<T, E> {
    /// Receives from an end whose other side is expected to send `T`. Frames that are no `T` are refused one by one;
    /// between programs a [`Typed`](super::Typed) segment compares the types once, before.
    pub fn new(end: E) -> Self {
        let copied = Box::new(Copied { lead: [0; 8], bytes: [0; COPIED_LEN] });
        Self { end, copied, count: 0, of: PhantomData }
    }

    /// The end below.
    pub fn end(&self) -> &E {
        &self.end
    }

    /// The end below, to close it or to wait for it.
    pub fn end_mut(&mut self) -> &mut E {
        &mut self.end
    }
}

impl<T: Message + ?Sized, E: ReceiveFrames> Receiver<T, E> {
    /// Takes the next message, or says at once that there is none.
    ///
    /// # Errors
    /// As [`ReceiveFrames::try_recv`]. Whether the frame is a `T` is found out by [`Received::read`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<Received<'_, T, E::Frame<'_>>, RecvError> {
        let frame = self.end.try_recv()?;
        Ok(Received::of(frame, &mut self.copied, &mut self.count))
    }

    /// Takes the next message; blocks the thread while there is none.
    ///
    /// # Errors
    /// As [`ReceiveFrames::recv`].
    #[inline]
    pub fn recv(&mut self) -> Result<Received<'_, T, E::Frame<'_>>, RecvError> {
        let frame = self.end.recv()?;
        Ok(Received::of(frame, &mut self.copied, &mut self.count))
    }

    /// Takes the next message; blocks the thread up to `deadline` while there is none.
    ///
    /// # Errors
    /// As [`ReceiveFrames::recv_deadline`].
    #[inline]
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Received<'_, T, E::Frame<'_>>, RecvError> {
        let frame = self.end.recv_deadline(deadline)?;
        Ok(Received::of(frame, &mut self.copied, &mut self.count))
    }

    /// Hands up to `budget` messages to `f` without waiting, each read already; says how many there were. As
    /// [`ReceiveFrames::drain`].
    pub fn drain(&mut self, budget: usize, mut f: impl FnMut(Result<&View<T>, DecodeError>)) -> usize {
        let Self { end, copied, count, .. } = self;
        end.drain(budget, |frame| f(Received::<T, _>::of(frame, copied, count).read()))
    }
}

impl<T: Message + ?Sized, E: fmt::Debug> fmt::Debug for Receiver<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut it = f.debug_struct("Receiver");
        it.field("of", &type_name::<T>()).field("end", &self.end).field("count", &self.count).finish_non_exhaustive()
    }
}

/// A message that was taken from the ring. Dropped, whether read or not, it gives its room back.
#[must_use = "a message that is dropped is given back unread"]
pub struct Received<'a, T: Message + ?Sized, F> {
    payload: Payload<'a, F>,
    trust: Trust,
    number: u64,
    of: PhantomData<fn(&T)>,
}

/// Whether a short payload, whose sender has taken it to be copied, can be read where it lies.
#[inline]
fn is_aligned(payload: &[u8]) -> bool {
    payload.as_ptr().addr() % 16 == std::mem::offset_of!(Copied, bytes)
}

enum Payload<'a, F> {
    /// Copied out; the frame's room is free already.
    Copied(&'a [u8]),
    InPlace(F),
}

impl<'a, T: Message + ?Sized, F: ReadFrame> Received<'a, T, F> {
    #[inline]
    pub(super) fn of(frame: F, copied: &'a mut Copied, count: &mut u64) -> Self {
        let number = *count;
        *count += 1;
        let trust = frame.trust();
        let payload = match copied.bytes.get_mut(..frame.len()) {
            Some(copy) if !(trust.is_trusted() && is_aligned(frame.bytes())) => {
                frame.copy_to(copy);
                Payload::Copied(copy)
            }
            _ => Payload::InPlace(frame),
        };
        Self { payload, trust, number, of: PhantomData }
    }

    /// Which message this is: frames that the receiver took before it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The bytes, unchecked: whatever the sender wrote.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        match &self.payload {
            Payload::Copied(bytes) => bytes,
            Payload::InPlace(frame) => frame.bytes(),
        }
    }

    /// Checks the message and reads it where it lies. Checks again each time, so keep the reference. (Archives of a sender
    /// that is [trusted](Trust::trusted) are not checked.)
    ///
    /// Costs a walk over the message for archives, a comparison of lengths for plain data. No allocation.
    ///
    /// # Errors
    /// [`DecodeError`] names the message and what is wrong with it. Dropping it goes on to the next one.
    #[inline]
    pub fn read(&self) -> Result<&View<T>, DecodeError> {
        let payload = self.payload();
        T::read(payload, self.trust).map_err(|why| DecodeError {
            number: self.number,
            len: payload.len(),
            of: type_name::<T>(),
            why,
        })
    }
}

impl<T: Message + ?Sized, F> fmt::Debug for Received<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_place = matches!(self.payload, Payload::InPlace(_));
        let mut it = f.debug_struct("Received");
        it.field("of", &type_name::<T>()).field("number", &self.number).field("in_place", &in_place).finish()
    }
}
