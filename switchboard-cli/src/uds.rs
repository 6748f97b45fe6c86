//! The plain Unix-socket server and client that the demo measures ours against.
//!
//! As one would write it by hand and keep it quick: a connection that stays open, messages with a length before them,
//! one `write` per message and, as a message arrives whole, one `read`.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Bytes of the length before each message, little-endian.
const LENGTH: usize = size_of::<u32>();

/// Longest message; ours are 64 bytes and less.
const LONGEST: usize = 1_024;

/// One end of a connection.
#[derive(Debug)]
struct Messages {
    stream: UnixStream,
    outgoing: Vec<u8>,
    incoming: Box<[u8; LENGTH + LONGEST]>,
}

impl Messages {
    fn new(stream: UnixStream) -> Self {
        Self { stream, outgoing: Vec::with_capacity(LENGTH + LONGEST), incoming: Box::new([0; LENGTH + LONGEST]) }
    }

    /// Sends what `fill` appends. One `write`.
    fn send(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.outgoing.clear();
        self.outgoing.extend_from_slice(&[0; LENGTH]);
        fill(&mut self.outgoing);
        let len = self.outgoing.len() - LENGTH;
        if len > LONGEST {
            return Err(io::Error::other(format!("message of {len} bytes, at most {LONGEST} fit")));
        }
        self.outgoing[..LENGTH].copy_from_slice(&(len as u32).to_le_bytes());
        self.stream.write_all(&self.outgoing)
    }

    /// Waits for the next message; `None` when the other end has closed the connection between two messages.
    ///
    /// Each end sends only when it is its turn, so nothing of a further message can be read along.
    fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        let mut filled = 0;
        loop {
            let got = self.stream.read(&mut self.incoming[filled..])?;
            if got == 0 {
                return if filled == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            filled += got;
            let Some((length, rest)) = self.incoming[..filled].split_first_chunk::<LENGTH>() else { continue };
            let len = u32::from_le_bytes(*length) as usize;
            if len > LONGEST || rest.len() > len {
                return Err(io::Error::other(format!("{} bytes of a message of {len}", rest.len())));
            }
            if rest.len() == len {
                return Ok(Some(&self.incoming[LENGTH..LENGTH + len]));
            }
        }
    }
}

/// Serves connections one after the other until accepting fails. `answer` appends the reply to a request.
///
/// # Errors
/// When accepting fails. A connection that breaks ends only itself.
pub fn serve(listener: &UnixListener, mut answer: impl FnMut(&[u8], &mut Vec<u8>)) -> io::Result<()> {
    let mut request = Vec::with_capacity(LONGEST);
    loop {
        let (stream, _) = listener.accept()?;
        let mut messages = Messages::new(stream);
        while let Ok(Some(received)) = messages.receive() {
            request.clear();
            request.extend_from_slice(received);
            if messages.send(|reply| answer(&request, reply)).is_err() {
                break;
            }
        }
    }
}

/// A client with one kept connection.
#[derive(Debug)]
pub struct Client {
    messages: Messages,
}

impl Client {
    /// Connects to the server that listens at `path`.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { messages: Messages::new(UnixStream::connect(path)?) })
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// When the server is gone (`UnexpectedEof` if it went before replying) or breaks the format.
    pub fn call(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        self.messages.send(|message| message.extend_from_slice(request))?;
        self.messages.receive()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Client, Messages) {
        let (a, b) = UnixStream::pair().expect("a socket pair");
        (Client { messages: Messages::new(a) }, Messages::new(b))
    }

    #[test]
    fn every_reply_belongs_to_its_request() {
        let (mut client, mut server) = pair();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while let Ok(Some(request)) = server.receive() {
                    let reversed: Vec<u8> = request.iter().rev().copied().collect();
                    server.send(|reply| reply.extend(reversed)).expect("the client listens");
                }
            });
            for len in [0, 1, 64, LONGEST] {
                let request: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
                let reply = client.call(&request).expect("the server answers");
                assert!(reply.iter().rev().eq(&request), "reply to {len} bytes");
            }
            drop(client);
        });
    }

    #[test]
    fn a_message_in_pieces_is_put_together() {
        let (mut client, mut server) = pair();
        for piece in [&[3, 0][..], &[0, 0, b'a'][..], b"bc"] {
            client.messages.stream.write_all(piece).expect("the pair is open");
        }
        assert_eq!(server.receive().expect("a whole message"), Some(&b"abc"[..]));
    }

    #[test]
    fn a_server_that_goes_away_is_an_error_and_no_empty_reply() {
        let (mut client, server) = pair();
        drop(server);
        assert!(client.call(b"anyone?").is_err());
    }

    #[test]
    fn a_connection_cut_inside_a_message_is_an_error() {
        let (mut client, mut server) = pair();
        client.messages.stream.write_all(&[9, 0, 0, 0, 1]).expect("the pair is open");
        drop(client);
        assert_eq!(server.receive().expect_err("half a message").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_length_beyond_the_longest_is_an_error() {
        let (mut client, mut server) = pair();
        client.messages.stream.write_all(&u32::MAX.to_le_bytes()).expect("the pair is open");
        assert!(server.receive().is_err());
    }
}
