//! Rival: ipc-channel's channel of bytes; sending and receiving block in the kernel.

use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, channel};

use super::{Inlet, Outlet};
use crate::message::Message;
use crate::subject::Failure;

/// How a producer's process asks for its sender: it sends the place to send it to.
type Ask = IpcSender<IpcBytesSender>;

/// The consumer's side of handing a sender to another process.
pub struct Handing(IpcOneShotServer<Ask>);

impl std::fmt::Debug for Handing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handing").finish_non_exhaustive()
    }
}

impl Handing {
    /// Opens a place to ask at, and gives its name.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn new() -> Result<(Self, String), Failure> {
        let (server, name) = IpcOneShotServer::new()?;
        Ok((Self(server), name))
    }

    /// Answers the one who asks; blocks until it does.
    ///
    /// # Errors
    /// Nobody can be accepted or answered.
    pub fn give(self, sender: &IpcBytesSender) -> Result<(), Failure> {
        let (_, ask) = self.0.accept()?;
        Ok(ask.send(sender.clone())?)
    }
}

/// Asks for a sender at the place of this name. `asked` is called once the other side can answer.
///
/// # Errors
/// Nobody is there, or the answer does not come.
pub fn ask(name: &str, asked: impl FnOnce() -> Result<(), Failure>) -> Result<IpcBytesSender, Failure> {
    let (answer_to, answer) = channel()?;
    IpcSender::<Ask>::connect(name.to_owned())?.send(answer_to)?;
    asked()?;
    Ok(answer.recv()?)
}

impl<M: Message> Outlet<M> for IpcBytesSender {
    #[inline]
    fn put(&mut self, message: &M) -> Result<(), Failure> {
        Ok(self.send(message.bytes())?)
    }
}

impl<M: Message> Inlet<M> for IpcBytesReceiver {
    #[inline]
    fn take(&mut self, mut read: impl FnMut(&[u8])) -> Result<(), Failure> {
        read(&self.recv()?);
        Ok(())
    }
}
