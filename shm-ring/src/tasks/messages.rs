//! Received payloads as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use super::Place;
use crate::error::RecvError;

/// A consumer that a stream can be made of.
pub(crate) trait Receive: Send {
    /// The next payload, copied out of its frame.
    fn poll_message(&mut self, cx: &mut Context<'_>, place: &mut Place) -> Poll<Result<Vec<u8>, RecvError>>;
}

/// The payloads of a consumer, each in a vector of its own, until the ring is closed; from `messages()` of the consumer.
///
/// A frame in place cannot be an item of a stream, because it borrows the consumer: for those there is `recv_async`. After
/// an error the stream has ended. Dropped, it has taken nothing that it did not give.
pub struct Messages<'a> {
    from: &'a mut dyn Receive,
    place: Place,
    has_ended: bool,
}

impl<'a> Messages<'a> {
    pub(crate) fn new(from: &'a mut dyn Receive) -> Self {
        Self { from, place: Place::default(), has_ended: false }
    }
}

impl fmt::Debug for Messages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

impl Stream for Messages<'_> {
    type Item = Result<Vec<u8>, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let Self { from, place, has_ended } = &mut *self;
        let received = ready!(from.poll_message(cx, place));
        *has_ended = received.is_err();
        Poll::Ready(if received == Err(RecvError::Closed) { None } else { Some(received) })
    }
}

impl FusedStream for Messages<'_> {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}
