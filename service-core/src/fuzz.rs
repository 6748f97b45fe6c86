//! What the fuzz targets of this crate run: texts as names, bytes as messages, and what must hold whatever they are.
//!
//! Only in this crate's own tests and where `--cfg fuzzing` is set, as `cargo fuzz` does; `fuzz/fuzz_targets` calls these
//! functions from libFuzzer, and the test below runs the inputs that are stored in `fuzz/corpus` again.

use rkyv::{Archive, Deserialize, Serialize};

use crate::envelope::{self, aligned};
use crate::value::{Arguments, Value, ValueMessage, from_value, read_value};
use crate::{
    Address, Code, Decode, Encode, Encoded, Fingerprint, InstanceId, MAX_INSTANCE_LEN, MAX_LABEL_LEN, MAX_SERVICE_LEN,
    Message, MethodDescriptor, MethodIndex, NameError, Namespace, Outcome, Owned, Reply, ServiceDescriptor,
    ServiceName, Sink, Status, TypeInfo, Writable, access, deserialize, encode_small,
};

/// Longest error about a name, in bytes: it repeats a piece of the name, each byte of it escaped in up to six.
const LONGEST_ERROR: usize = 500;

/// Any text as each kind of name and as an address: refused with the place of the fault and a text that is short and can
/// stand in a log line, or a name that reads back as itself and can be a file's.
pub fn names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let text = text.as_ref();
    let checked = |result: Result<&str, NameError>, most: usize| match result {
        Ok(name) => {
            assert!(name == text && !name.is_empty() && name.len() <= most, "{name}");
            assert!(!name.contains(['/', '\0', '@', ':']) && name != "." && name != "..", "{name}");
        }
        Err(error) => is_fit_to_print(&error, text),
    };
    checked(Namespace::new(text).as_ref().map(Namespace::as_str).map_err(Clone::clone), MAX_LABEL_LEN);
    checked(ServiceName::new(text).as_ref().map(ServiceName::as_str).map_err(Clone::clone), MAX_SERVICE_LEN);
    checked(InstanceId::new(text).as_ref().map(InstanceId::as_str).map_err(Clone::clone), MAX_INSTANCE_LEN);
    match Address::parse(text) {
        Ok(address) => assert_eq!(address.to_string(), text, "{address:?}"),
        Err(error) => is_fit_to_print(&error, text),
    }
}

fn is_fit_to_print(error: &NameError, text: &str) {
    assert!(error.at() <= text.len() && text.is_char_boundary(error.at()), "{error}: {}", error.at());
    let shown = error.to_string();
    assert!(shown.len() <= LONGEST_ERROR && !shown.contains(char::is_control), "{shown:?}");
}

/// A message with every kind of field that has something to check, and one that nests itself.
#[derive(Debug, Clone, PartialEq, Archive, Serialize, Deserialize)]
struct Order {
    number: u64,
    symbol: String,
    rows: Vec<Vec<u16>>,
    note: Option<Box<str>>,
    side: Side,
    is_open: bool,
    mark: char,
}

#[derive(Debug, Clone, PartialEq, Archive, Serialize, Deserialize)]
enum Side {
    Buy,
    Sell { at: u32 },
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Archive, Serialize, Deserialize)]
#[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rkyv::rancor::Source)))]
#[rkyv(serialize_bounds(__S: rkyv::ser::Writer + rkyv::ser::Allocator, __S::Error: rkyv::rancor::Source))]
#[rkyv(deserialize_bounds(__D::Error: rkyv::rancor::Source))]
struct Tree {
    value: u32,
    #[rkyv(omit_bounds)]
    branches: Vec<Tree>,
}

/// Room for a message at a multiple of 16, where every transport puts it.
#[repr(C, align(16))]
struct Aligned([u8; 2048]);

/// Any bytes as requests and replies of several types, and as what a server says of itself: refused by a status of the
/// right kind, or a value that is written and read again as the same.
pub fn messages(input: &[u8]) {
    let mut room = Aligned([0; 2048]);
    let len = input.len().min(room.0.len());
    room.0[..len].copy_from_slice(&input[..len]);
    let bytes = &room.0[..len];
    reads_back::<Order>(bytes);
    reads_back::<Tree>(bytes);
    reads_back::<(Vec<u32>, String, Option<bool>)>(bytes);
    reads_back::<Vec<String>>(bytes);
    if let Some(server) = reads_back::<ServiceDescriptor>(bytes) {
        binds(&server);
    }
}

