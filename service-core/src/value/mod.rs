//! Values that describe themselves: what dynamic calls take and give.
//!
//! On the wire a value is MessagePack. Long byte strings and all arrays of numbers lie beside it, each at a multiple of 16,
//! written once from where the caller has them and read where they arrived ([`ValueMessage`], [`read_value`]).

mod from_type;
mod into_type;
mod numbers;
mod read;
pub(crate) mod rows;
mod write;

use std::borrow::Cow;
use std::fmt;

pub use from_type::to_value;
pub use into_type::from_value;
pub use numbers::Number;
pub use read::read_value;
pub use write::{ArgumentsMessage, ValueMessage};

use crate::status::{Code, Outcome, Status};

/// Most levels of lists and maps within each other in a value that is received.
pub const MAX_VALUE_DEPTH: usize = 64;

/// Most values in one message, each key and element counted. One of a byte there is 56 bytes here: without a bound a
/// stranger's message would take many times its length. Numbers of one kind and bytes count as one.
pub const MAX_VALUES: usize = 1 << 20;

/// Most dimensions of [`Numbers`].
pub const MAX_DIMENSIONS: usize = 32;

/// Most rows of [`Numbers`] that have no numbers.
pub const MAX_EMPTY: u64 = 1 << 16;

/// A value that says of itself what it is.
///
/// The lifetime is that of the message in which long parts were found; [`into_owned`](Self::into_owned) copies them.
#[derive(Clone, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
    Nil,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond the range of [`Int`](Self::Int).
    UInt(u64),
    /// A number.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// Numbers of one kind, such as a vector or a matrix.
    Numbers(Numbers<'a>),
    /// Values in their order.
    List(Vec<Value<'a>>),
    /// Keys and values in their order.
    Map(Vec<(Value<'a>, Value<'a>)>),
}

/// The kind of the numbers of [`Numbers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each says what it is")]
pub enum NumberKind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    U64 = 6,
    I64 = 7,
    F32 = 8,
    F64 = 9,
}

impl NumberKind {
    const ALL: [Self; 10] =
        [Self::U8, Self::I8, Self::U16, Self::I16, Self::U32, Self::I32, Self::U64, Self::I64, Self::F32, Self::F64];

    /// Bytes of one number.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Numbers of one kind, little-endian, the last dimension running fastest.
#[derive(Clone, PartialEq)]
pub struct Numbers<'a> {
    kind: NumberKind,
    shape: Vec<u64>,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Numbers<'a> {
    /// Takes numbers as their bytes.
    ///
    /// # Errors
    /// `InvalidArgument`, not run, if there are not as many bytes as the shape has numbers, more than
    /// [`MAX_DIMENSIONS`], or, in a shape without numbers, more than [`MAX_EMPTY`] empty rows.
    pub fn new(kind: NumberKind, shape: Vec<u64>, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self, Status> {
        let bytes = bytes.into();
        let count = shape.iter().try_fold(1_u64, |count, dimension| count.checked_mul(*dimension));
        let expected = count.and_then(|count| count.checked_mul(kind.size() as u64));
        // A stranger's shape must not make us count to a length that no memory stands for.
        let rows = shape.iter().filter(|dimension| **dimension != 0).try_fold(1_u64, |rows, n| rows.checked_mul(*n));
        let is_sound =
            shape.len() <= MAX_DIMENSIONS && (count != Some(0) || rows.is_some_and(|rows| rows <= MAX_EMPTY));
        if expected != Some(bytes.len() as u64) || !is_sound {
            let text = format!("{} bytes are no numbers of kind {kind:?} in the shape {shape:?}", bytes.len());
            return Err(Status::new(Code::InvalidArgument, Outcome::NotRun, text));
        }
        Ok(Self { kind, shape, bytes })
    }

    /// The kind of each number.
    pub fn kind(&self) -> NumberKind {
        self.kind
    }

    /// How many numbers there are in each dimension.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The numbers' bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn into_owned(self) -> Numbers<'static> {
        Numbers { kind: self.kind, shape: self.shape, bytes: Cow::Owned(self.bytes.into_owned()) }
    }

    /// One number, by its place in the bytes.
    fn at(&self, index: usize) -> Value<'static> {
        let size = self.kind.size();
        let bytes = &self.bytes[index * size..][..size];
        let mut low = [0; 8];
        low[..size].copy_from_slice(bytes);
        let word = u64::from_le_bytes(low);
        match self.kind {
            NumberKind::U8 | NumberKind::U16 | NumberKind::U32 => Value::Int(word as i64),
            NumberKind::I8 => Value::Int((word as i8).into()),
            NumberKind::I16 => Value::Int((word as i16).into()),
            NumberKind::I32 => Value::Int((word as i32).into()),
            NumberKind::U64 => Value::from(word),
            NumberKind::I64 => Value::Int(word as i64),
            NumberKind::F32 => Value::Float(f32::from_bits(word as u32).into()),
            NumberKind::F64 => Value::Float(f64::from_bits(word)),
        }
    }
}

