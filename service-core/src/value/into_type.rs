//! Values as Rust types, by serde.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    self, Deserialize, DeserializeOwned, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{NumberKind, Numbers, Value, wrong};
use crate::status::Status;

/// Makes a value of a Rust type of what describes itself.
///
/// # Errors
/// `InvalidArgument`, not run, with what does not fit.
pub fn from_value<T: DeserializeOwned>(value: Value<'_>) -> Result<T, Status> {
    T::deserialize(value).map_err(|Unfit(text)| wrong(text))
}

/// Why a value does not fit a type.
#[derive(Debug)]
pub struct Unfit(pub(super) String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

impl de::Error for Unfit {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

impl serde::ser::Error for Unfit {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

impl<'de> IntoDeserializer<'de, Unfit> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Numbers one by one: of a matrix the rows, of a row the numbers.
fn elements<'a>(numbers: Numbers<'a>) -> impl Iterator<Item = Value<'a>> {
    let rest: Vec<u64> = numbers.shape.iter().skip(1).copied().collect();
    // The product was checked when the numbers were made.
    let row = rest.iter().product::<u64>() as usize;
    let count = numbers.shape.first().copied().unwrap_or(1) as usize;
    (0..count).map(move |index| {
        if rest.is_empty() {
            return numbers.at(index);
        }
        let size = row * numbers.kind.size();
        let bytes = Cow::Owned(numbers.bytes[index * size..][..size].to_vec());
        Value::Numbers(Numbers { kind: numbers.kind, shape: rest.clone(), bytes })
    })
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self {
            Self::Nil => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Int(value) => visitor.visit_i64(value),
            Self::UInt(value) => visitor.visit_u64(value),
            Self::Float(value) => visitor.visit_f64(value),
            Self::Text(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
            Self::Text(Cow::Owned(text)) => visitor.visit_string(text),
            Self::Bytes(Cow::Borrowed(bytes)) => visitor.visit_borrowed_bytes(bytes),
            Self::Bytes(Cow::Owned(bytes)) => visitor.visit_byte_buf(bytes),
            Self::Numbers(numbers) => visitor.visit_seq(SeqDeserializer::new(elements(numbers))),
            Self::List(values) => visitor.visit_seq(SeqDeserializer::new(values.into_iter())),
            Self::Map(pairs) => visitor.visit_map(MapDeserializer::new(pairs.into_iter())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self {
            Self::Nil => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self {
            Self::Bytes(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Unfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self {
            Self::Numbers(Numbers { kind: NumberKind::U8, bytes, .. }) => Self::Bytes(bytes).deserialize_any(visitor),
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        match self {
            Self::Text(_) => visitor.visit_enum(Variant { name: self, content: None }),
            Self::Map(pairs) => match <[(Value<'de>, Value<'de>); 1]>::try_from(pairs) {
                Ok([(name, content)]) => visitor.visit_enum(Variant { name, content: Some(content) }),
                Err(pairs) => Err(Unfit(format!("`{name}` is one key and its value, not {} of them", pairs.len()))),
            },
            other => Err(Unfit(format!("`{name}` is a text, or one key and its value, not {}", other.what()))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string unit unit_struct tuple_struct map struct identifier
        ignored_any
    }
}

/// One of an enum's variants, by its name.
struct Variant<'de> {
    name: Value<'de>,
    content: Option<Value<'de>>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Unfit;
    type Variant = Content<'de>;

    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'de>), Unfit> {
        Ok((seed.deserialize(self.name)?, Content(self.content)))
    }
}

/// What a variant carries.
struct Content<'de>(Option<Value<'de>>);

impl<'de> Content<'de> {
    fn some(self) -> Result<Value<'de>, Unfit> {
        self.0.ok_or_else(|| Unfit("the variant needs a value".to_owned()))
    }
}

impl<'de> VariantAccess<'de> for Content<'de> {
    type Error = Unfit;

    fn unit_variant(self) -> Result<(), Unfit> {
        self.0.map_or(Ok(()), <()>::deserialize)
    }

    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Unfit> {
        seed.deserialize(self.some()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Unfit> {
        self.some()?.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Unfit> {
        self.some()?.deserialize_any(visitor)
    }
}
