//! The calling side: connections, and the cache of them.

mod cache;
mod connection;
mod nested;
mod reading;
mod slots;
#[allow(dead_code, reason = "connections do not open streams yet")]
mod streams;
mod tasks;

pub(crate) use cache::Cache;
pub(crate) use connection::Settings;
#[cfg(any(test, fuzzing))]
pub(crate) use connection::open_lane;
