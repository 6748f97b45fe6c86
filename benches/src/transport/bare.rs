//! The bare ring of one producer and one consumer.

use super::{Inlet, Outlet};
use crate::bare::spsc::{Consumer, Producer};
use crate::message::{Message, Source};
use crate::subject::Failure;

impl<M: Message> Outlet<M> for Producer {
    #[inline]
    fn put(&mut self, message: &M) -> Result<(), Failure> {
        self.put_bytes(message.bytes());
        Ok(())
    }

    #[inline]
    fn put_batch(&mut self, source: &mut Source<M>, count: usize, ends_chunk: bool) -> Result<(), Failure> {
        let mut batch = self.batch(count, M::BYTES);
        for number in 1..=count {
            batch.add(source.next(ends_chunk && number == count).bytes());
        }
        batch.publish();
        Ok(())
    }
}

impl<M: Message> Inlet<M> for Consumer {
    #[inline]
    fn take(&mut self, read: impl FnMut(&[u8])) -> Result<(), Failure> {
        self.take_bytes(read);
        Ok(())
    }
}
