//! What tests between processes share. For tests only: it knows no other crate of the workspace, and no product code
//! depends on it.
//!
//! - [`asleep`]: threads that are known to sleep.
//! - [`child`]: processes of the test's own program in other roles, with a line to each.
//! - [`corpus`]: inputs of fuzz targets, run again without a fuzzer.
//! - [`forked`]: children made by fork.
//! - [`kills`]: kills at each instruction of what a child does, or at a sample of the instructions.
//! - [`level`]: what a process holds, to be compared before and after.
//! - [`limits`]: limits of a process that are about to be reached.
//! - [`memory`]: memory shared with other processes, to be written without any rule.
//! - [`random`]: numbers that can be had again from their seed.
//! - [`stepped`]: a child that is stopped, and killed, at an instruction of the parent's choice.
//! - [`storm`]: signals that throw whoever waits out of the kernel.
#![deny(unsafe_code)]

pub mod asleep;
pub mod child;
pub mod corpus;
pub mod forked;
#[cfg(target_arch = "x86_64")]
pub mod kills;
pub mod level;
pub mod limits;
pub mod memory;
pub mod random;
#[cfg(target_arch = "x86_64")]
pub mod stepped;
pub mod storm;
