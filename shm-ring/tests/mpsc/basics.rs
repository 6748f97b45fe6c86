//! What is sent is received: sizes, order, batches, aborts, and what a full ring answers.

use std::io::Write;

use shm_ring::mpsc::MAX_INLINE;
use shm_ring::{ClaimError, RecvError};

use super::{Backing, payload, plain, ring, with_blocks};
use crate::support::backings::for_every_backing;

for_every_backing!(seed_04_frames_of_every_length_arrive_whole_at_every_cell, |backing| {
    let (sender, mut receiver) = ring(backing, plain(8));
    for len in 0..=120 {
        // 9 is prime to the number of cells: each length comes to each cell.
        for i in 0..9 {
            sender.try_send(&payload(i, len)).unwrap();
            let frame = receiver.try_recv().unwrap();
            assert_eq!(frame.bytes(), payload(i, len));
            assert_eq!((frame.len(), frame.is_empty()), (len, len == 0));
        }
    }
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
});

for_every_backing!(seed_01_what_can_never_fit_is_refused_at_once_with_its_limit, |backing| {
    let (sender, mut receiver) = ring(backing, plain(4));
    for len in [121, 128, 1 << 20, usize::MAX] {
        assert_eq!(sender.try_claim(len).unwrap_err(), ClaimError::TooLarge { len, limit: 120 });
        // The waiting form does not wait for what cannot come.
        assert_eq!(sender.claim(len).unwrap_err(), ClaimError::TooLarge { len, limit: 120 });
    }
    assert_eq!(sender.batch(5).unwrap_err(), ClaimError::TooLarge { len: 5 * 128, limit: 4 * 128 });
    sender.try_send(&[7; 120]).unwrap();
    assert_eq!(receiver.try_recv().unwrap().len(), 120);
});

for_every_backing!(seed_01_a_payload_over_the_inline_limit_goes_through_the_arena_in_place, |backing| {
    let (sender, mut receiver) = ring(backing, with_blocks(8, 4096, 2));
    for (i, len) in [121, 256, 257, 4000, 4096].into_iter().enumerate() {
        sender.try_send(&payload(i, len)).unwrap();
        assert_eq!(receiver.try_recv().unwrap().bytes(), payload(i, len));
    }
    assert_eq!(sender.try_claim(4097).unwrap_err(), ClaimError::TooLarge { len: 4097, limit: 4096 });
    // Two blocks: the third large frame waits for the first to be given back, small ones do not.
    sender.try_send(&[1; 1000]).unwrap();
    sender.try_send(&[2; 1000]).unwrap();
    assert_eq!(sender.try_claim(1000).unwrap_err(), ClaimError::Full { needed: 1000, free: 0 });
    sender.try_send(&[3; 100]).unwrap();
    let frame = receiver.try_recv().unwrap();
    assert_eq!(sender.try_claim(1000).unwrap_err(), ClaimError::Full { needed: 1000, free: 0 });
    drop(frame);
    sender.try_send(&[4; 1000]).unwrap();
    for (byte, len) in [(2, 1000), (3, 100), (4, 1000)] {
        assert_eq!(receiver.try_recv().unwrap().bytes(), vec![byte; len]);
    }
});

for_every_backing!(cells_of_every_size_hold_what_they_promise, |backing| {
    for inline in [0, 56, 57, 120, 500, MAX_INLINE] {
        let layout = plain(4).with_inline(inline).unwrap();
        let (sender, mut receiver) = ring(backing, layout);
        for i in 0..6 {
            sender.try_send(&payload(i, layout.inline_limit())).unwrap();
            assert_eq!(receiver.try_recv().unwrap().bytes(), payload(i, layout.inline_limit()));
        }
        let len = layout.inline_limit() + 1;
        assert_eq!(sender.try_claim(len).unwrap_err(), ClaimError::TooLarge { len, limit: len - 1 });
    }
});

