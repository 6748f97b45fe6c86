//! Typed messages over real rings, from outside.

#[path = "../support/mod.rs"]
mod support;

mod carried;
mod compile;
mod opening;
mod queue;
mod refused;
mod spoilt;
mod tasks;

use bytemuck::{Pod, Zeroable};
use rkyv::{Archive, Serialize};
use shm_ring::Segment;
use shm_ring::arena::{ArenaLayout, Class};
use shm_ring::mpsc::MpscLayout;
use shm_ring::spsc::{self, Events, SpscLayout};
use shm_ring::typed::{Message, Receiver, Sender, Typed};
use support::backings::EPOCH;

type To<T> = Sender<T, spsc::Producer>;
type From<T> = Receiver<T, spsc::Consumer>;

#[derive(Archive, Serialize, Debug, Clone, PartialEq)]
#[rkyv(compare(PartialEq), derive(Debug))]
struct Order {
    id: u64,
    symbol: String,
    fills: Vec<(u32, f64)>,
    note: Option<Box<str>>,
}

impl Order {
    /// An order whose archive has a little more than 16 bytes for each of `fills`.
    fn of(id: u64, fills: u32) -> Self {
        let fills = (0..fills).map(|n| (n, f64::from(n) / 3.0)).collect();
        Self { id, symbol: format!("symbol {id} with a name that is not inlined"), fills, note: Some("by hand".into()) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Quote {
    bid: f64,
    ask: f64,
    at_ns: u64,
}

/// Blocks for what is too large for the ring itself.
fn arena() -> ArenaLayout {
    let class = |block, count| Class { block, count };
    ArenaLayout::new([class(16 << 10, 2), class(1 << 20, 2), class(0, 0)]).unwrap()
}

/// 2,040 bytes go into the ring, more into the arena.
fn ring() -> SpscLayout {
    SpscLayout::new(4096).unwrap().with_arena(arena())
}

/// Cells of 120 bytes; what is larger goes into the arena.
fn cells() -> MpscLayout {
    MpscLayout::new(64).unwrap().with_arena(arena())
}

fn ends<T: Message + ?Sized>(
    maker: &Segment<Typed<T, SpscLayout>>,
    opener: &Segment<Typed<T, SpscLayout>>,
) -> (To<T>, From<T>) {
    let sender = maker.sender(|ring| spsc::Producer::attach(ring, Events::default())).unwrap();
    (sender, opener.receiver(|ring| spsc::Consumer::attach(ring, Events::default())).unwrap())
}

fn pair<T: Message + ?Sized>() -> (To<T>, From<T>) {
    let segment = Segment::heap(Typed::new(ring()), EPOCH);
    ends(&segment, &segment)
}
