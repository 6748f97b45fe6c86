//! Signals all the time: no wait of a ring or a queue ends early, late or in an error because a system call was
//! interrupted.

use std::time::{Duration, Instant};

use shm_ring::mpsc::QueueOptions;
use shm_ring::spsc::{self, SpscLayout};
use shm_ring::{RecvError, Segment};
use test_support::child::{self, Line};
use test_support::storm::Storm;

use crate::support::backings::fresh_path;

const FRAMES: u32 = 2_000;

/// Producers, consumers and the watcher thread are signalled every 100 µs: every frame arrives, every deadline is kept.
#[test]
fn signals_every_100_us_change_no_answer() {
    child::alone("process in a storm");
}

pub fn send_in_a_storm(parent: Line) {
    let storm = Storm::begin(Duration::from_micros(100));
    let (segment, _fd) = Segment::memfd("storm", SpscLayout::new(256).unwrap(), 1).unwrap();
    let (mut producer, mut consumer) = spsc::pair(&segment).unwrap();
    // Nobody polls: each side sleeps at every turn.
    producer.set_spin(Duration::ZERO);
    consumer.set_spin(Duration::ZERO);
    let directory = fresh_path();
    let options = QueueOptions::new().runtime_dir(&directory);
    let address = "tests/storm".parse().unwrap();
    let mut queue = options.create(&address).unwrap();
    queue.set_spin(Duration::ZERO);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..FRAMES).for_each(|i| producer.send(&i.to_le_bytes()).unwrap()));
        scope.spawn(|| {
            // Coming and going asks the watcher threads and the socket.
            for i in 0..FRAMES / 20 {
                let sender = options.open(&address).unwrap();
                (0..20).for_each(|j| sender.send(&(i * 20 + j).to_le_bytes()).unwrap());
            }
        });
        for i in 0..FRAMES {
            assert_eq!(consumer.recv().unwrap().bytes(), i.to_le_bytes());
        }
        let mut seen = vec![false; FRAMES as usize];
        for _ in 0..FRAMES {
            let frame = queue.recv().unwrap();
            let number = u32::from_le_bytes(frame.bytes().try_into().unwrap());
            assert!(!std::mem::replace(&mut seen[number as usize], true), "{number} twice");
        }
    });
    for _ in 0..3 {
        let began = Instant::now();
        let wait = Duration::from_millis(50);
        assert_eq!(consumer.recv_deadline(began + wait).err(), Some(RecvError::TimedOut));
        assert!((wait..wait + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(queue.recv_deadline(began + wait).err(), Some(RecvError::TimedOut));
        assert!((wait..wait + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
    drop(storm);
    parent.say(format!("figure: signals handled during {} frames = {}", 2 * FRAMES, Storm::handled()));
    std::fs::remove_dir_all(&directory).unwrap();
}
