//! Rings written by hand for one purpose each: the speed that a ring of ours may be held against.
//!
//! They have what moves a message and nothing else: no check of what the other side wrote, no closing, no sleeping, no
//! death of a peer, no abort, no counters. Nobody should use them for anything but a comparison.

pub mod memory;
pub mod mpsc;
pub mod spsc;
