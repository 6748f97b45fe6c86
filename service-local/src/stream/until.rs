//! Deadlines as rings know them.

use std::time::{Duration, Instant};

use service_core::Deadline;

/// The deadline that was asked about last. All items of a call have the same, and to convert one takes two looks at the
/// clock.
#[derive(Debug, Default)]
pub(super) struct Until(Option<(Deadline, Instant)>);

impl Until {
    /// The same point in time on the standard library's clock, which is the same clock.
    #[inline]
    pub(super) fn of(&mut self, deadline: Option<Deadline>) -> Option<Instant> {
        let deadline = deadline?;
        match self.0 {
            Some((known, instant)) if known == deadline => Some(instant),
            _ => Some(self.convert(deadline)),
        }
    }

    #[cold]
    fn convert(&mut self, deadline: Deadline) -> Instant {
        /// As good as never, and an instant can still be so late.
        const YEARS: Duration = Duration::from_secs(1 << 32);
        let instant = Instant::now() + deadline.remaining().unwrap_or_default().min(YEARS);
        self.0 = Some((deadline, instant));
        instant
    }
}
