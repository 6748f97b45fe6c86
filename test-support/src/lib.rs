//! What tests between processes share. For tests only: it knows no other crate of the workspace, and no product code
//! depends on it.
//!
//! - [`child`]: processes of the test's own program in other roles, with a line to each.
//! - [`corpus`]: inputs of fuzz targets, run again without a fuzzer.
//! - [`level`]: what a process holds, to be compared before and after.
//! - [`memory`]: memory shared with other processes, to be written without any rule.
#![deny(unsafe_code)]

pub mod child;
pub mod corpus;
pub mod level;
pub mod memory;
