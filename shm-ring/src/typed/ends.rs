//! The two ends of a ring as typed messages use them: frames of bytes, whatever the ring.
//!
//! Implemented by the ends of every ring of this crate. What is not here (batches, waiting for several rings) is asked
//! of the end itself, through `end_mut` of [`Sender`](super::Sender) and [`Receiver`](super::Receiver).

use std::time::Instant;

use super::SendError;
use crate::error::{ClaimError, RecvError};
use crate::trust::Trust;
use crate::{mpsc, spsc};

/// An end that claims frames: a producer.
pub trait ClaimFrames {
    /// A frame that nobody sees yet. Dropped, it is taken back.
    type Claim<'a>: FillFrame
    where
        Self: 'a;

    /// Claims a frame of `len` bytes of payload, or says at once why not.
    ///
    /// # Errors
    /// [`ClaimError::Full`], [`ClaimError::TooLarge`], [`ClaimError::Closed`] or [`ClaimError::Corrupt`].
    fn try_claim(&mut self, len: usize) -> Result<Self::Claim<'_>, ClaimError>;

    /// Claims a frame of `len` bytes of payload; blocks the thread while the ring is full.
    ///
    /// # Errors
    /// As [`try_claim`](Self::try_claim), but never `Full`.
    fn claim(&mut self, len: usize) -> Result<Self::Claim<'_>, ClaimError>;

    /// Claims a frame of `len` bytes of payload; blocks the thread up to `deadline` while the ring is full.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), and [`ClaimError::TimedOut`].
    fn claim_deadline(&mut self, len: usize, deadline: Instant) -> Result<Self::Claim<'_>, ClaimError>;

    /// Sends a frame whose payload is in one piece: claims, fills and commits in one step, which rings do faster.
    ///
    /// # Errors
    /// As [`try_claim`](Self::try_claim).
    fn try_send(&mut self, payload: &[u8]) -> Result<(), ClaimError>;

    /// The same; blocks the thread while the ring is full.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    fn send(&mut self, payload: &[u8]) -> Result<(), ClaimError>;

    /// The same; blocks the thread up to `deadline` while the ring is full.
    ///
    /// # Errors
    /// As [`claim_deadline`](Self::claim_deadline).
    fn send_deadline(&mut self, payload: &[u8], deadline: Instant) -> Result<(), ClaimError>;
}

/// A claimed frame, filled from its start on.
pub trait FillFrame {
    /// Bytes of payload that were claimed.
    fn len(&self) -> usize;

    /// Whether nothing but an empty payload was claimed.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How far behind a multiple of 16 bytes the payload begins in the receiver's memory: 0 or 8.
    fn skew(&self) -> usize;

    /// Appends bytes; says whether they fit into what was claimed. If not, nothing of them is written.
    #[must_use = "a refused append is a shorter payload"]
    fn append(&mut self, bytes: &[u8]) -> bool;

    /// Makes the frame visible, as far as it was filled.
    fn commit(self)
    where
        Self: Sized;
}

/// An end that receives frames: a consumer.
pub trait ReceiveFrames {
    /// A received frame. Dropped, its room goes back to the producer.
    type Frame<'a>: ReadFrame
    where
        Self: 'a;

    /// Takes the next frame, or says at once that there is none.
    ///
    /// # Errors
    /// [`RecvError::Empty`], [`RecvError::Closed`] or [`RecvError::Corrupt`].
    fn try_recv(&mut self) -> Result<Self::Frame<'_>, RecvError>;

    /// Takes the next frame; blocks the thread while there is none.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), but never `Empty`.
    fn recv(&mut self) -> Result<Self::Frame<'_>, RecvError>;

    /// Takes the next frame; blocks the thread up to `deadline` while there is none.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::TimedOut`].
    fn recv_deadline(&mut self, deadline: Instant) -> Result<Self::Frame<'_>, RecvError>;

