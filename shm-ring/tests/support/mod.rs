//! What the integration tests of this crate share.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod backings;
