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

impl TraceContext {
    /// Reads a `traceparent` header, such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`. `None` if it is
    /// none. Of newer versions the parts that are known are read.
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('-').collect();
        let [version, trace, span, flags, ref rest @ ..] = parts[..] else { return None };
        let is_hex =
            |text: &str, len| text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_known = is_hex(version, 2) && version != "ff" && (version != "00" || rest.is_empty());
        if !(is_known && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2)) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        Some(Self { trace_id, span_id, flags: u8::from_str_radix(flags, 16).ok()? })
    }
}

impl fmt::Display for TraceContext {
    /// Writes the `traceparent` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_reads_back_as_it_was_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceContext::from_traceparent(text).unwrap().to_string(), text);
        assert!(TraceContext::from_traceparent(&format!("cc{}-what-comes", &text[2..])).is_some(), "a newer version");
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for text in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::from_traceparent(text), None, "{text}");
        }
    }

    #[test]
    fn values_of_baggage_are_not_shown_in_logs() {
        let metadata = Metadata { baggage: vec![("user".into(), "secret".into())], ..Metadata::default() };
        assert!(!metadata.is_empty());
        let shown = format!("{metadata:?}");
        assert!(shown.contains("user") && !shown.contains("secret"), "{shown}");
    }
}
