//! What a process did, noted so that its SIGKILL loses nothing.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use shm_ring::clock;

/// Bytes of a record. They divide a page: a write that stays within one page is done whole or not at all, even if its
/// process is killed.
const RECORD: usize = 16;

/// Bits of a record's second word that hold its event.
const EVENT_BITS: u32 = 8;

/// Path of the process's log, in its environment.
pub const LOG: &str = "SOAK_LOG";

/// What is noted about a number. The numbers are those of calls and frames, unless something else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// The hub, of this number, can be found.
    Serving,
    /// A handler began.
    Began,
    /// The same handler is about to answer.
    Finished,
    /// A call, or a frame, is about to be sent.
    Sent,
    /// The right answer came.
    Answered,
    /// The call failed and is known not to have run.
    NotRun,
    /// The call failed and may have run.
    Doubtful,
    /// The answer was another one's, or damaged.
    Wrong,
    /// The call took longer than it may.
    Late,
    /// Something failed that must not.
    Failed,
    /// The queue was opened; frames from this number on go to the hub that the value names.
    Opened,
    /// The frame is committed.
    Committed,
    /// The frame was refused: the queue is gone.
    Refused,
    /// The frame was received.
    Received,
    /// Something else was received.
    Torn,
    /// Only the safety time-out ended a sleep; the number is the hub's.
    Rescued,
}

const EVENTS: [Event; 16] = [
    Event::Serving,
    Event::Began,
    Event::Finished,
    Event::Sent,
    Event::Answered,
    Event::NotRun,
    Event::Doubtful,
    Event::Wrong,
    Event::Late,
    Event::Failed,
    Event::Opened,
    Event::Committed,
    Event::Refused,
    Event::Received,
    Event::Torn,
    Event::Rescued,
];

/// One note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub number: u64,
    pub event: Event,
    /// When it was noted, in nanoseconds of the monotonic clock, unless the event says otherwise.
    pub value: u64,
}

/// Where notes are taken; any thread may.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    /// The log that the environment names.
    pub fn of_this_process() -> Self {
        let path = PathBuf::from(std::env::var_os(LOG).expect("a process of the soak has a log"));
        Self(OpenOptions::new().append(true).create(true).open(path).expect("the directory is ours"))
    }

    /// Notes an event of this moment.
    pub fn note(&self, number: u64, event: Event) {
        self.note_value(number, event, clock::now_ns());
    }

    /// Notes an event with a value instead of the time.
    pub fn note_value(&self, number: u64, event: Event, value: u64) {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&number.to_le_bytes());
        record[8..].copy_from_slice(&(value << EVENT_BITS | event as u64).to_le_bytes());
        let written = (&self.0).write(&record).expect("the disk has room");
        assert_eq!(written, RECORD, "a record is written whole");
    }
}

/// Takes a log away from its file, if the process lived long enough to make one.
pub fn take(path: &Path) -> Vec<Record> {
    let bytes = std::fs::read(path).unwrap_or_default();
    // Not there if the process died before its first note.
    let _ = std::fs::remove_file(path);
    let (records, rest) = bytes.as_chunks::<RECORD>();
    assert!(rest.is_empty(), "{} bytes behind the last record of {}", rest.len(), path.display());
    records.iter().map(read).collect()
}

fn read(record: &[u8; RECORD]) -> Record {
    let (words, _) = record.as_chunks::<8>();
    let [number, second] = [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])];
    let event = EVENTS[(second & ((1 << EVENT_BITS) - 1)) as usize];
    Record { number, event, value: second >> EVENT_BITS }
}
