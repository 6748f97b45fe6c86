//! Rival: rtrb, a ring between two threads.

use super::{Inlet, Outlet};
use crate::message::{Message, Source};
use crate::subject::Failure;

impl<M: Message> Outlet<M> for rtrb::Producer<M> {
    #[inline]
    fn put(&mut self, message: &M) -> Result<(), Failure> {
        while self.push(*message).is_err() {
            std::hint::spin_loop();
        }
        Ok(())
    }

    #[inline]
    fn put_batch(&mut self, source: &mut Source<M>, count: usize, ends_chunk: bool) -> Result<(), Failure> {
        let chunk = loop {
            match self.write_chunk_uninit(count) {
                Ok(chunk) => break chunk,
                Err(_full) => std::hint::spin_loop(),
            }
        };
        chunk.fill_from_iter((1..=count).map(|number| *source.next(ends_chunk && number == count)));
        Ok(())
    }
}

impl<M: Message> Inlet<M> for rtrb::Consumer<M> {
    #[inline]
    fn take(&mut self, read: impl FnMut(&[u8])) -> Result<(), Failure> {
        self.take_batch(1, read)
    }

    /// Reads in place: a chunk of what is there.
    #[inline]
    fn take_batch(&mut self, most: usize, mut read: impl FnMut(&[u8])) -> Result<(), Failure> {
        loop {
            let there = if most == 1 { 1 } else { self.slots().min(most) };
            if there > 0
                && let Ok(chunk) = self.read_chunk(there)
            {
                let (first, second) = chunk.as_slices();
                first.iter().chain(second).for_each(|message| read(message.bytes()));
                chunk.commit_all();
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }
}
