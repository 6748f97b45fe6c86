//! Memory that clients ask for (`Grow`), made in their order and at their pace.
//!
//! To allocate and touch memory takes long, so it is made where it holds up nobody who calls, and the large pieces on a
//! thread of their own, one a lane. An isolated client has so much in a second; beyond that it waits, and so it does while
//! it does not read of what it has got: what nobody uses is not added to.

use std::sync::{Arc, MutexGuard, PoisonError};

use shm_ring::clock;

use super::lane::{Growth, Lane};
use super::segments::grow_requests;
use crate::growth::segment_for;

/// Segments up to this are made on the thread of the door: about 3 µs for each 4 KiB.
const QUICK_BYTES: u64 = 1 << 20;

/// Segments that a client may ask for and not have yet; an honest one asks once for each size.
const MOST_ASKED: usize = 64;

/// When a client that did not read is looked at again.
const UNREAD_NS: u64 = 20_000_000;

/// When it is looked whether a large segment is made, if another one is to follow.
const BUSY_NS: u64 = 2_000_000;

fn growth(lane: &Lane) -> MutexGuard<'_, Growth> {
    lane.growth.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that a client asks for a block of `len` bytes.
///
/// # Errors
/// It asked for more than anybody needs at once: its connection is to end.
pub(super) fn ask(lane: &Lane, len: u64) -> Result<(), shm_ring::Error> {
    let mut growth = growth(lane);
    if growth.asked.len() >= MOST_ASKED {
        return Err(shm_ring::Error::BadMessage { during: "growing", what: "too much asked for at once".into() });
    }
    growth.asked.push_back(len);
    Ok(())
}

/// Makes what was asked for, as far as that is due; when (nanoseconds on the monotonic clock) to come again for the rest.
///
/// # Errors
/// What ends the connection.
pub(super) fn make_due(lane: &Arc<Lane>) -> Result<Option<u64>, shm_ring::Error> {
    loop {
        let mut growth = growth(lane);
        let Some(len) = growth.asked.front().copied() else { return Ok(None) };
        let now = clock::kernel_ns();
        if growth.busy {
            return Ok(Some(now.saturating_add(BUSY_NS)));
        }
        if lane.trust.is_isolated() {
            if let Some(until) = lane.party.memory.rests_until(now) {
                return Ok(Some(until));
            }
            if !lane.connection.is_read() {
                return Ok(Some(now.saturating_add(UNREAD_NS)));
            }
            lane.party.memory.charge(usize::try_from(len).map_or(0, segment_for), now);
        }
        growth.asked.pop_front();
        if len > QUICK_BYTES {
            growth.busy = true;
            drop(growth);
            make_apart(lane, len)?;
        } else {
            drop(growth);
            grow_requests(lane, len)?;
        }
    }
}

fn make_apart(lane: &Arc<Lane>, len: u64) -> Result<(), shm_ring::Error> {
    let lane = Arc::clone(lane);
    let spawned = std::thread::Builder::new().name("switchboard-grow".into()).spawn(move || {
        if !lane.is_leaving() && grow_requests(&lane, len).is_err() {
            lane.connection.hang_up();
        }
        growth(&lane).busy = false;
    });
    spawned.map(drop).map_err(|source| shm_ring::Error::System { what: "starting a thread", source })
}
