//! What ties a producer to its queue: the socket, and the watch over the consumer's life.

use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::super::layout::{DownLayout, MpscLayout};
use super::super::ring::{Ring, Role};
use super::super::sender::{Doorbell, Sender, Sending};
use super::address::QueueAddress;
use super::welcome::{self, Given, Welcome};
use crate::error::Error;
use crate::event::EventFd;
use crate::ready::{ReadyLayout, ReadySet, Ringer};
use crate::rendezvous::{Connection, Event, Next, RuntimeDir, Watch, Watched, own_uid, watch};
use crate::segment::{ReadOnly, Segment};

/// How long a live consumer may take to answer: its watcher thread makes the lane.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a producer tells the consumer of a queue of its frames.
#[derive(Debug)]
pub(in super::super) struct LaneBell {
    ready: ReadySet,
    index: u32,
}

impl LaneBell {
    #[inline]
    pub(in super::super) fn announce(&self, ring: &Ring) {
        self.ready.announce(self.index, ring.watch());
    }

    pub(in super::super) fn ring(&self) {
        self.ready.ring(self.index);
    }
}

/// Kept by the producer's handles. Dropped, the consumer learns that the producer is gone.
#[derive(Debug)]
pub(in super::super) struct Link {
    address: QueueAddress,
    tag: Box<[u8]>,
    _watches: [Watch; 2],
    connection: Connection,
}

impl Link {
    /// Tells the consumer that the producer is gone: the end of the descriptor does not while a child has a copy of it.
    pub(in super::super) fn hang_up(&self) {
        self.connection.hang_up();
    }

    pub(in super::super) fn address(&self) -> &QueueAddress {
        &self.address
    }

    pub(in super::super) fn tag(&self) -> &[u8] {
        &self.tag
    }
}

/// Connects to a queue and takes the lane that is given.
pub(super) fn open(dir: &RuntimeDir, address: &QueueAddress) -> Result<Sender, Error> {
    let connection = Connection::connect(dir, address.name(), PATIENCE)?;
    let consumer = connection.peer().uid;
    let bad = |what| Error::BadMessage { during: "opening a queue", what };
    if !dir.vouches_for(consumer) {
        return Err(bad(format!("it is served by user {consumer}, who does not own its directory")));
    }
    let received = connection
        .receive_within(PATIENCE)?
        .ok_or_else(|| bad(format!("no answer from process {} in {} s", connection.peer().pid, PATIENCE.as_secs())))?;
    let Welcome { index, tag, given } = welcome::read(received)?;
    let (ring, bell, space) = match given {
        Given::Shared { lane, ready, data, space } if consumer == own_uid() => {
            let ready = ReadySet::new(&Segment::<ReadyLayout>::open(ready.as_fd())?);
            if index >= ready.lanes() {
                return Err(Error::Corrupt { what: "lane index", found: index.into(), at: 0 });
            }
            let ring = Ring::new(&Segment::<MpscLayout>::open(lane.as_fd())?);
            let bell = LaneBell { ready: ready.with_event(EventFd::from_fd(data)?), index };
            (ring, Doorbell::Lane(bell), Some(EventFd::from_fd(space)?))
        }
        Given::Shared { .. } => return Err(bad(format!("user {consumer} offers a lane for its own processes"))),
        Given::Isolated { up, down, rope } => {
            let down = ReadOnly::<DownLayout>::open(down.as_fd())?;
            let ring = Ring::split(&Segment::<MpscLayout>::open(up.as_fd())?, down.memory());
            // No eventfd for room: both sides would hold it, and either could make the other's next write block.
            (ring, Doorbell::Rope(Ringer::from_fd(rope)?), None)
        }
    };
    ring.take_role(Role::Producers)?;
    let space = ring.space_signal(space);
    let sending = Arc::new(Sending::new(ring, bell, space));
    let end = Arc::new(ConsumerGone(Arc::downgrade(&sending)));
    let hang_up = watch(connection.fd(), false, None, Arc::clone(&end) as Arc<dyn Watched>)?;
    let death = watch(Arc::new(connection.peer().pidfd()?), true, None, end)?;
    sending.keep(Link { address: address.clone(), tag, _watches: [hang_up, death], connection });
    Ok(Sender::over(sending))
}

/// Told when the consumer's socket hangs up or its process dies.
struct ConsumerGone(Weak<Sending>);

impl Watched for ConsumerGone {
    fn on_event(&self, _event: Event) -> Next {
        if let Some(sending) = self.0.upgrade() {
            sending.consumer_died();
        }
        Next::Stop
    }
}
