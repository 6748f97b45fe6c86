//! References to blocks, and words that give blocks back, that a hostile reader may write.

use super::script::Script;
use crate::arena::{ArenaLayout, ArenaOwner, ArenaReader, Block, BlockRef, Class};
use crate::raw::steps::at_most;
use crate::segment::{HEADER_BYTES, Layout, Segment};

/// Most operations of one input.
const MOST: usize = 300;

/// Any references and any `returned` words: a block that is in the owner's hands is in nobody else's, reads stay inside
/// their block, and the owner's work is bounded by the number of blocks.
pub fn arena_references(input: &[u8]) {
    let mut script = Script::new(input);
    let classes =
        [(128, 4), (384, 5), (1024, 3)].map(|(block, most)| Class { block, count: script.below(most) as u32 });
    let layout = ArenaLayout::new(classes).expect("classes that grow");
    let blocks: u32 = classes.iter().map(|class| class.count).sum();
    let segment = Segment::heap(layout, 1);
    let owner = ArenaOwner::over(&segment).expect("the first owner");
    let reader = ArenaReader::over(&segment).expect("the first reader");
    let steps = 4 * blocks as usize + 4;
    let mut held: Vec<Block<'_>> = Vec::new();
    let mut lent: Vec<BlockRef> = Vec::new();
    for _ in 0..MOST {
        if script.is_over() {
            break;
        }
        match script.byte() % 9 {
            0 | 1 => {
                let len = script.below(1100);
                if let Some(mut block) = at_most(steps, "an allocation", || owner.allocate(len)) {
                    assert!(len <= layout.largest(), "{len} of {}", layout.largest());
                    let twice = held.iter().any(|other| index(other.at()) == index(block.at()));
                    assert!(!twice, "{block:?} was given out twice");
                    assert!(block.append(&vec![0x33; len]) && !block.append(&[0]), "{block:?}");
                    held.push(block);
                }
            }
            2 if !held.is_empty() => drop(held.swap_remove(script.below(held.len()))),
            3 if !held.is_empty() => lent.push(held.swap_remove(script.below(held.len())).lend()),
            4 if !lent.is_empty() => reader.give_back(lent[script.below(lent.len())]),
            5 if !lent.is_empty() => owner.reclaim(lent[script.below(lent.len())]),
            6 => {
                let (at, len) = (BlockRef::from_word(script.word()), script.below(2000));
                match reader.bytes(at, len) {
                    Ok(bytes) => {
                        assert!(bytes.len() == len && index(at) < blocks, "{at:?}");
                        std::hint::black_box(bytes.iter().fold(0_u8, |sum, byte| sum ^ byte));
                    }
                    Err(error) => assert!(error.to_string().len() < 200, "{error}"),
                }
                at_most(1, "giving back", || reader.give_back(at));
            }
            7 => _ = at_most(steps, "a look for the largest block", || owner.largest_free()),
            _ => script.poke(segment.memory().region(), HEADER_BYTES..layout.bytes()),
        }
    }
    // Whatever was written, what the owner still holds is intact.
    for block in &held {
        assert!(reader.bytes(block.at(), block.len()).is_ok(), "{block:?}");
    }
}

fn index(at: BlockRef) -> u32 {
    at.to_word() as u32
}
