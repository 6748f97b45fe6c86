//! What the system says about a process.

/// From `/proc/PID/stat`, at the moment of asking.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    /// When it began, in clock ticks since boot: tells a process from a later one with its number.
    pub(crate) start: u64,
    /// As `ps` shows it: `R`, `S`, `T` and so on.
    state: char,
}

impl Stat {
    /// Of a process number or `self`; `None` if there is no such process, or nothing can be read about it.
    pub(crate) fn of(process: &str) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name in brackets may hold anything; the state is the first field behind it, the start the twentieth.
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some(Self { start: fields.nth(18)?.parse().ok()?, state })
    }

    /// Whether it has ended: at most its parent has not been told yet.
    pub(crate) fn is_over(self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Whether it is held up by a signal or a debugger.
    pub(crate) fn is_stopped(self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}
