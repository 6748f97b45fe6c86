//! Rings between two ends of which either may be hostile, and write any word at any moment.

use super::script::Script;
use crate::arena::{ArenaLayout, CLASSES, Class};
use crate::error::{ClaimError, RecvError};
use crate::mpsc::{self, MpscLayout};
use crate::raw::steps::at_most;
use crate::segment::{HEADER_BYTES, Layout, Segment};
use crate::spsc::{self, SpscLayout};
use crate::trust::Trust;

/// Bytes of a block of the arena, and how many there are.
const BLOCK: usize = 256;
const BLOCKS: usize = 2;
/// Most operations of one input.
const MOST_OPERATIONS: usize = 400;

fn arena(script: &mut Script<'_>) -> ArenaLayout {
    let mut classes = [Class::default(); CLASSES];
    if script.bit() {
        classes[0] = Class { block: BLOCK as u32, count: BLOCKS as u32 };
    }
    ArenaLayout::new(classes).expect("a legal class")
}

/// Where counts have their edges, less a little.
fn start(script: &mut Script<'_>) -> u64 {
    let edge = script.one_of(&[0, 1 << 32, 1 << 36, 1 << 40, 1 << 42, 1 << 63]);
    u64::wrapping_sub(edge, u64::from(script.byte()))
}

fn is_known_to_senders(error: ClaimError) -> bool {
    !matches!(error, ClaimError::TimedOut { .. } | ClaimError::CannotWait { .. })
}

fn is_known_to_receivers(error: RecvError) -> bool {
    !matches!(error, RecvError::TimedOut | RecvError::CannotWait { .. })
}

/// A ring of frames of any length.
pub fn spsc_images(input: &[u8]) {
    let mut script = Script::new(input);
    let capacity = script.one_of(&[64, 128, 256]);
    let layout = SpscLayout::new(capacity).expect("a power of two").with_arena(arena(&mut script));
    let segment = Segment::heap(layout, 1);
    let start = start(&mut script) & !15;
    let (mut producer, mut consumer) = spsc::pair_from(&segment, start);
    let limit = layout.limit();
    // Of one operation: a few words, those of each unit of the ring that it may step over, and the blocks' words.
    let steps = 32 + capacity / 4 + 4 * BLOCKS;
    for _ in 0..MOST_OPERATIONS {
        if script.is_over() {
            break;
        }
        match script.byte() % 8 {
            0 | 1 => {
                let payload = vec![0x11; script.below(300)];
                let sent = at_most(steps + payload.len() / 8, "a send", || producer.try_send(&payload));
                assert!(sent.is_ok() == (payload.len() <= limit && sent.is_ok()), "{sent:?}");
                assert!(sent.is_ok() || sent.is_err_and(is_known_to_senders));
            }
            2 => {
                let (frames, commit) = (script.below(5), script.bit());
                let mut batch = producer.batch();
                for _ in 0..frames {
                    let payload = vec![0x22; script.below(60)];
                    let _ = at_most(steps, "a send in a batch", || batch.try_send(&payload));
                }
                if commit {
                    at_most(steps * 5, "the commit of a batch", || batch.commit());
                }
            }
            3 | 4 => match at_most(steps, "a receive", || consumer.try_recv()) {
                Ok(frame) => {
                    let bytes = at_most(0, "a look at a frame", || frame.bytes());
                    assert!(bytes.len() == frame.len() && bytes.len() <= limit.max(capacity), "{frame:?}");
                    std::hint::black_box(bytes.iter().fold(0_u8, |sum, byte| sum ^ byte));
                    at_most(steps, "a release", || drop(frame));
                }
                Err(error) => assert!(is_known_to_receivers(error), "{error:?}"),
            },
            5 => {
                let budget = script.below(6);
                let drained = at_most(steps * (budget + 1), "a drain", || consumer.drain(budget, |frame| drop(frame)));
                assert!(drained <= budget, "{drained} of {budget}");
            }
            _ => script.poke(segment.memory().region(), HEADER_BYTES..layout.bytes()),
        }
        let stats = at_most(64, "statistics", || consumer.control().stats());
        assert!(stats.used <= capacity && stats.free <= capacity && stats.frames <= capacity as u64, "{stats:?}");
    }
}

/// A ring of cells of one size for many senders.
pub fn mpsc_images(input: &[u8]) {
    let mut script = Script::new(input);
    let cells = script.one_of(&[1, 2, 4, 8]);
    let layout = MpscLayout::new(cells).expect("a power of two").with_arena(arena(&mut script));
    let segment = Segment::heap(layout, 1);
    let trust = script.one_of(&[Trust::CHECKED, Trust::ISOLATED]);
    let (sender, receiver) = mpsc::pair_from(&segment, start(&mut script));
    let mut receiver = receiver.with_trust(trust);
    let limit = layout.limit();
    // Of one operation: a few words, those of every cell, looked at more than once by whoever goes past held claims, and
    // those of a payload that is copied out.
    let steps = 32 + 4 * cells as usize * cells as usize + 4 * BLOCKS + limit.div_ceil(8);
    let mut held = Vec::new();
    for _ in 0..MOST_OPERATIONS {
        if script.is_over() {
            break;
        }
        match script.byte() % 8 {
            0 | 1 => {
                let payload = vec![0x11; script.below(300)];
                let sent = at_most(steps, "a send", || sender.try_send(&payload));
                assert!(sent.is_ok() || sent.is_err_and(is_known_to_senders), "{sent:?}");
                assert!(payload.len() <= limit || sent.is_err());
            }
            2 if script.bit() || held.is_empty() => {
                held.extend(at_most(steps, "a claim", || sender.try_claim(script.below(300))));
            }
            2 => {
                let claim = held.swap_remove(script.below(held.len()));
                if script.bit() {
                    at_most(steps, "a commit", || claim.commit());
                }
            }
            3 | 4 => match at_most(steps, "a receive", || receiver.try_recv()) {
                Ok(frame) => {
                    assert!(frame.bytes().len() <= limit, "{frame:?}");
                    let first = frame.bytes().to_vec();
                    if trust.is_isolated() {
                        script.poke(segment.memory().region(), HEADER_BYTES..layout.bytes());
                        assert_eq!(frame.bytes(), first, "a private copy has changed");
                    }
                }
                Err(error) => assert!(is_known_to_receivers(error), "{error:?}"),
            },
            5 => {
                let budget = script.below(6);
                let drained = at_most(steps * (budget + 1), "a drain", || receiver.drain(budget, |frame| drop(frame)));
                assert!(drained <= budget, "{drained} of {budget}");
            }
            _ => script.poke(segment.memory().region(), HEADER_BYTES..layout.bytes()),
        }
        assert!(receiver.len() <= cells as usize && sender.free() <= cells as usize);
        let stats = at_most(64, "statistics", || mpsc::Control::over(&segment, spsc::Events::default()).stats());
        std::hint::black_box(stats);
    }
}
