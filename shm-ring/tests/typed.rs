//! Typed messages over a real ring: what is sent is what is read, and what is no message is an error with a number.

mod support;

use std::cell::Cell;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Serialize, rancor, ser};
use shm_ring::arena::{ArenaLayout, Class};
use shm_ring::spsc::{self, Events, SpscLayout};
use shm_ring::typed::{
    COPIED_LEN, DecodeError, MAX_DEPTH, Malformed, Message, Plain, Receiver, SendError, Sender, Typed,
};
use shm_ring::{ClaimError, Error, Place, RecvError, Segment, SegmentOptions};
use support::backings::{EPOCH, for_every_backing, fresh_path};

type To<T> = Sender<T, spsc::Producer>;
type From<T> = Receiver<T, spsc::Consumer>;

#[derive(Archive, Serialize, Debug, Clone, PartialEq)]
#[rkyv(compare(PartialEq), derive(Debug))]
struct Order {
    id: u64,
    symbol: String,
    fills: Vec<(u32, f64)>,
    note: Option<Box<str>>,
}

impl Order {
    /// An order whose archive has a little more than 16 bytes for each of `fills`.
    fn of(id: u64, fills: u32) -> Self {
        let fills = (0..fills).map(|n| (n, f64::from(n) / 3.0)).collect();
        Self { id, symbol: format!("symbol {id} with a name that is not inlined"), fills, note: Some("by hand".into()) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Quote {
    bid: f64,
    ask: f64,
    at_ns: u64,
}

/// A ring of 4 KiB with an arena of larger blocks: 2,040 bytes go into the ring, more into the arena.
fn ring() -> SpscLayout {
    let class = |block, count| Class { block, count };
    let arena = ArenaLayout::new([class(16 << 10, 2), class(1 << 20, 2), class(0, 0)]).unwrap();
    SpscLayout::new(4096).unwrap().with_arena(arena)
}

fn ends<T: Message + ?Sized>(
    maker: &Segment<Typed<T, SpscLayout>>,
    opener: &Segment<Typed<T, SpscLayout>>,
) -> (To<T>, From<T>) {
    let sender = maker.sender(|ring| spsc::Producer::attach(ring, Events::default())).unwrap();
    (sender, opener.receiver(|ring| spsc::Consumer::attach(ring, Events::default())).unwrap())
}

fn pair<T: Message + ?Sized>() -> (To<T>, From<T>) {
    let segment = Segment::heap(Typed::new(ring()), EPOCH);
    ends(&segment, &segment)
}

for_every_backing!(archives_of_every_length_are_read_as_they_were_sent, |backing| {
    let (maker, opener) = backing.pair(Typed::<Order, _>::new(ring()));
    let (mut sender, mut receiver) = ends(&maker, &opener);
    let mut id = 0;
    for round in 0..3 {
        for fills in [0, 1, 20, 40, 100, 120, 200, 1_000, 5_000, 50_000] {
            id += 1;
            let order = Order::of(id, fills + round);
            sender.try_send(&order).unwrap();
            assert_eq!(*receiver.try_recv().unwrap().read().unwrap(), order);
        }
    }
});

for_every_backing!(plain_data_is_read_as_it_was_sent, |backing| {
    let (maker, opener) = backing.pair(Typed::<Plain<Quote>, _>::new(ring()));
    let (mut sender, mut receiver) = ends(&maker, &opener);
    for n in 0..1_000_u32 {
        let quote = Quote { bid: f64::from(n), ask: f64::from(n) + 0.5, at_ns: n.into() };
        sender.try_send(&Plain(quote)).unwrap();
        assert_eq!(*receiver.recv().unwrap().read().unwrap(), quote);
    }
});

for_every_backing!(slices_of_every_length_are_read_as_they_were_sent, |backing| {
    let (maker, opener) = backing.pair(Typed::<[f64], _>::new(ring()));
    let (mut sender, mut receiver) = ends(&maker, &opener);
    for len in [0, 1, 63, 64, 65, 255, 256, 2_000, 100_000] {
        let samples: Vec<f64> = (0..len).map(f64::from).collect();
        sender.try_send(&samples).unwrap();
        assert_eq!(receiver.recv().unwrap().read().unwrap(), samples);
    }
});

#[test]
fn raw_bytes_are_slices_of_bytes() {
    let (mut sender, mut receiver) = pair::<[u8]>();
    sender.send(b"any bytes at all").unwrap();
    assert_eq!(receiver.recv().unwrap().read().unwrap(), b"any bytes at all");
}

/// 16 is the largest alignment that an archive can have; copied, in the ring and in the arena it has it.
#[test]
fn archives_are_aligned_to_16_bytes_wherever_they_are_read() {
    let (mut sender, mut receiver) = pair::<Vec<u128>>();
    for len in [1, 20, 31, 32, 100, 126, 127, 128, 500, 5_000] {
        let numbers: Vec<u128> = (0..len).map(|n| n << 100 | n).collect();
        sender.try_send(&numbers).unwrap();
        let received = receiver.recv().unwrap();
        let read = received.read().unwrap();
        assert!(read.as_ptr().addr().is_multiple_of(16), "{len} numbers, {:?}", received);
        assert!(read.iter().map(|n| n.to_native()).eq(numbers), "{len} numbers");
    }
}

#[test]
fn programs_that_disagree_about_the_type_learn_it_when_they_open_the_segment() {
    let (_made, fd) = Segment::memfd("orders", Typed::<Order, _>::new(ring()), EPOCH).unwrap();
    let opened = Segment::<Typed<Plain<Quote>, SpscLayout>>::open(fd.as_fd());
    let Err(Error::TypeMismatch { ours, theirs }) = &opened else { panic!("{opened:?}") };
    assert!(ours.starts_with("`Quote` (plain data, 24 bytes aligned to 8), layout "), "{ours}");
    assert!(
        theirs.starts_with("`Order` (rkyv 0.8 archive, little-endian, 32-bit offsets, aligned, root of "),
        "{theirs}"
    );
    let text = opened.unwrap_err().to_string();
    assert!(text.contains("`Quote`") && text.contains("`Order`"), "{text}");
}

#[test]
fn segments_with_a_name_compare_the_type_as_well() {
    let place = Place::file(fresh_path()).unwrap();
    let options = SegmentOptions::new();
    let made = place.create(Typed::<[f32], _>::new(ring()), EPOCH, &options).unwrap();
    let opened = place.open::<Typed<[f64], SpscLayout>>(&options);
    let joined = place.open_or_create(Typed::<[i32], _>::new(ring()), EPOCH, &options);
    drop(made);
    place.remove().unwrap();
    assert!(matches!(opened, Err(Error::TypeMismatch { .. })), "{opened:?}");
    assert!(matches!(joined, Err(Error::TypeMismatch { .. })), "{joined:?}");
}

#[test]
fn one_type_sent_as_an_archive_and_as_plain_data_is_a_mismatch() {
    let (_made, fd) = Segment::memfd("numbers", Typed::<u64, _>::new(ring()), EPOCH).unwrap();
    let opened = Segment::<Typed<Plain<u64>, SpscLayout>>::open(fd.as_fd());
    assert!(matches!(opened, Err(Error::TypeMismatch { .. })), "{opened:?}");
}

#[test]
fn a_ring_without_a_type_and_one_with_are_different_kinds() {
    let (_made, fd) = Segment::memfd("bytes", ring(), EPOCH).unwrap();
    let opened = Segment::<Typed<[u8], SpscLayout>>::open(fd.as_fd());
    assert!(matches!(opened, Err(Error::BadSegment { what: "kind", .. })), "{opened:?}");
    let (_made, fd) = Segment::memfd("typed", Typed::<[u8], _>::new(ring()), EPOCH).unwrap();
    let opened = Segment::<SpscLayout>::open(fd.as_fd());
    assert!(matches!(opened, Err(Error::BadSegment { what: "kind", .. })), "{opened:?}");
}

/// Sends a message whose text is spoilt on the way: it has the right header and length, and is no text.
fn send_spoilt(sender: &mut To<String>, text: &str) {
    sender.send(&text.to_owned()).unwrap();
    let (mut other, mut copy) = pair::<String>();
    other.send(&text.to_owned()).unwrap();
    let mut payload = copy.recv().unwrap().payload().to_vec();
    let at = payload.windows(2).position(|two| two == text[..2].as_bytes()).unwrap();
    payload[at] = 0xff;
    sender.end_mut().send(&payload).unwrap();
}

#[test]
fn seed_06_what_cannot_be_decoded_is_an_error_with_its_number_and_the_next_message_arrives() {
    let (mut sender, mut receiver) = pair::<String>();
    for (round, len) in [100, COPIED_LEN, 1_000, 10_000].into_iter().enumerate() {
        let text = "lorem ipsum ".repeat(len / 12 + 1);
        let number = round as u64 * 5;
        send_spoilt(&mut sender, &text);
        assert_eq!(receiver.recv().unwrap().read().unwrap(), text.as_str());
        {
            let spoilt = receiver.recv().unwrap();
            let error = spoilt.read().unwrap_err();
            assert_eq!((error.number, error.len, error.why), (number + 1, spoilt.payload().len(), Malformed::Archive));
            assert_eq!(spoilt.number(), error.number);
            let said = error.to_string();
            assert!(said.starts_with(&format!("message {} of ", number + 1)), "{said}");
            assert!(said.ends_with("is no `alloc::string::String`: not a valid archive"), "{said}");
        }
        for garbage in [&[][..], &[0x55; 100]] {
            sender.end_mut().send(garbage).unwrap();
            let error = receiver.recv().unwrap().read().unwrap_err();
            assert!(matches!(error.why, Malformed::Header { .. }), "{error}");
        }
        sender.send(&text).unwrap();
        let last = receiver.recv().unwrap();
        assert_eq!((last.number(), last.read().unwrap().as_str()), (number + 4, text.as_str()));
    }
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    assert_eq!(receiver.end().free(), sender.end().free(), "the frames of spoilt messages are given back");
}

#[test]
fn drain_hands_over_messages_and_errors_in_their_order() {
    let (mut sender, mut receiver) = pair::<[u32]>();
    sender.send(&[1, 2, 3]).unwrap();
    sender.end_mut().send(&[0; 5]).unwrap();
    sender.send(&[4; 200]).unwrap();
    sender.send(&[5]).unwrap();
    let mut seen: Vec<Result<Vec<u32>, DecodeError>> = Vec::new();
    assert_eq!(receiver.drain(3, |message| seen.push(message.map(<[u32]>::to_vec))), 3);
    let [Ok(first), Err(error), Ok(third)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((first.as_slice(), third.as_slice()), (&[1, 2, 3][..], &[4; 200][..]));
    assert_eq!((error.number, error.why), (1, Malformed::Length { found: 5, expected: 4 }));
    assert_eq!(receiver.recv().unwrap().number(), 3);
}

#[test]
fn plain_data_of_another_length_is_refused() {
    let (mut sender, mut receiver) = pair::<Plain<Quote>>();
    for len in [0, 23, 25, 48] {
        sender.end_mut().send(&vec![0; len]).unwrap();
        let error = receiver.recv().unwrap().read().unwrap_err();
        assert_eq!(error.why, Malformed::Length { found: len, expected: 24 });
    }
}

/// Every byte of a payload takes every value: each time an answer, and what is read lies in the payload.
#[test]
fn no_spoilt_payload_leads_a_reader_astray() {
    let (mut sender, mut receiver) = pair::<Order>();
    sender.send(&Order::of(1, 3)).unwrap();
    let valid = receiver.recv().unwrap().payload().to_vec();
    #[repr(C, align(16))]
    struct Aligned([u8; 8], [u8; 504]);
    let mut room = Aligned([0; 8], [0; 504]);
    let mut refused = 0;
    for at in 0..valid.len() {
        for value in 0..=255 {
            room.1[..valid.len()].copy_from_slice(&valid);
            room.1[at] = value;
            match shm_ring::typed::read::<Order>(&room.1[..valid.len()]) {
                Ok(order) => drop(format!("{order:?}")),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 1_000, "{refused}");
    for len in 0..valid.len() {
        room.1[..len].copy_from_slice(&valid[..len]);
        assert!(shm_ring::typed::read::<Order>(&room.1[..len]).is_err(), "the first {len} bytes of {}", valid.len());
    }
}

#[derive(Archive, Serialize)]
#[rkyv(
    serialize_bounds(__S: ser::Writer + ser::Allocator, __S::Error: rancor::Source),
    bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rancor::Source))
)]
struct Nested {
    #[rkyv(omit_bounds)]
    inner: Option<Box<Nested>>,
}

impl Nested {
    fn of(depth: usize) -> Self {
        (0..depth).fold(Self { inner: None }, |inner, _| Self { inner: Some(Box::new(inner)) })
    }
}

#[test]
fn nesting_is_bounded_by_the_reader() {
    let (mut sender, mut receiver) = pair::<Nested>();
    sender.send(&Nested::of(MAX_DEPTH)).unwrap();
    assert!(receiver.recv().unwrap().read().is_ok());
    for depth in [MAX_DEPTH + 1, 500] {
        sender.send(&Nested::of(depth)).unwrap();
        assert_eq!(receiver.recv().unwrap().read().map(drop).unwrap_err().why, Malformed::Archive);
    }
}

#[derive(Archive, Serialize)]
struct File {
    #[rkyv(with = rkyv::with::AsString)]
    path: PathBuf,
}

#[test]
fn a_value_that_its_type_refuses_is_not_sent() {
    use std::os::unix::ffi::OsStringExt;
    let (mut sender, mut receiver) = pair::<File>();
    let no_text = File { path: std::ffi::OsString::from_vec(vec![0xff]).into() };
    assert!(matches!(sender.send(&no_text), Err(SendError::Refused(_))));
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    sender.send(&File { path: "/a/path".into() }).unwrap();
    assert_eq!(receiver.recv().unwrap().read().unwrap().path, "/a/path");
}

/// Bytes that become more each time they are written.
struct Restless(Cell<usize>);

impl Archive for Restless {
    type Archived = ArchivedVec<u8>;
    type Resolver = (VecResolver, usize);

    fn resolve(&self, (resolver, len): Self::Resolver, out: rkyv::Place<Self::Archived>) {
        ArchivedVec::resolve_from_len(len, resolver, out);
    }
}

impl<S: rancor::Fallible + ser::Writer + ser::Allocator + ?Sized> Serialize<S> for Restless {
    fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, S::Error> {
        let len = self.0.get();
        self.0.set(len + 100);
        Ok((ArchivedVec::<u8>::serialize_from_slice(&vec![7_u8; len], serializer)?, len))
    }
}

#[test]
fn a_value_that_changes_while_it_is_written_is_not_sent() {
    let (mut sender, mut receiver) = pair::<Restless>();
    let sent = sender.send(&Restless(Cell::new(100_000)));
    assert!(matches!(sent, Err(SendError::Changed { .. })), "{sent:?}");
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    sender.send(&Restless(Cell::new(10))).unwrap();
    assert_eq!(receiver.recv().unwrap().read().unwrap().len(), 10);
}

#[test]
fn what_the_ring_answers_is_what_the_sender_gets() {
    let (mut sender, receiver) = pair::<[u8]>();
    let too_large = sender.try_send(&vec![0; (1 << 20) + 1]);
    assert_eq!(too_large, Err(ClaimError::TooLarge { len: (1 << 20) + 1, limit: 1 << 20 }.into()));
    let full = loop {
        if let Err(error) = sender.try_send(&[0; 1000]) {
            break error;
        }
    };
    assert!(matches!(full, SendError::Claim(ClaimError::Full { .. })), "{full}");
    let soon = Instant::now() + Duration::from_millis(5);
    let late = sender.send_deadline(&[0; 1000], soon);
    assert!(matches!(late, Err(SendError::Claim(ClaimError::TimedOut { .. }))), "{late:?}");
    assert!(Instant::now() >= soon);
    drop(receiver);
    assert_eq!(sender.send(&[1]), Err(ClaimError::Closed.into()));
}

#[test]
fn what_the_ring_answers_is_what_the_receiver_gets() {
    let (sender, mut receiver) = pair::<String>();
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    let soon = Instant::now() + Duration::from_millis(5);
    assert_eq!(receiver.recv_deadline(soon).unwrap_err(), RecvError::TimedOut);
    assert!(Instant::now() >= soon);
    drop(sender);
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
}

#[test]
fn messages_of_all_lengths_cross_threads_in_their_order() {
    const COUNT: u64 = 3_000;
    let (mut sender, mut receiver) = pair::<Order>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for id in 0..COUNT {
                sender.send(&Order::of(id, (id * 37 % 400) as u32)).unwrap();
            }
        });
        for id in 0..COUNT {
            assert_eq!(*receiver.recv().unwrap().read().unwrap(), Order::of(id, (id * 37 % 400) as u32));
        }
        assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
    });
}
