//! What the consumer of a queue tells of itself to whoever looks on: a section of the queue's ready set.
//!
//! Counts and names only, for people and tools: nothing in this crate decides by them, and the consumer keeps its own
//! copies, because a producer could write here as well. Relaxed stores, none of them for each frame.
//!
//! | byte | word |
//! |---|---|
//! | 0 | the consumer: bit 32 and the process id |
//! | 8, 16 | device and inode of the queue's socket, by which the queue is recognised |
//! | 24 | rescues: sleeps that only the safety time-out ended although something was there |
//! | 32 | producers that were thrown out |
//! | 40 | lanes at the moment |
//! | 48 | lanes given in all |
//! | 56, 64, 72 | of lanes that were given up: cells given back, frames aborted, times full |
//! | 80 | looks at all lanes that found nothing |

#![cfg_attr(loom, allow(dead_code, reason = "models have no onlookers"))]

use std::sync::Arc;

use crate::raw::{LINE_PAIR, Section};
use crate::segment::Memory;
use crate::sync::Ordering;

/// Bytes of the section.
pub(crate) const ACCOUNT_BYTES: usize = LINE_PAIR;

pub(crate) const CONSUMER_AT: usize = 0;
pub(crate) const DEVICE_AT: usize = 8;
pub(crate) const INODE_AT: usize = 16;
pub(crate) const RESCUES_AT: usize = 24;
pub(crate) const THROWN_OUT_AT: usize = 32;
pub(crate) const LANES_AT: usize = 40;
pub(crate) const LANES_EVER_AT: usize = 48;
pub(crate) const GONE_GIVEN_BACK_AT: usize = 56;
pub(crate) const GONE_ABORTED_AT: usize = 64;
pub(crate) const GONE_FULL_AT: usize = 72;
pub(crate) const EMPTY_AT: usize = 80;

/// The section, as the consumer writes it.
#[derive(Clone)]
pub(crate) struct Account(Section<ACCOUNT_BYTES>);

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Account")
    }
}

impl Account {
    pub(crate) fn new(memory: Arc<Memory>, offset: usize) -> Self {
        Self(Section::new(memory, offset))
    }

    /// States a figure. One store.
    pub(crate) fn note<const AT: usize>(&self, value: u64) {
        self.0.word::<AT>().store(value, Ordering::Relaxed);
    }
}
