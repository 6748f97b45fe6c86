//! Rival: crossbeam-channel's bounded channel between threads; sending and receiving block.

use crossbeam_channel::{Receiver, Sender};

use super::{Inlet, Outlet};
use crate::message::Message;
use crate::subject::Failure;

impl<M: Message> Outlet<M> for Sender<M> {
    #[inline]
    fn put(&mut self, message: &M) -> Result<(), Failure> {
        Ok(self.send(*message)?)
    }
}

impl<M: Message> Inlet<M> for Receiver<M> {
    #[inline]
    fn take(&mut self, mut read: impl FnMut(&[u8])) -> Result<(), Failure> {
        read(self.recv()?.bytes());
        Ok(())
    }
}
