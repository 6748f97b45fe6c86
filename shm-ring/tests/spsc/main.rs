//! The spsc ring from outside, over every backing.

#[path = "../support/mod.rs"]
mod support;

mod basics;
mod ends;
mod killed;
mod shared;
mod stopped;
mod stream;
mod waiting;

use shm_ring::arena::{ArenaLayout, CLASSES, Class};
use shm_ring::spsc::{Consumer, Events, Producer, SpscLayout};
use support::backings::Backing;

/// Both ends of a ring, each over its own segment as two processes have them.
fn ring(backing: Backing, layout: SpscLayout) -> (Producer, Consumer) {
    let (maker, opener) = backing.pair(layout);
    let producer = Producer::attach(&maker, Events::default()).expect("nobody has attached");
    (producer, Consumer::attach(&opener, Events::default()).expect("nobody has attached"))
}

fn plain(capacity: usize) -> SpscLayout {
    SpscLayout::new(capacity).expect("a power of two")
}

/// With `count` blocks of `block` bytes for payloads over the inline limit.
fn with_blocks(capacity: usize, block: u32, count: u32) -> SpscLayout {
    let mut classes = [Class::default(); CLASSES];
    classes[0] = Class { block, count };
    plain(capacity).with_arena(ArenaLayout::new(classes).expect("a legal class"))
}

/// `len` bytes that tell their frame.
fn payload(frame: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (frame * 31 + i * 7) as u8).collect()
}
