//! The sending end of one direction.

use std::fmt;
use std::sync::Arc;
use std::task::{Context as Wakers, Poll, ready};
use std::time::Instant;

use service_core::{
    BlockWriter, Code, Deadline, Encode, Encoded, Outcome, SinkFull, Status, StreamSender, encode_block, encode_small,
};
use shm_ring::ClaimError;
use shm_ring::spsc::{Claim, End, Producer, Turn};

use super::alarm::Alarm;
use super::frame::{Kind, WORD};
use super::until::Until;
use super::{Ends, Lease, MAX_ITEM, Peer};

/// Items up to this many bytes are encoded once, beside the ring, and copied.
const SMALL: usize = 512;

/// Bytes of a frame without an item, its header in the ring included. Each claim asks for so many more than it fills, so
/// that there always is room to say that the stream ends.
const END_FRAME: usize = 16;

/// The sending end. Dropped without [`finish`](StreamSender::finish), it closes the ring.
pub(crate) struct Sender {
    /// `None` once the end was said.
    producer: Option<Box<Producer>>,
    /// The place in line of a task that waits for room.
    turn: Turn,
    /// A frame in the making.
    small: Box<[u8; WORD + SMALL]>,
    /// An item that goes in parts, and how much of it has gone.
    parts: Option<(Vec<u8>, usize)>,
    alarm: Alarm,
    until: Until,
    peer: Peer,
    lease: Option<Arc<Lease>>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("peer", &self.peer).field("producer", &self.producer).finish_non_exhaustive()
    }
}

/// How whoever sends waits for room.
trait Waits {
    fn claim<'p>(&mut self, producer: &'p mut Producer, len: usize) -> Poll<Result<Claim<'p>, ClaimError>>;
}

/// As a thread.
struct Blocking(Option<Instant>);

impl Waits for Blocking {
    #[inline]
    fn claim<'p>(&mut self, producer: &'p mut Producer, len: usize) -> Poll<Result<Claim<'p>, ClaimError>> {
        let claimed = match self.0 {
            None => producer.claim(len),
            Some(deadline) => producer.claim_deadline(len, deadline),
        };
        Poll::Ready(claimed)
    }
}

/// As a task.
struct Polled<'a, 'w>(&'a Wakers<'w>, &'a mut Turn, &'a mut Alarm);

impl Waits for Polled<'_, '_> {
    #[inline]
    fn claim<'p>(&mut self, producer: &'p mut Producer, len: usize) -> Poll<Result<Claim<'p>, ClaimError>> {
        match producer.poll_claim(self.0, self.1, len) {
            Poll::Ready(Err(ClaimError::CannotWait { .. })) => self.2.poll(self.0, true).map(|()| Err(LATE)),
            Poll::Ready(claimed) => {
                self.2.found();
                Poll::Ready(claimed)
            }
            Poll::Pending => self.2.poll(self.0, false).map(|()| Err(LATE)),
        }
    }
}

/// What a task is told whose time is up.
const LATE: ClaimError = ClaimError::TimedOut { needed: 0, free: 0 };

/// A claim, as the encoder sees it.
struct ClaimSink<'a, 'b>(&'a mut Claim<'b>);

impl BlockWriter for ClaimSink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        if bytes.len() > self.0.len() - self.0.written() {
            return Err(SinkFull);
        }
        self.0.write(bytes);
        Ok(())
    }
}

struct VecSink<'a>(&'a mut Vec<u8>);

impl BlockWriter for VecSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl Sender {
    /// Over a ring's producing end. A task's waiting ends with the call's deadline. With a lease it goes back when the stream has ended well.
    pub(crate) fn new(
        producer: Box<Producer>,
        deadline: Option<Deadline>,
        peer: Peer,
        lease: Option<Arc<Lease>>,
    ) -> Self {
        let (turn, small) = (Turn::default(), Box::new([0; WORD + SMALL]));
        Self {
            producer: Some(producer),
            turn,
            small,
            parts: None,
            alarm: Alarm::new(deadline),
            until: Until::default(),
            peer,
            lease,
        }
    }

    fn put(&mut self, item: &dyn Encode, waits: &mut impl Waits) -> Poll<Result<(), Status>> {
        let Self { producer, small, parts, peer, .. } = self;
        let Some(producer) = producer else { return Poll::Ready(Err(finished(peer))) };
        if parts.is_none() {
            let (word, room) = small.split_at_mut(WORD);
            let refused = |error: service_core::EncodeError| error.into_status(Outcome::NotRun);
            match encode_small(item, room).map_err(refused)? {
                Encoded::Inline(len) => {
                    word.copy_from_slice(&Kind::Item.to_word());
                    let claimed = ready!(waits.claim(producer, WORD + len + END_FRAME));
                    let mut claim = claimed.map_err(|error| refused_claim(peer, error))?;
                    claim.write(&small[..WORD + len]);
                    claim.commit();
                    return Poll::Ready(Ok(()));
                }
                Encoded::Large(len) if len <= whole(producer) => {
                    let claimed = ready!(waits.claim(producer, WORD + len + END_FRAME));
                    let mut claim = claimed.map_err(|error| refused_claim(peer, error))?;
                    claim.write(&Kind::Item.to_word());
                    encode_block(item, &mut ClaimSink(&mut claim)).map_err(refused)?;
                    claim.commit();
                    return Poll::Ready(Ok(()));
                }
                Encoded::Large(len) if len > MAX_ITEM => {
                    let text = format!("an item of {len} bytes is longer than {MAX_ITEM}");
                    return Poll::Ready(Err(peer.status(Code::ResourceExhausted, text)));
                }
                Encoded::Large(len) => {
                    let mut bytes = Vec::with_capacity(len);
                    encode_block(item, &mut VecSink(&mut bytes)).map_err(refused)?;
                    *parts = Some((bytes, 0));
                }
            }
        }
        self.put_parts(waits)
    }

