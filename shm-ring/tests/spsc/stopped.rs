//! A consumer that is stopped while its ring is full is late, and nothing of it is lost.

use std::time::{Duration, Instant};

use shm_ring::ClaimError;
use shm_ring::spsc::{Consumer, Events, Producer};

use super::shared::{Shared, told};
use super::support::role::line;
use super::{payload, plain};

/// Frames in all, of this many bytes.
const FRAMES: usize = 400;
const LEN: usize = 90;

/// Says that it is there, receives all frames in order, and says so.
#[test]
#[ignore = "a role of a child process"]
fn role_receives_all() {
    let Some(mut line) = line() else { return };
    let mut consumer = Consumer::attach(&told(&mut line), Events::default()).expect("nobody has attached");
    line.say("attached");
    for i in 0..FRAMES {
        assert_eq!(consumer.recv().expect("the producer lives").bytes(), payload(i, LEN), "frame {i}");
    }
    line.say("received");
    assert_eq!(line.hear(), None);
}

/// The producer of a stopped consumer fills the ring and is told so, waits up to its deadline, waits without one for longer
/// than any safety time-out, and goes on when the consumer does.
#[test]
fn a_stopped_consumer_with_a_full_ring_goes_on_without_loss() {
    let shared = Shared::new(plain(1024));
    let mut consumer = shared.child("stopped::role_receives_all");
    assert_eq!(consumer.hear(), "attached");
    let mut producer = Producer::attach(&shared.segment, Events::default()).expect("nobody has attached");
    consumer.stop();
    let mut sent = 0;
    let full = loop {
        match producer.try_send(&payload(sent, LEN)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, ClaimError::Full { .. }) && sent > 0, "{full} after {sent} frames");
    let soon = Instant::now() + Duration::from_millis(50);
    let late = producer.send_deadline(&payload(sent, LEN), soon).unwrap_err();
    assert!(matches!(late, ClaimError::TimedOut { .. }) && Instant::now() >= soon, "{late}");
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| producer.send(&payload(sent, LEN)));
        // That time passes is the matter here.
        std::thread::sleep(Duration::from_millis(2_500));
        assert!(!patient.is_finished(), "a send without a deadline waits");
        consumer.go_on();
        patient.join().expect("it does not panic").expect("there is room again");
    });
    (sent + 1..FRAMES).for_each(|i| producer.send(&payload(i, LEN)).expect("the consumer lives"));
    assert_eq!(consumer.hear(), "received");
}
