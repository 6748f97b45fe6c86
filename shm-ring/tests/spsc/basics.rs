//! What is sent is received: sizes, wraps, batches, aborts, and what a full ring answers.

use std::io::Write;

use shm_ring::spsc::{MAX_CAPACITY, MIN_CAPACITY, SpscLayout};
use shm_ring::{ClaimError, Error, RecvError};

use super::{payload, plain, ring, with_blocks};
use crate::support::backings::for_every_backing;

for_every_backing!(frames_of_every_length_arrive_in_order_and_whole, |backing| {
    let (mut producer, mut consumer) = ring(backing, plain(256));
    for lap in 0..5 {
        for len in 0..=120 {
            producer.try_send(&payload(len + lap, len)).unwrap();
            let frame = consumer.try_recv().unwrap();
            assert_eq!(frame.bytes(), payload(len + lap, len));
            assert_eq!((frame.len(), frame.is_empty()), (len, len == 0));
        }
    }
    assert_eq!(consumer.try_recv().unwrap_err(), RecvError::Empty);
});

for_every_backing!(seed_04_every_length_at_every_offset_of_a_wrap, |backing| {
    for len in 0..=56 {
        let (mut producer, mut consumer) = ring(backing, plain(128));
        // 16 bytes a step move the start of the frame under test over every offset.
        for i in 0..32 {
            producer.try_send(&payload(i, len)).unwrap();
            assert_eq!(consumer.try_recv().unwrap().bytes(), payload(i, len), "{len} bytes, frame {i}");
            producer.try_send(&[i as u8]).unwrap();
            assert_eq!(consumer.try_recv().unwrap().bytes(), [i as u8]);
        }
    }
});

for_every_backing!(seed_01_what_can_never_fit_is_refused_at_once_with_its_limit, |backing| {
    let (mut producer, mut consumer) = ring(backing, plain(256));
    for len in [121, 248, 256, 257, 1 << 20, usize::MAX] {
        assert_eq!(producer.try_claim(len).unwrap_err(), ClaimError::TooLarge { len, limit: 120 });
        // The waiting form does not wait for what cannot come.
        assert_eq!(producer.claim(len).unwrap_err(), ClaimError::TooLarge { len, limit: 120 });
    }
    producer.try_send(&[7; 120]).unwrap();
    assert_eq!(consumer.try_recv().unwrap().len(), 120);
});

for_every_backing!(seed_01_a_payload_over_half_the_ring_goes_through_the_arena_in_place, |backing| {
    let (mut producer, mut consumer) = ring(backing, with_blocks(256, 4096, 2));
    for (i, len) in [121, 256, 257, 4000, 4096].into_iter().enumerate() {
        producer.try_send(&payload(i, len)).unwrap();
        assert_eq!(consumer.try_recv().unwrap().bytes(), payload(i, len));
    }
    assert_eq!(producer.try_claim(4097).unwrap_err(), ClaimError::TooLarge { len: 4097, limit: 4096 });
    // Two blocks: the third frame waits for the first to be received.
    producer.try_send(&[1; 1000]).unwrap();
    producer.try_send(&[2; 1000]).unwrap();
    assert_eq!(producer.try_claim(1000).unwrap_err(), ClaimError::Full { needed: 1000, free: 0 });
    let frame = consumer.try_recv().unwrap();
    assert_eq!(producer.try_claim(1000).unwrap_err(), ClaimError::Full { needed: 1000, free: 0 });
    drop(frame);
    producer.try_send(&[3; 1000]).unwrap();
    assert_eq!(consumer.try_recv().unwrap().bytes(), [2; 1000]);
    assert_eq!(consumer.try_recv().unwrap().bytes(), [3; 1000]);
});

