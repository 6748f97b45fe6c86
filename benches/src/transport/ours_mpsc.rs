//! Ours: the ring of cells with many producing threads, and the queue between processes; sending and receiving block.

use shm_ring::mpsc::{Queue, Receiver, Sender};

use super::{Inlet, Outlet};
use crate::message::Message;
use crate::subject::Failure;

/// Messages that the consumer takes in one go if they are there.
const GROUP: usize = 64;

impl<M: Message> Outlet<M> for Sender {
    #[inline]
    fn put(&mut self, message: &M) -> Result<(), Failure> {
        Ok(self.send(message.bytes())?)
    }
}

impl<M: Message> Inlet<M> for Receiver {
    #[inline]
    fn take(&mut self, mut read: impl FnMut(&[u8])) -> Result<(), Failure> {
        if self.drain(GROUP, |frame| read(frame.bytes())) == 0 {
            read(self.recv()?.bytes());
        }
        Ok(())
    }
}

impl<M: Message> Inlet<M> for Queue {
    #[inline]
    fn take(&mut self, mut read: impl FnMut(&[u8])) -> Result<(), Failure> {
        if self.drain(GROUP, |frame| read(frame.bytes())) == 0 {
            read(self.recv()?.bytes());
        }
        Ok(())
    }
}
