//! Many producers and a consumer that sleeps again and again.

use std::time::Duration;

use super::{Site, numbered, read_numbered};

const PRODUCERS: u64 = 64;
const FRAMES: u64 = 200;

/// Sixty-four producers ring for a consumer that never polls: it is woken at most once for each frame, each frame
/// arrives, in its producer's order, and no sleep had to be ended by the safety time-out.
#[test]
fn wakeup_storm() {
    let site = Site::new();
    let mut queue = site.create_with(16);
    queue.set_spin(Duration::ZERO);
    let senders: Vec<_> = (0..PRODUCERS).map(|_| site.open()).collect();
    let before = site.options().inspect(&site.address).expect("the queue lives").ready.rings;
    std::thread::scope(|scope| {
        for (id, sender) in (0..).zip(&senders) {
            scope.spawn(move || (0..FRAMES).for_each(|i| sender.send(&numbered(id, i)).expect("the queue lives")));
        }
        let mut next = [0; PRODUCERS as usize];
        for _ in 0..PRODUCERS * FRAMES {
            let frame = queue.recv().expect("producers are at work");
            let (id, i) = read_numbered(frame.bytes());
            assert_eq!(i, next[id as usize], "producer {id} out of order");
            next[id as usize] += 1;
        }
    });
    let rings = site.options().inspect(&site.address).expect("the queue lives").ready.rings - before;
    println!("{rings} rings for {} frames of {PRODUCERS} producers", PRODUCERS * FRAMES);
    assert!(rings <= PRODUCERS * FRAMES, "{rings} rings for {} frames", PRODUCERS * FRAMES);
    assert_eq!(queue.rescues(), 0);
}
