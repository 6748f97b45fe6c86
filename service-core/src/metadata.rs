//! What travels with a call beside its arguments: where it belongs in a trace, what it carries for others, how urgent it is.

use std::fmt;

/// Where a call belongs in a trace, as [W3C Trace Context](https://www.w3.org/TR/trace-context/) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The whole trace's number; not zero.
    pub trace_id: u128,
    /// The calling span's number; not zero.
    pub span_id: u64,
    /// Bit 0: the trace is sampled.
    pub flags: u8,
}

/// How urgent a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// May wait for all others.
    Low = 0,
    /// The usual one.
    #[default]
    Normal = 1,
    /// Goes before all others.
    High = 2,
}

/// What travels beside the arguments. Empty, it does not travel at all.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Where the call belongs in a trace.
    pub trace: Option<TraceContext>,
    /// Names and values for all who are called on the way, as W3C Baggage has them.
    pub baggage: Vec<(String, String)>,
    /// How urgent the call is.
    pub priority: Priority,
    /// How many calls of handlers are above this one: zero for a call that begins outside of services.
    pub depth: u8,
}

impl Metadata {
    /// Says whether there is nothing that would have to travel.
    pub fn is_empty(&self) -> bool {
        self.trace.is_none() && self.baggage.is_empty() && self.priority == Priority::Normal && self.depth == 0
    }
}

impl fmt::Debug for Metadata {
    /// Names of baggage, but not its values: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.baggage.iter().map(|(name, _)| name).collect();
        f.debug_struct("Metadata")
            .field("trace", &self.trace)
            .field("baggage", &names)
            .field("priority", &self.priority)
            .field("depth", &self.depth)
            .finish()
    }
}
