//! Says on standard error what the demo is doing.
//!
//! On a terminal it is one line that rewrites itself and is gone at the end; elsewhere each step is a line, once.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::failure::Result;

/// How often the line is rewritten at most: writing to a terminal wakes other processes and would be measured.
const EVERY: Duration = Duration::from_millis(150);

/// Cells of the bar.
const BAR: usize = 24;

/// The line, if there is one.
#[derive(Debug)]
pub struct Progress {
    rewrites: bool,
    step: String,
    written: Option<Instant>,
}

impl Progress {
    /// Writes to standard error.
    pub fn new() -> Self {
        Self { rewrites: std::io::stderr().is_terminal(), step: String::new(), written: None }
    }

    /// Begins a step.
    pub fn step(&mut self, what: &str) {
        self.step = what.into();
        self.written = None;
        if self.rewrites {
            self.at(0, 1);
        } else {
            say(&format!("{what}\n"));
        }
    }

    /// Shows how far the step is. Call it between measurements only.
    pub fn at(&mut self, done: usize, all: usize) {
        let due = self.written.is_none_or(|written| written.elapsed() >= EVERY);
        if self.rewrites && due {
            say(&format!("\r\x1b[K{}", line(&self.step, done, all)));
            self.written = Some(Instant::now());
        }
    }

    /// Does `round` until it was done `most` times or `budget` is used up, at least once, and shows how far that is.
    ///
    /// # Errors
    /// The first error of `round`.
    pub fn rounds(&mut self, most: usize, budget: Duration, mut round: impl FnMut() -> Result<()>) -> Result<()> {
        let started = Instant::now();
        for done in 0..most {
            let used = started.elapsed().as_secs_f64() / budget.as_secs_f64();
            if done > 0 && used >= 1.0 {
                break;
            }
            self.at(done.max((most as f64 * used) as usize), most);
            round()?;
        }
        Ok(())
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.rewrites && self.written.take().is_some() {
            say("\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(step: &str, done: usize, all: usize) -> String {
    let filled = (BAR * done.min(all)).checked_div(all).unwrap_or(BAR);
    format!("[{:.<BAR$}] {step}", "=".repeat(filled))
}

fn say(text: &str) {
    let mut stderr = std::io::stderr();
    // Progress that nobody can see is no reason to stop.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_with_the_work_done() {
        assert_eq!(line("echo", 1, 4), "[======..................] echo");
        assert_eq!(line("echo", 4, 4), format!("[{}] echo", "=".repeat(BAR)));
    }

    #[test]
    fn rounds_end_when_they_are_done_or_the_time_is_over() {
        let count = |budget| {
            let mut done = 0;
            let all = Progress::new().rounds(5, budget, || {
                done += 1;
                Ok(())
            });
            all.map(|()| done).expect("no round fails")
        };
        assert_eq!([Duration::MAX, Duration::ZERO].map(count), [5, 1]);
    }

    #[test]
    fn more_done_than_there_was_is_a_full_bar() {
        assert_eq!(line("echo", 9, 4), line("echo", 4, 4));
        assert_eq!(line("echo", 0, 0), line("echo", 4, 4));
    }
}