for_every_backing!(seed_05_the_capacity_is_honoured_in_bytes_and_full_says_how_many, |backing| {
    let (mut producer, mut consumer) = ring(backing, plain(256));
    // 16 of 256 bytes always stay free, and 15 frames of 16 bytes fill the rest.
    for i in 0..15 {
        assert_eq!((producer.len(), producer.free()), (i, 240 - i as usize * 16));
        producer.try_send(&[i as u8; 8]).unwrap();
    }
    assert_eq!(producer.try_send(&[0; 8]).unwrap_err(), ClaimError::Full { needed: 16, free: 0 });
    assert_eq!((consumer.len(), consumer.free()), (15, 0));
    // What is received is room at once, not only in quarters.
    for i in 0..100 {
        assert_eq!(consumer.try_recv().unwrap().bytes(), [i as u8; 8]);
        // With 16 bytes left before the end, a frame of 32 loses them as well.
        let needed = if i % 16 == 0 { 48 } else { 32 };
        assert_eq!(producer.try_send(&[0; 9]).unwrap_err(), ClaimError::Full { needed, free: 16 });
        producer.try_send(&[i as u8 + 15; 8]).unwrap();
    }
    assert_eq!((consumer.len(), producer.control().stats().used), (15, 240));
});

for_every_backing!(seed_05_a_wrap_counts_the_bytes_that_it_loses, |backing| {
    let (mut producer, mut consumer) = ring(backing, plain(256));
    producer.try_send(&[1; 100]).unwrap(); // 0..112
    producer.try_send(&[2; 80]).unwrap(); // 112..208
    drop(consumer.try_recv().unwrap());
    // 48 bytes are left before the end: the frame goes to the beginning, and 48 + 112 + 16 bytes are needed of 160.
    assert_eq!(producer.try_claim(100).unwrap_err(), ClaimError::Full { needed: 160, free: 144 });
    producer.try_send(&[3; 80]).unwrap(); // 48 lost, 256..352
    assert_eq!(consumer.control().stats().used, 96 + 48 + 96);
    assert_eq!((consumer.len(), consumer.free()), (2, 0));
    assert_eq!(consumer.try_recv().unwrap().bytes(), [2; 80]);
    assert_eq!(consumer.try_recv().unwrap().bytes(), [3; 80]);
    assert_eq!((consumer.len(), consumer.free(), producer.free()), (0, 240, 240));
});

for_every_backing!(a_batch_appears_whole_and_in_order, |backing| {
    let (mut producer, mut consumer) = ring(backing, with_blocks(256, 1024, 2));
    for round in 0..50 {
        let mut batch = producer.batch();
        assert!(batch.is_empty());
        for len in [0, 30, 500, 7] {
            batch.try_send(&payload(round, len)).unwrap();
            assert_eq!(consumer.try_recv().unwrap_err(), RecvError::Empty);
        }
        assert_eq!(batch.len(), 4);
        assert_eq!(batch.commit(), 4);
        let mut lens = Vec::new();
        let drained = consumer.drain(3, |frame| lens.push((frame.len(), frame.bytes() == payload(round, frame.len()))));
        assert_eq!((drained, lens), (3, vec![(0, true), (30, true), (500, true)]));
        assert_eq!(consumer.drain(usize::MAX, |frame| assert_eq!(frame.bytes(), payload(round, 7))), 1);
    }
    assert_eq!(producer.batch().commit(), 0);
    assert_eq!(consumer.drain(9, |_| panic!("an empty batch has no frames")), 0);
});

for_every_backing!(a_batch_takes_what_fits_and_the_rest_is_full, |backing| {
    let (mut producer, mut consumer) = ring(backing, plain(128));
    let mut batch = producer.batch();
    for i in 0..7 {
        batch.try_send(&[i; 8]).unwrap();
    }
    assert_eq!(batch.try_claim(8).unwrap_err(), ClaimError::Full { needed: 16, free: 0 });
    assert_eq!(batch.commit(), 7);
    assert_eq!(consumer.drain(10, |_| ()), 7);
});

