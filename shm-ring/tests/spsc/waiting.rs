//! Waiting for frames and for room: deadlines, sleep and wake, streams between threads.

use std::time::{Duration, Instant};

use shm_ring::spsc::{Consumer, Producer};
use shm_ring::{ClaimError, RecvError};

use super::{payload, plain, ring, with_blocks};
use crate::support::asleep::spawn_sleeper;
use crate::support::backings::for_every_backing;

for_every_backing!(seed_02_waiting_on_an_empty_ring_ends_at_its_deadline_and_trying_never_waits, |backing| {
    let (_producer, mut consumer) = ring(backing, plain(256));
    assert_eq!(consumer.try_recv().unwrap_err(), RecvError::Empty);
    for wait in [Duration::ZERO, Duration::from_millis(5), Duration::from_millis(150)] {
        let deadline = Instant::now() + wait;
        assert_eq!(consumer.recv_deadline(deadline).unwrap_err(), RecvError::TimedOut);
        assert!(Instant::now() >= deadline, "before the deadline");
    }
    let past = Instant::now() - Duration::from_secs(1);
    assert_eq!(consumer.recv_deadline(past).unwrap_err(), RecvError::TimedOut);
});

for_every_backing!(seed_02_waiting_on_a_full_ring_ends_at_its_deadline_with_the_numbers, |backing| {
    let (mut producer, _consumer) = ring(backing, plain(256));
    while producer.try_send(&[0; 8]).is_ok() {}
    for wait in [Duration::ZERO, Duration::from_millis(5)] {
        let deadline = Instant::now() + wait;
        let refused = producer.claim_deadline(20, deadline).unwrap_err();
        // 16 bytes are left before the end: a frame of 32 loses them.
        assert_eq!(refused, ClaimError::TimedOut { needed: 48, free: 0 });
        assert!(Instant::now() >= deadline, "before the deadline");
    }
    let refused = producer.send_deadline(&[0; 8], Instant::now()).unwrap_err();
    assert_eq!(refused, ClaimError::TimedOut { needed: 16, free: 0 });
});

for_every_backing!(what_is_there_is_received_even_after_the_deadline, |backing| {
    let (mut producer, mut consumer) = ring(backing, plain(256));
    let past = Instant::now() - Duration::from_secs(1);
    producer.send_deadline(b"there", past).unwrap();
    assert_eq!(consumer.recv_deadline(past).unwrap().bytes(), b"there");
});

/// Sends `frames` frames of various lengths from another thread and checks that all of them arrive.
fn stream(mut producer: Producer, mut consumer: Consumer, frames: usize, longest: usize) {
    let len_of = move |i: usize| (i * 37 + i / 64) % (longest + 1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for i in 0..frames {
                producer.send(&payload(i, len_of(i))).unwrap();
            }
        });
        for i in 0..frames {
            let frame = consumer.recv().unwrap();
            assert_eq!(frame.bytes(), payload(i, len_of(i)), "frame {i}");
        }
        assert_eq!(consumer.recv().unwrap_err(), RecvError::Closed);
    });
    let stats = consumer.control().stats();
    assert_eq!((stats.sent, stats.received, stats.frames), (frames as u64, frames as u64, 0));
    assert_eq!((stats.producer.rescues, stats.consumer.rescues), (0, 0), "a wake-up was lost");
}

for_every_backing!(a_stream_between_polling_threads_arrives_whole, |backing| {
    let (producer, consumer) = ring(backing, with_blocks(512, 1024, 2));
    stream(producer, consumer, 20_000, 700);
});

for_every_backing!(a_stream_between_threads_that_sleep_at_every_turn_arrives_whole, |backing| {
    let (mut producer, mut consumer) = ring(backing, with_blocks(128, 1024, 1));
    producer.set_spin(Duration::ZERO);
    consumer.set_spin(Duration::ZERO);
    stream(producer, consumer, 5_000, 200);
});

for_every_backing!(batches_between_threads_arrive_whole, |backing| {
    let (mut producer, mut consumer) = ring(backing, plain(4096));
    let frames = 30_000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut sent = 0;
            while sent < frames {
                let mut batch = producer.batch();
                while sent + (batch.len() as usize) < frames
                    && batch.len() < 20
                    && batch.try_send(&payload(sent + batch.len() as usize, 50)).is_ok()
                {}
                match batch.commit() {
                    // Nothing fitted: wait for room, and let that be the frame.
                    0 => {
                        producer.send(&payload(sent, 50)).unwrap();
                        sent += 1;
                    }
                    some => sent += some as usize,
                }
            }
        });
        let mut received = 0;
        while received < frames {
            received +=
                consumer.drain(16, |frame| assert_eq!(frame.bytes()[49], (frame.bytes()[0] as usize + 49 * 7) as u8));
            if received < frames {
                assert_eq!(consumer.recv().unwrap().bytes(), payload(received, 50));
                received += 1;
            }
        }
    });
});

for_every_backing!(room_is_used_though_the_consumer_stops_before_it_tells_of_it, |backing| {
    let (mut producer, mut consumer) = ring(backing, plain(256));
    while producer.try_send(&[0; 8]).is_ok() {}
    let control = consumer.control();
    std::thread::scope(|scope| {
        let (sent, is_sent) = std::sync::mpsc::channel();
        spawn_sleeper(scope, move || {
            sent.send(producer.send(&[1; 8])).unwrap();
            producer
        });
        drop(consumer.recv().unwrap());
        // Ends the wait of a producer that would wait for ever.
        let result = is_sent.recv_timeout(Duration::from_secs(20));
        control.close();
        assert_eq!(result, Ok(Ok(())));
    });
});
