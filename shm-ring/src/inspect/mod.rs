//! Any ring seen from outside: by a process that holds neither end, without the two ends' knowledge or help.
//!
//! An [`Onlooker`] maps a segment for reading and has no way to store: it attaches to nothing, wakes nobody, and leaves
//! no trace in the memory. So it works on a process that is stopped, hung or busy, and on what a dead process left. The
//! ends pay with the way of a cache line for each look.
//!
//! | what is asked | how |
//! |---|---|
//! | everything that a process has | [`process`] |
//! | everything that this user's processes have | [`machine`] |
//! | a queue, with all its producers | [`queue`], [`QueueOptions::inspect`](crate::mpsc::QueueOptions::inspect) |
//! | a segment under a name or in a file | [`Onlooker::at`] |
//! | a segment behind a descriptor | [`Onlooker::open`] |
//!
//! ```
//! use shm_ring::Segment;
//! use shm_ring::inspect::{self, Figures};
//! use shm_ring::spsc::{SpscLayout, pair};
//!
//! let (segment, _fd) = Segment::memfd("sample", SpscLayout::new(4096)?, 1)?;
//! let (mut producer, _consumer) = pair(&segment)?;
//! producer.try_send(b"hello")?;
//!
//! let seen = inspect::process(std::process::id())?; // of any process of this user
//! let report = seen.found[0].look()?;
//! println!("{report}");
//! assert!(matches!(report.figures, Figures::Spsc(stats) if stats.frames == 1 && stats.sent == 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Whose figures, and how fresh
//! Each figure is a word that one side writes for itself: the producers `claimed`, `sent`, `full` and their own
//! `rescues`; the consumer `given_back`, `received`, `empty`, `aborted` of the cell ring and its own `rescues`; whoever
//! wakes a side counts that side's `wakes`; the consumer of a queue writes all of [`QueueCounts`]. A figure is at most
//! as old as the store buffer of its writer, some tens of nanoseconds.
//!
//! The words are read one after the other, what the consumer did before what the producers did. So a lag (`len`,
//! `used`, `frames`) is never too small, and too large by what is received during the look, under a microsecond;
//! it is held to the capacity. Of a ring at rest, and of a stopped process, everything is exact.
//!
//! Nothing that is read is believed: a process that writes nonsense into its ring gets a report with nonsense in it, and
//! no look takes longer than a pass over the ring's cells or slots.
//!
//! # What is not seen
//! Rings on the heap, which have no descriptor; processes of other users, and those that forbid it (`PR_SET_DUMPABLE`);
//! the process ids of another pid namespace, which are shown as the owner wrote them. A file that somebody truncates
//! during a look ends the looker by `SIGBUS`, as it does everybody who uses that segment; memfds are sealed against it.

mod figures;
mod lane;
mod life;
mod onlooker;
mod queue;
mod ready;
mod survey;

pub use figures::{ArenaStats, Figures, Report};
pub use lane::LaneStats;
pub use life::Life;
pub use onlooker::Onlooker;
pub use queue::{QueueLane, QueueReport, queue};
pub use ready::{Doze, QueueCounts, ReadyStats};
pub use survey::{Found, Refused, Survey, machine, process};
