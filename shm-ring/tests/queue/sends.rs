//! What is sent arrives: from threads, from processes, with every way of waiting.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use shm_ring::arena::{ArenaLayout, CLASSES, Class};
use shm_ring::mpsc::MpscLayout;
use shm_ring::{ClaimError, RecvError};

use super::{Site, numbered, read_numbered, until};

#[test]
fn frames_of_every_size_arrive_whole_whoever_sends_them() {
    let mut classes = [Class::default(); CLASSES];
    classes[0] = Class { block: 8192, count: 2 };
    let lane = MpscLayout::new(16).unwrap().with_arena(ArenaLayout::new(classes).unwrap());
    let site = Site::new();
    let mut queue = site.options().lane(lane).create(&site.address).unwrap();
    let senders = [site.open(), site.open()];
    for len in [0, 1, 56, 120, 121, 1000, 8192] {
        for (i, sender) in senders.iter().enumerate() {
            sender.send(&vec![i as u8; len]).unwrap();
        }
        let mut seen: Vec<_> = (0..2).map(|_| queue.recv().unwrap().bytes().to_vec()).collect();
        seen.sort();
        assert_eq!(seen, [vec![0; len], vec![1; len]]);
    }
    assert_eq!(senders[0].try_claim(8193).unwrap_err(), ClaimError::TooLarge { len: 8193, limit: 8192 });
    assert_eq!(queue.try_recv().unwrap_err(), RecvError::Empty);
}

#[test]
fn many_processes_send_and_each_ones_frames_arrive_in_order() {
    const PROCESSES: u64 = 12; // more than are polled at a time
    const FRAMES: u64 = 2_000;
    let site = Site::new();
    let mut queue = site.create_with(64);
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|id| {
            let child = site.child("role_counts");
            child.say(id);
            child.say(FRAMES);
            child
        })
        .collect();
    let mut seen = [0; PROCESSES as usize];
    while seen.iter().sum::<u64>() < PROCESSES * FRAMES {
        let frame = queue.recv().unwrap();
        let (id, i) = read_numbered(frame.bytes());
        assert_eq!(i, seen[id as usize], "process {id} out of order");
        seen[id as usize] += 1;
    }
    for child in &mut children {
        assert_eq!(child.hear(), "sent");
    }
    assert_eq!((queue.try_recv().unwrap_err(), queue.len(), queue.rescues()), (RecvError::Empty, 0, 0));
    drop(children);
    until("all lanes are given up", || queue.try_recv().is_err() && queue.producers() == 0);
}

#[test]
fn a_consumer_that_sleeps_is_woken_by_each_frame() {
    let site = Site::new();
    let mut queue = site.create();
    queue.set_spin(Duration::ZERO);
    let sender = site.open();
    std::thread::scope(|scope| {
        let (told, tells) = std::sync::mpsc::channel();
        scope.spawn(move || {
            for i in 0..500 {
                sender.send(&numbered(0, i)).unwrap();
                // Only when the frame was received: so the consumer had to sleep for the next one, or was about to.
                tells.recv().unwrap();
            }
        });
        for i in 0..500 {
            assert_eq!(read_numbered(queue.recv().unwrap().bytes()), (0, i));
            told.send(()).unwrap();
        }
    });
    assert_eq!(queue.rescues(), 0, "a wake-up was lost");
}

#[test]
fn seed_02_waiting_ends_at_the_deadline_on_either_side() {
    let site = Site::new();
    let mut queue = site.create_with(2);
    let sender = site.open();
    for wait in [Duration::ZERO, Duration::from_millis(5), Duration::from_millis(150)] {
        let deadline = Instant::now() + wait;
        assert_eq!(queue.recv_deadline(deadline).unwrap_err(), RecvError::TimedOut);
        assert!(Instant::now() >= deadline, "before the deadline");
    }
    sender.send(b"1").unwrap();
    sender.send(b"2").unwrap();
    assert_eq!(sender.try_send(b"3").unwrap_err(), ClaimError::Full { needed: 128, free: 0 });
    let deadline = Instant::now() + Duration::from_millis(5);
    let refused = sender.send_deadline(b"3", deadline).unwrap_err();
    assert_eq!(refused, ClaimError::TimedOut { needed: 128, free: 0 });
    assert!(Instant::now() >= deadline);
}

