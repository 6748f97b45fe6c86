//! Rival: shaq's ring of one producer and one consumer, in memory shared by two processes.
#![allow(unsafe_code)] // shaq cannot check that a file is used once, nor the type behind it: joining is unsafe.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::MemfdFlags;

use super::{Inlet, Outlet};
use crate::message::{Message, Source};
use crate::subject::Failure;

/// The memory of a ring, and where a peer finds it.
#[derive(Debug)]
pub struct Ring {
    file: File,
}

/// The sending end.
pub struct Sending<M>(shaq::spsc::Producer<M>);

/// The receiving end.
pub struct Receiving<M>(shaq::spsc::Consumer<M>);

impl<M> std::fmt::Debug for Sending<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

impl<M> std::fmt::Debug for Receiving<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiving").finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes memory without a ring in it.
    ///
    /// # Errors
    /// The kernel gives no descriptor.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self { file: File::from(rustix::fs::memfd_create("shaq", MemfdFlags::CLOEXEC)?) })
    }

    /// Opens the memory that another process made, and its ring.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self { file: File::options().read(true).write(true).open(path)? })
    }

    /// Where another process finds the memory while this one keeps it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

/// Bytes of a ring with about `capacity` bytes of messages.
fn file_bytes<M: Message>(capacity: usize) -> usize {
    shaq::spsc::minimum_file_size::<M>(capacity / M::BYTES).next_multiple_of(4096)
}

fn refused(error: shaq::error::Error) -> Failure {
    format!("shaq: {error:?}").into()
}

impl<M: Message> Sending<M> {
    /// Makes the ring, with about `capacity` bytes of messages, and becomes its producer.
    ///
    /// # Errors
    /// shaq refuses it.
    pub fn create(ring: &Ring, capacity: usize) -> Result<Self, Failure> {
        // SAFETY: each row makes the ring in each memory once and gives each end of it to one owner; messages are
        // plain bytes.
        let producer = unsafe { shaq::spsc::Producer::create(&ring.file, file_bytes::<M>(capacity)) };
        producer.map(Self).map_err(refused)
    }

    /// Becomes the producer of a ring that was made for this type.
    ///
    /// # Errors
    /// shaq refuses it.
    pub fn join(ring: &Ring) -> Result<Self, Failure> {
        // SAFETY: each end of a ring has one owner, told the type that the ring was made for; messages are plain bytes.
        unsafe { shaq::spsc::Producer::join(&ring.file) }.map(Self).map_err(refused)
    }
}

impl<M: Message> Receiving<M> {
    /// Makes the ring, with about `capacity` bytes of messages, and becomes its consumer.
    ///
    /// # Errors
    /// shaq refuses it.
    pub fn create(ring: &Ring, capacity: usize) -> Result<Self, Failure> {
        // SAFETY: as for `Sending::create`.
        let consumer = unsafe { shaq::spsc::Consumer::create(&ring.file, file_bytes::<M>(capacity)) };
        consumer.map(Self).map_err(refused)
    }

    /// Becomes the consumer of a ring that was made for this type.
    ///
    /// # Errors
    /// shaq refuses it.
    pub fn join(ring: &Ring) -> Result<Self, Failure> {
        // SAFETY: as for `Sending::join`.
        unsafe { shaq::spsc::Consumer::join(&ring.file) }.map(Self).map_err(refused)
    }
}

impl<M: Message> Outlet<M> for Sending<M> {
    #[inline]
    fn put(&mut self, message: &M) -> Result<(), Failure> {
        while self.0.try_write(*message).is_err() {
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Messages of a batch that find no room wait for the next one.
    #[inline]
    fn put_batch(&mut self, source: &mut Source<M>, count: usize, ends_chunk: bool) -> Result<(), Failure> {
        let mut number = 1;
        let mut message = *source.next(ends_chunk && number == count);
        loop {
            let mut batch = self.0.write_batch();
            while batch.try_write(message).is_ok() {
                if number == count {
                    return Ok(());
                }
                number += 1;
                message = *source.next(ends_chunk && number == count);
            }
            drop(batch);
            std::hint::spin_loop();
        }
    }
}

impl<M: Message> Inlet<M> for Receiving<M> {
    #[inline]
    fn take(&mut self, read: impl FnMut(&[u8])) -> Result<(), Failure> {
        self.take_batch(1, read)
    }

    #[inline]
    fn take_batch(&mut self, most: usize, mut read: impl FnMut(&[u8])) -> Result<(), Failure> {
        let most = NonZeroUsize::new(most).ok_or("a batch of no messages")?;
        loop {
            if let Some(batch) = self.0.try_reserve_read_batch(most) {
                batch.iter().for_each(|message| read(message.bytes()));
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }
}
