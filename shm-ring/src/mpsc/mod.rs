//! A bounded ring with many producing threads and one consumer: claim, commit, abort on drop.
//!
//! A ring has fixed cells, a power of two: each begins with a header word and has room for a small payload beside it;
//! what does not fit stands in the ring's arena, as contiguous and as much in place. One frame takes one cell, so a
//! header word is never payload, and a claim that is never finished costs its cell and nothing else, until the ring
//! has gone round.
//!
//! | byte | word | written by |
//! |---|---|---|
//! | 0 | header of the segment | maker |
//! | 128, 136 | who has the producers' end, the consumer's: bit 32 and the process id | each end, once |
//! | 144, 152 | how the producers, the consumer ended: 1 closed, 2 no handle is left, 3 died | each once, by it or for it |
//! | 256 | `tail`: next position to claim, in the upper 63 bits; bit 0: closed | producers; bit 0 either side |
//! | 264 | `seen`: a `head` that the producers remember | producers |
//! | 384 | how often the ring was full | producers |
//! | 512 | `head`: lowest position not given back | consumer |
//! | 520, 528 | frames that were taken back, how often nothing was there | consumer |
//! | 640 | `released`: `head`, a quarter of the ring at a time | consumer |
//! | 768 | `watch`, for the lanes of a queue: see [`crate::ready`] | consumer |
//! | 896 | signal of the consumer, which waits for data | both |
//! | 1024 | signal of the producers, who wait for space | both |
//! | 1152 | cells: a header word, then the payload | producers |
//! | .. | arena: `returned` words by the consumer, blocks by the producers | |
//!
//! ```text
//! header word   63            24   23          22     16  15        0
//!               lap (40 bits)    | committed | kind      | length   |
//! ```
//!
//! - **Publication** is the release store of the header word with the position's lap; there is no index that says how
//!   much is published. A word of another lap never matches, so cells need no clearing and the consumer writes none.
//! - **Claiming** is a compare-exchange on `tail`, after a look at `seen`; only when that leaves no room the consumer's
//!   own line is read. So a stream of frames moves the frames' lines, in one direction, and little else. Lock-free;
//!   committing, aborting and receiving are wait-free.
//! - **Giving back** is a store to `head` for each frame, on the consumer's own line: `Full` is exact. Producers that
//!   sleep are woken when a quarter is free, or when the consumer finds nothing more.
//! - A frame behind a claim that is held is found by a search over the claimed cells, which the consumer makes before
//!   it answers `Empty` or sleeps.
//! - **Closing** sets a bit in `tail`, so each claim is before the end or refused; the consumer receives all that was
//!   claimed before, then `Closed`.
//!
//! Counts grow without end, modulo 2^63; laps modulo 2^40.
#![cfg_attr(
    not(loom),
    doc = r#"
```
use shm_ring::Segment;
use shm_ring::mpsc::{MpscLayout, pair};

let (sender, mut receiver) = pair(&Segment::heap(MpscLayout::new(64)?, 1))?;
let worker = std::thread::spawn({
    let sender = sender.clone();
    move || sender.send(b"from a thread")
});
let mut claim = sender.claim(5)?;
claim.write(b"hello");
claim.commit();
drop(sender);
let mut seen = Vec::new();
while let Ok(frame) = receiver.recv() {
    seen.push(frame.bytes().to_vec());
}
seen.sort();
assert_eq!(seen, [b"from a thread".to_vec(), b"hello".to_vec()]);
worker.join().expect("it does not panic")?;
# Ok::<(), Box<dyn std::error::Error>>(())
```
"#
)]

#[cfg(all(test, not(loom)))]
mod aimed;
mod claim;
mod control;
mod frame;
#[cfg(all(test, not(loom)))]
mod histories;
mod layout;
#[cfg(all(any(test, fuzzing), not(loom)))]
pub(crate) mod machine;
mod position;
mod producing;
#[cfg(not(loom))]
mod queue;
mod receiver;
mod ring;
mod sender;
mod taking;
mod tasks;

pub use crate::spsc::{End, EndStats, Events};
pub use claim::{Batch, Claim};
pub use control::{Control, Stats};
pub use frame::Frame;
pub use layout::{MAX_CELLS, MAX_INLINE, MpscLayout};
#[cfg(not(loom))]
pub(crate) use queue::{LANE_NAME, READY_NAME};
#[cfg(not(loom))]
pub use queue::{Queue, QueueAddress, QueueOptions};
pub use receiver::Receiver;
pub use sender::Sender;

use crate::error::Error;
use crate::segment::Segment;

/// Both ends of the ring in a segment, for threads of this process.
///
/// # Errors
/// [`Error::AlreadyAttached`] if one of the ends has, or had, an owner.
pub fn pair(segment: &Segment<MpscLayout>) -> Result<(Sender, Receiver), Error> {
    Ok((Sender::attach(segment, Events::default())?, Receiver::attach(segment, Events::default())?))
}

/// As [`pair`], of a ring that begins as if so many frames had passed through it.
#[cfg(any(test, loom, fuzzing))]
pub(crate) fn pair_from(segment: &Segment<MpscLayout>, start: u64) -> (Sender, Receiver) {
    ring::Ring::new(segment).begin_at(position::Position::new(start));
    pair(segment).expect("nobody has attached")
}
