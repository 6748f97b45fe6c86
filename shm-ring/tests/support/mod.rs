//! What the integration tests of this crate share.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test program uses a part of it")]

pub mod asleep;
pub mod backings;
pub mod role;
