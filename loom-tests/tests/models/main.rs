//! See the crate's page.
#![cfg(loom)]

mod arena;
mod doorbell;
mod explore;
mod mpsc;
mod relay;
mod ring;
mod slot;
mod slot_tasks;
mod spsc;
mod tasks;
