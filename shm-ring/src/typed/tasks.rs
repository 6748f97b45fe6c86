//! Typed messages in tasks, at the ends that can wait there.

use super::sender::send;
use super::wire::Prepared;
use super::{Message, Received, Receiver, SendError, Sender};
use crate::error::RecvError;
use crate::{mpsc, spsc};

macro_rules! sends_in_tasks {
    ($producer:ty) => {
        impl<T: Message + ?Sized> Sender<T, $producer> {
            /// As [`send`](Self::send), for a task. While there is room: no system call, no lock. Dropped before it is
            /// ready, it has sent nothing.
            ///
            /// # Errors
            /// As [`send`](Self::send), and [`ClaimError::CannotWait`](crate::ClaimError::CannotWait) if the end was
            /// attached without [`Events`](crate::Events).
            pub async fn send_async(&mut self, message: &T) -> Result<(), SendError> {
                send!(self, message, claim_async(), send_async(), await)
            }
        }
    };
}

macro_rules! receives_in_tasks {
    ($consumer:ty, $frame:ident in $ring:ident) => {
        impl<T: Message + ?Sized> Receiver<T, $consumer> {
            /// As [`recv`](Self::recv), for a task. While there are messages: no system call, no lock. Dropped before it
            /// is ready, it has received nothing.
            ///
            /// # Errors
            /// As [`recv`](Self::recv), and [`RecvError::CannotWait`] if the end was attached without
            /// [`Events`](crate::Events).
            pub async fn recv_async(&mut self) -> Result<Received<'_, T, $ring::$frame<'_>>, RecvError> {
                let frame = self.end.recv_async().await?;
                Ok(Received::of(frame, &mut self.copied, &mut self.count))
            }
        }
    };
}

sends_in_tasks!(spsc::Producer);
sends_in_tasks!(mpsc::Sender);
receives_in_tasks!(spsc::Consumer, Frame in spsc);
receives_in_tasks!(mpsc::Receiver, Frame in mpsc);
