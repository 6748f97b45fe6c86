//! The rings and channels under measurement, all behind the same two ends.
//!
//! An end waits in the way that suits the row: two threads with a core each spin, many producers on one core use what
//! their library offers for waiting. Everything else is what the documentation of each library recommends.

use crate::message::{Message, Source};
use crate::subject::Failure;

pub mod agrona;
pub mod bare;
pub mod crossbeam;
pub mod iceoryx2;
pub mod ipc;
pub mod ours_mpsc;
pub mod ours_spsc;
pub mod rtrb;
pub mod shaq;

/// The sending end.
pub trait Outlet<M: Message> {
    /// Sends one message; waits while there is no room.
    ///
    /// # Errors
    /// What the library answers.
    fn put(&mut self, message: &M) -> Result<(), Failure>;

    /// Sends the next `count` messages of `source` as one batch, where the library has such a thing.
    ///
    /// # Errors
    /// What the library answers.
    #[inline]
    fn put_batch(&mut self, source: &mut Source<M>, count: usize, ends_chunk: bool) -> Result<(), Failure> {
        for number in 1..=count {
            self.put(source.next(ends_chunk && number == count))?;
        }
        Ok(())
    }
}

/// The receiving end.
pub trait Inlet<M: Message> {
    /// Shows one message to `read`; waits until there is one.
    ///
    /// # Errors
    /// What the library answers.
    fn take(&mut self, read: impl FnMut(&[u8])) -> Result<(), Failure>;

    /// Shows up to `most` messages that are there, at least one; waits until there is one.
    ///
    /// # Errors
    /// What the library answers.
    #[inline]
    fn take_batch(&mut self, _most: usize, read: impl FnMut(&[u8])) -> Result<(), Failure> {
        self.take(read)
    }
}
