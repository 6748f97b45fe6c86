//! Killed at every instruction: what a process does with a ring ends after any of its instructions, and the survivor at
//! the other end goes on with whole frames only.
//!
//! `cargo test` kills at a sample of the instructions; with `SWITCHBOARD_KILLS=all` in the environment, at all.
#![cfg(target_arch = "x86_64")]

mod bell;
mod queue;
mod spsc;
#[path = "../support/mod.rs"]
mod support;

use shm_ring::arena::{ArenaLayout, CLASSES, Class};
use test_support::child;

/// What a process of this program can be, besides the one that runs the tests.
const ROLES: &[child::Role] = &[
    ("producer of a ring", spsc::produce),
    ("consumer of a ring", spsc::consume),
    ("producer of a queue", queue::produce),
    ("consumer of a queue", queue::consume),
    ("witness of killed producers of a queue", queue::witness_of_producers),
    ("witness of killed ringers", bell::witness),
    ("witness of killed openers of a queue", queue::witness_of_openers),
    ("witness of killed consumers of a queue", queue::witness_of_consumers),
    ("witness of killed sends", |line| spsc::witness_of_producers(&line, "spsc sends", spsc::SENDS)),
    ("witness of killed wraps", |line| spsc::witness_of_producers(&line, "spsc wraps", spsc::WRAPS)),
    ("witness of killed notifies", |line| spsc::witness_of_producers(&line, "spsc notifies", spsc::NOTIFIES)),
    ("witness of killed consumers", spsc::witness_of_consumers),
];

#[test]
#[ignore = "run by the child processes of the other tests"]
fn role_of_a_child_process() {
    child::play(ROLES);
}

/// Blocks of 1 KiB for payloads over the inline limit.
fn blocks(count: u32) -> ArenaLayout {
    let mut classes = [Class::default(); CLASSES];
    classes[0] = Class { block: 1024, count };
    ArenaLayout::new(classes).expect("a legal class")
}

/// `len` bytes that tell their frame: no two stretches of them are alike, so that a torn frame shows.
fn payload(frame: usize, len: usize) -> Vec<u8> {
    let mut word = frame as u64 + 1;
    let words = std::iter::repeat_with(|| {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(frame as u64 + 1);
        word.to_le_bytes()
    });
    words.flatten().take(len).collect()
}
