//! The seam of streams: one direction of a call's items, as messages.
//!
//! A transport gives the ends; the typed ones, [`Outgoing`](crate::Outgoing) and [`Incoming`](crate::Incoming), are what
//! users see. Each direction has back-pressure of its own: a full one holds its sender, and nobody else.

use std::fmt;
use std::task::{Context as Wakers, Poll};

use crate::call::Ticket;
use crate::context::Deadline;
use crate::message::{Decode, Encode};
use crate::status::Status;

/// Which directions of a call have more than one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
pub enum Shape {
    /// One request, one reply.
    #[default]
    Unary,
    /// One request, a stream of items, then the reply.
    ServerStream,
    /// A request, a stream of items from the client, then the reply.
    ClientStream,
    /// Streams both ways, then the reply.
    BothWays,
}

impl Shape {
    /// Says whether the client sends items.
    pub fn has_client_items(self) -> bool {
        matches!(self, Self::ClientStream | Self::BothWays)
    }

    /// Says whether the server sends items.
    pub fn has_server_items(self) -> bool {
        matches!(self, Self::ServerStream | Self::BothWays)
    }
}

/// The sending end of one direction. Dropped without [`finish`](Self::finish), the direction is broken off.
pub trait StreamSender: Send {
    /// Sends an item; waits while the direction is full, at most until the deadline.
    ///
    /// # Errors
    /// `Cancelled` if the other side takes no more, `DeadlineExceeded`, `Unavailable` if the other side is dead,
    /// `ResourceExhausted` if the item is longer than any that the transport carries.
    fn send(&mut self, item: &(dyn Encode + Sync), deadline: Option<Deadline>) -> Result<(), Status>;

    /// The same without waiting: is woken when there may be room. An item that is pending is asked about again, or given
    /// up by [`give_up`](Self::give_up).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    fn poll_send(&mut self, cx: &mut Wakers<'_>, item: &(dyn Encode + Sync)) -> Poll<Result<(), Status>>;

    /// Forgets the item that is pending, of which parts may be on their way: the other side never sees it. To be called
    /// when the future that polled is dropped.
    fn give_up(&mut self) {}

    /// Ends the direction: the other side receives what was sent, then the end.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    fn finish(&mut self) -> Result<(), Status>;
}

/// The receiving end of one direction. Dropped before the end, the sender is told.
pub trait StreamReceiver: Send {
    /// Takes the next item; waits for it, at most until the deadline. False at the end.
    ///
    /// # Errors
    /// `DeadlineExceeded`, `Unavailable` if the other side is dead, `Cancelled` if it broke off, or the decoder's.
    fn recv(&mut self, item: &mut (dyn Decode + Send), deadline: Option<Deadline>) -> Result<bool, Status>;

    /// The same without waiting: is woken when there may be an item.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    fn poll_recv(&mut self, cx: &mut Wakers<'_>, item: &mut (dyn Decode + Send)) -> Poll<Result<bool, Status>>;
}

/// A call with streams, seen from its client: the directions that its shape has, and the call itself, whose end is the
/// final status and the reply.
pub struct Opened {
    /// To be seen to its end, or given up, as that of any call.
    pub ticket: Ticket,
    /// Items to the server.
    pub sender: Option<Box<dyn StreamSender>>,
    /// Items from the server.
    pub receiver: Option<Box<dyn StreamReceiver>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
