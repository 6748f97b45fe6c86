//! Attacks on shared memory: the attacker calls with the product's own client, while another thread of its process writes
//! what it likes into all memory that the connection shares.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::{IoSliceMut, ReadWriteFlags};
use test_support::memory::{Memory, event_descriptors, spoilt};

use crate::random::Random;
use crate::siege::{BesiegedClient, Ground, Step};

/// All memory of the product.
const OURS: &str = "switchboard-";

/// The memory of one connection.
const LANE: &str = "switchboard-lane";

/// Words of a unit in a lane: a cell or a call slot.
const UNIT_WORDS: usize = 16;

/// Words at the beginning of a lane that are no cells: header, `watch`, `closed`.
const FIRST_WORDS: usize = 48;

/// Writes of one step. A client that broke the protocol is shown out, so a step has a connection of its own.
const WRITES: u64 = 200;

/// What a caller of the attacker waits for an answer that may never come.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(10);

/// Connects, lets two threads call, and spoils the memory meanwhile.
fn beside_calls(ground: &mut Ground, spoil: impl FnOnce(&[Memory], &mut Random) -> u64) -> u64 {
    let Ok(client) = ground.client() else { return 0 };
    let client = client.with_timeout(GIVEN_UP_AFTER);
    // Makes blocks and added segments, too.
    let _ = client.mark(1, &[1; 3000]);
    let _ = client.mark(1, &[1; 70_000]);
    let memories = Memory::of_this_process(OURS);
    let is_over = AtomicBool::new(false);
    let call = |client: &BesiegedClient| {
        let mut number = 0;
        while !is_over.load(Ordering::Relaxed) {
            number += 1;
            // Answers are spoilt, late or missing.
            let _ = client.mark(number, &vec![7; [8, 3000, 70_000][number as usize % 3]]);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| call(&client));
        scope.spawn(|| call(&client));
        let attempts = spoil(&memories, &mut ground.random);
        is_over.store(true, Ordering::Relaxed);
        attempts
    })
}

/// Any word of any memory; and again as it was, so that the connection lives on with what is half spoilt.
pub fn random_words(mut ground: Ground) -> Step {
    Box::new(move || {
        beside_calls(&mut ground, |memories, random| {
            let lanes: Vec<_> = memories.iter().filter(|memory| memory.name() != "switchboard-ready").collect();
            for _ in 0..WRITES {
                let Some(memory) = lanes.get(random.below(lanes.len().max(1) as u64) as usize) else { return 0 };
                let word = memory.word(random.below(memory.words() as u64) as usize);
                let value = word.load(Ordering::Relaxed);
                word.store(spoilt(value, random.next()), Ordering::Relaxed);
                if random.one_in(2) {
                    word.store(value, Ordering::Relaxed);
                }
            }
            WRITES
        })
    })
}

/// The words that decide: headers of cells with their laps and lengths, states and generations of slots, references of
/// blocks, lengths and methods of requests.
pub fn aimed_words(mut ground: Ground) -> Step {
    Box::new(move || {
        beside_calls(&mut ground, |memories, random| {
            let Some(lane) = memories.iter().find(|memory| memory.name() == LANE) else { return 0 };
            let units = (lane.words() - FIRST_WORDS) as u64 / UNIT_WORDS as u64;
            for _ in 0..WRITES {
                // Cells and slots in use are the first ones of each kind.
                let unit = if random.one_in(2) { random.below(8) } else { random.below(units) };
                let unit = if random.one_in(3) { (128 + unit).min(units - 1) } else { unit };
                let word = FIRST_WORDS + unit as usize * UNIT_WORDS + random.below(6) as usize;
                let word = lane.word(word);
                let value = word.load(Ordering::Relaxed);
                word.store(spoilt(value, random.next()), Ordering::Relaxed);
            }
            WRITES
        })
    })
}

/// All of the memory as it was a little while ago: old laps, old generations, requests that were answered already.
pub fn replayed(mut ground: Ground) -> Step {
    Box::new(move || {
        beside_calls(&mut ground, |memories, random| {
            for _ in 0..4 {
                let Some(lane) = memories.iter().find(|memory| memory.name() == LANE) else { return 0 };
                let old: Vec<u64> = (0..lane.words()).map(|at| lane.word(at).load(Ordering::Relaxed)).collect();
                thread::sleep(Duration::from_micros(random.below(2000)));
                let from = random.below(lane.words() as u64) as usize;
                for (at, value) in old.into_iter().enumerate().skip(from) {
                    lane.word(at).store(value, Ordering::Relaxed);
                }
            }
            4
        })
    })
}

