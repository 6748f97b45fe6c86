//! The ring against a plain queue: every operation, in every order, at every count.

use proptest::collection::vec;
use proptest::prelude::*;

use super::machine::{BLOCK, INLINE, Op, run};

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..=INLINE, 2 => INLINE + 1..=BLOCK, 1 => BLOCK + 1..BLOCK + 10]
}

fn op() -> impl Strategy<Value = Op> {
    let batch = (0..6_usize, vec(len(), 0..6), any::<bool>());
    prop_oneof![
        6 => len().prop_map(Op::Send),
        2 => (len(), 0..BLOCK).prop_map(|(len, part)| Op::Commit(len, part)),
        2 => len().prop_map(Op::Abort),
        2 => len().prop_map(Op::Hold),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, commit)| Op::LetGo { which, commit }),
        2 => batch.prop_map(|(frames, lens, commit)| Op::Batch { frames, lens, commit }),
        8 => Just(Op::Recv),
        2 => (0..5_usize).prop_map(Op::Drain),
    ]
}

/// Where counts have their edges: 32 bits, the lap's 40 bits for rings of up to 8 cells, 63 and 64 bits.
fn start() -> impl Strategy<Value = u64> {
    let edges = [0, 1 << 32, 1 << 40, 1 << 41, 1 << 42, 1 << 43, 1 << 62, 1 << 63, u64::MAX];
    (prop::sample::select(edges.to_vec()), 0..24_u64).prop_map(|(edge, before)| u64::wrapping_sub(edge, before))
}

proptest! {
    #[test]
    fn seed_04_the_ring_does_what_a_plain_queue_does(
        cells in prop::sample::select(vec![1_u32, 2, 4, 8, 64]),
        start in start(),
        ops in vec(op(), 0..150),
    ) {
        run(cells, start, ops);
    }
}