#[test]
fn an_event_loop_waits_on_the_descriptor() {
    let site = Site::new();
    let mut queue = site.create();
    let readable = |queue: &shm_ring::mpsc::Queue, wait_ms: i64| {
        let mut polled = [rustix::event::PollFd::from_borrowed_fd(queue.as_fd(), rustix::event::PollFlags::IN)];
        let wait = rustix::event::Timespec { tv_sec: wait_ms / 1000, tv_nsec: wait_ms % 1000 * 1_000_000 };
        rustix::event::poll(&mut polled, Some(&wait)).unwrap() == 1
    };
    let sender = site.open();
    assert!(queue.arm(), "nothing is there");
    assert!(!readable(&queue, 0));
    for i in 0..100 {
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(&numbered(7, i)).unwrap());
            assert!(readable(&queue, 60_000), "not in a minute");
        });
        let mut seen = Vec::new();
        while let Ok(frame) = queue.try_recv() {
            seen.push(read_numbered(frame.bytes()));
        }
        assert_eq!(seen, [(7, i)]);
        assert!(queue.arm(), "nothing is there");
        assert!(!readable(&queue, 0));
    }
    // What was there before the loop would sleep is not slept over.
    assert_eq!(queue.try_recv().unwrap_err(), RecvError::Empty);
    sender.send(&numbered(7, 100)).unwrap();
    assert!(!queue.arm());
    assert_eq!(read_numbered(queue.recv().unwrap().bytes()), (7, 100));
}

#[test]
fn a_busy_producer_does_not_starve_the_others() {
    let site = Site::new();
    let mut queue = site.create_with(256);
    let (busy, quiet) = (site.open(), site.open());
    while busy.try_send(&numbered(0, 0)).is_ok() {}
    quiet.send(&numbered(1, 0)).unwrap();
    // The busy one never runs dry; the other's only frame comes after a turn at the latest.
    let mut before = 0;
    while read_numbered(queue.recv().unwrap().bytes()).0 == 0 {
        busy.try_send(&numbered(0, 0)).unwrap();
        before += 1;
        assert!(before <= 128, "starved");
    }
}

#[test]
fn seed_05_the_count_is_the_same_for_both_sides() {
    let site = Site::new();
    let mut queue = site.create_with(8);
    let senders = [site.open(), site.open()];
    for i in 0..8 {
        for sender in &senders {
            assert_eq!((sender.len(), sender.free(), sender.capacity()), (i, 8 - i, 8));
            sender.try_send(&numbered(0, 0)).unwrap();
        }
        assert_eq!(queue.len(), 2 * (i + 1));
    }
    assert_eq!(queue.drain(100, |_| ()), 16);
    assert_eq!((queue.len(), senders[0].len(), senders[1].len()), (0, 0, 0));
}

#[test]
fn a_closed_queue_gives_what_is_there_and_then_closed() {
    let site = Site::new();
    let mut queue = site.create_with(4);
    let (sender, silent) = (site.open(), site.open());
    sender.send(&numbered(0, 0)).unwrap();
    let mut claim = sender.try_claim(96).unwrap();
    queue.close();
    assert_eq!(sender.send(b"late").unwrap_err(), ClaimError::Closed);
    assert_eq!(silent.send(b"late").unwrap_err(), ClaimError::Closed);
    assert!(site.options().open(&site.address).is_err());
    assert_eq!(read_numbered(queue.recv().unwrap().bytes()), (0, 0));
    assert_eq!(queue.try_recv().unwrap_err(), RecvError::Empty, "a claim made before may still come");
    claim.write(&numbered(0, 1));
    claim.commit();
    assert_eq!(read_numbered(queue.recv().unwrap().bytes()), (0, 1));
    assert_eq!(queue.recv().unwrap_err(), RecvError::Closed);
    assert_eq!(queue.try_recv().unwrap_err(), RecvError::Closed);
}

#[test]
fn producers_of_a_dropped_queue_are_told_and_woken() {
    let site = Site::new();
    let queue = site.create_with(2);
    let mut sender = site.open();
    sender.set_spin(Duration::ZERO);
    sender.send(b"1").unwrap();
    sender.send(b"2").unwrap();
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| sender.send(b"3"));
        drop(queue);
        assert_eq!(blocked.join().unwrap(), Err(ClaimError::Closed));
    });
    assert!(sender.is_closed());
}
