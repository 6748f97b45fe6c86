//! Tasks and event loops at the ends of rings, beside threads, from outside.

#[path = "../support/mod.rs"]
mod support;

mod kinds;
mod many;
mod mpsc;
mod queue;
mod spsc;
