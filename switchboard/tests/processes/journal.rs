//! A log that survives the SIGKILL of its writer: each note is one small append to a file.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Bytes of a note. They divide a page: a write that stays within one page is done whole or not at all, even if its
/// process is killed.
const NOTE: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A handler began.
    Began,
    /// The same handler is about to answer.
    Finished,
    /// A caller is about to call.
    Sent,
    /// The right answer came.
    Answered,
    /// Any other answer came.
    Failed,
}

const EVENTS: [Event; 5] = [Event::Began, Event::Finished, Event::Sent, Event::Answered, Event::Failed];

/// Where notes are taken.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    pub fn append_to(path: &Path) -> Self {
        let file = OpenOptions::new().append(true).create(true).open(path);
        Self(file.expect("the directory is ours"))
    }

    pub fn note(&self, number: u64, event: Event) {
        let mut note = [0; NOTE];
        note[..8].copy_from_slice(&number.to_le_bytes());
        note[8] = event as u8;
        let written = (&self.0).write(&note).expect("the disk has room");
        assert_eq!(written, NOTE, "a note is written whole");
    }
}

/// How often each event is noted about each number.
#[derive(Debug, Default)]
pub struct Notes(HashMap<u64, [u32; EVENTS.len()]>);

impl Notes {
    /// Reads a journal; empty if nobody made it yet.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        let mut notes = Self::default();
        let (whole, rest) = bytes.as_chunks::<NOTE>();
        assert!(rest.is_empty(), "a torn note of {} bytes in {}", rest.len(), path.display());
        for note in whole {
            let (number, event) = note.split_first_chunk::<8>().expect("a note is longer");
            let counts = notes.0.entry(u64::from_le_bytes(*number)).or_default();
            counts[usize::from(event[0])] += 1;
        }
        notes
    }

    pub fn count(&self, number: u64, event: Event) -> u32 {
        self.0.get(&number).map_or(0, |counts| counts[event as usize])
    }

    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    /// Numbers with the event `one` and without the event `other`.
    pub fn numbers_with_but_without(&self, one: Event, other: Event) -> impl Iterator<Item = u64> {
        let chosen = self.0.iter().filter(move |(_, counts)| counts[one as usize] > 0 && counts[other as usize] == 0);
        chosen.map(|(number, _)| *number)
    }

    pub fn extend(&mut self, others: Self) {
        for (number, counts) in others.0 {
            let own = self.0.entry(number).or_default();
            own.iter_mut().zip(counts).for_each(|(own, other)| *own += other);
        }
    }
}
