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
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use shm_ring::{Layout, Place, Segment, SegmentOptions};

/// Where the memory of a segment lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    Heap,
    Memfd,
    Named,
    File,
    FromFd,
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
            Self::Named => pair_at(&Place::named(&fresh_name()).expect("a plain name"), layout),
            Self::File => pair_at(&Place::file(fresh_path()).expect("a path with a name"), layout),
            Self::FromFd => {
                let options = SegmentOptions::new();
                let path = fresh_path();
                let file = std::fs::File::create_new(&path).expect("a file for a test");
                std::fs::remove_file(&path).expect("the file is there");
                file.set_len(layout.bytes() as u64).expect("room for a test");
                let made = Segment::from_fd(file.as_fd(), layout, EPOCH, &options).expect("memory for a test");
                let opened = Segment::open_unsealed(file.as_fd(), &options).expect("what was made can be opened");
                (made, opened)
            }
        }
    }
}

fn pair_at<L: Layout>(place: &Place, layout: L) -> (Segment<L>, Segment<L>) {
    let options = SegmentOptions::new();
    let made = place.create(layout, EPOCH, &options).expect("memory for a test");
    let opened = place.open(&options);
    // Before anything can fail, so that nothing is left behind.
    place.remove().expect("what was made can be removed");
    (made, opened.expect("what was made can be opened"))
}

/// A name that no other test and no other run has, and that is not the beginning of another's.
pub fn fresh_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("shm-ring-test-{}-{count:06}", std::process::id())
}

/// A path of that kind.
pub fn fresh_path() -> PathBuf {
    std::env::temp_dir().join(fresh_name())
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

            #[test]
            fn named() {
                over($crate::support::backings::Backing::Named);
            }

            #[test]
            fn file() {
                over($crate::support::backings::Backing::File);
            }

            #[test]
            fn from_fd() {
                over($crate::support::backings::Backing::FromFd);
            }
        }
    };
}
pub(crate) use for_every_backing;