for_every_backing!(what_is_dropped_before_its_commit_was_never_there, |backing| {
    let (mut producer, mut consumer) = ring(backing, with_blocks(256, 1024, 1));
    for i in 0..100 {
        let mut claim = producer.try_claim(100).unwrap();
        claim.write(&[0xff; 100]);
        drop(claim);
        let mut batch = producer.batch();
        batch.try_send(&[0xff; 70]).unwrap();
        batch.try_send(&[0xff; 1000]).unwrap();
        drop(batch.try_claim(20).unwrap());
        drop(batch);
        // A batch that is forgotten is one that was dropped.
        let mut batch = producer.batch();
        batch.try_send(&[0xff; 50]).unwrap();
        std::mem::forget(batch);
        assert_eq!(consumer.try_recv().unwrap_err(), RecvError::Empty);
        producer.try_send(&payload(i, i)).unwrap();
        assert_eq!(consumer.try_recv().unwrap().bytes(), payload(i, i));
    }
    assert_eq!(producer.control().stats().aborted, 400);
});

for_every_backing!(a_claim_is_filled_piece_by_piece_and_sends_what_was_written, |backing| {
    let (mut producer, mut consumer) = ring(backing, with_blocks(256, 1024, 1));
    for len in [100, 1000] {
        let mut claim = producer.try_claim(len).unwrap();
        assert_eq!((claim.len(), claim.written()), (len, 0));
        claim.write(b"....");
        write!(claim, "{}", 12345).unwrap();
        claim.write_at(0, b"ab");
        claim.write_at(8, b"6789");
        claim.commit();
        assert_eq!(consumer.try_recv().unwrap().bytes(), b"ab..12346789");
        let mut claim = producer.try_claim(len).unwrap();
        assert_eq!(std::io::Write::write(&mut claim, &[1; 2000]).unwrap(), len);
        assert_eq!(std::io::Write::write(&mut claim, &[1]).unwrap(), 0);
        claim.commit();
        let mut bytes = [0; 60];
        let frame = consumer.try_recv().unwrap();
        assert_eq!((frame.len(), frame.copy_to(&mut bytes), bytes), (len, 60, [1; 60]));
    }
});

#[test]
#[should_panic(expected = "9 bytes at 0 of a claim of 8, 0 written")]
fn writing_more_than_was_claimed_is_the_callers_mistake() {
    let (mut producer, _consumer) = ring(crate::support::backings::Backing::Heap, plain(256));
    producer.try_claim(8).unwrap().write(&[0; 9]);
}

#[test]
#[should_panic(expected = "1 bytes at 5 of a claim of 8, 4 written")]
fn writing_behind_a_gap_is_the_callers_mistake() {
    let (mut producer, _consumer) = ring(crate::support::backings::Backing::Heap, plain(256));
    let mut claim = producer.try_claim(8).unwrap();
    claim.write(&[0; 4]);
    claim.write_at(5, &[0]);
}

#[test]
fn a_capacity_is_a_power_of_two_within_limits() {
    for capacity in [0, 1, 48, MIN_CAPACITY / 2, 65, 1000, MAX_CAPACITY + 1, MAX_CAPACITY * 2, usize::MAX] {
        let refused = SpscLayout::new(capacity).unwrap_err();
        assert!(matches!(refused, Error::BadSegment { found, .. } if found == capacity as u64), "{refused}");
    }
    assert_eq!(plain(MIN_CAPACITY).limit(), 24);
    assert_eq!(plain(MAX_CAPACITY).limit(), MAX_CAPACITY / 2 - 8);
}

#[test]
fn a_layout_for_a_payload_has_room_for_several() {
    for len in [0, 64, 4096, 65_536, 1 << 20] {
        let layout = SpscLayout::for_payload(len).unwrap();
        assert!(layout.inline_limit() >= 4 * len, "{layout:?}");
    }
    assert!(SpscLayout::for_payload(usize::MAX).unwrap().limit() < MAX_CAPACITY);
}
