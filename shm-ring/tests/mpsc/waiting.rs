//! Waiting for frames and for room: deadlines, sleep and wake, streams between threads.

use std::time::{Duration, Instant};

use shm_ring::mpsc::{Control, Events, Receiver, Sender};
use shm_ring::{ClaimError, RecvError};

use super::{Backing, payload, plain, ring, with_blocks};
use crate::support::asleep::spawn_sleeper;
use crate::support::backings::for_every_backing;

for_every_backing!(seed_02_waiting_on_an_empty_ring_ends_at_its_deadline_and_trying_never_waits, |backing| {
    let (_sender, mut receiver) = ring(backing, plain(8));
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    for wait in [Duration::ZERO, Duration::from_millis(5), Duration::from_millis(150)] {
        let deadline = Instant::now() + wait;
        assert_eq!(receiver.recv_deadline(deadline).unwrap_err(), RecvError::TimedOut);
        assert!(Instant::now() >= deadline, "before the deadline");
    }
    let past = Instant::now() - Duration::from_secs(1);
    assert_eq!(receiver.recv_deadline(past).unwrap_err(), RecvError::TimedOut);
});

for_every_backing!(seed_02_waiting_on_a_full_ring_ends_at_its_deadline_with_the_numbers, |backing| {
    let (sender, _receiver) = ring(backing, with_blocks(2, 1024, 1));
    sender.try_send(&[0; 1000]).unwrap();
    for wait in [Duration::ZERO, Duration::from_millis(5)] {
        let deadline = Instant::now() + wait;
        let refused = sender.claim_deadline(300, deadline).unwrap_err();
        assert_eq!(refused, ClaimError::TimedOut { needed: 300, free: 0 });
        assert!(Instant::now() >= deadline, "before the deadline");
    }
    sender.try_send(&[0; 8]).unwrap();
    let refused = sender.send_deadline(&[0; 8], Instant::now()).unwrap_err();
    assert_eq!(refused, ClaimError::TimedOut { needed: 128, free: 0 });
});

for_every_backing!(what_is_there_is_received_even_after_the_deadline, |backing| {
    let (sender, mut receiver) = ring(backing, plain(8));
    let past = Instant::now() - Duration::from_secs(1);
    sender.send_deadline(b"there", past).unwrap();
    assert_eq!(receiver.recv_deadline(past).unwrap().bytes(), b"there");
});

/// Sends `frames` frames from each of `threads` threads and checks that all arrive whole, each thread's in order.
fn stream(sender: Sender, mut receiver: Receiver, threads: usize, frames: usize, longest: usize) {
    let len_of = |i: usize| 16 + (i * 37 + i / 64) % (longest - 15);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let sender = sender.clone();
            scope.spawn(move || {
                for i in 0..frames {
                    let mut frame = payload(i, len_of(i));
                    frame[..8].copy_from_slice(&(thread as u64).to_le_bytes());
                    frame[8..16].copy_from_slice(&(i as u64).to_le_bytes());
                    sender.send(&frame).unwrap();
                }
            });
        }
        drop(sender);
        let mut seen = vec![0; threads];
        while let Ok(frame) = receiver.recv() {
            let bytes = frame.bytes();
            let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let (thread, i) = (word(0), word(8));
            assert_eq!(i, seen[thread], "thread {thread} out of order");
            assert_eq!(bytes[16..], payload(i, len_of(i))[16..], "frame {i} of thread {thread}");
            seen[thread] += 1;
        }
        assert_eq!(seen, vec![frames; threads]);
        assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
    });
}

for_every_backing!(streams_of_polling_threads_arrive_whole, |backing| {
    let (sender, receiver) = ring(backing, with_blocks(32, 1024, 3));
    stream(sender, receiver, 4, 5_000, 700);
});

for_every_backing!(streams_of_threads_that_sleep_at_every_turn_arrive_whole, |backing| {
    let (maker, opener) = backing.pair(with_blocks(4, 1024, 1));
    let mut sender = Sender::attach(&maker, Events::default()).unwrap();
    let mut receiver = Receiver::attach(&opener, Events::default()).unwrap();
    sender.set_spin(Duration::ZERO);
    receiver.set_spin(Duration::ZERO);
    stream(sender, receiver, 4, 1_000, 200);
    let stats = Control::over(&opener, Events::default()).stats();
    assert_eq!(stats.consumer.rescues, 0, "a wake-up was lost");
    assert_eq!(stats.len, 0);
});

