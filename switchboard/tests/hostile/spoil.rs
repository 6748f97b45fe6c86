//! Attacks on shared memory: the attacker calls with the product's own client, while another thread of its process writes
//! what it likes into all memory that the connection shares.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use test_support::memory::{Bells, Memory, spoilt};

use crate::siege::{BesiegedClient, Ground, Step};
use test_support::random::Random;

/// All memory of the product.
pub const OURS: &str = "switchboard-";

/// The memory of one connection: all of it, or the part that an isolated client may write.
const LANES: [&str; 2] = ["switchboard-lane", "switchboard-up"];

/// The words by which clients and service tell each other who is awake, in memory of the whole service. Clients of the mode
/// `Checked` have it, and can keep each other waiting by it; none of them can harm the service.
const READY: &str = "switchboard-ready";

/// Words of a unit in a lane: a cell or a call slot.
const UNIT_WORDS: usize = 16;

/// Words at the beginning of a lane that are no cells: header, `watch`, `closed`.
const FIRST_WORDS: usize = 48;

/// Where the arenas begin in a lane: behind 128 cells, as many slots, and two line pairs that tell of finished calls.
const ARENAS_AT: usize = FIRST_WORDS + 258 * UNIT_WORDS;

/// Where the words are, in a lane, by which its client gives blocks of replies back: behind
/// the request arena, which has a line pair of words and 28 KiB of blocks. In memory of the whole lane one line pair of
/// them, for its own blocks; in the part that an isolated client may write, those for added segments follow, up to the end.
const GIVEN_BACK_AT: usize = ARENAS_AT + UNIT_WORDS + (28 << 10) / 8;

/// Writes of one step. A client that broke the protocol is shown out, so a step has a connection of its own.
const WRITES: u64 = 200;

/// Threads of the attacker: two that call, one that spoils.
const THREADS: usize = 3;

/// What a caller of the attacker waits for an answer that may never come.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(10);

fn is_lane(memory: &Memory) -> bool {
    LANES.contains(&memory.name())
}

fn is_isolated(memories: &[Memory]) -> bool {
    memories.iter().any(|memory| memory.name() == "switchboard-up")
}

/// Whether a word belongs to a payload that the other side reads in place. That those do not change meanwhile is what the
/// mode `Checked` trusts a peer with; a length that does can lead a reader out of the memory. In `Isolated` there are none.
fn is_trusted_payload(memory: &Memory, word: usize) -> bool {
    /// Words by which blocks are given back, at the beginning of each arena.
    const RETURNED: usize = 8;
    /// The same in an added segment, and its header.
    const RETURNED_ADDED: usize = 32;
    match memory.name() {
        "switchboard-lane" if word >= ARENAS_AT => {
            // Two arenas of one shape.
            let arena = (memory.words() - ARENAS_AT) / 2;
            (word - ARENAS_AT) % arena >= RETURNED
        }
        // Isolated clients have `up` instead of `lane`, and their requests are copied out.
        "switchboard-requests" | "switchboard-replies" => word >= RETURNED_ADDED,
        _ => false,
    }
}

/// Connects, lets two threads call, and spoils the memory meanwhile.
fn beside_calls(ground: &mut Ground, spoil: impl FnOnce(&[Memory], &mut Random) -> u64) -> u64 {
    let Ok(client) = ground.client() else { return 0 };
    let client = client.with_timeout(GIVEN_UP_AFTER);
    // Makes blocks and added segments, too.
    let _ = client.mark(1, &[1; 3000]);
    let _ = client.mark(1, &[1; 70_000]);
    let (memories, _) = Memory::of_this_process(OURS);
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
    Step::by(THREADS, move || beside_calls(&mut ground, spoil_any))
}

/// Writes [`WRITES`] words of connections.
pub fn spoil_any(memories: &[Memory], random: &mut Random) -> u64 {
    let lanes: Vec<_> = memories.iter().filter(|memory| memory.name() != READY).collect();
    for _ in 0..WRITES {
        let Some(memory) = lanes.get(random.below(lanes.len().max(1) as u64) as usize) else { return 0 };
        let at = random.below(memory.words() as u64) as usize;
        if is_trusted_payload(memory, at) && !is_isolated(memories) {
            continue;
        }
        let word = memory.word(at);
        let value = word.load(Ordering::Relaxed);
        word.store(spoilt(value, random.next()), Ordering::Relaxed);
        if random.one_in(2) {
            word.store(value, Ordering::Relaxed);
        }
    }
    WRITES
}

