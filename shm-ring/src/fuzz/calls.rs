//! The call path: cells that a hostile client writes, slots that either side does.

use std::collections::HashSet;

use super::script::Script;
use crate::arena::ArenaLayout;
use crate::cells::{BODY_WORDS, CELL_BYTES, Refused};
use crate::error::Error;
use crate::lane::{CELLS_AT, ClientLane, LaneLayout, ServerLane};
use crate::raw::steps::at_most;
use crate::ready::{ReadyLayout, ReadySet};
use crate::segment::Segment;
use crate::slot::{Abandoned, Call, CallId, REPLY_WORDS, ReplyHeader, SLOT_BYTES, Waited};
use crate::wait::SpinBudget;

/// Most operations of one input.
const MOST: usize = 300;

fn lane(calls: u32) -> Segment<LaneLayout> {
    let none = ArenaLayout::default();
    Segment::heap(LaneLayout::new(calls, none, none).expect("a power of two"), 1)
}

fn client(segment: &Segment<LaneLayout>) -> ClientLane {
    let ready = ReadySet::new(&Segment::heap(ReadyLayout::new(1), 1));
    ClientLane::new(segment, ready, 0).expect("the first lane of one")
}

/// Any words in the cells: a look takes a frame that is no aborted one, finds nothing, or says which word is impossible,
/// within a number of looks that the cells bound.
pub fn call_cells(input: &[u8]) {
    let mut script = Script::new(input);
    let calls = script.one_of(&[1, 2, 4, 8]);
    let segment = lane(calls);
    let client = client(&segment);
    let (_server, mut consumer) = ServerLane::new(&segment).expect("the first server");
    let cells = calls as usize;
    let (one, all) = (2 * cells + BODY_WORDS + 4, 3 * (cells + 1) * (cells + 1) * (cells + 1) + BODY_WORDS + 4);
    let mut held = Vec::new();
    for _ in 0..MOST {
        if script.is_over() {
            break;
        }
        let mut body = [0; BODY_WORDS];
        match script.byte() % 8 {
            0 | 1 => match at_most(4, "a claim", || client.requests.try_claim()) {
                Ok(claim) => held.push(claim),
                Err(refused) => assert!(matches!(refused, Refused::Full | Refused::Corrupt)),
            },
            2 if !held.is_empty() => {
                let mut claim = held.swap_remove(script.below(held.len()));
                if script.bit() {
                    let (kind, words) = (script.byte() % 127 + 1, script.below(BODY_WORDS + 1));
                    let position = at_most(BODY_WORDS + 1, "a commit", || claim.commit(kind, 8, &body[..words]));
                    assert!(at_most(1, "a look at one's cell", || client.requests.is_untaken(position)));
                }
            }
            3 | 4 => match at_most(one, "taking", || consumer.try_take(&mut body)) {
                Ok(taken) => assert!(taken.is_none_or(|taken| taken.kind != 0), "{taken:?}"),
                Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
            },
            5 => match at_most(all, "a scan", || consumer.scan(&mut body)) {
                Ok(taken) => assert!(taken.is_none_or(|taken| taken.kind != 0), "{taken:?}"),
                Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
            },
            6 => _ = at_most(cells, "a look for work", || consumer.has_committed()),
            _ => script.poke(segment.memory().region(), CELLS_AT..CELLS_AT + cells * CELL_BYTES),
        }
    }
}

/// Any words in the slots: a slot is in one hand at a time, a wait that may not sleep ends, and a server writes only
/// into slots that there are.
pub fn call_slots(input: &[u8]) {
    let mut script = Script::new(input);
    let calls = script.one_of(&[1, 2, 4]);
    let segment = lane(calls);
    let slots = CELLS_AT + calls as usize * CELL_BYTES;
    let client = client(&segment);
    let (server, _consumer) = ServerLane::new(&segment).expect("the first server");
    let mut flight: Vec<Call<'_>> = Vec::new();
    let mut abandoned: Vec<Abandoned> = Vec::new();
    let mut lost = HashSet::new();
    for _ in 0..MOST {
        if script.is_over() {
            break;
        }
        match script.byte() % 10 {
            0 | 1 => {
                if let Some(mut call) = client.slots.acquire() {
                    let slot = call.id().slot;
                    let is_lent = flight.iter().map(Call::id).chain(abandoned.iter().map(Abandoned::id));
                    assert!(slot < calls && is_lent.into_iter().all(|id| id.slot != slot), "slot {slot} is lent");
                    assert!(!lost.contains(&slot), "slot {slot} was never given back");
                    call.arm();
                    flight.push(call);
                }
            }
            2 if !flight.is_empty() => {
                let call = &flight[script.below(flight.len())];
                look(call);
            }
            3 if !flight.is_empty() => {
                let call = flight.swap_remove(script.below(flight.len()));
                match at_most(8, "giving up", || call.abandon()) {
                    Ok(call) => abandoned.push(call),
                    Err((call, came)) => {
                        assert!(came != Waited::TimedOut);
                        flight.push(call);
                    }
                }
            }
            4 if !abandoned.is_empty() => {
                let call = abandoned.swap_remove(script.below(abandoned.len()));
                if let Err(call) = at_most(8, "taking a slot back", || call.reclaim(&client.slots, |_, _| ())) {
                    abandoned.push(call);
                }
            }
            5 if !flight.is_empty() => {
                let call = flight.swap_remove(script.below(flight.len()));
                let id = call.id();
                let is_over = matches!(look(&call), Waited::Done(_));
                at_most(4, "dropping a call", || drop(call));
                if !is_over {
                    lost.insert(id.slot);
                }
            }
            6 | 7 => {
                let id = match flight.first() {
                    Some(call) if script.bit() => call.id(),
                    _ => CallId::from_word(script.word() & 0xffff_ffff_0000_0007),
                };
                match server.slots.check(id) {
                    Ok(id) => {
                        let header = ReplyHeader { tag: script.byte().into(), len: 8, place: script.byte() };
                        let words = [0x44; REPLY_WORDS];
                        let words = &words[..script.below(REPLY_WORDS + 1)];
                        let _ = at_most(REPLY_WORDS + 10, "a reply", || server.slots.finish(id, header, words));
                        std::hint::black_box(server.slots.is_cancelled(id));
                    }
                    Err(error) => assert!(id.slot >= calls && matches!(error, Error::Corrupt { .. }), "{error}"),
                }
            }
            8 if script.below(8) == 0 => at_most(8 * calls as usize, "the end", || client.slots.end()),
            _ => script.poke(segment.memory().region(), slots..slots + calls as usize * SLOT_BYTES),
        }
    }
}

/// Waits no time at all.
fn look(call: &Call<'_>) -> Waited {
    let waited = at_most(16, "a wait", || call.wait(Some(1), &SpinBudget::none(), || ()));
    if let Waited::Done(header) = waited {
        let mut words = [0; REPLY_WORDS];
        call.read(&mut words);
        assert!(header.tag < 1 << 24, "{header:?}");
    }
    waited
}
