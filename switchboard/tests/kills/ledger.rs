//! The service whose callers and processes are killed: it notes what ran, and answers what nobody could guess.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use switchboard::prelude::*;
use test_support::child::Line;
use test_support::stepped::{be_held, mark};

/// Where it is served.
pub const NAME: &str = "test.ledger";

/// Bytes of a note.
const NOTE: usize = 8;

#[service]
pub trait Ledger {
    /// Notes that it runs, and answers with [`answer_to`] the request.
    fn note(&self, ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status>;
    /// The same, but only when nobody waits for the answer any more.
    fn note_late(&self, ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status>;
    /// Notes that it runs, tells the service's parent "held", and never answers.
    fn hold(&self, ctx: &Context<'_>, number: u64) -> Result<Vec<u8>, Status>;
    /// Has the service's parent take hold of the thread that this runs on.
    fn be_held(&self, ctx: &Context<'_>) -> Result<(), Status>;
    /// As `note`; at its end begins what the thread is to be killed in.
    fn note_and_begin(&self, ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status>;
    /// As `note`; at its end ends what the thread is to be killed in.
    fn note_and_end(&self, ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status>;
}

/// Keeps its notes in a file, which outlives it.
pub struct Desk {
    notes: File,
    parent: Option<Mutex<Line>>,
}

impl Desk {
    /// `parent`: who takes hold of its thread, or is told.
    pub fn new(notes: &Path, parent: Option<Line>) -> Self {
        let notes = OpenOptions::new().append(true).create(true).open(notes).expect("the directory is ours");
        Self { notes, parent: parent.map(Mutex::new) }
    }

    fn parent(&self) -> MutexGuard<'_, Line> {
        self.parent.as_ref().expect("a parent that listens").lock().expect("no panic")
    }
}

impl Ledger for Desk {
    fn note(&self, _ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status> {
        assert_eq!(filler, filler_of(number, filler.len()), "a request is whole");
        // Within a page of the file it is written whole or not at all, even if the process is killed.
        assert_eq!((&self.notes).write(&number.to_le_bytes()).expect("the disk has room"), NOTE);
        Ok(answer_to(number, filler))
    }

    fn note_late(&self, ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status> {
        let until = Instant::now() + Duration::from_secs(10);
        while !ctx.is_cancelled() && Instant::now() < until {
            std::thread::yield_now();
        }
        self.note(ctx, number, filler)
    }

    fn hold(&self, ctx: &Context<'_>, number: u64) -> Result<Vec<u8>, Status> {
        self.note(ctx, number, b"")?;
        self.parent().say("held");
        loop {
            std::thread::park();
        }
    }

    fn be_held(&self, _ctx: &Context<'_>) -> Result<(), Status> {
        be_held(&mut self.parent());
        Ok(())
    }

    fn note_and_begin(&self, ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status> {
        let answer = self.note(ctx, number, filler);
        mark();
        mark();
        answer
    }

    fn note_and_end(&self, ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status> {
        let answer = self.note(ctx, number, filler);
        mark();
        answer
    }
}

/// How often the call of this number ran, by the notes in a file.
pub fn runs(notes: &Path, number: u64) -> usize {
    let bytes = std::fs::read(notes).unwrap_or_default();
    let (whole, rest) = bytes.as_chunks::<NOTE>();
    assert!(rest.is_empty(), "a torn note");
    whole.iter().filter(|note| u64::from_le_bytes(**note) == number).count()
}

/// The only right answer: it shows whose call it belongs to, and every byte of the filler.
pub fn answer_to(number: u64, filler: &[u8]) -> Vec<u8> {
    let mut answer = (!number).to_le_bytes().to_vec();
    answer.extend_from_slice(filler);
    answer
}

/// Bytes that belong to the number, no two stretches of them alike.
pub fn filler_of(number: u64, len: usize) -> Vec<u8> {
    let mut word = number;
    let words = std::iter::repeat_with(|| {
        word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        word.to_le_bytes()
    });
    words.flatten().take(len).collect()
}
