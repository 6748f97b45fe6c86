//! One test, every backing: the rings must not know where their memory lives.
//!
//! ```ignore
//! mod support;
//! use support::backings::for_every_backing;
//!
//! for_every_backing!(what_is_sent_is_received, |backing| {
//!     let (maker, opener) = backing.pair(SpscLayout::new(4096)?);
//!     // `maker` and `opener` are two segments over the same memory, as two processes have them.
//! });
//! ```
//!
//! A test becomes a module with one test per backing: `what_is_sent_is_received::memfd`.

use std::os::fd::AsFd;

use shm_ring::{Layout, Segment};

/// Where the memory of a segment lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    Heap,
    Memfd,
}

impl Backing {
    /// A fresh segment as its maker has it, and the same memory as another process gets it: by its own door, at its
    /// own address. On the heap the second is a second handle. No name is left behind.
    pub fn pair<L: Layout>(self, layout: L) -> (Segment<L>, Segment<L>) {
        match self {
            Self::Heap => {
                let made = Segment::heap(layout, EPOCH);
                let again = made.clone();
                (made, again)
            }
            Self::Memfd => {
                let (made, fd) = Segment::memfd("test", layout, EPOCH).expect("memory for a test");
                let opened = Segment::open(fd.as_fd()).expect("what was made can be opened");
                (made, opened)
            }
        }
    }
}

/// The epoch of segments made here.
pub const EPOCH: u64 = 7;

/// Makes a test of one body run over each backing.
macro_rules! for_every_backing {
    ($name:ident, |$backing:ident| $body:block) => {
        mod $name {
            #[allow(unused_imports, reason = "not every body needs what stands around it")]
            use super::*;

            fn over($backing: $crate::support::backings::Backing) $body

            #[test]
            fn heap() {
                over($crate::support::backings::Backing::Heap);
            }

            #[test]
            fn memfd() {
                over($crate::support::backings::Backing::Memfd);
            }
        }
    };
}
pub(crate) use for_every_backing;