impl fmt::Debug for Numbers<'_> {
    /// Kind and shape, not the numbers: they are payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{:?}", self.kind, self.shape)
    }
}

impl Value<'_> {
    /// Copies what lies in a message, so that the value can outlive it.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Nil => Value::Nil,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::UInt(value) => Value::UInt(value),
            Self::Float(value) => Value::Float(value),
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Self::Numbers(numbers) => Value::Numbers(numbers.into_owned()),
            Self::List(values) => Value::List(values.into_iter().map(Value::into_owned).collect()),
            Self::Map(pairs) => {
                Value::Map(pairs.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
            }
        }
    }

    /// The value of a text key in a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(pairs) = self else { return None };
        pairs.iter().find(|(name, _)| matches!(name, Self::Text(name) if name == key)).map(|(_, value)| value)
    }

    /// How many values it has in it, itself counted.
    fn count(&self) -> usize {
        match self {
            Self::List(values) => values.iter().map(Self::count).sum::<usize>() + 1,
            Self::Map(pairs) => pairs.iter().map(|(key, value)| key.count() + value.count()).sum::<usize>() + 1,
            _ => 1,
        }
    }

    /// What it is, in a word: for errors.
    fn what(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::UInt(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "bytes",
            Self::Numbers(_) => "numbers",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::UInt(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Numbers(numbers) => numbers.fmt(f),
            Self::List(values) => f.debug_list().entries(values).finish(),
            Self::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(key, value)| (key, value))).finish(),
        }
    }
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::UInt(value), Self::Int)
    }
}

macro_rules! from {
    ($($type:ty => |$value:ident| $made:expr;)*) => {
        $(impl<'a> From<$type> for Value<'a> {
            fn from($value: $type) -> Self {
                $made
            }
        })*
    };
}

from! {
    () => |_value| Value::Nil;
    bool => |value| Value::Bool(value);
    i32 => |value| Value::Int(value.into());
    u32 => |value| Value::Int(value.into());
    i64 => |value| Value::Int(value);
    f32 => |value| Value::Float(value.into());
    f64 => |value| Value::Float(value);
    &'a str => |value| Value::Text(Cow::Borrowed(value));
    String => |value| Value::Text(Cow::Owned(value));
    &'a [u8] => |value| Value::Bytes(Cow::Borrowed(value));
    Vec<u8> => |value| Value::Bytes(Cow::Owned(value));
    Numbers<'a> => |value| Value::Numbers(value);
    Vec<Value<'a>> => |value| Value::List(value);
}

/// Arguments of a dynamic call: those by place and those by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arguments<'a> {
    /// By their place.
    pub args: Vec<Value<'a>>,
    /// By their name.
    pub kwargs: Vec<(String, Value<'a>)>,
}

impl<'a> Arguments<'a> {
    /// As one value, which is what travels.
    pub fn into_value(self) -> Value<'a> {
        let named = self.kwargs.into_iter().map(|(name, value)| (Value::from(name), value)).collect();
        Value::List(vec![Value::List(self.args), Value::Map(named)])
    }

    /// From what travelled.
    ///
    /// # Errors
    /// `InvalidArgument`, not run, if it is something else.
    pub fn from_value(value: Value<'a>) -> Result<Self, Status> {
        let refused = |what: &str| Err(wrong(format!("arguments are a list and a map of texts, not {what}")));
        let what = value.what();
        let Value::List(parts) = value else { return refused(what) };
        let Ok([Value::List(args), Value::Map(named)]) = <[Value<'a>; 2]>::try_from(parts) else {
            return refused("other lists");
        };
        let mut kwargs = Vec::with_capacity(named.len());
        for (name, value) in named {
            let Value::Text(name) = name else { return refused("a name that is no text") };
            kwargs.push((name.into_owned(), value));
        }
        Ok(Self { args, kwargs })
    }

    /// Sorts them by the names that a method has, `None` for one that was not given.
    ///
    /// # Errors
    /// `InvalidArgument`, not run, with the names, if there are too many, one is unknown or given twice.
    pub fn by_names(self, method: &str, names: &[&str]) -> Result<Vec<Option<Value<'a>>>, Status> {
        if self.args.len() > names.len() {
            let (given, most) = (self.args.len(), names.len());
            return Err(wrong(format!("`{method}` takes {most} arguments ({}), {given} were given", names.join(", "))));
        }
        let mut sorted: Vec<_> = self.args.into_iter().map(Some).collect();
        sorted.resize(names.len(), None);
        for (name, value) in self.kwargs {
            let Some(at) = names.iter().position(|known| *known == name) else {
                let known = names.join(", ");
                return Err(wrong(format!("`{method}` has no argument `{name}`; its arguments are: {known}")));
            };
            if sorted[at].replace(value).is_some() {
                return Err(wrong(format!("the argument `{name}` of `{method}` was given twice")));
            }
        }
        Ok(sorted)
    }
}

#[cold]
fn wrong(text: String) -> Status {
    Status::new(Code::InvalidArgument, Outcome::NotRun, text)
}

#[cfg(test)]
mod tests;