fn reads_back<T: Owned + Writable + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let mut reply = Reply::<T>::new();
    let decoded = reply.decode(bytes);
    let value = match access::<T>(bytes) {
        Ok(archived) => deserialize::<T>(archived).expect("nothing in these types refuses a value that was checked"),
        Err(status) => {
            assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun), "{status}");
            assert_eq!(decoded.map_err(|status| status.code()), Err(Code::Internal));
            return None;
        }
    };
    assert_eq!(decoded.and_then(|()| reply.into_value()).as_ref(), Ok(&value));
    // Pointers may share what they point to, so what was read from 2 KiB can be longer when it is written.
    let mut again = Box::new(Aligned([0; 2048]));
    match encode_small(&Message(&value), &mut again.0) {
        Ok(Encoded::Inline(len)) => {
            let archived = access::<T>(&again.0[..len]).expect("what was written can be read");
            assert_eq!(deserialize::<T>(archived).as_ref(), Ok(&value));
        }
        Ok(Encoded::Large(len)) => assert!(len > again.0.len(), "{len} bytes would have fitted"),
        Err(error) => panic!("{error}"),
    }
    Some(value)
}

/// A client of one method against whatever a server says that it has.
fn binds(server: &ServiceDescriptor) {
    let type_info = TypeInfo { name: "u8".to_owned(), size: 1, align: 1, fingerprint: Fingerprint(1) };
    let method =
        MethodDescriptor { request: type_info.clone(), reply: type_info, ..MethodDescriptor::of::<(), ()>("m") };
    let client = ServiceDescriptor { trait_name: "Client".to_owned(), version: String::new(), methods: vec![method] };
    match client.bind(server) {
        Ok(map) => {
            let index = map.get(MethodIndex(0));
            assert_eq!(index.and_then(|index| server.method(index)).map(|method| &*method.name), index.map(|_| "m"));
        }
        Err(status) => assert_eq!(status.code(), Code::FailedPrecondition, "{status}"),
    }
    let unknown: Status = server.unknown_method(MethodIndex(u16::MAX));
    assert_eq!(unknown.outcome(), Outcome::NotRun);
}

/// Any bytes as a value that describes itself and as what comes behind a request: refused, or something that is written
/// and read again as the same, within the memory that the input stands for.
pub fn values(input: &[u8]) {
    let bytes = aligned(input);
    if let Ok(value) = read_value(&bytes) {
        let _: Result<Vec<Vec<f64>>, _> = from_value(value.clone());
        let _: Result<Vec<u8>, _> = from_value(value.clone());
        let mut count = Sink::count();
        ValueMessage(&value).encode(&mut count).expect("what was read can be written");
        let mut written = aligned(&vec![0; count.len()]);
        ValueMessage(&value).encode(&mut Sink::slice(&mut written)).expect("it has the length that was counted");
        let again = read_value(&written).expect("what was written can be read");
        // Numbers that are none differ from themselves.
        assert_eq!(format!("{again:?}"), format!("{value:?}"));
    }
    if let Ok((message, envelope)) = envelope::split(&bytes) {
        assert!(message.len() <= input.len());
        let _ = Arguments::from_value(read_value(&aligned(message)).unwrap_or(Value::Nil));
        envelope.seal().expect("what fitted once fits again");
    }
    for is_detailed in [false, true] {
        let status = Status::from_failure(Code::Aborted, Outcome::Ran, is_detailed, &bytes);
        assert_eq!(status.code(), Code::Aborted);
        let _ = (status.details::<String>(), status.retry_after(), status.kind());
    }
}

#[cfg(test)]
mod tests {
    use super::{messages, names, values};

    /// A target.
    type Target = fn(&[u8]);

    /// Every target by the name of its folder in `fuzz/corpus`.
    const TARGETS: [(&str, Target); 3] = [("names", names), ("messages", messages), ("values", values)];

    #[test]
    fn stored_inputs_and_changed_ones_keep_every_property() {
        for (name, target) in TARGETS {
            test_support::corpus::replay(name, target);
        }
    }
}