for_every_backing!(seed_05_full_is_exact_and_the_count_is_the_same_from_both_ends, |backing| {
    let (sender, mut receiver) = ring(backing, plain(8));
    for i in 0..8 {
        assert_eq!((sender.len(), sender.free(), receiver.len(), receiver.free()), (i, 8 - i, i, 8 - i));
        sender.try_send(&[i as u8]).unwrap();
    }
    // One frame given back is one frame's room, though a quarter of the ring is two.
    for i in 8..100 {
        assert_eq!(sender.try_send(&[0]).unwrap_err(), ClaimError::Full { needed: 128, free: 0 });
        assert_eq!((sender.len(), receiver.len()), (8, 8));
        assert_eq!(receiver.try_recv().unwrap().bytes(), [(i - 8) as u8]);
        assert_eq!((sender.free(), receiver.free()), (1, 1));
        assert_eq!(sender.batch_refusal(2), ClaimError::Full { needed: 256, free: 128 });
        sender.try_send(&[i as u8]).unwrap();
    }
});

trait BatchRefusal {
    fn batch_refusal(&self, frames: usize) -> ClaimError;
}

impl BatchRefusal for shm_ring::mpsc::Sender {
    fn batch_refusal(&self, frames: usize) -> ClaimError {
        self.try_batch(frames).map(|_| ()).unwrap_err()
    }
}

for_every_backing!(a_dropped_claim_is_stepped_over_and_its_block_comes_back, |backing| {
    let (sender, mut receiver) = ring(backing, with_blocks(8, 1024, 1));
    for len in [10, 1000] {
        for _ in 0..20 {
            let mut claim = sender.try_claim(len).unwrap();
            claim.write(&payload(1, len));
            drop(claim);
            sender.try_send(&[9]).unwrap();
            assert_eq!(receiver.try_recv().unwrap().bytes(), [9]);
        }
    }
    assert_eq!(sender.len(), 0);
});

for_every_backing!(a_claim_that_unwinds_is_taken_back, |backing| {
    let (sender, mut receiver) = ring(backing, plain(4));
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _claim = sender.try_claim(8).unwrap();
        panic!("in the middle of a frame");
    }));
    assert!(unwound.is_err());
    sender.try_send(b"after").unwrap();
    assert_eq!(receiver.try_recv().unwrap().bytes(), b"after");
});

for_every_backing!(a_claim_is_filled_in_parts_and_sends_what_was_written, |backing| {
    let (sender, mut receiver) = ring(backing, with_blocks(4, 1024, 1));
    for len in [100, 1000] {
        let mut claim = sender.try_claim(len).unwrap();
        assert_eq!((claim.len(), claim.written()), (len, 0));
        claim.write(b"hello");
        claim.write_at(0, b"J");
        claim.write_at(5, b" world");
        assert_eq!(Write::write(&mut claim, &payload(0, 2000)).unwrap(), len - 11);
        assert_eq!(claim.written(), len);
        claim.commit();
        let mut expected = b"Jello world".to_vec();
        expected.extend(payload(0, len - 11));
        assert_eq!(receiver.try_recv().unwrap().bytes(), expected);
        let mut claim = sender.try_claim(len).unwrap();
        claim.write(b"short");
        claim.commit();
        assert_eq!(receiver.try_recv().unwrap().bytes(), b"short");
    }
});

#[test]
#[should_panic(expected = "9 bytes at 0 of a claim of 8, 0 written")]
fn a_write_over_the_claim_is_the_callers_bug() {
    let (sender, _receiver) = ring(crate::support::backings::Backing::Heap, plain(4));
    sender.try_claim(8).unwrap().write(&[0; 9]);
}

for_every_backing!(a_batch_is_sent_whole_and_in_order, |backing| {
    let (sender, mut receiver) = ring(backing, with_blocks(8, 1024, 2));
    for _ in 0..20 {
        let mut batch = sender.try_batch(4).unwrap();
        for (i, len) in [0, 120, 1000, 8].into_iter().enumerate() {
            assert_eq!((batch.len(), batch.capacity()), (i, 4));
            batch.try_send(&payload(i, len)).unwrap();
        }
        assert_eq!(batch.try_send(&[1]).unwrap_err(), ClaimError::Full { needed: 128, free: 0 });
        assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty, "nothing is seen before the commit");
        batch.commit();
        for (i, len) in [0, 120, 1000, 8].into_iter().enumerate() {
            assert_eq!(receiver.try_recv().unwrap().bytes(), payload(i, len));
        }
    }
});

