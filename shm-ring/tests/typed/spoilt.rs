//! What arrives and is no message: an error with its number, and the next message.

use rkyv::{Archive, Serialize, rancor, ser};
use shm_ring::RecvError;
use shm_ring::typed::{COPIED_LEN, DecodeError, MAX_DEPTH, Malformed, Plain, read};

use super::{Order, Quote, To, pair};

/// Sends a message whose text is spoilt on the way: it has the right header and length, and is no text.
fn send_spoilt(sender: &mut To<String>, text: &str) {
    sender.send(&text.to_owned()).unwrap();
    let (mut other, mut copy) = pair::<String>();
    other.send(&text.to_owned()).unwrap();
    let mut payload = copy.recv().unwrap().payload().to_vec();
    let at = payload.windows(2).position(|two| two == &text.as_bytes()[..2]).unwrap();
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
            match read::<Order>(&room.1[..valid.len()]) {
                Ok(order) => drop(format!("{order:?}")),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 1_000, "{refused}");
    for len in 0..valid.len() {
        room.1[..len].copy_from_slice(&valid[..len]);
        assert!(read::<Order>(&room.1[..len]).is_err(), "the first {len} bytes of {}", valid.len());
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
