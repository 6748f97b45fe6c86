//! The rings between threads of one process, on the heap and small enough for Miri, which follows each access: the
//! proof that there is no undefined behaviour in them, as far as one schedule shows it. `cargo xtask prove miri` tries
//! many.

use shm_ring::arena::{ArenaLayout, Class};
use shm_ring::mpsc::MpscLayout;
use shm_ring::spsc::SpscLayout;
use shm_ring::{RecvError, Segment, mpsc, spsc};

/// Frames that each thread sends.
const FRAMES: u64 = if cfg!(miri) { 40 } else { 20_000 };

/// Room for two payloads that are too large for the ring itself.
fn two_blocks() -> ArenaLayout {
    let (none, blocks) = (Class::default(), Class { block: 512, count: 2 });
    ArenaLayout::new([blocks, none, none]).expect("a legal layout")
}

/// A payload that says which it is: its length goes through all residues, and each byte is the number's.
fn payload(number: u64) -> Vec<u8> {
    let len = if number % 7 == 3 { 300 } else { number as usize % 41 };
    vec![number as u8; len]
}

#[test]
fn frames_of_every_kind_pass_from_thread_to_thread_in_order() {
    let layout = SpscLayout::new(256).expect("a power of two").with_arena(two_blocks());
    let (mut producer, mut consumer) = spsc::pair(&Segment::heap(layout, 1)).expect("nobody has attached");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..FRAMES {
                let payload = payload(number);
                match number % 3 {
                    0 => producer.send(&payload).expect("the consumer is there"),
                    1 => {
                        drop(producer.claim(8).expect("the consumer is there"));
                        let mut claim = producer.claim(payload.len()).expect("the consumer is there");
                        claim.write(&payload);
                        claim.commit();
                    }
                    _ => {
                        let mut batch = producer.batch();
                        let is_in = batch.try_send(&payload).is_ok();
                        batch.commit();
                        if !is_in {
                            producer.send(&payload).expect("the consumer is there");
                        }
                    }
                }
            }
        });
        for number in 0..FRAMES {
            let frame = consumer.recv().expect("the producer is there");
            assert_eq!(frame.bytes(), payload(number));
        }
        assert_eq!(consumer.recv().err(), Some(RecvError::Closed));
    });
}

#[test]
fn frames_of_two_threads_arrive_once_and_in_each_ones_order() {
    let layout = MpscLayout::new(4).expect("a power of two").with_arena(two_blocks());
    let (sender, mut receiver) = mpsc::pair(&Segment::heap(layout, 1)).expect("nobody has attached");
    std::thread::scope(|scope| {
        for thread in 0..2_u8 {
            let sender = sender.clone();
            scope.spawn(move || {
                for number in 0..FRAMES {
                    let payload = payload(number);
                    let mut claim = sender.claim(1 + payload.len()).expect("the receiver is there");
                    claim.write(&[thread]);
                    claim.write(&payload);
                    claim.commit();
                }
            });
        }
        drop(sender);
        let mut next = [0; 2];
        while let Ok(frame) = receiver.recv() {
            let (thread, bytes) = frame.bytes().split_first().expect("a thread writes its number first");
            let number = &mut next[usize::from(*thread)];
            assert_eq!(bytes, payload(*number));
            *number += 1;
        }
        assert_eq!(next, [FRAMES; 2]);
    });
}

#[test]
fn a_close_ends_the_waits_of_both_sides() {
    let (mut producer, mut consumer) =
        spsc::pair(&Segment::heap(SpscLayout::new(64).expect("a power of two"), 1)).expect("nobody has attached");
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| consumer.recv().err());
        producer.close();
        assert_eq!(receiving.join().expect("it does not panic"), Some(RecvError::Closed));
    });
    let (sender, mut receiver) =
        mpsc::pair(&Segment::heap(MpscLayout::new(2).expect("a power of two"), 1)).expect("nobody has attached");
    while sender.try_send(b"x").is_ok() {}
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| sender.send(b"y").is_err());
        receiver.close();
        assert!(sending.join().expect("it does not panic"), "nothing sent now would be read");
    });
}
