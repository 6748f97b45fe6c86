//! Slices of Rust's numbers as [`Numbers`], and back, without a copy.

use std::borrow::Cow;

use super::{NumberKind, Numbers, Value};
use crate::status::Status;

/// A type of number that [`Numbers`] can be of. Not to be implemented.
pub trait Number: sealed::Plain {
    /// Its kind.
    const KIND: NumberKind;
}

mod sealed {
    pub trait Plain: bytemuck::Pod {}
}

macro_rules! number {
    ($($type:ty => $kind:ident;)*) => {
        $(impl sealed::Plain for $type {}

        impl Number for $type {
            const KIND: NumberKind = NumberKind::$kind;
        })*
    };
}

number! {
    u8 => U8;
    i8 => I8;
    u16 => U16;
    i16 => I16;
    u32 => U32;
    i32 => I32;
    u64 => U64;
    i64 => I64;
    f32 => F32;
    f64 => F64;
}

impl<'a> Numbers<'a> {
    /// Takes a row of numbers from where they are.
    pub fn of<N: Number>(numbers: &'a [N]) -> Self {
        // Little-endian, as all hosts are that the project compiles for.
        let bytes = Cow::Borrowed(bytemuck::cast_slice(numbers));
        Self { kind: N::KIND, shape: vec![numbers.len() as u64], bytes }
    }

    /// The same numbers in another shape.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn in_shape(self, shape: Vec<u64>) -> Result<Self, Status> {
        Self::new(self.kind, shape, self.bytes)
    }

    /// Gives the numbers where they are, all dimensions in a row; `None` if they are of another kind, or lie where a
    /// slice of them cannot begin. In a message they begin at a multiple of 16.
    pub fn as_slice<N: Number>(&self) -> Option<&[N]> {
        let is_of = self.kind == N::KIND;
        is_of.then(|| bytemuck::try_cast_slice(&self.bytes).ok()).flatten()
    }
}

impl<'a, N: Number> From<&'a [N]> for Numbers<'a> {
    fn from(numbers: &'a [N]) -> Self {
        Self::of(numbers)
    }
}

macro_rules! from_slices {
    ($($type:ty)*) => {
        $(impl<'a> From<&'a [$type]> for Value<'a> {
            fn from(numbers: &'a [$type]) -> Self {
                Self::Numbers(Numbers::of(numbers))
            }
        })*
    };
}

// A slice of `u8` is bytes.
from_slices! { i8 u16 i16 u32 i32 u64 i64 f32 f64 }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_of_numbers_is_taken_and_given_without_a_copy() {
        let matrix = [1.5_f32, -2.0, 3.0, 4.0];
        let numbers = Numbers::of(&matrix).in_shape(vec![2, 2]).unwrap();
        assert_eq!((numbers.kind(), numbers.shape()), (NumberKind::F32, &[2, 2][..]));
        assert_eq!(numbers.as_slice::<f32>().unwrap().as_ptr(), matrix.as_ptr());
        assert_eq!(numbers.as_slice::<u32>(), None);
        assert!(numbers.in_shape(vec![5]).is_err());
    }

    #[test]
    fn numbers_that_lie_askew_are_not_a_slice() {
        let bytes = [0_u64; 2];
        let askew = &bytemuck::cast_slice::<u64, u8>(&bytes)[1..9];
        let numbers = Numbers::new(NumberKind::F64, vec![1], askew).unwrap();
        assert_eq!(numbers.as_slice::<f64>(), None);
        assert_eq!(Numbers::new(NumberKind::U8, vec![8], askew).unwrap().as_slice::<u8>(), Some(askew));
    }
}
