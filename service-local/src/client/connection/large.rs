//! Requests that fit no cell: in a block of an arena, or as sealed memory of their own.

use service_core::{BlockWriter, SinkFull};
use shm_ring::{Error, SealedWriter};

use super::*;
use crate::frame::SEALED;

/// From this length on, in bytes, a service that accepts sealed memory gets a request by it. Here it costs what copying
/// does, whose private room is made anew for each payload of this size too; copies of half the length are four times as
/// fast. And it spares the service a block of the next power of two, which stays with the connection, and the copy.
const SEALED_FROM: usize = 16 << 20;

/// Where a large request is.
#[derive(Debug)]
pub(super) enum Large<'a> {
    /// In a block of the arena at a place.
    Block(u8, Block<'a>),
    /// With the service, which knows it by its number.
    Sealed(Announced<'a>),
}

impl Large<'_> {
    pub(super) fn payload(&self) -> Payload {
        match self {
            Self::Block(place, block) => Payload::Block { place: *place, at: block.at(), len: block.len() },
            Self::Sealed(announced) => {
                Payload::Block { place: SEALED, at: BlockRef::from_word(announced.number), len: announced.len }
            }
        }
    }

    /// To be called when the call is on its way.
    pub(super) fn sent(&mut self) {
        if let Self::Sealed(announced) = self {
            announced.is_sent = true;
        }
    }

    /// Leaves it with the service; gives the block that is to be taken back later.
    pub(super) fn lend(self) -> Option<(u8, BlockRef)> {
        match self {
            Self::Block(place, block) => Some((place, block.lend())),
            Self::Sealed(_) => None,
        }
    }
}

/// A request that the service was told of. Dropped before its call is sent, it is withdrawn.
#[derive(Debug)]
pub(super) struct Announced<'a> {
    connection: &'a LocalConnection,
    number: u64,
    len: usize,
    is_sent: bool,
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        if !self.is_sent {
            // An answer that is still to come is nobody's.
            self.connection.lock_socket().announced.retain(|(number, _)| *number != self.number);
            // What cannot be told ends with the connection, which is then about to.
            let _ = self.connection.socket.send(&FromClient::Withdraw { number: self.number }.to_bytes(), &[]);
        }
    }
}

/// A sealed payload in the making, as the encoder sees it.
struct SealedSink {
    writer: SealedWriter,
    failed: Option<Error>,
}

impl BlockWriter for SealedSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        self.writer.append(bytes).map_err(|error| {
            self.failed = Some(error);
            SinkFull
        })
    }
}

impl LocalConnection {
    /// Puts a request that is too large for a cell where the service finds it.
    #[cold]
    pub(super) fn place_large(
        &self,
        request: &dyn Encode,
        len: usize,
        until_ns: Option<u64>,
    ) -> Result<Large<'_>, Status> {
        let block = || self.fill_block(request, len, until_ns).map(|(place, block)| Large::Block(place, block));
        let sealed = || self.announce_sealed(request, len, until_ns).map(Large::Sealed);
        let is_exhausted = |placed: &Result<Large<'_>, Status>| {
            placed.as_ref().is_err_and(|status| status.code() == Code::ResourceExhausted)
        };
        if !self.accepts_sealed {
            return block();
        }
        // Where the one has no room the other may have.
        if len >= SEALED_FROM {
            let placed = sealed();
            return if is_exhausted(&placed) { block() } else { placed };
        }
        let placed = block();
        if is_exhausted(&placed) { sealed() } else { placed }
    }

    /// Makes sealed memory of a request and hands it to the service. Waits for the service's word that it has it: the call
    /// that names it may otherwise come first, by the other way.
    fn announce_sealed(
        &self,
        request: &dyn Encode,
        len: usize,
        until_ns: Option<u64>,
    ) -> Result<Announced<'_>, Status> {
        let not_run = |error: Error| errors::not_run(&error);
        let writer = SealedWriter::new("switchboard-sealed", len).map_err(not_run)?;
        let mut sink = SealedSink { writer, failed: None };
        encode_block(request, &mut sink).map_err(|error| match sink.failed.take() {
            Some(failed) => not_run(failed),
            None => error.into_status(Outcome::NotRun),
        })?;
        let (fd, len) = sink.writer.seal().map_err(not_run)?;
        let number = {
            let mut socket = self.lock_socket();
            let number = socket.next_number;
            socket.next_number += 1;
            socket.announced.push((number, None));
            number
        };
        let announced = Announced { connection: self, number, len, is_sent: false };
        let message = FromClient::Sealed { number, len: len as u64 };
        self.socket.send(&message.to_bytes(), &[fd.as_fd()]).map_err(not_run)?;
        let until = Instant::now() + left(until_ns);
        loop {
            let mut socket = self.lock_socket();
            let at = socket.announced.iter().position(|(known, _)| *known == number);
            if let Some(at) = at
                && let Some(answer) = socket.announced[at].1.take()
            {
                socket.announced.swap_remove(at);
                drop(socket);
                return match answer {
                    Ok(()) => Ok(announced),
                    Err(why) => {
                        let text = format!("no room for a request of {len} bytes towards `{}`: {why}", self.name);
                        Err(Status::new(Code::ResourceExhausted, Outcome::NotRun, text))
                    }
                };
            }
            let patience = until.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                let text = format!("`{}` did not take a request of {len} bytes until the deadline", self.name);
                return Err(Status::new(Code::DeadlineExceeded, Outcome::NotRun, text));
            }
            // In short turns, as in `grow_requests`.
            let received = self.socket.receive_within(patience.min(TURN));
            if let Some(received) = received.map_err(|error| self.lost(&error, Outcome::NotRun))? {
                self.install(&mut socket, &received).map_err(|error| self.lost(&error, Outcome::NotRun))?;
            }
        }
    }
}
