//! Ours: the ring of frames of any length between one producer and one consumer, in sealed shared memory.
//!
//! Both ends wait by the forms that poll and then sleep; nobody sleeps within a chunk.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use shm_ring::spsc::{Consumer, Events, Producer, SpscLayout};
use shm_ring::{ClaimError, Segment};

use super::{Inlet, Outlet};
use crate::message::{Message, Source};
use crate::subject::Failure;

/// Long enough that nobody sleeps within a chunk.
const SPIN: Duration = Duration::from_millis(2);

/// The segment of a ring, and where a peer finds it.
#[derive(Debug)]
pub struct Ring {
    segment: Segment<SpscLayout>,
    file: OwnedFd,
}

impl Ring {
    /// Makes a ring with `capacity` bytes.
    ///
    /// # Errors
    /// What the ring's crate answers.
    pub fn create(capacity: usize) -> Result<Self, Failure> {
        let (segment, file) = Segment::memfd("bench", SpscLayout::new(capacity)?, 1)?;
        Ok(Self { segment, file })
    }

    /// Opens the ring that another process made.
    ///
    /// # Errors
    /// It cannot be opened, or is none.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = OwnedFd::from(File::options().read(true).write(true).open(path)?);
        Ok(Self { segment: Segment::open(file.as_fd())?, file })
    }

    /// Where another process finds the ring while this one keeps it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Becomes the producer.
    ///
    /// # Errors
    /// The ring has one.
    pub fn producer(&self) -> Result<Producer, Failure> {
        let mut producer = Producer::attach(&self.segment, Events::default())?;
        producer.set_spin(SPIN);
        Ok(producer)
    }

    /// Becomes the consumer.
    ///
    /// # Errors
    /// The ring has one.
    pub fn consumer(&self) -> Result<Consumer, Failure> {
        let mut consumer = Consumer::attach(&self.segment, Events::default())?;
        consumer.set_spin(SPIN);
        Ok(consumer)
    }
}

impl<M: Message> Outlet<M> for Producer {
    #[inline(always)]
    fn put(&mut self, message: &M) -> Result<(), Failure> {
        Ok(self.send(message.bytes())?)
    }

    #[inline]
    fn put_batch(&mut self, source: &mut Source<M>, count: usize, ends_chunk: bool) -> Result<(), Failure> {
        let mut batch = self.batch();
        for number in 1..=count {
            let bytes = source.next(ends_chunk && number == count).bytes();
            match batch.try_send(bytes) {
                Ok(()) => {}
                Err(ClaimError::Full { .. }) => {
                    batch.commit();
                    self.send(bytes)?;
                    batch = self.batch();
                }
                Err(error) => return Err(error.into()),
            }
        }
        batch.commit();
        Ok(())
    }
}

impl<M: Message> Inlet<M> for Consumer {
    #[inline]
    fn take(&mut self, mut read: impl FnMut(&[u8])) -> Result<(), Failure> {
        read(self.recv()?.bytes());
        Ok(())
    }

    #[inline]
    fn take_batch(&mut self, most: usize, mut read: impl FnMut(&[u8])) -> Result<(), Failure> {
        if self.drain(most, |frame| read(frame.bytes())) == 0 {
            read(self.recv()?.bytes());
        }
        Ok(())
    }
}

/// Records of one length by many to a frame: a batch has one header and is published by one store.
#[derive(Debug)]
pub struct Records<T> {
    end: T,
    /// Where small records are put side by side first: cheaper than a look at the claim for each.
    small: Vec<u8>,
}

/// Records from here on are written into the claim, one by one.
const LARGE: usize = 1024;

impl<T> Records<T> {
    /// Over this end of a ring.
    #[must_use]
    pub fn over(end: T) -> Self {
        Self { end, small: Vec::new() }
    }
}

impl<M: Message> Outlet<M> for Records<Producer> {
    #[inline]
    fn put(&mut self, message: &M) -> Result<(), Failure> {
        self.end.put(message)
    }

    #[inline]
    fn put_batch(&mut self, source: &mut Source<M>, count: usize, ends_chunk: bool) -> Result<(), Failure> {
        if M::BYTES >= LARGE {
            let mut claim = self.end.claim(count * M::BYTES)?;
            for number in 1..=count {
                claim.write(source.next(ends_chunk && number == count).bytes());
            }
            claim.commit();
            return Ok(());
        }
        self.small.resize(count * M::BYTES, 0);
        for (number, record) in (1..).zip(self.small.chunks_exact_mut(M::BYTES)) {
            record.copy_from_slice(source.next(ends_chunk && number == count).bytes());
        }
        Ok(self.end.send(&self.small)?)
    }
}

impl<M: Message> Inlet<M> for Records<Consumer> {
    #[inline]
    fn take(&mut self, mut read: impl FnMut(&[u8])) -> Result<(), Failure> {
        self.end.recv()?.bytes().chunks_exact(M::BYTES).for_each(&mut read);
        Ok(())
    }
}
