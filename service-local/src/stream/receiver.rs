//! The receiving end of one direction.

use std::fmt;
use std::sync::Arc;
use std::task::{Context as Wakers, Poll, ready};
use std::time::Instant;

use rkyv::util::AlignedVec;
use service_core::{Assurance, Code, Deadline, Decode, Status, StreamReceiver};
use shm_ring::RecvError;
use shm_ring::spsc::{Consumer, End, Frame, Turn};

use super::alarm::Alarm;
use super::frame::Kind;
use super::until::Until;
use super::{Ends, Lease, MAX_ITEM, Peer};

/// The receiving end. Dropped before the end of the stream, it closes the ring.
pub(crate) struct Receiver {
    state: State,
    /// The place in line of a task that waits for an item.
    turn: Turn,
    /// What has come of an item in parts, and how long it will be.
    parts: Option<(AlignedVec, usize)>,
    /// On what items are read.
    assurance: Option<Assurance>,
    alarm: Alarm,
    until: Until,
    peer: Peer,
    lease: Option<Arc<Lease>>,
}

/// How far it is.
enum State {
    Open(Box<Consumer>),
    /// The other side has said that no more comes.
    Ended,
    /// No more will come, for this reason.
    Broken(Status),
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Open(_) => "open",
            State::Ended => "ended",
            State::Broken(_) => "broken",
        };
        f.debug_struct("Receiver").field("peer", &self.peer).field("state", &state).finish_non_exhaustive()
    }
}

/// How whoever receives waits for a frame.
trait Waits {
    fn recv<'c>(&mut self, consumer: &'c mut Consumer) -> Poll<Result<Frame<'c>, RecvError>>;
}

/// As a thread.
struct Blocking(Option<Instant>);

impl Waits for Blocking {
    #[inline]
    fn recv<'c>(&mut self, consumer: &'c mut Consumer) -> Poll<Result<Frame<'c>, RecvError>> {
        Poll::Ready(match self.0 {
            None => consumer.recv(),
            Some(deadline) => consumer.recv_deadline(deadline),
        })
    }
}

/// As a task.
struct Polled<'a, 'w>(&'a Wakers<'w>, &'a mut Turn, &'a mut Alarm);

impl Waits for Polled<'_, '_> {
    #[inline]
    fn recv<'c>(&mut self, consumer: &'c mut Consumer) -> Poll<Result<Frame<'c>, RecvError>> {
        match consumer.poll_recv(self.0, self.1) {
            Poll::Ready(Err(RecvError::CannotWait { .. })) => {
                self.2.poll(self.0, true).map(|()| Err(RecvError::TimedOut))
            }
            Poll::Ready(received) => {
                self.2.found();
                Poll::Ready(received)
            }
            Poll::Pending => self.2.poll(self.0, false).map(|()| Err(RecvError::TimedOut)),
        }
    }
}

/// What a frame came to.
enum Step {
    Item(Result<(), Status>),
    /// More frames belong to the item.
    Part,
    End,
    /// No honest sender writes this.
    Impossible(&'static str),
}

impl Receiver {
    /// Over a ring's consuming end. A task's waiting ends with the call's deadline. With a lease it goes back when the stream has ended well.
    pub(crate) fn new(
        consumer: Box<Consumer>,
        deadline: Option<Deadline>,
        assurance: Option<Assurance>,
        peer: Peer,
        lease: Option<Arc<Lease>>,
    ) -> Self {
        Self {
            state: State::Open(consumer),
            turn: Turn::default(),
            parts: None,
            assurance,
            alarm: Alarm::new(deadline),
            until: Until::default(),
            peer,
            lease,
        }
    }

    fn take(&mut self, item: &mut dyn Decode, waits: &mut impl Waits) -> Poll<Result<bool, Status>> {
        let Self { state, parts, assurance, peer, .. } = self;
        let step = loop {
            let consumer = match state {
                State::Open(consumer) => consumer,
                State::Ended => return Poll::Ready(Ok(false)),
                State::Broken(status) => return Poll::Ready(Err(status.clone())),
            };
            let step = match ready!(waits.recv(consumer)) {
                Ok(frame) => read(frame.bytes(), parts, *assurance, item),
                Err(RecvError::TimedOut) => {
                    let text = "no item came before the deadline";
                    return Poll::Ready(Err(peer.status(Code::DeadlineExceeded, text)));
                }
                Err(error @ RecvError::CannotWait { .. }) => {
                    return Poll::Ready(Err(peer.status(Code::ResourceExhausted, error)));
                }
                Err(error) => break Err(error),
            };
            if !matches!(step, Step::Part) {
                break Ok(step);
            }
        };
        Poll::Ready(match step {
            Ok(Step::Item(read)) => read.map(|()| true),
            Ok(Step::End) => {
                self.end();
                Ok(false)
            }
            Ok(Step::Impossible(what)) => Err(self.break_off(|peer, _, _| peer.status(Code::Internal, what))),
            Ok(Step::Part) => Ok(false), // left in the loop
            Err(error) => Err(self.break_off(|peer, consumer, is_late| broken(peer, consumer, is_late, error))),
        })
    }

