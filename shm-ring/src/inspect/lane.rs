//! What a call lane tells.

use crate::cells::{CELL_BYTES, KIND_ABORTED, Stage};
use crate::lane::{CELLS_AT, CLOSED_AT, LaneLayout, WATCH_AT};
use crate::ready::HOT;
use crate::slot::{ABANDONED, PARKED, PENDING, SLOT_BYTES, TASK};

/// The state of a call lane at about one moment. A lane counts nothing for onlookers: all of this is read off its cells
/// and slots, whose words carry how often they were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneStats {
    /// Calls that fit in flight.
    pub capacity: u32,
    /// Requests that wait to be taken.
    pub waiting: u32,
    /// Requests taken since the lane was made, aborted ones included; each cell modulo 2^40. Written by the server.
    pub taken: u64,
    /// Calls without a reply whose caller waits for it. Written by both sides.
    pub in_flight: u32,
    /// Those of them whose caller sleeps, be it a thread or a task.
    pub asleep: u32,
    /// Calls without a reply whose caller has gone.
    pub abandoned: u32,
    /// Calls begun since the lane was made; each slot modulo 2^32. Written by the client.
    pub calls: u64,
    /// Whether the server polls this lane; of a cold one it is told through the ready set. False if the lane is in two
    /// parts: this word is then in the other one.
    pub polled: bool,
    /// Whether the server has said that it takes no more. As for [`polled`](Self::polled).
    pub closed: bool,
}

impl LaneStats {
    pub(super) fn read(layout: &LaneLayout, value: impl Fn(usize) -> u64) -> Self {
        let capacity = layout.calls();
        let mut stats = Self {
            capacity,
            waiting: 0,
            taken: 0,
            in_flight: 0,
            asleep: 0,
            abandoned: 0,
            calls: 0,
            polled: !layout.is_up() && value(WATCH_AT) == HOT,
            closed: !layout.is_up() && value(CLOSED_AT) != 0,
        };
        for i in 0..capacity as usize {
            let cell = value(CELLS_AT + i * CELL_BYTES);
            let stage = Stage::of(cell);
            stats.taken = stats.taken.wrapping_add(stage.lap());
            stats.waiting += u32::from(stage.is_committed() && Stage::kind(cell) != KIND_ABORTED);
            let slot = value(layout.slots_at() + i * SLOT_BYTES);
            stats.calls = stats.calls.wrapping_add(slot >> 32);
            match slot as u32 {
                PENDING => stats.in_flight += 1,
                PARKED | TASK => {
                    stats.in_flight += 1;
                    stats.asleep += 1;
                }
                ABANDONED => stats.abandoned += 1,
                _ => {}
            }
        }
        stats
    }
}
