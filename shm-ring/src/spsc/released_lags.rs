//! A producer that knows the exact head meets a released position that lags as far as it ever does.

use super::layout::{HEAD, SpscLayout};
use super::pair;
use crate::error::ClaimError;
use crate::segment::Segment;
use crate::sync::Ordering;

#[test]
fn a_consumer_between_its_two_positions_is_not_taken_for_broken() {
    let segment = Segment::heap(SpscLayout::new(256).expect("a power of two"), 1);
    let (mut producer, mut consumer) = pair(&segment).expect("nobody has attached");
    // 48 bytes are received, less than the quarter after which the producer is told; then a frame of 128 is.
    producer.try_send(&[1; 40]).expect("there is room");
    assert!(consumer.try_recv().is_ok());
    producer.try_send(&[2; 120]).expect("there is room");
    let found = consumer.core.find().expect("it was sent");
    // ORDERING: Release, as in `Core::release`, whose first half this is.
    consumer.core.ring.word::<HEAD>().store(found.end.to_word(), Ordering::Release);
    let full = loop {
        if let Err(refused) = producer.try_send(&[3; 8]) {
            break refused;
        }
    };
    assert!(matches!(full, ClaimError::Full { .. }), "{full}");
    assert!(matches!(producer.try_send(&[3; 8]), Err(ClaimError::Full { .. })));
}
