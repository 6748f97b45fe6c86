//! Ends the demo from outside its own flow: on the signals that ask for it, and when it takes too long.

use std::time::Duration;

use super::stage::Sweeper;
use crate::signals::{End, Ends};

/// No demo takes longer than this, whatever hangs.
pub const LIMIT: Duration = Duration::from_secs(55);

/// Watches from a thread of its own until the process ends.
pub fn watch(ends: Ends, sweeper: Sweeper) {
    std::thread::spawn(move || {
        let end = ends.wait(false, Some(LIMIT));
        sweeper.sweep();
        let (code, why) = match end {
            // The shell's way to say which signal it was.
            Ok(End::Signal(signal)) => (128 + signal as i32, format!("the demo was ended by {signal}")),
            Ok(_) => (1, format!("the demo took more than {} s and was ended", LIMIT.as_secs())),
            Err(error) => (1, error.to_string()),
        };
        eprintln!("switchboard: {why}");
        std::process::exit(code)
    });
}
