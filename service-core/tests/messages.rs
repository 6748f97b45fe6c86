//! Values written as messages and read back, through small and large places.

mod support;

use service_core::{
    BlockWriter, ByRef, Bytes, Code, Decode, Encode, EncodeError, Encoded, MAX_DEPTH, Message, Outcome, Reply,
    ReplyWith, Sink, SinkFull, Status, Str, access, deserialize, encode_block, encode_small,
};
use support::Memory;

fn memory_of(message: &dyn Encode) -> Memory {
    let mut memory = Memory::default();
    memory.put(message).unwrap();
    memory
}

#[test]
fn references_are_written_like_the_owned_values() {
    let floats = vec![1.5_f32, -2.0];
    let borrowed = memory_of(&Message(&(ByRef(&floats), Str("a text of some length"), Bytes(&[1, 2, 3]))));
    let owned = memory_of(&Message(&(floats.clone(), "a text of some length".to_owned(), vec![1_u8, 2, 3])));
    assert_eq!(borrowed.bytes(), owned.bytes());

    let request = access::<(Vec<f32>, String, Vec<u8>)>(borrowed.bytes()).unwrap();
    assert_eq!(deserialize::<Vec<f32>>(&request.0).unwrap(), floats);
    assert_eq!((request.1.as_str(), request.2.as_slice()), ("a text of some length", [1, 2, 3].as_slice()));
}

#[test]
fn a_message_is_small_up_to_the_last_byte_of_the_place() {
    let value = [7_u64; 8];
    let mut place = [0_u8; 64];
    assert_eq!(encode_small(&Message(&value), &mut place).unwrap(), Encoded::Inline(64));
    assert_eq!(encode_small(&Message(&value), &mut place[..63]).unwrap(), Encoded::Large(64));
    assert_eq!(encode_small(&Message(&()), &mut []).unwrap(), Encoded::Inline(0));
}

#[test]
fn a_large_message_is_as_long_as_it_was_measured() {
    let words: Vec<String> = (0..10_000).map(|n| format!("word number {n}")).collect();
    // `Memory` compares the lengths.
    let memory = memory_of(&Message(&words));
    assert!(memory.was_large);
    let read = access::<Vec<String>>(memory.bytes()).unwrap();
    assert_eq!(deserialize::<Vec<String>>(read).unwrap(), words);
}

/// Counts writes; a block of so many bytes.
struct Block {
    room: usize,
    writes: usize,
}

impl BlockWriter for Block {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        self.writes += 1;
        self.room = self.room.checked_sub(bytes.len()).ok_or(SinkFull)?;
        Ok(())
    }
}

#[test]
fn the_elements_of_a_float_vector_are_written_at_once() {
    let floats = vec![1.0_f32; 10_000];
    let mut block = Block { room: usize::MAX, writes: 0 };
    encode_block(&Message(&(ByRef(&floats),)), &mut block).unwrap();
    assert!(block.writes <= 5, "{} writes", block.writes);
}

#[test]
fn a_block_that_is_too_short_is_told() {
    let text = "x".repeat(1000);
    let mut block = Block { room: 999, writes: 0 };
    assert_eq!(encode_block(&Message(&text), &mut block), Err(EncodeError::Full(SinkFull)));
    let mut sink_memory = [0_u8; 10];
    assert_eq!(Message(&text).encode(&mut Sink::slice(&mut sink_memory)), Err(EncodeError::Full(SinkFull)));
}

/// A type whose serialisation refuses one value.
struct Picky;

impl rkyv::Archive for Picky {
    type Archived = ();
    type Resolver = ();

    fn resolve(&self, (): (), _: rkyv::Place<()>) {}
}

impl<S: rkyv::rancor::Fallible<Error: rkyv::rancor::Source> + ?Sized> rkyv::Serialize<S> for Picky {
    fn serialize(&self, _: &mut S) -> Result<(), S::Error> {
        Err(rkyv::rancor::Source::new(std::fmt::Error))
    }
}

#[test]
fn a_value_that_its_type_refuses_is_told_with_the_types_words() {
    let error = encode_small(&Message(&Picky), &mut []).unwrap_err();
    assert_eq!(error, EncodeError::Refused(std::fmt::Error.to_string().into()));
    let status = error.into_status(Outcome::NotRun);
    assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
}

#[test]
fn bytes_of_another_type_are_refused_without_addresses() {
    let memory = memory_of(&Message(&[0xff_u8; 9]));
    let status = access::<(Vec<f32>,)>(memory.bytes()).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
    assert_eq!(status.message(), "the 9 bytes of the request are no `(Vec<f32>,)`");
}

#[test]
fn every_cut_of_a_message_is_refused_or_read() {
    let memory = memory_of(&Message(&vec!["one".to_owned(), "a longer second word".to_owned()]));
    for len in 0..memory.bytes().len() {
        // Any answer is right as long as there is one: a cut can be a message by chance.
        let _: Result<_, Status> = access::<Vec<String>>(&memory.bytes()[..len]).map(drop);
    }
}

#[test]
fn a_reply_is_taken_or_read_in_place() {
    let memory = memory_of(&Message(&"a reply of some length".to_owned()));
    let mut reply = Reply::<String>::new();
    reply.decode(memory.bytes()).unwrap();
    assert_eq!(reply.into_value().unwrap(), "a reply of some length");

    let mut read = ReplyWith::<String, _, _>::new(|text: &rkyv::Archived<String>| text.len());
    read.decode(memory.bytes()).unwrap();
    assert_eq!(read.into_value().unwrap(), 22);
}

#[test]
fn a_missing_or_damaged_reply_is_the_services_fault() {
    assert_eq!(Reply::<String>::new().into_value().unwrap_err().code(), Code::Internal);
    let status = Reply::<u64>::new().decode(&[]).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Internal, Outcome::Ran));
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(
    serialize_bounds(__S: rkyv::ser::Writer),
    deserialize_bounds(__D::Error: rkyv::rancor::Source),
    bytecheck(bounds(__C: rkyv::validation::ArchiveContext))
)]
enum Chain {
    End,
    Link(#[rkyv(omit_bounds)] Box<Chain>),
}

fn chain(links: usize) -> Chain {
    (0..links).fold(Chain::End, |chain, _| Chain::Link(Box::new(chain)))
}

#[test]
fn a_message_that_is_nested_too_deeply_is_refused() {
    assert!(access::<Chain>(memory_of(&Message(&chain(MAX_DEPTH))).bytes()).is_ok());
    let deep = memory_of(&Message(&chain(MAX_DEPTH + 1)));
    assert_eq!(access::<Chain>(deep.bytes()).map(drop).unwrap_err().code(), Code::InvalidArgument);
}
