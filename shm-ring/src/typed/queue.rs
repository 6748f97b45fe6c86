//! Queues between processes that carry messages of one type.

use super::{Message, Receiver, Sender, TypeTag};
use crate::error::Error;
use crate::mpsc::{self, Queue, QueueAddress, QueueOptions};

impl QueueOptions {
    /// Creates the queue for messages of type `T`. As [`create`](Self::create), with the [`TypeTag`] of `T` as the tag.
    ///
    /// # Errors
    /// Those of [`create`](Self::create).
    pub fn create_of<T: Message + ?Sized>(&self, address: &QueueAddress) -> Result<Receiver<T, Queue>, Error> {
        let queue = self.clone().tag(&TypeTag::of::<T>().to_bytes()).create(address)?;
        Ok(Receiver::new(queue))
    }

    /// Opens a queue as a producer of messages of type `T`. As [`open`](Self::open).
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`Error::TypeMismatch`] if the queue was created for another type, or for none.
    pub fn open_of<T: Message + ?Sized>(&self, address: &QueueAddress) -> Result<Sender<T, mpsc::Sender>, Error> {
        let sender = self.open(address)?;
        TypeTag::of::<T>().check(sender.tag())?;
        Ok(Sender::new(sender))
    }
}
