//! Vectors of bytes and of numbers as values, whole: serde hands them over one number at a time, and an empty one without
//! saying what it is empty of.

use std::any::Any;

use super::numbers::Number;
use super::{Numbers, Value};

/// The value of a vector of bytes or numbers, where it is; `None` of every other type.
pub(crate) fn in_place<T: Any>(value: &T) -> Option<Value<'_>> {
    let value: &dyn Any = value;
    if let Some(bytes) = value.downcast_ref::<Vec<u8>>() {
        return Some(Value::from(&bytes[..]));
    }
    macro_rules! first_of {
        ($($type:ty)*) => {
            None $(.or_else(|| value.downcast_ref::<Vec<$type>>().map(|numbers| Numbers::of(numbers).into())))*
        };
    }
    first_of!(i8 u16 i16 u32 i32 u64 i64 f32 f64)
}

/// Makes a vector of bytes or numbers of a value that has just those; `None` of every other type or value.
pub(crate) fn vector<T: Any>(value: &Value<'_>) -> Option<T> {
    let mut made: Option<T> = None;
    let place: &mut dyn Any = &mut made;
    match value {
        Value::Bytes(bytes) => {
            if let Some(place) = place.downcast_mut::<Option<Vec<u8>>>() {
                *place = Some(bytes.to_vec());
            }
        }
        Value::Numbers(numbers) if numbers.shape().len() == 1 => {
            macro_rules! each_of {
                ($($type:ty)*) => { $(put::<$type>(numbers, place);)* };
            }
            each_of!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);
        }
        _ => {}
    }
    made
}

/// Puts the numbers in the place, if they are of that type and the place is.
fn put<N: Number>(numbers: &Numbers<'_>, place: &mut dyn Any) {
    if let Some(place) = place.downcast_mut::<Option<Vec<N>>>()
        && let Some(numbers) = numbers.as_slice::<N>()
    {
        *place = Some(numbers.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_a_value_where_it_is_even_if_it_is_empty() {
        let numbers = vec![1.5_f32, 2.0];
        let Some(Value::Numbers(row)) = in_place(&numbers) else { panic!("it has numbers") };
        assert_eq!(row.as_slice::<f32>().unwrap().as_ptr(), numbers.as_ptr());
        assert_eq!(in_place(&Vec::<u8>::new()), Some(Value::from(&[] as &[u8])));
        assert_eq!(in_place(&Vec::<i64>::new()), Some(Value::from(&[] as &[i64])));
        assert_eq!(in_place(&vec!["text"]), None);
    }

    #[test]
    fn a_vector_is_made_of_the_same_numbers_and_of_nothing_else() {
        let row = Value::from(&[1_u32, 2][..]);
        assert_eq!(vector::<Vec<u32>>(&row), Some(vec![1, 2]));
        assert_eq!(vector::<Vec<i32>>(&row), None);
        assert_eq!(vector::<u32>(&row), None);
        assert_eq!(vector::<Vec<u8>>(&vec![3_u8].into()), Some(vec![3]));
        assert_eq!(vector::<Vec<u8>>(&Numbers::of(&[3_u8]).into()), Some(vec![3]));
        let matrix = Numbers::of(&[1_u32, 2]).in_shape(vec![2, 1]).unwrap();
        assert_eq!(vector::<Vec<u32>>(&matrix.into()), None, "its elements are rows");
    }
}
