use serde::{Deserialize, Serialize};

use super::*;
use crate::envelope::aligned;
use crate::message::{Encode, Sink};

fn travelled(value: &Value<'_>) -> Value<'static> {
    let mut bytes = vec![0; 1 << 16];
    let mut sink = Sink::slice(&mut bytes);
    ValueMessage(value).encode(&mut sink).unwrap();
    let len = sink.len();
    read_value(&aligned(&bytes[..len])).unwrap().into_owned()
}

fn all_kinds() -> Value<'static> {
    let matrix = Numbers::new(NumberKind::F32, vec![2, 3], vec![1; 24]).unwrap();
    Value::List(vec![
        Value::Nil,
        true.into(),
        (-7_i64).into(),
        i64::MIN.into(),
        u64::MAX.into(),
        1.5.into(),
        "a text".into(),
        "".into(),
        vec![1_u8, 2].into(),
        vec![3_u8; 5_000].into(),
        matrix.into(),
        Value::List(Vec::new()),
        Value::Map(vec![("key".into(), 1.into()), (2.into(), Value::Nil)]),
    ])
}

#[test]
fn values_of_all_kinds_arrive_as_they_were_sent() {
    assert_eq!(travelled(&all_kinds()), all_kinds());
}

#[test]
fn long_parts_are_read_where_they_arrived_at_a_multiple_of_sixteen() {
    let mut bytes = vec![0; 1 << 16];
    let mut sink = Sink::slice(&mut bytes);
    let value = Value::List(vec![vec![9_u8; 1001].into(), vec![8_u8; 3000].into()]);
    ValueMessage(&value).encode(&mut sink).unwrap();
    let len = sink.len();
    let message = aligned(&bytes[..len]);
    let Value::List(parts) = read_value(&message).unwrap() else { panic!("it is a list") };
    for part in parts {
        let Value::Bytes(Cow::Borrowed(bytes)) = part else { panic!("it was copied") };
        assert!(message.as_ptr_range().contains(&bytes.as_ptr()));
        assert_eq!(bytes.as_ptr() as usize % 16, 0);
    }
}

#[test]
fn any_cut_or_changed_message_is_an_error_or_a_value_and_never_a_panic() {
    let mut bytes = vec![0; 1 << 16];
    let mut sink = Sink::slice(&mut bytes);
    let mut value = all_kinds();
    if let Value::List(values) = &mut value {
        values[9] = vec![3_u8; LONGEST_OF_TEST].into();
    }
    ValueMessage(&value).encode(&mut sink).unwrap();
    let len = sink.len();
    for cut in 0..len {
        let _ = read_value(&aligned(&bytes[..cut]));
        for bit in 0..8 {
            let mut flipped = aligned(&bytes[..len]);
            flipped[cut] ^= 1 << bit;
            if let Ok(value) = read_value(&flipped) {
                let _: Result<Vec<f64>, _> = from_value(value);
            }
        }
    }
}

const LONGEST_OF_TEST: usize = 300;

