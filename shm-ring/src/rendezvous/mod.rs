//! How two processes meet: a Unix socket in a directory, credentials, descriptors, and news of the other's end.
//!
//! Who may connect is the file system's decision (the directory is the user's own, and lets nobody else in unless an
//! [`Access`] says so), confirmed by the kernel's credentials. The open socket is the life of what was agreed over it; the watcher thread ([`watch`]) tells of its end.
//! Messages are opaque here: what is agreed is the caller's business.

mod access;
mod directory;
mod gifts;
mod identity;
mod socket;
#[cfg(test)]
mod tests;
mod watcher;

pub use access::Access;
pub use directory::{RuntimeDir, SOCKET_SUFFIX};
pub(crate) use gifts::refuse_descriptors;
pub use identity::{Peer, own_gid, own_uid};
pub(crate) use socket::file_name;
pub use socket::{Connection, Listener, MAX_MESSAGE, Received};
pub use watcher::{Event, Next, Watch, Watched, watch, watch_at_leisure};
