//! The three kinds of waiting, as one who sends or receives a stream of frames.

use std::fmt::Debug;
use std::time::Duration;

use futures_executor::block_on;
use rustix::event::{PollFd, PollFlags, poll};
use shm_ring::{ClaimError, Pollable, RecvError};

/// How an end waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Thread,
    EventLoop,
    Task,
}

pub const KINDS: [Kind; 3] = [Kind::Thread, Kind::EventLoop, Kind::Task];

/// Rescues that say nothing: the kernel may take the processor from a sender between its frame and its wake-up for longer
/// than the safety look waits. A wake-up that is lost by our fault is lost again and again.
pub const UNLUCKY: u64 = 3;

/// Runs `step` as an event loop does: until it says that all is done, waiting whenever it can do nothing.
pub fn event_loop(mut pollable: Pollable, mut step: impl FnMut() -> Step) {
    loop {
        match step() {
            Step::Done => return,
            Step::Again => continue,
            Step::Wait => {}
        }
        pollable.arm();
        match step() {
            Step::Done => return,
            Step::Again => continue,
            Step::Wait => {}
        }
        let mut fds = [PollFd::new(&pollable, PollFlags::IN)];
        poll(&mut fds, None).expect("it is a descriptor");
    }
}

/// What came of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Done,
    Again,
    Wait,
}

/// Streams by the ends of one module's rings.
macro_rules! streams {
    ($module:ident, $producer:ty, $consumer:ty) => {
        pub mod $module {
            use super::*;

            /// Sends every payload in order.
            pub fn send_all(producer: &mut $producer, kind: Kind, payloads: &[Vec<u8>]) {
                match kind {
                    Kind::Thread => {
                        producer.set_spin(Duration::ZERO);
                        payloads.iter().for_each(|payload| unwrapped(producer.send(payload)));
                    }
                    Kind::Task => block_on(async {
                        for payload in payloads {
                            unwrapped(producer.send_async(payload).await);
                        }
                    }),
                    Kind::EventLoop => {
                        let mut left = payloads.iter();
                        let mut next = left.next();
                        event_loop(producer.pollable().expect("the only one"), || {
                            let Some(payload) = next else { return Step::Done };
                            match producer.try_send(payload) {
                                Ok(()) => {
                                    next = left.next();
                                    Step::Again
                                }
                                Err(ClaimError::Full { .. }) => Step::Wait,
                                Err(error) => panic!("{error}"),
                            }
                        });
                    }
                }
            }

            /// Receives until the ring is closed.
            pub fn receive_all(consumer: &mut $consumer, kind: Kind, mut each: impl FnMut(&[u8])) {
                match kind {
                    Kind::Thread => {
                        consumer.set_spin(Duration::ZERO);
                        while let Some(frame) = closed_is_none(consumer.recv()) {
                            each(frame.bytes());
                        }
                    }
                    Kind::Task => block_on(async {
                        while let Some(frame) = closed_is_none(consumer.recv_async().await) {
                            each(frame.bytes());
                        }
                    }),
                    Kind::EventLoop => {
                        event_loop(consumer.pollable().expect("the only one"), || match consumer.try_recv() {
                            Ok(frame) => {
                                each(frame.bytes());
                                Step::Again
                            }
                            Err(RecvError::Empty) => Step::Wait,
                            Err(RecvError::Closed) => Step::Done,
                            Err(error) => panic!("{error}"),
                        })
                    }
                }
            }
        }
    };
}

streams!(spsc, shm_ring::spsc::Producer, shm_ring::spsc::Consumer);
streams!(mpsc, shm_ring::mpsc::Sender, shm_ring::mpsc::Receiver);

pub fn closed_is_none<F: Debug>(received: Result<F, RecvError>) -> Option<F> {
    match received {
        Err(RecvError::Closed) => None,
        received => Some(received.expect("the ring is sound")),
    }
}

fn unwrapped(sent: Result<(), ClaimError>) {
    sent.expect("the consumer is there");
}
