//! Whether a process that a ring names is still there.

use std::fmt;

use crate::process::Stat;

/// How a process stands at the moment of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Life {
    /// No process was named.
    Nobody,
    /// At work or asleep.
    Running,
    /// Held up by a signal or a debugger.
    Stopped,
    /// There is no such process. A number that was given to another process since is not told from the first.
    Dead,
}

impl Life {
    /// Of a process number. One file of `/proc` is read.
    pub fn of(pid: u32) -> Self {
        if pid == 0 {
            return Self::Nobody;
        }
        match Stat::of(&pid.to_string()) {
            Some(stat) if stat.is_over() => Self::Dead,
            Some(stat) if stat.is_stopped() => Self::Stopped,
            Some(_) => Self::Running,
            None => Self::Dead,
        }
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
        })
    }
}