/// The words that decide: headers of cells with their laps and lengths, states and generations of slots, references of
/// blocks, lengths and methods of requests.
pub fn aimed_words(mut ground: Ground) -> Step {
    Step::by(THREADS, move || {
        beside_calls(&mut ground, |memories, random| {
            let Some(lane) = memories.iter().find(|memory| is_lane(memory)) else { return 0 };
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
    Step::by(THREADS, move || {
        beside_calls(&mut ground, |memories, random| {
            for _ in 0..4 {
                let Some(lane) = memories.iter().find(|memory| is_lane(memory)) else { return 0 };
                let old: Vec<u64> = (0..lane.words()).map(|at| lane.word(at).load(Ordering::Relaxed)).collect();
                thread::sleep(Duration::from_micros(random.below(2000)));
                let from = random.below(lane.words() as u64) as usize;
                for (at, value) in old.into_iter().enumerate().skip(from) {
                    if !is_trusted_payload(lane, at) {
                        lane.word(at).store(value, Ordering::Relaxed);
                    }
                }
            }
            4
        })
    })
}

/// The words by which blocks are given back say "never" or "all of them" while replies are large.
pub fn kept_blocks(mut ground: Ground) -> Step {
    Step::by(THREADS, move || {
        beside_calls(&mut ground, |memories, random| {
            let given_back = |memory: &Memory| match memory.name() {
                "switchboard-lane" => GIVEN_BACK_AT..GIVEN_BACK_AT + UNIT_WORDS,
                "switchboard-up" => GIVEN_BACK_AT..memory.words(),
                // Behind the header of an added segment.
                _ => UNIT_WORDS..2 * UNIT_WORDS,
            };
            if let Some(lane) = memories.iter().find(|memory| is_lane(memory)) {
                let is_used = given_back(lane).any(|at| lane.word(at).load(Ordering::Relaxed) != 0);
                if !is_used {
                    // Nothing was answered in time, or the words are somewhere else: that is no attack.
                    return 0;
                }
            }
            for _ in 0..WRITES {
                for memory in memories.iter().filter(|memory| memory.name() != READY) {
                    let words = given_back(memory);
                    let word = memory.word(words.start + random.below(words.len() as u64) as usize);
                    word.store(random.below(3).wrapping_sub(1), Ordering::Relaxed);
                }
            }
            WRITES
        })
    })
}

/// Pages are taken away under both sides; truncation is tried and must be refused.
pub fn holes(mut ground: Ground) -> Step {
    Step::by(THREADS, move || {
        beside_calls(&mut ground, |memories, random| {
            for _ in 0..20 {
                for memory in memories {
                    let bytes = memory.words() as u64 * 8;
                    for len in [0, 1, bytes / 2, bytes + 4096] {
                        assert!(memory.truncate(len).is_err(), "{} can be cut to {len} bytes", memory.name());
                    }
                    if memory.name() != READY {
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

/// Everybody who sleeps on any word of the lane is moved to another word, or woken.
pub fn sleepers(mut ground: Ground) -> Step {
    Step::by(THREADS, move || {
        beside_calls(&mut ground, |memories, random| {
            let ours: Vec<_> = memories.iter().filter(|memory| memory.name() != READY).collect();
            for _ in 0..20 * WRITES {
                let mut any = || ours.get(random.below(ours.len().max(1) as u64) as usize);
                let (Some(memory), Some(other)) = (any(), any()) else { return 0 };
                let word = random.below(memory.words().min(FIRST_WORDS + 256 * UNIT_WORDS) as u64) as usize;
                if random.one_in(4) {
                    memory.wake_all(word);
                } else {
                    memory.requeue(word, other, random.below(other.words() as u64) as usize);
                }
            }
            20 * WRITES
        })
    })
}

/// Every descriptor by which the two sides tell each other something is jammed.
pub fn descriptors(mut ground: Ground) -> Step {
    Step::by(THREADS, move || {
        beside_calls(&mut ground, |_, random| {
            let bells = Bells::of_this_process();
            for _ in 0..50 {
                bells.jam(random.next());
                thread::sleep(Duration::from_micros(100));
            }
            50
        })
    })
}

/// Tries to write what only the service may write, and to find what an isolated client must not have at all.
pub fn what_is_not_ours(ground: Ground) -> Step {
    Step::by(1, move || {
        let Ok(client) = ground.client() else { return 0 };
        let client = client.with_timeout(Duration::from_secs(1));
        // Has a segment for replies added.
        let _ = client.zeros(200_000);
        let (writable, others) = Memory::of_this_process(OURS);
        let is_allowed = |memory: &Memory| is_lane(memory) || memory.name() == "switchboard-requests";
        assert!(writable.iter().all(is_allowed), "it may write {writable:?}");
        assert!(others.iter().any(|name| name == "switchboard-down"), "{others:?}");
        assert!(others.iter().any(|name| name == "switchboard-replies"), "{others:?}");
        1
    })
}

/// Where in it, in words: who sleeps, the count of rings, the first of the ready bits.
const MODE: usize = 16;
const BELL: usize = 32;
const BITS: usize = 64;

/// Takes away the news that others have for the service.
pub fn ready_bits(mut ground: Ground) -> Step {
    Step::by(THREADS, move || {
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
    Step::by(THREADS, move || {
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