#[test]
fn a_value_that_nests_too_deep_is_refused() {
    let mut value = Value::Nil;
    for _ in 0..=MAX_VALUE_DEPTH {
        value = Value::List(vec![value]);
    }
    let mut bytes = vec![0; 1 << 12];
    let mut sink = Sink::slice(&mut bytes);
    ValueMessage(&value).encode(&mut sink).unwrap();
    let len = sink.len();
    assert_eq!(read_value(&aligned(&bytes[..len])).unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn shapes_that_no_memory_stands_for_are_refused() {
    for shape in [vec![1 << 40, 0], vec![u64::MAX, u64::MAX], vec![1; 33], vec![3]] {
        assert!(Numbers::new(NumberKind::U8, shape.clone(), Vec::new()).is_err(), "{shape:?}");
    }
    assert!(Numbers::new(NumberKind::F64, vec![0], Vec::new()).is_ok());
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    id: u64,
    name: String,
    score: Option<f32>,
    vector: Vec<f32>,
    image: Vec<u8>,
    tags: Vec<String>,
    at: (i32, i32),
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    Scaled(f64),
    Moved { x: i8, y: i8 },
    Pair(u16, char),
}

#[test]
fn rust_types_become_values_and_come_back() {
    for kind in [Kind::Plain, Kind::Scaled(0.5), Kind::Moved { x: -1, y: 2 }, Kind::Pair(7, 'ß')] {
        let record = Record {
            id: u64::MAX,
            name: "ada".into(),
            score: None,
            vector: vec![0.25, -1.0, f32::MAX],
            image: vec![255; 700],
            tags: vec!["a".into(), "b".into()],
            at: (3, -4),
            kind,
        };
        let value = travelled(&to_value(&record).unwrap());
        assert!(matches!(value.get("vector"), Some(Value::Numbers(numbers)) if numbers.kind() == NumberKind::F32));
        assert!(matches!(value.get("image"), Some(Value::Bytes(_))));
        assert!(matches!(value.get("at"), Some(Value::List(_))));
        assert_eq!(from_value::<Record>(value).unwrap(), record);
    }
}

#[test]
fn a_matrix_becomes_rows_of_numbers() {
    let bytes: Vec<u8> = [1_i16, 2, 3, 4, 5, 6].iter().flat_map(|number| number.to_le_bytes()).collect();
    let matrix = Numbers::new(NumberKind::I16, vec![2, 3], bytes).unwrap();
    assert_eq!(from_value::<Vec<Vec<i64>>>(matrix.into()).unwrap(), [[1, 2, 3], [4, 5, 6]]);
}

#[test]
fn what_does_not_fit_a_type_is_told() {
    let status = from_value::<u8>(Value::Int(256)).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
    assert!(status.message().contains("256") && status.message().contains("u8"), "{status}");
}

#[test]
fn arguments_are_sorted_by_place_and_name() {
    let arguments = |args: &[i64], kwargs: &[(&str, i64)]| Arguments {
        args: args.iter().map(|value| Value::Int(*value)).collect(),
        kwargs: kwargs.iter().map(|(name, value)| ((*name).to_owned(), Value::Int(*value))).collect(),
    };
    let given = arguments(&[1], &[("c", 3)]);
    let travelled = Arguments::from_value(travelled(&given.clone().into_value())).unwrap();
    assert_eq!(travelled, given);
    assert_eq!(travelled.by_names("m", &["a", "b", "c"]).unwrap(), [Some(1.into()), None, Some(3.into())]);
    for (wrong, text) in [
        (arguments(&[1, 2], &[]), "takes 1 arguments (a), 2"),
        (arguments(&[], &[("b", 1)]), "no argument `b`"),
        (arguments(&[1], &[("a", 2)]), "given twice"),
    ] {
        let status = wrong.by_names("m", &["a"]).unwrap_err();
        assert!(status.message().contains(text), "{status}");
    }
}

#[test]
fn payloads_are_not_shown_in_logs() {
    assert_eq!(format!("{:?}", Value::from(vec![7_u8; 3])), "3 bytes");
    assert_eq!(format!("{:?}", to_value(&vec![1.5_f32, 2.5]).unwrap()), "F32[2]");
}

#[test]
fn a_message_of_more_values_than_are_taken_is_neither_written_nor_read() {
    assert_eq!(size_of::<Value<'_>>(), 56, "the bound is documented by this size");
    let list = |len: usize| Value::List(vec![Value::Nil; len]);
    let mut bytes = vec![0; MAX_VALUES + 64];
    let mut sink = Sink::slice(&mut bytes);
    ValueMessage(&list(MAX_VALUES - 1)).encode(&mut sink).unwrap();
    let len = sink.len();
    assert!(read_value(&aligned(&bytes[..len])).is_ok());
    let refused = ValueMessage(&list(MAX_VALUES)).encode(&mut Sink::count()).unwrap_err();
    assert!(refused.to_string().contains("1048577 values"), "{refused}");
    let args = [list(MAX_VALUES - 4), Value::Nil];
    assert!(ArgumentsMessage { args: &args[..1], kwargs: &[] }.encode(&mut Sink::count()).is_ok());
    assert!(ArgumentsMessage { args: &args, kwargs: &[] }.encode(&mut Sink::count()).is_err());

    // A stranger writes what it likes: here the list itself is one value too many.
    let mut tree = vec![0xdd];
    tree.extend((MAX_VALUES as u32).to_be_bytes());
    tree.resize(tree.len() + MAX_VALUES, 0xc0);
    let tree_len = tree.len() as u32;
    tree.extend(tree_len.to_le_bytes());
    tree.extend(*b"SWV1");
    let status = read_value(&aligned(&tree)).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