for_every_backing!(batches_of_threads_arrive_whole, |backing| {
    let (sender, mut receiver) = ring(backing, plain(64));
    let (threads, batches, frames) = (3, 500, 16);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let sender = sender.clone();
            scope.spawn(move || {
                for i in 0..batches {
                    let mut batch = sender.batch(frames).unwrap();
                    for k in 0..frames {
                        batch.try_send(&[thread, k as u8, i as u8]).unwrap();
                    }
                    batch.commit();
                }
            });
        }
        drop(sender);
        let mut all = Vec::new();
        loop {
            receiver.drain(7, |frame| all.push(<[u8; 3]>::try_from(frame.bytes()).unwrap()));
            match receiver.recv() {
                Ok(frame) => all.push(frame.bytes().try_into().unwrap()),
                Err(end) => break assert_eq!(end, RecvError::Closed),
            }
        }
        assert_eq!(all.len(), usize::from(threads) * batches * frames);
        // Each thread's frames come in order, within a batch and from one to the next.
        for thread in 0..threads {
            let frames_of = |batch: usize| (0..frames).map(move |k| [thread, k as u8, batch as u8]);
            let expected: Vec<_> = (0..batches).flat_map(frames_of).collect();
            let seen: Vec<_> = all.iter().copied().filter(|frame| frame[0] == thread).collect();
            assert_eq!(seen, expected, "thread {thread}");
        }
    });
});

for_every_backing!(a_close_wakes_everybody_on_both_sides, |backing| {
    for by_the_receiver in [false, true] {
        let (sender, mut receiver) = ring(backing, plain(2));
        sender.try_send(b"1").unwrap();
        sender.try_send(b"2").unwrap();
        std::thread::scope(|scope| {
            let blocked: Vec<_> = (0..3)
                .map(|_| {
                    let mut sender = sender.clone();
                    sender.set_spin(Duration::ZERO);
                    scope.spawn(move || sender.send(b"3"))
                })
                .collect();
            if by_the_receiver {
                receiver.close();
            } else {
                sender.close();
            }
            for thread in blocked {
                assert_eq!(thread.join().unwrap(), Err(ClaimError::Closed));
            }
            assert_eq!(receiver.recv().unwrap().bytes(), b"1");
            assert_eq!(receiver.recv().unwrap().bytes(), b"2");
        });
        let (sender, mut receiver) = ring(backing, plain(2));
        receiver.set_spin(Duration::ZERO);
        std::thread::scope(|scope| {
            let blocked = scope.spawn(move || receiver.recv().map(|_| ()));
            sender.close();
            assert_eq!(blocked.join().unwrap(), Err(RecvError::Closed));
        });
    }
});

for_every_backing!(room_for_a_large_frame_wakes_whoever_waits_for_it, |backing| {
    let (mut sender, mut receiver) = ring(backing, with_blocks(64, 1024, 1));
    sender.set_spin(Duration::ZERO);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..50 {
                sender.send(&payload(i, 1000)).unwrap();
            }
        });
        for i in 0..50 {
            assert_eq!(receiver.recv().unwrap().bytes(), payload(i, 1000));
        }
    });
});

for_every_backing!(claims_that_are_dropped_wake_whoever_waits_for_their_room, |backing| {
    // What is dropped is all cells, then the only block.
    for (layout, len) in [(plain(4), 1), (with_blocks(4, 1024, 1), 1000)] {
        let (maker, opener) = backing.pair(layout);
        let sender = Sender::attach(&maker, Events::default()).unwrap();
        let mut receiver = Receiver::attach(&opener, Events::default()).unwrap();
        std::thread::scope(|scope| {
            let held: Vec<_> = std::iter::from_fn(|| sender.try_claim(len).ok()).collect();
            let blocked = spawn_sleeper(scope, || sender.send(&payload(7, len)));
            let receiving = spawn_sleeper(scope, move || receiver.recv().map(|frame| frame.bytes().to_vec()));
            drop(held);
            assert_eq!(blocked.join().unwrap(), Ok(()));
            assert_eq!(receiving.join().unwrap(), Ok(payload(7, len)));
        });
        assert_eq!(Control::over(&opener, Events::default()).stats().producer.rescues, 0, "a wake-up was lost");
    }
});

/// Three threads wait for room in a full ring; the receiver gives a quarter back, and then does something else. Says how
/// often somebody was woken.
fn wakes_of_a_quarter(backing: Backing) -> u64 {
    let (maker, opener) = backing.pair(plain(16));
    let sender = Sender::attach(&maker, Events::default()).unwrap();
    let mut receiver = Receiver::attach(&opener, Events::default()).unwrap();
    while sender.try_send(b"x").is_ok() {}
    std::thread::scope(|scope| {
        for _ in 0..3 {
            spawn_sleeper(scope, || sender.send(b"y").unwrap());
        }
        for _ in 0..4 {
            drop(receiver.try_recv().unwrap());
        }
    });
    Control::over(&opener, Events::default()).stats().producer.wakes
}

for_every_backing!(room_for_several_wakes_several, |backing| {
    // A thread that had to wait for a processor for long may have looked by itself.
    let wakes: Vec<_> = (0..50).map(|_| wakes_of_a_quarter(backing)).take_while(|wakes| *wakes < 3).collect();
    assert!(wakes.len() < 50, "never were all woken for whom there was room: {wakes:?}");
});
