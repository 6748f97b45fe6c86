//! Operations of honest ends, held against a plain queue.

use super::script::Script;
use crate::mpsc::machine as cells;
use crate::spsc::machine as frames;

/// Most operations of one input.
const MOST: usize = 300;

/// Any operations on a ring of frames, from any position: it answers as a plain queue would.
pub fn spsc_operations(input: &[u8]) {
    let mut script = Script::new(input);
    let capacity = script.one_of(&[64, 128, 256, 1024]);
    let edge = script.one_of(&[0, 1 << 32, 1 << 36, 1 << 63]);
    let start = u64::wrapping_sub(edge, u64::from(script.byte()) * 16) & !15;
    let mut machine = frames::Machine::new(capacity, start);
    for _ in 0..MOST {
        if script.is_over() {
            break;
        }
        machine.run(&frame_op(&mut script, capacity));
    }
    machine.close();
}

fn frame_len(script: &mut Script<'_>, capacity: usize) -> usize {
    match script.byte() {
        choice @ 0..=149 => usize::from(choice % 25),
        150..=199 => script.below(capacity / 2 + 1),
        choice @ 200..=239 => capacity / 2 - 9 + usize::from(choice % 3),
        choice @ 240..=247 => frames::BLOCK - 4 + usize::from(choice % 8),
        248..=251 => script.below(frames::BLOCK),
        _ => usize::MAX,
    }
}

fn frame_op(script: &mut Script<'_>, capacity: usize) -> frames::Op {
    use frames::Op;
    match script.byte() % 18 {
        0..=5 => Op::TrySend(frame_len(script, capacity)),
        6 => Op::SendDeadline(frame_len(script, capacity)),
        7 | 8 => Op::Claim {
            len: frame_len(script, capacity),
            percent: usize::from(script.byte()) % 101,
            commit: script.bit(),
        },
        9 => Op::Batch {
            lens: (0..script.byte() % 6).map(|_| frame_len(script, capacity)).collect(),
            commit: script.bit(),
        },
        10..=14 => Op::TryRecv,
        15 => Op::RecvDeadline,
        16 => Op::Hold(frame_len(script, capacity)),
        _ => Op::Drain(usize::from(script.byte() % 8)),
    }
}

/// Any operations on a ring of cells, from any count: it answers as a plain queue would.
pub fn mpsc_operations(input: &[u8]) {
    let mut script = Script::new(input);
    let cells = script.one_of(&[1, 2, 4, 8, 64]);
    let edge = script.one_of(&[0, 1 << 32, 1 << 40, 1 << 41, 1 << 42, 1 << 43, 1 << 62, 1 << 63]);
    let start = u64::wrapping_sub(edge, u64::from(script.byte() % 24));
    cells::run(cells, start, std::iter::from_fn(|| (!script.is_over()).then(|| cell_op(&mut script))).take(MOST));
}

fn cell_len(script: &mut Script<'_>) -> usize {
    match script.byte() {
        choice @ 0..=149 => usize::from(choice) % (cells::INLINE + 1),
        150..=249 => script.below(cells::BLOCK + 1),
        choice => cells::BLOCK - 4 + usize::from(choice % 8),
    }
}

fn cell_op(script: &mut Script<'_>) -> cells::Op {
    use cells::Op;
    match script.byte() % 22 {
        0..=5 => Op::Send(cell_len(script)),
        6 | 7 => Op::Commit(cell_len(script), script.below(cells::BLOCK)),
        8 => Op::Abort(cell_len(script)),
        9 | 10 => Op::Hold(cell_len(script)),
        11..=13 => Op::LetGo { which: script.byte().into(), commit: script.bit() },
        14 => Op::Batch {
            frames: usize::from(script.byte() % 6),
            lens: (0..script.byte() % 6).map(|_| cell_len(script)).collect(),
            commit: script.bit(),
        },
        15..=20 => Op::Recv,
        _ => Op::Drain(usize::from(script.byte() % 5)),
    }
}
