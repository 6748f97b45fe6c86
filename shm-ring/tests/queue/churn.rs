//! Producers come and go: nothing grows.

use super::{Site, open_descriptors, until};

/// Connects and leaves again, with a frame each time or without.
const SHORT: u32 = 2_000;

/// How often instead, for the long form: `SHM_RING_CHURN=100000`.
const VARIABLE: &str = "SHM_RING_CHURN";

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it says how much is resident");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").expect("proc is mounted").lines().count()
}

#[test]
fn producers_come_and_go_without_growth() {
    let rounds = std::env::var(VARIABLE).map_or(SHORT, |text| text.parse().expect("a number of rounds"));
    let site = Site::new();
    let mut queue = site.create_with(64);
    let round = |queue: &mut shm_ring::mpsc::Queue, i: u32| {
        let sender = site.open();
        if i.is_multiple_of(2) {
            sender.send(&i.to_le_bytes()).expect("the queue lives");
            assert_eq!(queue.recv().expect("the frame").bytes(), i.to_le_bytes());
        }
    };
    let settle = |queue: &mut shm_ring::mpsc::Queue| {
        until("all lanes are given up", || queue.try_recv().is_err() && queue.producers() == 0);
    };
    for i in 0..500 {
        round(&mut queue, i);
    }
    settle(&mut queue);
    let before = (resident_kib(), open_descriptors(), mappings());
    for i in 0..rounds {
        round(&mut queue, i);
    }
    settle(&mut queue);
    let after = (resident_kib(), open_descriptors(), mappings());
    println!(
        "{rounds} producers: resident {} -> {} KiB, descriptors {} -> {}, mappings {} -> {}",
        before.0, after.0, before.1, after.1, before.2, after.2
    );
    assert!(after.0 < before.0 + 2048, "resident memory grew from {} to {} KiB", before.0, after.0);
    // Other tests of this program hold some of their own meanwhile.
    assert!(after.1 < before.1 + 200, "descriptors grew from {} to {}", before.1, after.1);
    assert!(after.2 < before.2 + 200, "mappings grew from {} to {}", before.2, after.2);
}
