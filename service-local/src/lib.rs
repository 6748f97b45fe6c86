//! Calls between the processes of one host.
//!
//! A service instance listens on a Unix socket in the runtime directory; a client that connects gets a sealed segment
//! of its own (a *lane*, see [`shm_ring::lane`]) and from then on calls without the kernel's help. The socket stays
//! open as the connection's life.
//!
//! - [`LocalRuntime`]: where services are found; serves ([`LocalRuntime::serve`]) and connects (as a
//!   [`service_core::Registry`]).
//! - [`RunningService`]: an instance with its workers.
//! - [`Trust`]: how far the other side is trusted. A peer of another user is isolated: its lane is in two parts, of which a
//!   client can only read the second, and payloads are copied out before they are validated. [`Access`] lets other users
//!   in.
//!
//! Needs Linux 5.10 or newer. `SO_PEERPIDFD` and `MFD_NOEXEC_SEAL` are used where they are there; the environment
//! variable `SWITCHBOARD_DISABLE` (`peerpidfd`, `noexec-seal`, `membarrier`, `populate`, comma-separated) forces the
//! fall-backs.
#![deny(unsafe_code)] // The file that allows it, and why: `MAY_BE_UNSAFE` in `xtask/src/source.rs`.

mod client;
mod copy;
mod errors;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod growth;
mod handshake;
mod inside;
mod names;
mod runtime;
mod server;
mod stream;
mod timers;
mod trust;

pub use runtime::{LocalBuilder, LocalRuntime, NAMESPACE_VARIABLE, RUNTIME_DIR_VARIABLE, TRUST_VARIABLE};
pub use server::{RunningService, Serve};
pub use shm_ring::Trust;
pub use shm_ring::rendezvous::Access;

#[cfg(test)]
#[test]
#[ignore = "a role of other tests"]
fn role_of_a_child_process() {
    test_support::child::play(&stream::ROLES);
}
