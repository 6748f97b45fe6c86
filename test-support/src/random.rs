//! Numbers that can be had again from their seed.

/// Repeats a run: the seed that it printed.
const SEED: &str = "SWITCHBOARD_TEST_SEED";

/// A xorshift generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From the environment, else from the time of day. To be printed by whoever asks.
    pub fn seed() -> u64 {
        let given = std::env::var(SEED).ok().map(|text| text.parse().expect("the seed is a number"));
        given.unwrap_or_else(|| {
            let now = std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
            now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32
        })
    }

    /// Seeds of which one bit differs give unlike sequences.
    pub fn new(seed: u64) -> Self {
        let mixed = (seed ^ seed >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Zero would stay zero.
        Self((mixed ^ mixed >> 29) | 1)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    /// True once in so many times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Fills bytes that belong to the number, no two stretches of them alike.
pub fn fill(number: u64, bytes: &mut [u8]) {
    let mut word = number;
    for chunk in bytes.chunks_mut(8) {
        word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}
