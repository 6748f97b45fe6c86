//! What each trust mode costs the receiver of a ring: nanoseconds for a frame that comes from another core, received and
//! read to its last byte. Modes take turns, so that only ratios between them mean anything.
//!
//! `cargo run --release -p shm-ring --example trust_price`
#![allow(unsafe_code)] // One trust mode is made by a promise.

use std::error::Error;
use std::sync::mpsc::{Receiver as Turns, Sender as Turn, channel};
use std::time::Instant;

use rkyv::{Archive, Serialize};
use shm_ring::spsc::{Consumer, SpscLayout, pair};
use shm_ring::typed::{Receiver, Sender};
use shm_ring::{Segment, Trust};

/// Frames in a turn of a mode, by bytes of a frame: no more than its ring holds.
const SIZES: [(usize, usize); 3] = [(64, 256), (1024, 32), (64 << 10, 8)];

const TURNS: usize = 400;

/// Two texts, which take a validator some work, and bulk, which takes it none.
#[derive(Archive, Serialize)]
struct Message {
    from: String,
    to: String,
    values: Vec<u64>,
}

/// One mode at one size: sends a turn of frames from a thread of its own, and receives them here.
struct Subject {
    name: &'static str,
    go: Turn<()>,
    sent: Turns<()>,
    receive: Box<dyn FnMut(usize) -> u64>,
    /// For each turn, nanoseconds a frame.
    took: Vec<f64>,
}

impl Subject {
    fn new(
        name: &'static str,
        mut send: impl FnMut() + Send + 'static,
        frames: usize,
        receive: impl FnMut(usize) -> u64 + 'static,
    ) -> Self {
        let ((go, goes), (done, sent)) = (channel(), channel());
        std::thread::spawn(move || {
            for () in goes {
                (0..frames).for_each(|_| send());
                if done.send(()).is_err() {
                    return;
                }
            }
        });
        Self { name, go, sent, receive: Box::new(receive), took: Vec::new() }
    }

    fn turn(&mut self, frames: usize) -> Result<u64, Box<dyn Error>> {
        self.go.send(())?;
        self.sent.recv()?;
        let began = Instant::now();
        let sum = (self.receive)(frames);
        self.took.push(began.elapsed().as_nanos() as f64 / frames as f64);
        Ok(sum)
    }

    fn median(&mut self) -> f64 {
        self.took.sort_by(f64::total_cmp);
        self.took[self.took.len() / 2]
    }
}

/// Reads every word, as somebody would for whom it was sent.
fn sum_of(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8).filter_map(|word| word.first_chunk());
    words.fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

fn frames(name: &'static str, trust: Trust, len: usize, count: usize) -> Result<Subject, Box<dyn Error>> {
    let (mut producer, consumer) = pair(&Segment::heap(SpscLayout::for_payload(len)?, 1))?;
    let mut consumer = consumer.with_trust(trust);
    let payload = vec![7; len];
    let send = move || producer.send(&payload).expect("the consumer lives");
    let receive = move |count| {
        (0..count).map(|_| sum_of(consumer.recv().expect("it was sent").bytes())).fold(0, u64::wrapping_add)
    };
    Ok(Subject::new(name, send, count, receive))
}

fn messages(name: &'static str, trust: Trust, len: usize, count: usize) -> Result<Subject, Box<dyn Error>> {
    let (producer, consumer) = pair(&Segment::heap(SpscLayout::for_payload(len)?, 1))?;
    let mut sender = Sender::<Message, _>::new(producer);
    let mut receiver = Receiver::<Message, Consumer>::new(consumer.with_trust(trust));
    // The header is 8 bytes, the root 24, and each of the texts 12.
    let values = vec![7; (len - 56) / 8];
    let message = Message { from: "a text apart".into(), to: "another text".into(), values };
    let send = move || sender.send(&message).expect("the receiver lives");
    let receive = move |count| {
        let mut sum = 0_u64;
        for _ in 0..count {
            let received = receiver.recv().expect("it was sent");
            let message = received.read().expect("it is a message");
            sum = message.values.iter().fold(sum, |sum, value| sum.wrapping_add(value.to_native()));
            sum = sum.wrapping_add((message.from.len() + message.to.len()) as u64);
        }
        sum
    };
    Ok(Subject::new(name, send, count, receive))
}

fn main() -> Result<(), Box<dyn Error>> {
    // SAFETY: both ends are in this program, and the typed sender of the very type sends what is received.
    let trusted = unsafe { Trust::trusted() };
    for (len, count) in SIZES {
        let mut subjects = [
            frames("frames, checked", Trust::CHECKED, len, count)?,
            frames("frames, isolated", Trust::ISOLATED, len, count)?,
            messages("messages, trusted", trusted, len, count)?,
            messages("messages, checked", Trust::CHECKED, len, count)?,
            messages("messages, isolated", Trust::ISOLATED, len, count)?,
        ];
        let mut sum = 0_u64;
        for _ in 0..TURNS {
            for subject in &mut subjects {
                sum = sum.wrapping_add(subject.turn(count)?);
            }
        }
        assert_ne!(sum, 0, "nobody read anything");
        for subject in &mut subjects {
            let median = subject.median();
            println!("figure: {} of {len} B = {median:.1} ns", subject.name);
        }
    }
    Ok(())
}
