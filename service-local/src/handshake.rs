//! What client and server say over the socket, before and beside the shared memory.
//!
//! Each message begins with a magic word and the protocol's version, which no version will ever change; the rest is
//! an rkyv archive that only programs of the same version read.

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use service_core::{ServiceDescriptor, Shape};

/// Version of everything two programs must agree on beyond [`shm_ring::LAYOUT_VERSION`].
pub(crate) const PROTOCOL_VERSION: u32 = 4;

const MAGIC: [u8; 4] = *b"swb1";

/// From client to server.
#[derive(Debug, Clone, PartialEq, Archive, Serialize, Deserialize)]
pub(crate) enum FromClient {
    /// The first message: whom the client means to reach, how far it trusts at most, and which build of a program it is
    /// ([`shm_ring::BuildId`]; zeros if it cannot tell).
    Hello { instance: String, trust: u8, build: [u8; 32] },
    /// The client needs a block of so many bytes for a request.
    Grow { len: u64 },
    /// A request of so many bytes, whose call will name it by this number. Its memfd comes beside it, sealed against
    /// writing; only where the welcome said that such are accepted.
    Sealed { number: u64, len: u64 },
    /// The call that was to name this request will not come.
    Withdraw { number: u64 },
    /// Rings for the streams of a call that will name them by this number, which is one more than the last one. Their
    /// descriptors come beside it: memory, the consumer's eventfd and the producer's, of the ring for the client's items
    /// and then of that for the service's, as the shape has them.
    Streams { number: u64, shape: Shape },
    /// The rings of this number will not be used (again).
    Streamed { number: u64 },
}

/// From server to client.
#[derive(Debug, Clone, PartialEq, Archive, Serialize, Deserialize)]
pub(crate) enum FromServer {
    /// The connection stands, in this mode of trust. Beside it come the lane's memfd and the ready set's; if the mode is
    /// `Isolated`, the two parts of the lane and a bell rope to the service. Last comes the rope by which the service tells
    /// the client's tasks of replies.
    Welcome { lane: u32, trust: u8, accepts_sealed: bool, descriptor: ServiceDescriptor },
    /// No connection; a code and a sentence.
    Refused { code: u8, message: String },
    /// The segment for requests that `Grow` asked for, at a place. Its memfd comes beside it.
    RequestSegment { len: u64, place: u8 },
    /// There is none to be had for so many bytes.
    NoRequestSegment { len: u64, message: String },
    /// A segment for replies, at a place. Its memfd comes beside it.
    ReplySegment { place: u8 },
    /// The sealed request of this number is there: its call may come.
    Kept { number: u64 },
    /// It is not taken.
    NotKept { number: u64, message: String },
}

/// Why a message cannot be understood.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Misread {
    #[error("not a message of this protocol ({0} bytes)")]
    Foreign(usize),
    #[error("protocol version of the peer is {theirs}, this program has {ours}", ours = PROTOCOL_VERSION)]
    Version { theirs: u32 },
    #[error("message of {0} bytes is malformed")]
    Malformed(usize),
}

macro_rules! message {
    ($type:ty) => {
        impl $type {
            pub(crate) fn to_bytes(&self) -> Vec<u8> {
                let mut bytes = MAGIC.to_vec();
                bytes.extend(PROTOCOL_VERSION.to_le_bytes());
                // Fails only if memory does; an empty body is answered as malformed.
                let body = rkyv::to_bytes::<rkyv::rancor::Error>(self).unwrap_or_default();
                bytes.extend_from_slice(&body);
                bytes
            }

            pub(crate) fn read(bytes: &[u8]) -> Result<Self, Misread> {
                let body = body(bytes)?;
                let malformed = |_| Misread::Malformed(bytes.len());
                rkyv::from_bytes::<Self, rkyv::rancor::Error>(&body).map_err(malformed)
            }
        }
    };
}

message!(FromClient);
message!(FromServer);

fn body(bytes: &[u8]) -> Result<AlignedVec, Misread> {
    let foreign = Misread::Foreign(bytes.len());
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else { return Err(foreign) };
    let Some((version, body)) = rest.split_first_chunk::<4>() else { return Err(foreign) };
    if *magic != MAGIC {
        return Err(foreign);
    }
    let theirs = u32::from_le_bytes(*version);
    if theirs != PROTOCOL_VERSION {
        return Err(Misread::Version { theirs });
    }
    let mut aligned = AlignedVec::new();
    aligned.extend_from_slice(body);
    Ok(aligned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_as_they_were_written() {
        for message in [
            FromClient::Hello { instance: "a.b@1".into(), trust: 2, build: [7; 32] },
            FromClient::Grow { len: 1 << 40 },
            FromClient::Sealed { number: 3, len: 1 << 30 },
            FromClient::Withdraw { number: 3 },
            FromClient::Streams { number: 3, shape: Shape::BothWays },
            FromClient::Streamed { number: 3 },
        ] {
            assert_eq!(FromClient::read(&message.to_bytes()), Ok(message));
        }
        let refused = FromServer::Refused { code: 8, message: "no".into() };
        assert_eq!(FromServer::read(&refused.to_bytes()), Ok(refused));
    }

    #[test]
    fn garbage_and_short_messages_are_foreign() {
        for bytes in [&b""[..], b"sw", b"swb1abc", b"GET / HTTP/1.1\r\n"] {
            assert_eq!(FromClient::read(bytes), Err(Misread::Foreign(bytes.len())));
        }
    }

    #[test]
    fn another_version_is_told_with_both_numbers() {
        let mut bytes = FromClient::Grow { len: 1 }.to_bytes();
        bytes[4] = 9;
        let error = FromClient::read(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "protocol version of the peer is 9, this program has 4");
    }

    #[test]
    fn any_cut_or_flip_of_a_message_is_an_error_or_a_message_and_never_a_panic() {
        let whole = FromServer::Refused { code: 8, message: "a sentence that is long enough".into() }.to_bytes();
        for cut in 0..whole.len() {
            assert!(FromServer::read(&whole[..cut]).is_err());
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[cut] ^= 1 << bit;
                let _ = FromServer::read(&flipped);
            }
        }
    }
}
