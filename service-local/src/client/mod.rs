//! The calling side: connections, and the cache of them.

mod cache;
mod connection;
mod nested;
mod reading;
mod slots;
mod streams;
mod tasks;

pub(crate) use cache::Cache;
pub(crate) use connection::Settings;
#[cfg(any(test, fuzzing))]
pub(crate) use connection::open_lane;
