//! A shared ring in the manner of Agrona: claims by compare-exchange on one tail, read in groups.

use super::{Inlet, Outlet};
use crate::bare::mpsc::{Consumer, Producer};
use crate::message::Message;
use crate::subject::Failure;

/// Messages that the consumer reads before it gives their space back.
const GROUP: usize = 64;

/// Looks for room before a producer gives its processor away: many of them share one.
const LOOKS_PER_YIELD: u32 = 64;

impl<M: Message> Outlet<M> for Producer {
    /// The original leaves waiting to an idle strategy: this one spins, then yields.
    #[inline]
    fn put(&mut self, message: &M) -> Result<(), Failure> {
        let mut looks = 0u32;
        while !self.try_put_bytes(message.bytes()) {
            looks += 1;
            if looks.is_multiple_of(LOOKS_PER_YIELD) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }
}

impl<M: Message> Inlet<M> for Consumer {
    #[inline]
    fn take(&mut self, mut read: impl FnMut(&[u8])) -> Result<(), Failure> {
        while self.take_bytes(GROUP, &mut read) == 0 {
            std::hint::spin_loop();
        }
        Ok(())
    }
}
