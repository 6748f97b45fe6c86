//! A value out of a message, which may be a stranger's: see `write` for its form. Nothing is believed, and no length makes
//! room before that many bytes have been seen.

use std::borrow::Cow;

use rmp::Marker;

use super::write::{ALIGN, BYTES, MAGIC, NUMBERS};
use super::{MAX_VALUE_DEPTH, MAX_VALUES, NumberKind, Numbers, Value, wrong};
use crate::status::Status;

/// Reads a message as a value. Long parts stay where they are.
///
/// # Errors
/// `InvalidArgument`, not run, if it is none, nested deeper than [`MAX_VALUE_DEPTH`], or more than [`MAX_VALUES`].
pub fn read_value(message: &[u8]) -> Result<Value<'_>, Status> {
    read_message(message).ok_or_else(|| wrong(format!("the {} bytes of the message are no value", message.len())))
}

fn read_message(message: &[u8]) -> Option<Value<'_>> {
    let (rest, magic) = message.split_last_chunk::<4>()?;
    let (rest, len) = rest.split_last_chunk::<4>()?;
    if *magic != MAGIC {
        return None;
    }
    let at = rest.len().checked_sub(u32::from_le_bytes(*len) as usize)?;
    let (beside, tree) = rest.split_at(at);
    let mut reader = Reader { tree, beside, left: MAX_VALUES };
    let value = reader.value(0)?;
    reader.tree.is_empty().then_some(value)
}

struct Reader<'a> {
    /// What is left of it.
    tree: &'a [u8],
    beside: &'a [u8],
    /// How many values there may still be.
    left: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.tree.split_at_checked(len)?;
        self.tree = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A length of so many bytes; MessagePack's numbers are big-endian.
    fn len(&mut self, bytes: usize) -> Option<usize> {
        let digits = self.take(bytes)?;
        Some(digits.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
    }

    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let marker = Marker::from_u8(self.array::<1>()?[0]);
        Some(match marker {
            Marker::Null => Value::Nil,
            Marker::True => Value::Bool(true),
            Marker::False => Value::Bool(false),
            Marker::FixPos(value) => Value::Int(value.into()),
            Marker::FixNeg(value) => Value::Int(value.into()),
            Marker::U8 => Value::Int(u8::from_be_bytes(self.array()?).into()),
            Marker::U16 => Value::Int(u16::from_be_bytes(self.array()?).into()),
            Marker::U32 => Value::Int(u32::from_be_bytes(self.array()?).into()),
            Marker::U64 => Value::from(u64::from_be_bytes(self.array()?)),
            Marker::I8 => Value::Int(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => Value::Int(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => Value::Int(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => Value::Int(i64::from_be_bytes(self.array()?)),
            Marker::F32 => Value::Float(f32::from_be_bytes(self.array()?).into()),
            Marker::F64 => Value::Float(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(len) => self.text(len.into())?,
            Marker::Str8 => self.len(1).and_then(|len| self.text(len))?,
            Marker::Str16 => self.len(2).and_then(|len| self.text(len))?,
            Marker::Str32 => self.len(4).and_then(|len| self.text(len))?,
            Marker::Bin8 => self.len(1).and_then(|len| self.bytes(len))?,
            Marker::Bin16 => self.len(2).and_then(|len| self.bytes(len))?,
            Marker::Bin32 => self.len(4).and_then(|len| self.bytes(len))?,
            Marker::FixArray(len) => self.list(len.into(), depth)?,
            Marker::Array16 => self.len(2).and_then(|len| self.list(len, depth))?,
            Marker::Array32 => self.len(4).and_then(|len| self.list(len, depth))?,
            Marker::FixMap(len) => self.map(len.into(), depth)?,
            Marker::Map16 => self.len(2).and_then(|len| self.map(len, depth))?,
            Marker::Map32 => self.len(4).and_then(|len| self.map(len, depth))?,
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.len(1).and_then(|len| self.extension(len))?,
            Marker::Ext16 => self.len(2).and_then(|len| self.extension(len))?,
            Marker::Ext32 => self.len(4).and_then(|len| self.extension(len))?,
            Marker::Reserved => return None,
        })
    }

    fn text(&mut self, len: usize) -> Option<Value<'a>> {
        let text = std::str::from_utf8(self.take(len)?).ok()?;
        Some(Value::Text(Cow::Borrowed(text)))
    }

    fn bytes(&mut self, len: usize) -> Option<Value<'a>> {
        self.take(len).map(|bytes| Value::Bytes(Cow::Borrowed(bytes)))
    }

    fn list(&mut self, len: usize, depth: usize) -> Option<Value<'a>> {
        if depth >= MAX_VALUE_DEPTH || len > self.tree.len() {
            return None;
        }
        let mut values = Vec::new();
        for _ in 0..len {
            values.push(self.value(depth + 1)?);
        }
        Some(Value::List(values))
    }

    fn map(&mut self, len: usize, depth: usize) -> Option<Value<'a>> {
        if depth >= MAX_VALUE_DEPTH || len > self.tree.len() {
            return None;
        }
        let mut pairs = Vec::new();
        for _ in 0..len {
            pairs.push((self.value(depth + 1)?, self.value(depth + 1)?));
        }
        Some(Value::Map(pairs))
    }

    fn extension(&mut self, len: usize) -> Option<Value<'a>> {
        let kind = i8::from_be_bytes(self.array()?);
        let data = self.take(len)?;
        let (place, data) = data.split_first_chunk::<8>()?;
        let word = u64::from_le_bytes(*place);
        let (at, len) = (word as u32 as usize, (word >> 32) as usize);
        let found = self.beside.get(at..at.checked_add(len)?).filter(|_| at.is_multiple_of(ALIGN))?;
        match kind {
            BYTES if data.is_empty() => Some(Value::Bytes(Cow::Borrowed(found))),
            NUMBERS => {
                let (kind, shape) = data.split_first()?;
                let (dimensions, []) = shape.as_chunks::<8>() else { return None };
                let shape = dimensions.iter().map(|dimension| u64::from_le_bytes(*dimension)).collect();
                Numbers::new(NumberKind::from_u8(*kind)?, shape, found).ok().map(Value::Numbers)
            }
            _ => None,
        }
    }
}
