//! A process that shares a ring or a queue writes whatever it likes into it: the others get errors or bytes, in time,
//! and lose nothing that is theirs.
//!
//! With `SHM_RING_HOSTILE_SECONDS` each attack lasts that long; without, about a second.
#![forbid(unsafe_code)]

mod queue;
mod rings;

use std::sync::atomic::Ordering;
use std::time::Duration;

use test_support::child;
use test_support::memory::{Memory, spoilt};
use test_support::random::Random;

const ROLES: &[child::Role] =
    &[("spoiler of a ring", rings::spoil), ("honest producer", queue::produce), ("hostile producer", queue::attack)];

#[test]
#[ignore = "run by the child processes of the other tests"]
fn role_of_a_child_process() {
    child::play(ROLES);
}

/// How long an attack lasts.
fn duration() -> Duration {
    let given = std::env::var("SHM_RING_HOSTILE_SECONDS").ok();
    Duration::from_secs(given.map_or(1, |text| text.parse().expect("a number of seconds")))
}

/// Numbers of a seed that is printed, for what it is worth in a race of processes.
fn random() -> Random {
    let seed = Random::seed();
    eprintln!("seed {seed}");
    Random::new(seed)
}

/// Changes words behind the segment's header, most of them near its beginning, where the control words are; half of them
/// are soon as they were, so that the other side goes on. Now and then a page is taken away.
fn spoil(memory: &Memory, random: &mut Random, times: u64) {
    /// Words of the header, which nobody reads after the door.
    const HEADER: usize = 16;
    for _ in 0..times {
        let words = memory.words() - HEADER;
        let reach = if random.below(2) == 0 { words.min(128) } else { words } as u64;
        let word = memory.word(HEADER + random.below(reach) as usize);
        let value = word.load(Ordering::Relaxed);
        word.store(spoilt(value, random.next()), Ordering::Relaxed);
        if random.below(2) == 0 {
            word.store(value, Ordering::Relaxed);
        }
        if random.below(4096) == 0 {
            let _ = memory.punch(random.below(words as u64 / 512 + 1) * 4096, 4096);
        }
    }
}
