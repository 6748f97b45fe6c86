//! The memory and the eventfds of a call's rings: made by the client, checked by the service.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use service_core::Shape;
use shm_ring::spsc::{Consumer, Control, Events, Producer, SpscLayout};
use shm_ring::{Error, EventFd, Segment, Trust};

use super::{Ends, RING_BYTES};

/// Descriptors of one ring: its memory, the consumer's eventfd, the producer's; between sides that trust each other too
/// little for the same eventfds (see [`alarm`](super::alarm)), its memory alone.
const FDS: usize = 3;

/// Descriptors that are announced at most.
const MAX_FDS: usize = 2 * FDS;

/// What both processes have of one ring.
#[derive(Debug)]
struct Ring {
    segment: Segment<SpscLayout>,
    events: Events,
}

/// The rings of a call: those of the directions that its shape has.
#[derive(Debug)]
pub(crate) struct Rings {
    /// For items of the client's.
    up: Option<Ring>,
    /// For items of the service's.
    down: Option<Ring>,
}

impl Ring {
    fn make(trust: Trust, announced: &mut Vec<OwnedFd>) -> Result<Self, Error> {
        let (segment, memory) = Segment::memfd("switchboard-stream", SpscLayout::new(RING_BYTES)?, 0)?;
        announced.push(memory);
        if trust.is_isolated() {
            return Ok(Self { segment, events: Events::default() });
        }
        let (data, space) = (EventFd::new()?, EventFd::new()?);
        announced.extend([copy(data.as_fd())?, copy(space.as_fd())?]);
        Ok(Self { segment, events: Events { data: Some(data), space: Some(space) } })
    }

    fn heap() -> Result<Self, Error> {
        Ok(Self { segment: Segment::heap(SpscLayout::new(RING_BYTES)?, 0), events: Events::new()? })
    }

    /// One that a client made: the service's streams have all the same shape, and so no room for more is given away.
    fn open(fds: &mut impl Iterator<Item = OwnedFd>, trust: Trust) -> Result<Self, Error> {
        let mut next = || {
            let what = "too few descriptors for the rings of a stream".to_owned();
            fds.next().ok_or(Error::BadMessage { during: "announcing a stream", what })
        };
        let segment: Segment<SpscLayout> = Segment::open(next()?.as_fd())?;
        let (found, expected) = (segment.bytes() as u64, shm_ring::Layout::bytes(&SpscLayout::new(RING_BYTES)?) as u64);
        if found != expected || segment.layout().capacity() != RING_BYTES {
            return Err(Error::BadSegment { what: "size of a stream's ring", found, expected });
        }
        if trust.is_isolated() {
            return Ok(Self { segment, events: Events::default() });
        }
        let (data, space) = (EventFd::from_fd(next()?)?, EventFd::from_fd(next()?)?);
        let events = Events { data: Some(data), space: Some(space) };
        Ok(Self { segment, events })
    }

    fn producer(&self, spin: Option<Duration>) -> Result<Box<Producer>, Error> {
        let mut producer = Producer::attach(&self.segment, self.events.clone())?;
        if let Some(spin) = spin {
            producer.set_spin(spin);
        }
        Ok(Box::new(producer))
    }

    fn consumer(&self, trust: Trust, spin: Option<Duration>) -> Result<Box<Consumer>, Error> {
        let mut consumer = Consumer::attach(&self.segment, self.events.clone())?.with_trust(trust);
        if let Some(spin) = spin {
            consumer.set_spin(spin);
        }
        Ok(Box::new(consumer))
    }

    fn control(&self) -> Control {
        Control::over(&self.segment, self.events.clone())
    }
}

fn copy(fd: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let exhausted = |source| Error::ResourceExhausted { what: "descriptor of a stream", bytes: 0, source };
    fd.try_clone_to_owned().map_err(exhausted)
}

impl Rings {
    /// Makes the rings of a shape, and the descriptors to be announced. Some ten system calls for each.
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] if there is no memory or no descriptor left.
    pub(crate) fn make(shape: Shape, trust: Trust) -> Result<(Self, Vec<OwnedFd>), Error> {
        let mut announced = Vec::with_capacity(MAX_FDS);
        let mut make = |is_there: bool| -> Result<Option<Ring>, Error> {
            if !is_there {
                return Ok(None);
            }
            Ring::make(trust, &mut announced).map(Some)
        };
        let rings = Self { up: make(shape.has_client_items())?, down: make(shape.has_server_items())? };
        Ok((rings, announced))
    }

    /// Rings between two parts of this process.
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] if no descriptor is left.
    pub(crate) fn heap(shape: Shape) -> Result<Self, Error> {
        let up = shape.has_client_items().then(Ring::heap).transpose()?;
        let down = shape.has_server_items().then(Ring::heap).transpose()?;
        Ok(Self { up, down })
    }

    /// Opens what a client announced, in the order in which [`make`](Self::make) gave the descriptors.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn open(shape: Shape, fds: Vec<OwnedFd>, trust: Trust) -> Result<Self, Error> {
        let mut fds = fds.into_iter();
        let up = shape.has_client_items().then(|| Ring::open(&mut fds, trust)).transpose()?;
        let down = shape.has_server_items().then(|| Ring::open(&mut fds, trust)).transpose()?;
        match fds.len() {
            0 => Ok(Self { up, down }),
            over => {
                let what = format!("{over} descriptors too many for {shape:?}");
                Err(Error::BadMessage { during: "announcing a stream", what })
            }
        }
    }

    /// The client's ends, which trusts the service so far, and whose threads poll so long before they sleep. Once.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`].
    pub(crate) fn client_ends(&self, trust: Trust, spin: Option<Duration>) -> Result<Ends, Error> {
        let producer = self.up.as_ref().map(|ring| ring.producer(spin)).transpose()?;
        let consumer = self.down.as_ref().map(|ring| ring.consumer(trust, spin)).transpose()?;
        Ok(Ends { producer, consumer })
    }

    /// The service's ends, likewise. Once.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`].
    pub(crate) fn server_ends(&self, trust: Trust, spin: Option<Duration>) -> Result<Ends, Error> {
        let producer = self.down.as_ref().map(|ring| ring.producer(spin)).transpose()?;
        let consumer = self.up.as_ref().map(|ring| ring.consumer(trust, spin)).transpose()?;
        Ok(Ends { producer, consumer })
    }

    /// What ends them when the other side is gone.
    pub(crate) fn controls(&self) -> Vec<Control> {
        self.up.iter().chain(&self.down).map(Ring::control).collect()
    }
}

/// Ends rings whose other side is gone: both ends learn of it, and what was sent before can still be received.
pub(crate) fn end(controls: &[Control]) {
    for control in controls {
        control.producer_died();
        control.consumer_died();
    }
}
