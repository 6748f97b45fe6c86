//! The attributes that a method may have.

use std::time::Duration;

use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, LitInt, LitStr, Meta, Result, Token};

use crate::syntax::{Errors, is_path, text_of};

/// Attributes that the trait itself must not keep: the compiler does not know them.
const OURS: [&str; 4] = ["idempotent", "timeout", "priority", "batch"];

/// Says whether an attribute is one of ours.
pub(crate) fn is_ours(attr: &Attribute) -> bool {
    OURS.iter().any(|name| is_path(attr, name))
}

/// What a method's attributes say.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) idempotent: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority: Option<Priority>,
    pub(crate) batch: Option<Batch>,
    /// What `#[deprecated]` says, which may be nothing.
    pub(crate) deprecated: Option<String>,
    pub(crate) docs: String,
}

/// `#[priority(high)]`
#[derive(Clone, Copy)]
pub(crate) enum Priority {
    Low,
    Normal,
    High,
}

/// `#[batch(max = 32, delay = "2ms", bytes = 1_000_000)]`
pub(crate) struct Batch {
    pub(crate) max: u32,
    pub(crate) delay: Duration,
    pub(crate) bytes: usize,
}

impl Settings {
    pub(crate) fn read(attrs: &[Attribute], errors: &mut Errors) -> Self {
        let mut settings = Self::default();
        for attr in attrs {
            errors.keep(settings.read_one(attr));
        }
        settings
    }

    fn read_one(&mut self, attr: &Attribute) -> Result<()> {
        if is_path(attr, "doc") {
            if let Some(line) = text_of(attr) {
                if !self.docs.is_empty() {
                    self.docs.push('\n');
                }
                self.docs.push_str(line.strip_prefix(' ').unwrap_or(&line));
            }
        } else if is_path(attr, "deprecated") {
            self.deprecated = Some(note_of(attr));
        } else if is_path(attr, "idempotent") {
            attr.meta.require_path_only()?;
            self.idempotent = true;
        } else if is_path(attr, "timeout") {
            let text: LitStr = attr.parse_args()?;
            self.timeout = Some(duration(&text)?);
        } else if is_path(attr, "priority") {
            self.priority = Some(attr.parse_args()?);
        } else if is_path(attr, "batch") {
            self.batch = Some(attr.parse_args().map_err(|error| at(error, attr))?);
        }
        Ok(())
    }
}

/// An error of what is missing stands at the attribute, not behind it.
fn at(error: Error, attr: &Attribute) -> Error {
    match attr.meta {
        Meta::Path(_) => {
            Error::new(attr.span(), "a batch says how many calls and how long: `batch(max = 32, delay = \"2ms\")`")
        }
        _ => error,
    }
}

/// Gives what `#[deprecated]`, `#[deprecated = "note"]` or `#[deprecated(note = "note")]` says.
fn note_of(attr: &Attribute) -> String {
    let mut note = text_of(attr).unwrap_or_default();
    // Whatever else is wrong with it the compiler says.
    let _ = attr.parse_nested_meta(|meta| {
        let text: LitStr = meta.value()?.parse()?;
        if meta.path.is_ident("note") {
            note = text.value();
        }
        Ok(())
    });
    note
}

impl Parse for Priority {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let word: Ident = input.parse()?;
        match word.to_string().as_str() {
            "low" => Ok(Self::Low),
            "normal" => Ok(Self::Normal),
            "high" => Ok(Self::High),
            _ => Err(Error::new(word.span(), "a priority is `low`, `normal` or `high`")),
        }
    }
}

impl Parse for Batch {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let start = input.span();
        let (mut max, mut delay, mut bytes) = (None, None, usize::MAX);
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            match key.to_string().as_str() {
                "max" => max = Some(positive(&input.parse()?)?),
                "delay" => delay = Some(duration(&input.parse()?)?),
                "bytes" => bytes = positive(&input.parse()?)?,
                _ => return Err(Error::new(key.span(), "a batch has `max`, `delay` and `bytes`")),
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let (Some(max), Some(delay)) = (max, delay) else {
            return Err(Error::new(start, "a batch says how many calls and how long: `max = 32, delay = \"2ms\"`"));
        };
        Ok(Self { max, delay, bytes })
    }
}

fn positive<N: std::str::FromStr<Err: std::fmt::Display> + PartialEq + Default>(number: &LitInt) -> Result<N> {
    let value = number.base10_parse::<N>()?;
    if value == N::default() {
        return Err(Error::new(number.span(), "must not be zero"));
    }
    Ok(value)
}

/// Reads a duration such as `"250ms"`.
fn duration(text: &LitStr) -> Result<Duration> {
    let refuse = || Error::new(text.span(), "a duration is a number and a unit: `ns`, `us`, `ms`, `s`, `m` or `h`");
    let value = text.value();
    let unit_at = value.find(|character: char| !character.is_ascii_digit()).ok_or_else(refuse)?;
    let (number, unit) = value.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let unit_ns = match unit.trim() {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        _ => return Err(refuse()),
    };
    match number.checked_mul(unit_ns) {
        Some(ns) if ns > 0 => Ok(Duration::from_nanos(ns)),
        _ => Err(Error::new(text.span(), "a duration is longer than zero and shorter than 584 years")),
    }
}
