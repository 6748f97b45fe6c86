//! A value as a message.
//!
//! ```text
//! long parts, each at a multiple of 16 | tree in MessagePack | tree's length (32) | "SWV1"
//! ```
//! In the tree a long part is an extension: type 1 for bytes, with place and length (32 each); type 2 for numbers, with
//! the kind (8) and the dimensions (64 each) behind them. All little-endian.

use std::fmt;

use rmp::encode as tree;

use super::{MAX_VALUES, Numbers, Value};
use crate::message::{Encode, EncodeError, Sink};

/// Bytes from this length on lie beside the tree.
pub(super) const LONG: usize = 256;

pub(super) const ALIGN: usize = 16;
pub(super) const MAGIC: [u8; 4] = *b"SWV1";
pub(super) const BYTES: i8 = 1;
pub(super) const NUMBERS: i8 = 2;

/// A value as a message. Allocates for the tree; long parts are written from where they are.
#[derive(Clone, Copy)]
pub struct ValueMessage<'m, 'v>(pub &'m Value<'v>);

impl fmt::Debug for ValueMessage<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueMessage({})", self.0.what())
    }
}

impl Encode for ValueMessage<'_, '_> {
    fn encode(&self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        message(self.0.count(), sink, |sink, to| write(self.0, sink, to))
    }
}

/// Arguments as the message that [`Arguments`](super::Arguments) are read from, written from where the caller has them.
#[derive(Clone, Copy)]
pub struct ArgumentsMessage<'m, 'v> {
    /// By their place.
    pub args: &'m [Value<'v>],
    /// By their name.
    pub kwargs: &'m [(&'m str, Value<'v>)],
}

impl fmt::Debug for ArgumentsMessage<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArgumentsMessage({} by place, {} by name)", self.args.len(), self.kwargs.len())
    }
}

impl Encode for ArgumentsMessage<'_, '_> {
    fn encode(&self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let args: usize = self.args.iter().map(Value::count).sum();
        let kwargs: usize = self.kwargs.iter().map(|(_, value)| value.count() + 1).sum();
        message(args + kwargs + 3, sink, |sink, to| {
            tree::write_array_len(to, 2).map_err(never)?;
            tree::write_array_len(to, count(self.args.len())?).map_err(never)?;
            self.args.iter().try_for_each(|value| write(value, sink, to))?;
            tree::write_map_len(to, count(self.kwargs.len())?).map_err(never)?;
            self.kwargs.iter().try_for_each(|(name, value)| {
                count(name.len())?;
                tree::write_str(to, name).map_err(never)?;
                write(value, sink, to)
            })
        })
    }
}

/// Writes a message of so many values whose tree `write` makes.
fn message(
    values: usize,
    sink: &mut Sink<'_>,
    write: impl FnOnce(&mut Sink<'_>, &mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    if values > MAX_VALUES {
        let text =
            format!("{values} values are more than a message takes, {MAX_VALUES}: numbers of one kind count as one");
        return Err(EncodeError::Refused(text.into()));
    }
    let mut written = Vec::with_capacity(64);
    write(sink, &mut written)?;
    sink.write(&written)?;
    // Lengths of messages are below 2^31.
    sink.write(&(written.len() as u32).to_le_bytes())?;
    Ok(sink.write(&MAGIC)?)
}

fn count(len: usize) -> Result<u32, EncodeError> {
    u32::try_from(len).map_err(|_| EncodeError::TooLong)
}

/// Writing to a vector does not fail.
fn never<E>(_: E) -> EncodeError {
    EncodeError::TooLong
}

fn write(value: &Value<'_>, sink: &mut Sink<'_>, to: &mut Vec<u8>) -> Result<(), EncodeError> {
    match value {
        Value::Nil => tree::write_nil(to).map_err(never)?,
        Value::Bool(value) => tree::write_bool(to, *value).map_err(never)?,
        Value::Int(value) => drop(tree::write_sint(to, *value).map_err(never)?),
        Value::UInt(value) => drop(tree::write_uint(to, *value).map_err(never)?),
        Value::Float(value) => tree::write_f64(to, *value).map_err(never)?,
        Value::Text(text) => {
            count(text.len())?;
            tree::write_str(to, text).map_err(never)?;
        }
        Value::Bytes(bytes) if bytes.len() < LONG => tree::write_bin(to, bytes).map_err(never)?,
        Value::Bytes(bytes) => {
            let place = beside(bytes, sink)?;
            tree::write_ext_meta(to, 8, BYTES).map_err(never)?;
            to.extend(place);
        }
        Value::Numbers(Numbers { kind, shape, bytes }) => {
            let place = beside(bytes, sink)?;
            tree::write_ext_meta(to, count(9 + shape.len() * 8)?, NUMBERS).map_err(never)?;
            to.extend(place);
            to.push(*kind as u8);
            shape.iter().for_each(|dimension| to.extend(dimension.to_le_bytes()));
        }
        Value::List(values) => {
            tree::write_array_len(to, count(values.len())?).map_err(never)?;
            values.iter().try_for_each(|value| write(value, sink, to))?;
        }
        Value::Map(pairs) => {
            tree::write_map_len(to, count(pairs.len())?).map_err(never)?;
            for (key, value) in pairs {
                write(key, sink, to)?;
                write(value, sink, to)?;
            }
        }
    }
    Ok(())
}

/// Writes a long part; gives its place and length.
fn beside(bytes: &[u8], sink: &mut Sink<'_>) -> Result<[u8; 8], EncodeError> {
    let at = sink.len() as u32;
    sink.write(bytes)?;
    sink.write(&[0; ALIGN][..bytes.len().next_multiple_of(ALIGN) - bytes.len()])?;
    let mut place = [0; 8];
    place[..4].copy_from_slice(&at.to_le_bytes());
    place[4..].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    Ok(place)
}
