//! The trust modes of the rings, from outside: what is read in each of them, whatever the peer writes.

#[path = "../support/mod.rs"]
mod support;

mod flipped;
mod modes;

use rkyv::{Archive, Serialize};
use shm_ring::arena::{ArenaLayout, Class};
use shm_ring::mpsc::{self, MpscLayout};
use shm_ring::spsc::{self, SpscLayout};
use shm_ring::{Events, Segment, Trust};

/// Texts, numbers and choices: things that can be invalid.
#[derive(Archive, Serialize, Debug, Clone, PartialEq)]
#[rkyv(compare(PartialEq), derive(Debug))]
struct Order {
    id: u64,
    is_urgent: bool,
    symbol: String,
    side: Side,
    fills: Vec<(Side, f64)>,
}

#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq)]
#[rkyv(compare(PartialEq), derive(Debug))]
enum Side {
    Buy,
    Sell,
}

impl Order {
    /// Some 80 bytes, and 16 more for each of `fills`.
    fn of(id: u64, fills: u32) -> Self {
        let side = if id.is_multiple_of(2) { Side::Buy } else { Side::Sell };
        let fills = (0..fills).map(|n| (side, f64::from(n) / 3.0)).collect();
        Self { id, is_urgent: id.is_multiple_of(3), symbol: format!("symbol {id} that is not inlined"), side, fills }
    }
}

/// How many fills make a message that stands in a cell or is copied, one of about 1 KiB, one of about 64 KiB.
const FILLS: [u32; 4] = [0, 10, 60, 4090];

/// Cells of 120 bytes, and blocks for what is larger.
fn cells() -> MpscLayout {
    let class = |block, count| Class { block, count };
    let arena = ArenaLayout::new([class(2 << 10, 2), class(128 << 10, 2), class(0, 0)]).expect("legal classes");
    MpscLayout::new(4).expect("a power of two").with_arena(arena)
}

/// Frames up to 2,040 bytes, and blocks for what is larger.
fn frames() -> SpscLayout {
    let class = |block, count| Class { block, count };
    let arena = ArenaLayout::new([class(2 << 10, 2), class(128 << 10, 2), class(0, 0)]).expect("legal classes");
    SpscLayout::new(4096).expect("a power of two").with_arena(arena)
}

fn ring_of_frames(
    (maker, opener): (Segment<SpscLayout>, Segment<SpscLayout>),
    trust: Trust,
) -> (spsc::Producer, spsc::Consumer) {
    let producer = spsc::Producer::attach(&maker, Events::default()).expect("nobody has attached");
    let consumer = spsc::Consumer::attach(&opener, Events::default()).expect("nobody has attached");
    (producer, consumer.with_trust(trust))
}

/// Both ends, each over its own segment as two processes have them.
fn ring_of_cells(
    (maker, opener): (Segment<MpscLayout>, Segment<MpscLayout>),
    trust: Trust,
) -> (mpsc::Sender, mpsc::Receiver) {
    let sender = mpsc::Sender::attach(&maker, Events::default()).expect("nobody has attached");
    let receiver = mpsc::Receiver::attach(&opener, Events::default()).expect("nobody has attached");
    (sender, receiver.with_trust(trust))
}
