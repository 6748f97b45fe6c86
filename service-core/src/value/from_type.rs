//! Rust types as values, by serde. Sequences of numbers of one type become [`Numbers`], sequences of `u8` bytes.

use std::borrow::Cow;
use std::fmt::Display;

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::into_type::Unfit;
use super::{NumberKind, Numbers, Value, wrong};
use crate::status::Status;

/// Describes a value of a Rust type. Copies it.
///
/// # Errors
/// `InvalidArgument`, not run, if the type's own serialisation refuses it, or it has numbers of more than 64 bits.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value<'static>, Status> {
    value.serialize(Writer).map(|made| made.value).map_err(|Unfit(text)| wrong(text))
}

/// What was made of a value, and if it is a number, of which kind.
struct Made {
    value: Value<'static>,
    number: Option<(NumberKind, [u8; 8])>,
}

impl From<Value<'static>> for Made {
    fn from(value: Value<'static>) -> Self {
        Self { value, number: None }
    }
}

struct Writer;

macro_rules! numbers {
    ($($method:ident: $type:ty => $kind:ident as $via:ident;)*) => {
        $(fn $method(self, number: $type) -> Result<Made, Unfit> {
            let mut bytes = [0; 8];
            bytes[..size_of::<$type>()].copy_from_slice(&number.to_le_bytes());
            let value = Value::from($via::from(number));
            Ok(Made { value, number: Some((NumberKind::$kind, bytes)) })
        })*
    };
}

impl Serializer for Writer {
    type Ok = Made;
    type Error = Unfit;
    type SerializeSeq = Sequence;
    type SerializeTuple = Sequence;
    type SerializeTupleStruct = Sequence;
    type SerializeTupleVariant = Sequence;
    type SerializeMap = Pairs;
    type SerializeStruct = Pairs;
    type SerializeStructVariant = Pairs;

    numbers! {
        serialize_i8: i8 => I8 as i64;
        serialize_i16: i16 => I16 as i64;
        serialize_i32: i32 => I32 as i64;
        serialize_i64: i64 => I64 as i64;
        serialize_u8: u8 => U8 as u64;
        serialize_u16: u16 => U16 as u64;
        serialize_u32: u32 => U32 as u64;
        serialize_u64: u64 => U64 as u64;
        serialize_f32: f32 => F32 as f64;
        serialize_f64: f64 => F64 as f64;
    }

    fn serialize_bool(self, value: bool) -> Result<Made, Unfit> {
        Ok(Value::Bool(value).into())
    }

    fn serialize_char(self, value: char) -> Result<Made, Unfit> {
        self.collect_str(&value)
    }