    /// Hands up to `budget` frames to `f` without waiting; says how many there were.
    fn drain(&mut self, budget: usize, f: impl FnMut(Self::Frame<'_>)) -> usize;
}

/// A received frame.
pub trait ReadFrame {
    /// Bytes of payload.
    fn len(&self) -> usize;

    /// Whether the payload has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload, in place or as a private copy.
    fn bytes(&self) -> &[u8];

    /// Copies the payload out. `to` has just its length.
    fn copy_to(&self, to: &mut [u8]);

    /// How far its sender is trusted.
    fn trust(&self) -> Trust {
        Trust::CHECKED
    }
}

/// Appends to a claim that was made long enough.
#[inline]
pub(super) fn append<C: FillFrame + ?Sized>(claim: &mut C, bytes: &[u8]) -> Result<(), SendError> {
    if claim.append(bytes) { Ok(()) } else { Err(SendError::Changed { measured: claim.len() }) }
}

// The ends of every ring have all of this as methods of their own, by the same names.

macro_rules! claims_frames {
    ($producer:ty, $claim:ident in $ring:ident) => {
        impl ClaimFrames for $producer {
            type Claim<'a> = $ring::$claim<'a>;

            #[inline]
            fn try_claim(&mut self, len: usize) -> Result<Self::Claim<'_>, ClaimError> {
                <$producer>::try_claim(self, len)
            }

            #[inline]
            fn claim(&mut self, len: usize) -> Result<Self::Claim<'_>, ClaimError> {
                <$producer>::claim(self, len)
            }

            #[inline]
            fn claim_deadline(&mut self, len: usize, deadline: Instant) -> Result<Self::Claim<'_>, ClaimError> {
                <$producer>::claim_deadline(self, len, deadline)
            }

            #[inline]
            fn try_send(&mut self, payload: &[u8]) -> Result<(), ClaimError> {
                <$producer>::try_send(self, payload)
            }

            #[inline]
            fn send(&mut self, payload: &[u8]) -> Result<(), ClaimError> {
                <$producer>::send(self, payload)
            }

            #[inline]
            fn send_deadline(&mut self, payload: &[u8], deadline: Instant) -> Result<(), ClaimError> {
                <$producer>::send_deadline(self, payload, deadline)
            }
        }

        impl FillFrame for $ring::$claim<'_> {
            #[inline]
            fn len(&self) -> usize {
                $ring::$claim::len(self)
            }

            #[inline]
            fn skew(&self) -> usize {
                $ring::$claim::skew(self)
            }

            #[inline]
            fn append(&mut self, bytes: &[u8]) -> bool {
                let fits = bytes.len() <= self.len() - self.written();
                if fits {
                    self.write(bytes);
                }
                fits
            }

            #[inline]
            fn commit(self) {
                $ring::$claim::commit(self);
            }
        }
    };
}

macro_rules! receives_frames {
    ($consumer:ty, $frame:ident in $ring:ident) => {
        impl ReceiveFrames for $consumer {
            type Frame<'a> = $ring::$frame<'a>;

            #[inline]
            fn try_recv(&mut self) -> Result<Self::Frame<'_>, RecvError> {
                <$consumer>::try_recv(self)
            }

            #[inline]
            fn recv(&mut self) -> Result<Self::Frame<'_>, RecvError> {
                <$consumer>::recv(self)
            }

            #[inline]
            fn recv_deadline(&mut self, deadline: Instant) -> Result<Self::Frame<'_>, RecvError> {
                <$consumer>::recv_deadline(self, deadline)
            }

            #[inline]
            fn drain(&mut self, budget: usize, f: impl FnMut(Self::Frame<'_>)) -> usize {
                <$consumer>::drain(self, budget, f)
            }
        }
    };
}

macro_rules! reads_frame {
    ($frame:ident in $ring:ident) => {
        impl ReadFrame for $ring::$frame<'_> {
            #[inline]
            fn len(&self) -> usize {
                $ring::$frame::len(self)
            }

            #[inline]
            fn bytes(&self) -> &[u8] {
                $ring::$frame::bytes(self)
            }

            #[inline]
            fn copy_to(&self, to: &mut [u8]) {
                $ring::$frame::copy_to(self, to);
            }

            #[inline]
            fn trust(&self) -> Trust {
                $ring::$frame::trust(self)
            }
        }
    };
}

claims_frames!(spsc::Producer, Claim in spsc);
claims_frames!(mpsc::Sender, Claim in mpsc);
receives_frames!(spsc::Consumer, Frame in spsc);
receives_frames!(mpsc::Receiver, Frame in mpsc);
receives_frames!(mpsc::Queue, Frame in mpsc);
reads_frame!(Frame in spsc);
reads_frame!(Frame in mpsc);