for_every_backing!(what_a_batch_does_not_fill_is_stepped_over, |backing| {
    let (sender, mut receiver) = ring(backing, with_blocks(8, 1024, 1));
    for round in 0..20 {
        let mut batch = sender.try_batch(3).unwrap();
        batch.try_send(&payload(round, 1000)).unwrap();
        assert_eq!(batch.try_send(&[0; 1000]).unwrap_err(), ClaimError::Full { needed: 1000, free: 0 });
        drop(batch);
        let mut batch = sender.try_batch(3).unwrap();
        batch.try_send(&payload(round, 1000)).unwrap();
        batch.commit();
        assert_eq!(receiver.try_recv().unwrap().bytes(), payload(round, 1000));
        assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    }
    assert_eq!(sender.len(), 0);
});

for_every_backing!(a_held_claim_costs_its_cell_and_hides_nothing, |backing| {
    let (sender, mut receiver) = ring(backing, plain(4));
    for _ in 0..10 {
        let held = sender.try_claim(8).unwrap();
        for i in 1..4 {
            sender.try_send(&[i]).unwrap();
        }
        for i in 1..4 {
            assert_eq!(receiver.try_recv().unwrap().bytes(), [i]);
        }
        assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
        assert_eq!(sender.try_send(&[4]).unwrap_err(), ClaimError::Full { needed: 128, free: 0 });
        held.commit();
        assert_eq!(receiver.try_recv().unwrap().bytes(), []);
        sender.try_send(&[5]).unwrap();
        assert_eq!(receiver.try_recv().unwrap().bytes(), [5]);
    }
});

for_every_backing!(drain_takes_its_budget_and_gives_the_room_back, |backing| {
    let (sender, mut receiver) = ring(backing, plain(16));
    for i in 0..10 {
        sender.try_send(&[i]).unwrap();
    }
    let mut seen = Vec::new();
    assert_eq!(receiver.drain(4, |frame| seen.push(frame.bytes()[0])), 4);
    assert_eq!(receiver.drain(100, |frame| seen.push(frame.bytes()[0])), 6);
    assert_eq!(receiver.drain(100, |_| ()), 0);
    assert_eq!(seen, (0..10).collect::<Vec<u8>>());
    assert_eq!(sender.free(), 16);
});

for_every_backing!(a_drain_goes_past_a_claim_that_is_held, |backing| {
    let (sender, mut receiver) = ring(backing, plain(4));
    let held = sender.try_claim(1).unwrap();
    sender.try_send(b"behind").unwrap();
    assert_eq!(receiver.drain(10, |frame| assert_eq!(frame.bytes(), b"behind")), 1);
    drop(held);
    assert_eq!(receiver.drain(10, |_| panic!("it was taken back")), 0);
    assert_eq!(receiver.len(), 0);
});

#[test]
fn a_batch_of_any_size_is_refused_by_its_numbers() {
    let (sender, _receiver) = ring(Backing::Heap, plain(4));
    for frames in [5, usize::MAX / 2, usize::MAX] {
        let refused = sender.try_batch(frames).map(drop).unwrap_err();
        assert_eq!(refused, ClaimError::TooLarge { len: frames.saturating_mul(128), limit: 512 });
    }
}

/// With work that grows as the square of the cells this would take a quarter of an hour.
#[test]
fn a_ring_full_of_claims_that_were_taken_back_is_one_look() {
    let cells = 1 << 17;
    let (sender, mut receiver) = ring(Backing::Heap, plain(cells));
    let held = sender.try_claim(1).unwrap();
    for _ in 1..cells {
        drop(sender.try_claim(1).unwrap());
    }
    assert_eq!(receiver.try_recv().map(drop), Err(RecvError::Empty));
    drop(held);
    assert_eq!(receiver.try_recv().map(drop), Err(RecvError::Empty));
    assert_eq!(receiver.free(), cells as usize);
}
