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

/// Words before the tag: version, answer, and the lane's index or the number of lanes.
const HEAD: usize = 12;

/// What comes with a lane, in the order in which the descriptors travel.
#[derive(Debug)]
pub(super) struct Given<Fd> {
    pub(super) lane: Fd,
    pub(super) ready: Fd,
    pub(super) data: Fd,
    pub(super) space: Fd,
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
pub(super) fn give(to: &Connection, index: u32, tag: &[u8], given: Given<BorrowedFd<'_>>) -> Result<(), Error> {
    let mut bytes = head(WELCOME, index);
    bytes.extend_from_slice(tag);
    to.send(&bytes, &[given.lane, given.ready, given.data, given.space])
}

/// Consumer: all lanes are taken.
pub(super) fn refuse(to: &Connection, lanes: u32) -> Result<(), Error> {
    to.send(&head(REFUSED, lanes), &[])
}

/// Producer: reads the answer.
pub(super) fn read(received: Received) -> Result<Welcome, Error> {
    let bad = |what: &str| Error::BadMessage { during: "opening a queue", what: what.to_owned() };
    let (head, tag) = received.bytes.split_first_chunk::<HEAD>().ok_or_else(|| bad("it is too short"))?;
    let word = |i: usize| u32::from_le_bytes([head[i * 4], head[i * 4 + 1], head[i * 4 + 2], head[i * 4 + 3]]);
    if word(0) != VERSION {
        return Err(bad(&format!("version {} where {VERSION} was expected", word(0))));
    }
    match word(1) {
        WELCOME => {}
        REFUSED => return Err(Error::TooManyProducers { limit: word(2) }),
        other => return Err(bad(&format!("answer {other}"))),
    }
    if tag.len() > MAX_TAG {
        return Err(bad("the tag is too long"));
    }
    let fds = <[OwnedFd; 4]>::try_from(received.fds).map_err(|fds| bad(&format!("{} descriptors", fds.len())))?;
    let [lane, ready, data, space] = fds;
    Ok(Welcome { index: word(2), tag: tag.into(), given: Given { lane, ready, data, space } })
}