/// The words by which blocks are given back say "never" or "all of them" while replies are large.
pub fn kept_blocks(mut ground: Ground) -> Step {
    Box::new(move || {
        beside_calls(&mut ground, |memories, random| {
            for _ in 0..WRITES {
                for memory in memories.iter().filter(|memory| memory.name() != "switchboard-ready") {
                    // Behind cells and slots in a lane, behind the header in an added segment.
                    let from = if memory.name() == LANE { FIRST_WORDS + 256 * UNIT_WORDS } else { 16 };
                    let word = memory.word(from + random.below((memory.words() - from).min(2048) as u64) as usize);
                    word.store(random.below(3).wrapping_sub(1), Ordering::Relaxed);
                }
            }
            WRITES
        })
    })
}

/// Pages are taken away under both sides; truncation is tried and must be refused.
pub fn holes(mut ground: Ground) -> Step {
    Box::new(move || {
        beside_calls(&mut ground, |memories, random| {
            for _ in 0..20 {
                for memory in memories {
                    let bytes = memory.words() as u64 * 8;
                    for len in [0, 1, bytes / 2, bytes + 4096] {
                        assert!(memory.truncate(len).is_err(), "{} can be cut to {len} bytes", memory.name());
                    }
                    if memory.name() != "switchboard-ready" {
                        let page = random.below(bytes.div_ceil(4096)) * 4096;
                        // Memory that only the service writes may not be punched either.
                        let _ = memory.punch(page, 4096);
                    }
                }
            }
            20
        })
    })
}

/// Every event descriptor of the process is made one on which a reader or writer waits, then filled up, or emptied before
/// the other side can.
pub fn events(mut ground: Ground) -> Step {
    Box::new(move || {
        beside_calls(&mut ground, |_, random| {
            let events = event_descriptors();
            for _ in 0..50 {
                for event in &events {
                    let count = if random.one_in(2) { 1 } else { u64::MAX - 1 };
                    let _ = rustix::io::ioctl_fionbio(event, true);
                    let filled = rustix::io::write(event, &count.to_ne_bytes());
                    let _ = rustix::io::ioctl_fionbio(event, false);
                    if filled.is_ok() && random.one_in(2) {
                        // The attacker itself does not wait, whatever the descriptor says.
                        let mut emptied = [0; 8];
                        let parts = &mut [IoSliceMut::new(&mut emptied)];
                        let _ = rustix::io::preadv2(event, parts, u64::MAX, ReadWriteFlags::NOWAIT);
                    }
                }
                thread::sleep(Duration::from_micros(100));
            }
            for event in &events {
                // Some of them are what the attacker's own client sleeps on.
                let _ = rustix::io::ioctl_fionbio(event, true);
            }
            50
        })
    })
}

/// The words by which clients and service tell each other who is awake, in memory of the whole service.
const READY: &str = "switchboard-ready";

/// Where in it, in words: who sleeps, the count of rings, the first of the ready bits.
const MODE: usize = 16;
const BELL: usize = 32;
const BITS: usize = 64;

/// Takes away the news that others have for the service.
pub fn ready_bits(mut ground: Ground) -> Step {
    Box::new(move || {
        beside_calls(&mut ground, |memories, random| {
            let Some(ready) = memories.iter().find(|memory| memory.name() == READY) else { return 0 };
            for _ in 0..100 * WRITES {
                for at in BITS..ready.words() {
                    ready.word(at).store(0, Ordering::Relaxed);
                }
                if random.one_in(64) {
                    thread::yield_now();
                }
            }
            WRITES
        })
    })
}

/// Lies about who sleeps, and rings for everybody all the time.
pub fn bell(mut ground: Ground) -> Step {
    Box::new(move || {
        beside_calls(&mut ground, |memories, random| {
            let Some(ready) = memories.iter().find(|memory| memory.name() == READY) else { return 0 };
            for _ in 0..WRITES {
                ready.word(MODE).store(random.below(4), Ordering::Relaxed);
                ready.word(BITS).store(u64::MAX, Ordering::Relaxed);
                ready.word(BELL).fetch_add(1, Ordering::Relaxed);
                ready.wake_all(BELL);
            }
            WRITES
        })
    })
}
