//! The calling side: connections, and the cache of them.

mod cache;
mod connection;
mod slots;

pub(crate) use cache::Cache;
pub(crate) use connection::Settings;
