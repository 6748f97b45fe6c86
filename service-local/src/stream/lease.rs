//! Rings in use by one stream, and their way back to where they came from.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use service_core::{Assurance, Deadline, StreamReceiver, StreamSender};
use shm_ring::spsc::{Consumer, Producer};

use super::{Peer, Receiver, Sender};

/// This side's ends of a call's rings: those of the directions that it has.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Of the ring for items to the other side.
    pub(crate) producer: Option<Box<Producer>>,
    /// Of the ring for items from there.
    pub(crate) consumer: Option<Box<Consumer>>,
}

/// A call's ends of its streams, as service-core knows them.
pub(crate) type Streams = (Option<Box<dyn StreamSender>>, Option<Box<dyn StreamReceiver>>);

impl Ends {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.producer.is_some()) + usize::from(self.consumer.is_some())
    }

    /// For a call with this deadline, whose items are read on `assurance`. With a lease they go back when their streams
    /// have ended well.
    pub(crate) fn of_call(
        self,
        deadline: Option<Deadline>,
        assurance: Option<Assurance>,
        peer: &Peer,
        lease: Option<Arc<Lease>>,
    ) -> Streams {
        let Self { producer, consumer } = self;
        let sender = producer.map(|producer| {
            Box::new(Sender::new(producer, deadline, peer.clone(), lease.clone())) as Box<dyn StreamSender>
        });
        let receiver = consumer.map(|consumer| {
            Box::new(Receiver::new(consumer, deadline, assurance, peer.clone(), lease)) as Box<dyn StreamReceiver>
        });
        (sender, receiver)
    }
}

/// Whoever keeps a connection's rings between streams.
pub(crate) trait Owner: Send + Sync {
    /// The stream with this number has let go of its rings. They come back if both directions ended well and can be used
    /// again; else they are closed.
    fn settled(&self, number: u64, ends: Option<Ends>);
}

/// One use of a set of rings. The ends come back one by one, and the last one settles it.
pub(crate) struct Lease {
    number: u64,
    owner: Weak<dyn Owner>,
    state: Mutex<State>,
}

struct State {
    back: Ends,
    /// Ends that are still out.
    out: usize,
    is_broken: bool,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Lease {
    /// For so many ends.
    pub(crate) fn new(number: u64, owner: Weak<dyn Owner>, out: usize) -> Arc<Self> {
        Arc::new(Self { number, owner, state: Mutex::new(State { back: Ends::default(), out, is_broken: false }) })
    }

    /// An end of a direction that ended well.
    pub(super) fn back(&self, end: Ends) {
        self.settle(|state| {
            state.back.producer = state.back.producer.take().or(end.producer);
            state.back.consumer = state.back.consumer.take().or(end.consumer);
        });
    }

    /// One of a direction that did not; it is closed already.
    pub(super) fn lost(&self) {
        self.settle(|state| state.is_broken = true);
    }

    fn settle(&self, note: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        note(&mut state);
        state.out = state.out.saturating_sub(1);
        if state.out > 0 {
            return;
        }
        let (ends, is_broken) = (std::mem::take(&mut state.back), state.is_broken);
        drop(state);
        let ends = (!is_broken).then_some(ends);
        if let Some(owner) = self.owner.upgrade() {
            owner.settled(self.number, ends);
        }
    }
}