    /// Sends on what goes in parts.
    #[cold]
    fn put_parts(&mut self, waits: &mut impl Waits) -> Poll<Result<(), Status>> {
        let Self { producer: Some(producer), parts, peer, .. } = self else { return Poll::Ready(Ok(())) };
        let most = whole(producer);
        while let Some((bytes, at)) = parts {
            let kind = if *at == 0 { Kind::First(bytes.len()) } else { Kind::Further };
            let part = &bytes[*at..bytes.len().min(*at + most)];
            let claimed = ready!(waits.claim(producer, WORD + part.len() + END_FRAME));
            let mut claim = claimed.map_err(|error| refused_claim(peer, error))?;
            claim.write(&kind.to_word());
            claim.write(part);
            claim.commit();
            *at += part.len();
            if *at == bytes.len() {
                *parts = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Longest item that goes as one frame: four fit the ring, so that neither side waits for every single one.
fn whole(producer: &Producer) -> usize {
    producer.layout().capacity() / 4 - WORD - 2 * END_FRAME
}

#[cold]
fn finished(peer: &Peer) -> Status {
    peer.status(Code::FailedPrecondition, "this direction was finished, no item can follow")
        .with_outcome(Outcome::NotRun)
}

#[cold]
fn refused_claim(peer: &Peer, error: ClaimError) -> Status {
    let code = match error {
        ClaimError::Closed => return peer.status(Code::Cancelled, "the other side takes no more items"),
        ClaimError::TimedOut { .. } => {
            return peer.status(Code::DeadlineExceeded, "the deadline passed while the stream was full");
        }
        ClaimError::ForkedHandle => Code::FailedPrecondition,
        ClaimError::CannotWait { .. } | ClaimError::TooLarge { .. } => Code::ResourceExhausted,
        _ => Code::Internal,
    };
    peer.status(code, error)
}

/// What a failed send comes to, if it was not the other side's will that closed the ring.
#[cold]
fn why_closed(producer: &Producer, peer: &Peer, alarm: &Alarm, status: Status) -> Status {
    if status.code() != Code::Cancelled {
        return status;
    }
    if producer.control().stats().consumer.end == End::Died {
        return peer.gone();
    }
    // The other side may notice a little earlier.
    if alarm.is_late() { peer.late() } else { status }
}

impl StreamSender for Sender {
    fn send(&mut self, item: &(dyn Encode + Sync), deadline: Option<Deadline>) -> Result<(), Status> {
        self.parts = None;
        let until = self.until.of(deadline);
        match self.put(item, &mut Blocking(until)) {
            Poll::Ready(sent) => sent.map_err(|status| self.explained(status)),
            // A thread waits until it is answered.
            Poll::Pending => Ok(()),
        }
    }

    fn poll_send(&mut self, cx: &mut Wakers<'_>, item: &(dyn Encode + Sync)) -> Poll<Result<(), Status>> {
        let (mut turn, mut alarm) = (std::mem::take(&mut self.turn), std::mem::take(&mut self.alarm));
        let sent = self.put(item, &mut Polled(cx, &mut turn, &mut alarm));
        (self.turn, self.alarm) = (turn, alarm);
        sent.map_err(|status| self.explained(status))
    }

    fn give_up(&mut self) {
        self.parts = None;
        self.turn = Turn::default();
    }

    fn finish(&mut self) -> Result<(), Status> {
        self.give_up();
        let Some(mut producer) = self.producer.take() else { return Ok(()) };
        let lease = self.lease.take();
        if let Err(error) = producer.try_send(&Kind::End.to_word()) {
            if let Some(lease) = lease {
                lease.lost();
            }
            return Err(why_closed(&producer, &self.peer, &self.alarm, refused_claim(&self.peer, error)));
        }
        if let Some(lease) = lease {
            lease.back(Ends { producer: Some(producer), consumer: None });
        }
        Ok(())
    }
}

impl Sender {
    #[cold]
    fn explained(&self, status: Status) -> Status {
        match &self.producer {
            Some(producer) => why_closed(producer, &self.peer, &self.alarm, status),
            None => status,
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Closes the ring before anybody is told that it is not in use any more.
        drop(self.producer.take());
        if let Some(lease) = self.lease.take() {
            lease.lost();
        }
    }
}
