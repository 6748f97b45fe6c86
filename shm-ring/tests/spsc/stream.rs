//! A long stream of frames of every size between two processes.

use shm_ring::RecvError;
use shm_ring::spsc::{Events, Producer};

use super::plain;
use super::shared::{Shared, told};
use super::support::role::line;

/// Bytes of payload in the short form.
const SHORT: u64 = 20_000_000;

/// How many instead, for the long form: `SHM_RING_STREAM=1000000000`.
const VARIABLE: &str = "SHM_RING_STREAM";

const CAPACITY: usize = 1 << 16;

/// The same frames on both sides: their lengths and every byte follow from one number.
struct Frames {
    state: u64,
    longest: u64,
}

impl Frames {
    fn new(longest: usize) -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, longest: longest as u64 }
    }

    /// The next frame; mostly short ones, now and then up to the limit.
    fn next_into(&mut self, frame: &mut Vec<u8>) {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = self.state >> 33;
        let longest = if draw.is_multiple_of(8) { self.longest } else { self.longest.min(256) };
        frame.clear();
        let mut word = self.state;
        frame.resize_with((draw / 8 % (longest + 1)) as usize, || {
            word = word.rotate_left(5).wrapping_add(0x1234_5678_9abc_def1);
            word as u8
        });
    }
}

fn total() -> u64 {
    std::env::var(VARIABLE).map_or(SHORT, |text| text.parse().expect("a number of bytes"))
}

/// A billion bytes in frames of random sizes arrive in another process as they were sent, frame by frame (in the short
/// form twenty millions).
#[test]
fn mixed_sizes_random_1e9_bytes() {
    let shared = Shared::new(plain(CAPACITY));
    let child = shared.child("stream::role_streams");
    let mut consumer = shared.consumer();
    let mut frames = Frames::new(plain(CAPACITY).limit());
    let mut expected = Vec::new();
    let (mut bytes, mut count) = (0, 0_u64);
    loop {
        match consumer.recv() {
            Ok(frame) => {
                frames.next_into(&mut expected);
                assert!(frame.bytes() == expected, "frame {count} of {} bytes differs", expected.len());
                bytes += expected.len() as u64;
                count += 1;
            }
            Err(RecvError::Closed) => break,
            Err(error) => panic!("after {count} frames: {error}"),
        }
    }
    assert!(child.end().success());
    println!("figure: bytes streamed in frames of random sizes = {bytes} in {count} frames");
    assert!(bytes >= total());
}

#[test]
#[ignore = "a role of a child process"]
fn role_streams() {
    let Some(mut line) = line() else { return };
    let mut producer = Producer::attach(&told(&mut line), Events::default()).expect("nobody has attached");
    let mut frames = Frames::new(plain(CAPACITY).limit());
    let mut frame = Vec::new();
    let mut bytes = 0;
    while bytes < total() {
        frames.next_into(&mut frame);
        producer.send(&frame).expect("the consumer lives");
        bytes += frame.len() as u64;
    }
}