    /// The ring has ended well, and can be used again.
    #[cold]
    fn end(&mut self) {
        self.forget();
        let before = std::mem::replace(&mut self.state, State::Ended);
        if let (State::Open(consumer), Some(lease)) = (before, self.lease.take()) {
            lease.back(Ends { producer: None, consumer: Some(consumer) });
        }
    }

    /// No more will come of it.
    #[cold]
    fn break_off(&mut self, why: impl FnOnce(&Peer, &Consumer, bool) -> Status) -> Status {
        self.forget();
        if let State::Open(consumer) = &self.state {
            self.state = State::Broken(why(&self.peer, consumer, self.alarm.is_late()));
            self.let_go();
        }
        match &self.state {
            State::Broken(status) => status.clone(),
            _ => self.peer.status(Code::Internal, "the end was said already"),
        }
    }

    /// Lets go of what belongs to waiting and to items in parts.
    fn forget(&mut self) {
        self.parts = None;
        self.turn = Turn::default();
    }

    fn let_go(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.lost();
        }
    }
}

/// Looks at a frame, and decodes the item if it is whole.
#[inline]
fn read(
    frame: &[u8],
    parts: &mut Option<(AlignedVec, usize)>,
    assurance: Option<Assurance>,
    item: &mut dyn Decode,
) -> Step {
    match Kind::split(frame) {
        Some((Kind::Item, bytes)) => Step::Item(decode(bytes, assurance, item)),
        Some((kind, bytes)) => read_part(kind, bytes, parts, assurance, item),
        None => Step::Impossible("the other side wrote an impossible frame"),
    }
}

#[cold]
fn read_part(
    kind: Kind,
    bytes: &[u8],
    parts: &mut Option<(AlignedVec, usize)>,
    assurance: Option<Assurance>,
    item: &mut dyn Decode,
) -> Step {
    match kind {
        Kind::End => return Step::End,
        Kind::First(total) if total > MAX_ITEM => {
            return Step::Impossible("the other side began an item that is too long");
        }
        Kind::First(total) => *parts = Some((AlignedVec::new(), total)),
        Kind::Further | Kind::Item => {}
    }
    let Some((came, total)) = parts else {
        return Step::Impossible("the other side went on with an item that it had not begun");
    };
    // Empty parts would cost work for nothing, as many as there are.
    if bytes.is_empty() || bytes.len() > *total - came.len() {
        return Step::Impossible("the other side sent a part that does not fit its item");
    }
    came.extend_from_slice(bytes);
    if came.len() < *total {
        return Step::Part;
    }
    let read = decode(came, assurance, item);
    *parts = None;
    Step::Item(read)
}

#[inline]
fn decode(bytes: &[u8], assurance: Option<Assurance>, item: &mut dyn Decode) -> Result<(), Status> {
    match assurance {
        None => item.decode(bytes),
        Some(assurance) => item.decode_assured(bytes, assurance),
    }
}

/// Why nothing will come of a ring any more although its end was not said.
#[cold]
fn broken(peer: &Peer, consumer: &Consumer, is_late: bool, error: RecvError) -> Status {
    match error {
        RecvError::Closed if consumer.control().stats().producer.end == End::Died => peer.gone(),
        // The other side may notice a little earlier.
        RecvError::Closed if is_late => peer.late(),
        RecvError::Closed => peer.status(Code::Cancelled, "the other side broke off"),
        RecvError::ForkedHandle => peer.status(Code::FailedPrecondition, error),
        _ => peer.status(Code::Internal, error),
    }
}

impl StreamReceiver for Receiver {
    fn recv(&mut self, item: &mut (dyn Decode + Send), deadline: Option<Deadline>) -> Result<bool, Status> {
        let until = self.until.of(deadline);
        match self.take(item, &mut Blocking(until)) {
            Poll::Ready(taken) => taken,
            // A thread waits until it is answered.
            Poll::Pending => Ok(false),
        }
    }

    fn poll_recv(&mut self, cx: &mut Wakers<'_>, item: &mut (dyn Decode + Send)) -> Poll<Result<bool, Status>> {
        let (mut turn, mut alarm) = (std::mem::take(&mut self.turn), std::mem::take(&mut self.alarm));
        let taken = self.take(item, &mut Polled(cx, &mut turn, &mut alarm));
        (self.turn, self.alarm) = (turn, alarm);
        taken
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Closes the ring before anybody is told that it is not in use any more.
        self.state = State::Ended;
        self.let_go();
    }
}
