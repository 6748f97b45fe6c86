//! Inputs of fuzz targets, run again without a fuzzer.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Changed inputs that are made from the stored ones, in all.
const CHANGED: usize = 1000;

/// Longest input that is made, in bytes.
const MOST_BYTES: usize = 2048;

/// Runs a target over every input that is stored in `fuzz/corpus/NAME`, then over 1000 others: stored ones with
/// bytes changed, inserted or removed, the same in every run.
///
/// # Panics
/// If the target does, with the input that made it do so; or if nothing is stored, as then nothing would be shown.
pub fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let stored = read(&folder);
    assert!(!stored.is_empty(), "nothing is stored in {}", folder.display());
    for (path, input) in &stored {
        run(target, input, &path.display().to_string());
    }
    let mut dice = Dice(0x5eed);
    for round in 0..CHANGED {
        let (path, input) = &stored[dice.below(stored.len())];
        let changed = changed(input, &stored[dice.below(stored.len())].1, &mut dice);
        run(target, &changed, &format!("change {round}, of {}: {changed:02x?}", path.display()));
    }
    println!("figure: stored inputs of {name} = {}", stored.len());
}

fn run(target: fn(&[u8]), input: &[u8], what: &str) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        panic!("the input that did it: {what}");
    }
}

/// The files of a folder in the order of their names; none if there is no such folder.
fn read(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().filter_map(|path| fs::read(&path).ok().map(|input| (path, input))).collect()
}

/// An input with one to eight changes, some of them taken from another one.
fn changed(input: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut made = input.to_vec();
    for _ in 0..=dice.below(8) {
        let at = dice.below(made.len() + 1);
        let byte = dice.below(256) as u8;
        match dice.below(5) {
            0 if at < made.len() => made[at] = byte,
            1 if at < made.len() => made[at] ^= 1 << (byte % 8),
            2 if at < made.len() => _ = made.remove(at),
            3 => {
                let from = dice.below(other.len() + 1);
                let bytes = other[from..].iter().take(1 + dice.below(32)).copied();
                made.splice(at..at, bytes);
            }
            _ => made.insert(at, byte),
        }
    }
    made.truncate(MOST_BYTES);
    made
}

/// Numbers that look random and are the same each time (xorshift, Marsaglia).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }
}
