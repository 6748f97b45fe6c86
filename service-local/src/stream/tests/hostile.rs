//! What the other side must not write: each is an error that ends the stream, in bounded work.

use service_core::{Code, Shape};
use shm_ring::Trust;
use shm_ring::spsc::Producer;

use super::{Peer, Receiver, Rings, recv};
use crate::stream::MAX_ITEM;

/// A producer that writes what it likes, and whoever reads it.
fn liar() -> (Box<Producer>, Receiver) {
    let rings = Rings::heap(Shape::ClientStream).unwrap();
    let producer = rings.client_ends(Trust::CHECKED, None).unwrap().producer.unwrap();
    let consumer = rings.server_ends(Trust::ISOLATED, None).unwrap().consumer.unwrap();
    (producer, Receiver::new(consumer, None, None, Peer::new("a test"), None))
}

fn frame(word: u64, item: &[u8]) -> Vec<u8> {
    [&word.to_le_bytes()[..], item].concat()
}

fn first(total: u64) -> u64 {
    2 | total << 32
}

#[test]
fn frames_that_no_honest_sender_writes_end_the_stream() {
    let lies: [(&str, Vec<Vec<u8>>); 8] = [
        ("no word", vec![vec![]]),
        ("half a word", vec![vec![1; 7]]),
        ("a kind that there is not", vec![frame(5, b"abc")]),
        ("a further part of nothing", vec![frame(3, b"abc")]),
        ("more than was said", vec![frame(first(4), b"abc"), frame(3, b"de")]),
        ("empty parts", vec![frame(first(4), b"abc"), frame(3, b"")]),
        ("an item without end", vec![frame(first(MAX_ITEM as u64 + 1), b"abc")]),
        ("an empty beginning", vec![frame(first(4), b"")]),
    ];
    for (lie, frames) in lies {
        let (mut producer, mut receiver) = liar();
        frames.iter().for_each(|frame| producer.try_send(frame).unwrap());
        for _ in 0..2 {
            let status = recv::<Vec<u8>>(&mut receiver).unwrap_err();
            assert_eq!(status.code(), Code::Internal, "{lie}: {status}");
        }
        assert!(producer.try_send(b"").is_err(), "{lie}: the ring is closed");
    }
}

/// Memory is made for what came, not for what was said.
#[test]
fn a_long_item_that_is_only_said_costs_nothing() {
    let (mut producer, mut receiver) = liar();
    for _ in 0..1000 {
        producer.try_send(&frame(first(MAX_ITEM as u64), b"abc")).unwrap();
    }
    producer.try_send(&frame(4, b"")).unwrap();
    assert_eq!(recv::<Vec<u8>>(&mut receiver).unwrap(), None);
}
