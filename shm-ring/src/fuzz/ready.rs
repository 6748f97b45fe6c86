//! The ready set, whose every word any client of a service may write.

use super::script::Script;
use crate::peer::PeerWord;
use crate::raw::steps::at_most;
use crate::ready::{MODE_AT, Park, ReadyLayout, ReadySet, Watch};
use crate::segment::{HEADER_BYTES, Layout, Segment};

/// Most operations of one input.
const MOST: usize = 300;

#[derive(Debug, Clone)]
struct Word;

/// A segment for one `watch` word.
impl Layout for Word {
    const KIND: u64 = 0x0077_6174_6368; // "watch"
    fn params(&self) -> [u64; 8] {
        [0; 8]
    }
    fn from_params(_: &[u64; 8]) -> Result<Self, crate::Error> {
        Ok(Self)
    }
    fn bytes(&self) -> usize {
        HEADER_BYTES + 8
    }
}

/// Any words in the set: only lanes that there are, each once in a look, in work that the number of lanes bounds; and a
/// consumer parks only when no bit is set.
pub fn ready_sets(input: &[u8]) {
    let mut script = Script::new(input);
    let lanes = script.one_of(&[1, 63, 64, 65, 200]);
    let layout = ReadyLayout::new(lanes);
    let segment = Segment::heap(layout, 1);
    let ready = ReadySet::new(&segment);
    let memory = Segment::heap(Word, 1).memory();
    let watch = Watch(PeerWord::at(memory.region(), HEADER_BYTES));
    let words = lanes.div_ceil(64) as usize;
    for _ in 0..MOST {
        if script.is_over() {
            break;
        }
        match script.byte() % 9 {
            0 => {
                let lane = script.below(lanes as usize) as u32;
                let _ = at_most(6, "an announcement", || ready.announce(lane, watch));
            }
            1 => {
                let lane = script.below(lanes as usize) as u32;
                at_most(4, "a ring", || ready.ring(lane));
            }
            2 => watch.heat(),
            3 => _ = at_most(4, "cooling", || ready.cool(watch, || script.bit().then_some(()))),
            4 | 5 => {
                let used = script.below(300) as u32;
                let mut seen = Vec::new();
                at_most(2 * words, "a look at the bits", || ready.take_ready(used, |lane| seen.push(lane)));
                assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]), "{seen:?}");
                assert!(seen.last().is_none_or(|lane| *lane < lanes && *lane < used.next_multiple_of(64)), "{seen:?}");
            }
            6 => {
                let finds = script.bit();
                let work = at_most(words + 6, "parking", || ready.park(|| watch.cool(), || finds.then_some(7)));
                match work {
                    Park::Found(found) => assert!(finds && found == 7),
                    Park::Ready => assert!(!finds),
                    Park::Sleep(bell) => {
                        assert!(!finds && !ready.any_ready(lanes), "it sleeps over work");
                        assert_eq!(bell, ready.bell());
                        ready.awake();
                    }
                }
            }
            7 => at_most(2, "ringing for all", || ready.ring_all()),
            _ => script.poke(segment.memory().region(), MODE_AT..layout.bytes()),
        }
    }
}
