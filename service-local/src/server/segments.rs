//! How a lane gets further segments for large payloads.

use std::os::fd::AsFd;

use service_core::{Code, Outcome, Status};
use shm_ring::arena::{ArenaOwner, Block, RequestBlocks};
use shm_ring::{Segment, SegmentOptions, clock};

use super::lane::Lane;
use crate::errors;
use crate::growth::{index_of, segment_for};
use crate::handshake::FromServer;

/// A block for a reply of `len` bytes in a new segment. Some system calls; for the first replies of their size.
#[cold]
pub(super) fn grow_replies(lane: &Lane, len: usize) -> Result<(u8, Block<'_>), Status> {
    // Another worker may take the new block before we do: then there is one more, until the limit is reached.
    loop {
        if lane.trust.is_isolated() {
            pay(lane, len)?;
        }
        let added = lane.added_replies.add(len, |place, layout| {
            const NAME: &str = "switchboard-replies";
            let (owner, fd) = match lane.shared.returned(index_of(place)) {
                Some(returned) => {
                    let (segment, fd) = Segment::memfd_for_readers(NAME, layout, 0, &SegmentOptions::new())?;
                    (ArenaOwner::over_with(&segment, returned)?, fd)
                }
                None => {
                    let (segment, fd) = Segment::memfd(NAME, layout, 0)?;
                    (ArenaOwner::over(&segment)?, fd)
                }
            };
            // Told first, usable afterwards: no reply may lie in a segment that is not on its way.
            lane.connection.send(&FromServer::ReplySegment { place }.to_bytes(), &[fd.as_fd()])?;
            Ok((owner, ()))
        });
        match added {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(errors::not_run(&error).with_outcome(Outcome::Ran)),
            None => return Err(no_room(len, lane.added_replies.limit())),
        }
        if let Some(found) = lane.replies().allocate(len) {
            return Ok(found);
        }
    }
}

/// Holds a segment against what an isolated client may have: none while it does not read of those that it got, and so much
/// in a second. No worker waits for either.
fn pay(lane: &Lane, len: usize) -> Result<(), Status> {
    let now = clock::kernel_ns();
    let why = if !lane.connection.is_read() {
        "the client does not read of the memory that it got already".to_owned()
    } else if let Some(until) = lane.party.memory.rests_until(now) {
        format!("the client had its share of new memory, more in {} ms", until.saturating_sub(now).div_ceil(1_000_000))
    } else {
        lane.party.memory.charge(segment_for(len), now);
        return Ok(());
    };
    let text = format!("no room for a reply of {len} bytes: {why}");
    Err(Status::new(Code::ResourceExhausted, Outcome::Ran, text))
}

fn no_room(len: usize, limit: usize) -> Status {
    let text = format!("no room for a reply of {len} bytes: the connection's limit of {limit} bytes is reached");
    Status::new(Code::ResourceExhausted, Outcome::Ran, text)
}

/// Answers a client that needs a block of `len` bytes for a request.
///
/// # Errors
/// What prevented the answer; the connection is of no more use.
pub(super) fn grow_requests(lane: &Lane, len: u64) -> Result<(), shm_ring::Error> {
    let added = usize::try_from(len).ok().and_then(|bytes| {
        lane.added_requests.add(bytes, |_place, layout| {
            let (segment, fd) = Segment::memfd("switchboard-requests", layout, 0)?;
            Ok((RequestBlocks::over(&segment)?, fd))
        })
    });
    let message = match added {
        // Usable first, told afterwards: the client's next request may lie in it.
        Some(Ok((place, fd))) => {
            return lane.connection.send(&FromServer::RequestSegment { len, place }.to_bytes(), &[fd.as_fd()]);
        }
        Some(Err(error @ shm_ring::Error::ResourceExhausted { .. })) => error.to_string(),
        Some(Err(error)) => return Err(error),
        None => {
            let limit = lane.added_requests.limit();
            format!("{len} bytes for requests exceed the limit of {limit} bytes a connection")
        }
    };
    lane.connection.send(&FromServer::NoRequestSegment { len, message }.to_bytes(), &[])
}
