//! The one message of the handshake: what a producer is given when it connects, or why not.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::error::Error;
use crate::rendezvous::{Connection, Received};

/// Version of the message. The memory has one of its own.
const VERSION: u32 = 1;

/// Longest tag of a queue, in bytes.
pub const MAX_TAG: usize = 1024;

const WELCOME: u32 = 0;
const REFUSED: u32 = 1;
const ISOLATED: u32 = 2;
const OVER_QUOTA: u32 = 3;

/// Words before the tag: version, answer, and the lane's index or the number of lanes.
const HEAD: usize = 12;

/// What comes with a lane, in the order in which the descriptors travel.
#[derive(Debug)]
pub(super) enum Given<Fd> {
    /// To a producer of the consumer's own user.
    Shared { lane: Fd, ready: Fd, data: Fd, space: Fd },
    /// To one that is not trusted: what it may write, what it may read, and a rope that nobody else pulls.
    Isolated { up: Fd, down: Fd, rope: Fd },
}

/// A lane, as its producer gets it.
#[derive(Debug)]
pub(super) struct Welcome {
    pub(super) index: u32,
    pub(super) tag: Box<[u8]>,
    pub(super) given: Given<OwnedFd>,
}

fn head(answer: u32, number: u32) -> Vec<u8> {
    [VERSION, answer, number].into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Consumer: gives a lane.
pub(super) fn give(to: &Connection, index: u32, tag: &[u8], given: &Given<BorrowedFd<'_>>) -> Result<(), Error> {
    let (answer, fds) = match *given {
        Given::Shared { lane, ready, data, space } => (WELCOME, &[lane, ready, data, space][..]),
        Given::Isolated { up, down, rope } => (ISOLATED, &[up, down, rope][..]),
    };
    let mut bytes = head(answer, index);
    bytes.extend_from_slice(tag);
    to.send(&bytes, fds)
}

/// Consumer: all lanes are taken.
pub(super) fn refuse(to: &Connection, lanes: u32) -> Result<(), Error> {
    to.send(&head(REFUSED, lanes), &[])
}

/// Consumer: the producer's user has all lanes that it may have, of so many bytes each.
pub(super) fn refuse_user(to: &Connection, lanes: u32, lane_bytes: usize) -> Result<(), Error> {
    let mut bytes = head(OVER_QUOTA, lanes);
    bytes.extend_from_slice(&(lane_bytes as u64).to_le_bytes());
    to.send(&bytes, &[])
}

/// Producer: reads the answer.
pub(super) fn read(received: Received) -> Result<Welcome, Error> {
    let bad = |what: &str| Error::BadMessage { during: "opening a queue", what: what.to_owned() };
    let (head, tag) = received.bytes.split_first_chunk::<HEAD>().ok_or_else(|| bad("it is too short"))?;
    let word = |i: usize| u32::from_le_bytes([head[i * 4], head[i * 4 + 1], head[i * 4 + 2], head[i * 4 + 3]]);
    if word(0) != VERSION {
        return Err(bad(&format!("version {} where {VERSION} was expected", word(0))));
    }
    let answer = word(1);
    match answer {
        WELCOME | ISOLATED => {}
        REFUSED => return Err(Error::TooManyProducers { limit: word(2) }),
        OVER_QUOTA => {
            let bytes = tag.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let why = format!("this user may have {} lanes in that queue", word(2));
            return Err(Error::ResourceExhausted {
                what: "a further lane of this user",
                bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
                source: std::io::Error::new(std::io::ErrorKind::QuotaExceeded, why),
            });
        }
        other => return Err(bad(&format!("answer {other}"))),
    }
    if tag.len() > MAX_TAG {
        return Err(bad("the tag is too long"));
    }
    let count = received.fds.len();
    let mut fds = received.fds.into_iter();
    let given = match (answer, count, [fds.next(), fds.next(), fds.next(), fds.next()]) {
        (WELCOME, 4, [Some(lane), Some(ready), Some(data), Some(space)]) => Given::Shared { lane, ready, data, space },
        (ISOLATED, 3, [Some(up), Some(down), Some(rope), None]) => Given::Isolated { up, down, rope },
        _ => return Err(bad(&format!("{count} descriptors"))),
    };
    Ok(Welcome { index: word(2), tag: tag.into(), given })
}
