//! A ring of frames of any length: one producing thread, one consuming thread, of one process or of two.
//!
//! A frame is a header word and its payload, contiguous, together a multiple of 16 bytes. The store of the header word
//! is the publication, so a consumer polls the line that brings it the payload and no other. Larger payloads than the
//! ring takes go through an arena, in place as well. There is nothing to overwrite or to drop: a full ring refuses.
//!
//! ```
//! use shm_ring::spsc::{SpscLayout, pair};
//! use shm_ring::{ClaimError, Segment};
//!
//! let segment = Segment::heap(SpscLayout::new(4096)?, 1);
//! let (mut producer, mut consumer) = pair(&segment)?;
//! producer.try_send(b"hello")?;
//! let mut claim = producer.try_claim(100)?;
//! claim.write(b"wor");
//! claim.write(b"ld");
//! claim.commit();
//! assert_eq!(consumer.recv()?.bytes(), b"hello");
//! assert_eq!(consumer.recv()?.bytes(), b"world");
//!
//! let error = producer.try_claim(1 << 20).unwrap_err();
//! assert_eq!(error, ClaimError::TooLarge { len: 1 << 20, limit: 2040 });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//! After the segment's header, in pairs of lines so that no two writers share one:
//!
//! | byte | word | written by |
//! |---|---|---|
//! | 128, 136 | who attached as producer, as consumer: bit 32 and the process id | each once |
//! | 144, 152 | how the producer, the consumer ended: 1 closed, 2 died | each once, by it or for it |
//! | 256 | tail: position up to which frames are committed | producer, per operation |
//! | 264, 272, 280 | frames sent, claims aborted, times full | producer |
//! | 384 | head: position up to which frames are received | consumer, per frame |
//! | 392, 400 | frames received, times empty | consumer |
//! | 512 | released: the head as the producer is told, a quarter of the ring at a time | consumer |
//! | 640 | the signal by which the consumer waits for data | both |
//! | 768 | the signal by which the producer waits for space | both |
//! | 896 | arena: `returned` words (consumer), blocks (producer) | |
//! | .. | frames, a power of two of bytes | producer |
//!
//! ```text
//! frame   0         8                                   multiple of 16
//!         | header  | payload ...          | unused     | header of the next, clear
//! ```
//!
//! # Protocol
//! - A frame of L bytes at position t needs `t + L + 16 - head <= capacity`: the next header is always free space.
//! - The producer writes the payload, clears the header at t + L, then publishes the header at t. What lies at t + L
//!   until then is old payload that might look like a header.
//! - A frame that does not fit before the end of the memory goes to its beginning; the padding that says so is
//!   published last.
//! - A batch publishes its first header last. A claim that is dropped leaves no trace: nobody has seen it, and the tail
//!   has not moved.
//! - The consumer tells the producer how far it is after every quarter of the ring, when it finds nothing, and when a
//!   block comes back. A producer that finds no room looks at the exact head as well before it says `Full`; one that
//!   waits for room waits for the quarter, so that the two do not take turns on one line.
//! - Three loads and six stores for a frame, all of lines that stay with their owner but for the frame's own.
//!
//! # The end
//! Each end may close, and does when it is dropped. Whoever learns that a process died says so by a [`Control`]; what
//! it committed is still received. An ended ring is never attached to again.

#[cfg(all(test, not(loom)))]
mod aimed;
mod claim;
mod consumer;
mod control;
mod cursor;
mod frame;
#[cfg(all(test, not(loom)))]
mod histories;
#[cfg(all(test, not(loom)))]
mod hostile;
mod layout;
#[cfg(all(any(test, fuzzing), not(loom)))]
pub(crate) mod machine;
mod producer;
#[cfg(all(test, not(loom)))]
mod released_lags;
mod ring;
mod tasks;
mod word;

use std::time::Duration;

use crate::error::Error;
use crate::segment::Segment;
use crate::wait::SpinBudget;

pub use crate::event::Events;
pub use claim::{Batch, Claim};
pub use consumer::Consumer;
pub use control::{Control, EndStats, Stats};
pub use frame::Frame;
pub use layout::{MAX_CAPACITY, MIN_CAPACITY, SpscLayout};
pub use producer::Producer;
pub use ring::End;
#[cfg(not(loom))]
pub use tasks::Turn;

/// Both ends of a ring between two threads.
///
/// # Errors
/// [`Error::AlreadyAttached`] if the segment has, or had, either of them.
pub fn pair(segment: &Segment<SpscLayout>) -> Result<(Producer, Consumer), Error> {
    let producer = Producer::attach(segment, Events::default())?;
    Ok((producer, Consumer::attach(segment, Events::default())?))
}

/// Both ends of a fresh ring whose positions begin at `start`, as after so many bytes: for tests and models.
#[cfg(any(test, loom, fuzzing))]
pub(crate) fn pair_from(segment: &Segment<SpscLayout>, start: u64) -> (Producer, Consumer) {
    let ring = ring::Ring::over(segment, Events::default());
    ring.word::<{ layout::TAIL }>().store(start, crate::sync::Ordering::Relaxed);
    ring.word::<{ layout::HEAD }>().store(start, crate::sync::Ordering::Relaxed);
    ring.word::<{ layout::RELEASED }>().store(start, crate::sync::Ordering::Relaxed);
    pair(segment).expect("nobody has attached to a fresh ring")
}

/// Models have no time, so they do not poll.
fn default_spin() -> SpinBudget {
    SpinBudget::new(cfg!(loom).then_some(Duration::ZERO))
}
