//! The mpsc ring from outside, over every backing.

#[path = "../support/mod.rs"]
mod support;

mod basics;
mod ends;
mod killed;
mod waiting;

use shm_ring::arena::{ArenaLayout, CLASSES, Class};
use shm_ring::mpsc::{Events, MpscLayout, Receiver, Sender};
use support::backings::Backing;

/// Both ends of a ring, each over its own segment as two processes have them.
fn ring(backing: Backing, layout: MpscLayout) -> (Sender, Receiver) {
    let (maker, opener) = backing.pair(layout);
    let sender = Sender::attach(&maker, Events::default()).expect("nobody has attached");
    (sender, Receiver::attach(&opener, Events::default()).expect("nobody has attached"))
}

fn plain(cells: u32) -> MpscLayout {
    MpscLayout::new(cells).expect("a power of two")
}

/// With `count` blocks of `block` bytes for payloads over the inline limit.
fn with_blocks(cells: u32, block: u32, count: u32) -> MpscLayout {
    let mut classes = [Class::default(); CLASSES];
    classes[0] = Class { block, count };
    plain(cells).with_arena(ArenaLayout::new(classes).expect("a legal class"))
}

/// `len` bytes that tell their frame.
fn payload(frame: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (frame * 31 + i * 7) as u8).collect()
}
