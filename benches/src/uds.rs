//! Rival: a Unix stream socket, the plain way between two processes of one host.
//!
//! Length-prefixed messages, one write per message, one connection that is kept, blocking reads.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::payload::{self, Payload};
use crate::peer::{Peer, PeerEnd};
use crate::subject::{Failure, Samples, Subject};

/// The role of the peer process.
pub const ROLE: &str = "uds";
const PREFIX_BYTES: usize = 4;
const BODY_BYTES: usize = 64;
const MESSAGE_BYTES: usize = PREFIX_BYTES + BODY_BYTES;

/// A connection to an echo server over a Unix stream socket.
#[derive(Debug)]
pub struct UnixSocket {
    stream: UnixStream,
    _peer: Peer,
}

impl UnixSocket {
    /// Starts the peer on `peer_core` and connects to it through a socket in `directory`.
    ///
    /// # Errors
    /// The process or the connection cannot be made.
    pub fn start(directory: &Path, peer_core: usize) -> Result<Self, Failure> {
        let path = directory.join("uds.sock");
        let shown = path.to_str().ok_or("the socket's path is not UTF-8")?;
        let peer = Peer::start(ROLE, &[shown])?;
        let stream = UnixStream::connect(&path)?;
        peer.pin(peer_core)?;
        // The connection needs the name no more, and the next row may want it.
        std::fs::remove_file(&path)?;
        Ok(Self { stream, _peer: peer })
    }
}

impl Subject for UnixSocket {
    fn name(&self) -> &str {
        "Unix socket"
    }

    fn run(&mut self, time: Duration, samples: &mut Samples) -> Result<f64, Failure> {
        samples.time_calls(time, |body| {
            send(&mut self.stream, &body)?;
            Ok(receive(&mut self.stream)?)
        })
    }
}

/// The peer's side: answers one connection until it is closed.
///
/// # Errors
/// The socket cannot be made, or a message is not what was agreed.
pub fn serve(mut end: PeerEnd, path: PathBuf) -> Result<(), Failure> {
    let listener = UnixListener::bind(path)?;
    end.ready()?;
    let (mut stream, _) = listener.accept()?;
    loop {
        let request = match receive(&mut stream) {
            Ok(request) => request,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let reply = payload::answer(&request).ok_or("a request with a wrong checksum")?;
        send(&mut stream, &reply)?;
    }
}

fn send(stream: &mut UnixStream, body: &Payload) -> io::Result<()> {
    let mut message = [0; MESSAGE_BYTES];
    message[..PREFIX_BYTES].copy_from_slice(&(BODY_BYTES as u32).to_le_bytes());
    message[PREFIX_BYTES..].copy_from_slice(&payload::to_bytes(body));
    stream.write_all(&message)
}

/// Reads one message: one system call when the whole of it is there, as it is after one write.
fn receive(stream: &mut UnixStream) -> io::Result<Payload> {
    let mut message = [0; MESSAGE_BYTES];
    stream.read_exact(&mut message)?;
    let (prefix, body) = message.split_at(PREFIX_BYTES);
    if prefix != (BODY_BYTES as u32).to_le_bytes() {
        return Err(io::Error::other(format!("length prefix {prefix:?}, {BODY_BYTES} expected")));
    }
    let body: &[u8; BODY_BYTES] = body.try_into().map_err(io::Error::other)?;
    Ok(payload::from_bytes(body))
}