    fn serialize_str(self, value: &str) -> Result<Made, Unfit> {
        Ok(Value::from(value.to_owned()).into())
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<Made, Unfit> {
        Ok(Value::from(value.to_string()).into())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Made, Unfit> {
        Ok(Value::from(value.to_vec()).into())
    }

    fn serialize_none(self) -> Result<Made, Unfit> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Made, Unfit> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Made, Unfit> {
        Ok(Value::Nil.into())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Made, Unfit> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Made, Unfit> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Made, Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Made, Unfit> {
        Ok(named(variant, value.serialize(self)?.value))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Sequence, Unfit> {
        Ok(Sequence::default())
    }

    fn serialize_tuple(self, _: usize) -> Result<Sequence, Unfit> {
        Ok(Sequence { is_tuple: true, ..Sequence::default() })
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Sequence, Unfit> {
        self.serialize_tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Sequence, Unfit> {
        Ok(Sequence { is_tuple: true, variant: Some(variant), ..Sequence::default() })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Pairs, Unfit> {
        Ok(Pairs::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Pairs, Unfit> {
        Ok(Pairs::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Pairs, Unfit> {
        Ok(Pairs { variant: Some(variant), ..Pairs::default() })
    }
}

fn named(variant: &'static str, value: Value<'static>) -> Made {
    Value::Map(vec![(Value::from(variant), value)]).into()
}

/// A sequence as far as it has come: numbers of one kind, or anything.
#[derive(Default)]
struct Sequence {
    variant: Option<&'static str>,
    /// Of a fixed length, which is a list in other languages, whatever is in it; arrays of more than a few numbers are not.
    is_tuple: bool,
    numbers: Option<(NumberKind, Vec<u8>)>,
    values: Vec<Value<'static>>,
}

/// Tuples of so many numbers are arrays.
const ARRAY: usize = 8;

impl Sequence {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        let Made { value, number } = value.serialize(Writer)?;
        match (number, &mut self.numbers) {
            (Some((kind, bytes)), Some((of, all))) if kind == *of => {
                all.extend_from_slice(&bytes[..kind.size()]);
                return Ok(());
            }
            (Some((kind, bytes)), None) if self.values.is_empty() => {
                self.numbers = Some((kind, bytes[..kind.size()].to_vec()));
                return Ok(());
            }
            _ => self.mix(),
        }
        self.values.push(value);
        Ok(())
    }

    /// Numbers of one kind become values among others.
    fn mix(&mut self) {
        if let Some((kind, bytes)) = self.numbers.take() {
            let shape = vec![(bytes.len() / kind.size()) as u64];
            let numbers = Numbers { kind, shape, bytes: Cow::Owned(bytes) };
            let count = numbers.bytes.len() / kind.size();
            self.values.extend((0..count).map(|index| numbers.at(index)));
        }
    }

    fn finish(mut self) -> Made {
        let is_short = |(kind, bytes): &(NumberKind, Vec<u8>)| bytes.len() / kind.size() < ARRAY;
        if self.is_tuple && self.numbers.as_ref().is_some_and(is_short) {
            self.mix();
        }
        let value = match self.numbers {
            None => Value::List(self.values),
            Some((NumberKind::U8, bytes)) => Value::from(bytes),
            Some((kind, bytes)) => {
                let shape = vec![(bytes.len() / kind.size()) as u64];
                Value::Numbers(Numbers { kind, shape, bytes: Cow::Owned(bytes) })
            }
        };
        match self.variant {
            Some(variant) => named(variant, value),
            None => value.into(),
        }
    }
}

macro_rules! sequence {
    ($($seam:ident: $method:ident;)*) => {
        $(impl $seam for Sequence {
            type Ok = Made;
            type Error = Unfit;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
                self.push(value)
            }

            fn end(self) -> Result<Made, Unfit> {
                Ok(self.finish())
            }
        })*
    };
}

sequence! {
    SerializeSeq: serialize_element;
    SerializeTuple: serialize_element;
    SerializeTupleStruct: serialize_field;
    SerializeTupleVariant: serialize_field;
}

/// A map as far as it has come.
#[derive(Default)]
struct Pairs {
    variant: Option<&'static str>,
    key: Option<Value<'static>>,
    pairs: Vec<(Value<'static>, Value<'static>)>,
}

impl Pairs {
    fn finish(self) -> Made {
        let value = Value::Map(self.pairs);
        match self.variant {
            Some(variant) => named(variant, value),
            None => value.into(),
        }
    }
}

impl SerializeMap for Pairs {
    type Ok = Made;
    type Error = Unfit;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unfit> {
        self.key = Some(key.serialize(Writer)?.value);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        let key = self.key.take().ok_or_else(|| Unfit("a value without a key".to_owned()))?;
        self.pairs.push((key, value.serialize(Writer)?.value));
        Ok(())
    }

    fn end(self) -> Result<Made, Unfit> {
        Ok(self.finish())
    }
}

macro_rules! fields {
    ($($seam:ident)*) => {
        $(impl $seam for Pairs {
            type Ok = Made;
            type Error = Unfit;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unfit> {
                self.pairs.push((Value::from(name), value.serialize(Writer)?.value));
                Ok(())
            }

            fn end(self) -> Result<Made, Unfit> {
                Ok(self.finish())
            }
        })*
    };
}

fields! { SerializeStruct SerializeStructVariant }
