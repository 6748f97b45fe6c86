//! Lock-free rings, call slots and doorbells over memory that several processes map.
//!
//! Begin with [`spsc`] for one sender and one receiver, with [`mpsc`] for many senders; its `Queue` is found by name and
//! gives each sending process a lane of its own. Each end may wait as a thread, in an event loop or in a task.
//!
//! What this crate gives, from the bottom up:
//! - [`Segment`]: a region of memory with a checked header, on the heap, in a sealed memfd or in a file of the caller's,
//!   or at a [`Place`] where it outlives processes;
//! - [`spsc`]: a bounded ring of frames of any length, one producing thread, one consuming one;
//! - [`mpsc`]: a bounded ring of cells, many producing threads, one consumer; claim, commit, abort on drop;
//! - [`cells`]: the ring of request cells of a call lane;
//! - [`slot`]: call slots, one request in flight each, with the reply in place;
//! - [`arena`]: blocks for what is too large for a cell or a slot;
//! - [`ready`]: the doorbell of a consumer with many lanes; [`wait`]: how long to poll before sleeping;
//! - [`lane`]: all of these laid out in one segment for one client and one server;
//! - `typed`: messages of Rust types over any of the rings;
//! - `inspect`: any of them seen from outside, by a process that takes no part;
//! - [`rendezvous`]: how two processes meet and learn of each other's end.
//!
//! It knows bytes, not services.
//!
//! # The one soundness assumption
//! Rust has no rules for memory that another *process* writes. This crate reads and writes shared words by atomics
//! only, reads each of a peer's words once, and checks it. Frames of rings and blocks of arenas are read in place, and
//! that rests on an assumption, that of the trust mode `Checked`: **a peer of the same user keeps the protocol**, so it
//! does not write a payload after handing it over. Such a peer could attach a debugger to us as well. (Requests in
//! [`cells`], replies in [`slot`]s and short typed messages are copied out before they are looked at.) With
//! [`Trust::ISOLATED`] a ring's consumer copies everything out first and assumes nothing; producers of other users, if a
//! queue lets them in, are always treated so. `SAFETY.md` beside this crate says more; `docs/layout.md` draws every shared
//! byte, `docs/orderings.md` explains every pair of orderings.
#![deny(unsafe_code)] // The files that allow it, and why: `MAY_BE_UNSAFE` in `xtask/src/source.rs`.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod account;
pub mod arena;
mod barrier;
pub mod cells;
pub mod clock;
#[cfg(not(loom))]
mod copy;
mod error;
mod event;
#[cfg(not(loom))]
mod fallback;
#[cfg(not(loom))]
pub mod floor;
mod fork;
mod futex;
#[cfg(all(any(test, fuzzing), not(loom)))]
pub mod fuzz;
#[cfg(not(loom))]
pub mod inspect;
pub mod lane;
#[cfg(loom)]
pub mod model;
pub mod mpsc;
mod peer;
#[cfg(not(loom))]
mod process;
mod raw;
pub mod ready;
#[cfg(not(loom))]
pub mod rendezvous;
mod segment;
mod signal;
pub mod slot;
pub mod spsc;
mod sync;
mod tasks;
#[cfg(not(loom))]
mod throttle;
mod trust;
#[cfg(not(loom))]
pub mod typed;
pub mod wait;

pub use error::{ClaimError, Error, RecvError};
pub use event::{EventFd, Events};
#[cfg(not(loom))]
pub use fallback::Feature;
pub use fork::Home;
pub use futex::Woken;
pub use peer::{PeerWord, Untrusted};
pub use segment::{HEADER_BYTES, LAYOUT_VERSION, Layout, NOTE_BYTES, Segment};
#[cfg(not(loom))]
pub use segment::{Origin, Place, ReadOnly, SealedPayload, SealedWriter, SegmentOptions};
#[cfg(not(loom))]
pub use tasks::{Messages, Pollable, Reactor};
#[cfg(not(loom))]
pub use throttle::Throttle;
#[cfg(not(loom))]
pub use trust::BuildId;
pub use trust::Trust;
