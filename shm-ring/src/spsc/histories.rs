//! The ring against a plain queue: every operation, in any order, of any size, at every offset of a wrap, with positions
//! that begin near the edges of their count.

use proptest::collection::vec;
use proptest::prelude::*;

use super::machine::{BLOCK, Machine, Op};

/// Lengths of which most fit, many are at an edge, and some never fit.
fn len(capacity: usize) -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..=24_usize,
        4 => 0..=capacity / 2,
        2 => (capacity / 2 - 9)..=(capacity / 2 - 7),
        1 => prop_oneof![Just(BLOCK), Just(BLOCK - 1), Just(BLOCK + 1), Just(usize::MAX), 0..BLOCK],
    ]
}

fn op(capacity: usize) -> impl Strategy<Value = Op> {
    let len = || len(capacity);
    prop_oneof![
        6 => len().prop_map(Op::TrySend),
        1 => len().prop_map(Op::SendDeadline),
        2 => (len(), 0..=100_usize, any::<bool>())
            .prop_map(|(len, percent, commit)| Op::Claim { len, percent, commit }),
        2 => (vec(len(), 0..6), any::<bool>()).prop_map(|(lens, commit)| Op::Batch { lens, commit }),
        6 => Just(Op::TryRecv),
        1 => Just(Op::RecvDeadline),
        1 => len().prop_map(Op::Hold),
        1 => (0..8_usize).prop_map(Op::Drain),
    ]
}

/// Positions that begin at any offset, in the middle of nowhere or just before an edge of the count.
fn start(capacity: usize) -> impl Strategy<Value = u64> {
    let edge = prop_oneof![Just(0), Just(1 << 32), Just(1 << 36), Just(1 << 63), any::<u64>()];
    (edge, 0..=2 * capacity as u64 / 16).prop_map(|(edge, units): (u64, u64)| edge.wrapping_sub(units * 16) & !15)
}

fn ring_and_ops() -> impl Strategy<Value = (usize, u64, Vec<Op>)> {
    prop_oneof![Just(64_usize), Just(128), Just(256), Just(1024)]
        .prop_flat_map(|capacity| (Just(capacity), start(capacity), vec(op(capacity), 1..200)))
}

proptest! {
    #[test]
    fn seed_04_the_ring_answers_as_a_plain_queue_does((capacity, start, ops) in ring_and_ops()) {
        let mut machine = Machine::new(capacity, start);
        ops.iter().for_each(|op| machine.run(op));
        machine.close();
    }
}

/// Every length passes every offset and every edge of the count: past 2^32, 2^36, 2^63, and 2^64, where it is zero again.
#[test]
fn pos_wrap_u64() {
    const CAPACITY: usize = 128;
    for edge in [0, 1 << 32, 1 << 36, 1 << 63] {
        for units in 0..CAPACITY as u64 / 16 {
            for len in 0..=CAPACITY / 2 - 8 {
                let mut machine = Machine::new(CAPACITY, u64::wrapping_sub(edge, units * 16 + CAPACITY as u64));
                for _ in 0..6 {
                    machine.try_send(len);
                    machine.try_send(len / 2);
                    machine.recv(false);
                    machine.recv(false);
                    machine.check();
                }
            }
        }
    }
}
