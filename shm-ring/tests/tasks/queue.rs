//! The queue between processes with tasks at its ends; here all in one process, with a lane for each producer.

use std::future::Future;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;

use futures_executor::block_on;
use futures_util::StreamExt;
use rustix::event::{PollFd, PollFlags, poll};
use shm_ring::RecvError;
use shm_ring::mpsc::{MpscLayout, Queue, QueueAddress, QueueOptions, Sender};

use super::kinds::mpsc::send_all;
use super::kinds::{KINDS, UNLUCKY, closed_is_none};
use crate::support::backings::fresh_path;

/// A queue in a runtime directory of its own, which goes with it.
struct Site {
    dir: PathBuf,
    address: QueueAddress,
}

impl Site {
    fn new() -> Self {
        Self { dir: fresh_path(), address: "tests/tasks".parse().expect("a good address") }
    }

    /// With lanes so small that producers wait.
    fn create(&self) -> Queue {
        let lane = MpscLayout::new(4).expect("a power of two");
        let options = QueueOptions::new().runtime_dir(&self.dir).lane(lane);
        options.create(&self.address).expect("nobody serves here")
    }

    fn open(&self) -> Sender {
        QueueOptions::new().runtime_dir(&self.dir).open(&self.address).expect("somebody serves here")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Its name is of this process only; what stays behind harms nobody.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn payloads(producer: u8, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| [&[producer], &i.to_ne_bytes()[..]].concat()).collect()
}

#[test]
fn a_task_receives_from_producers_of_every_kind() {
    const EACH: usize = 2_000;
    let site = Site::new();
    let mut queue = site.create();
    let mut received = [const { Vec::new() }; 3];
    thread::scope(|scope| {
        for (number, sends) in (0..).zip(KINDS) {
            let mut sender = site.open();
            scope.spawn(move || send_all(&mut sender, sends, &payloads(number, EACH)));
        }
        block_on(async {
            for _ in 0..EACH * KINDS.len() {
                let frame = queue.recv_async().await.expect("the queue is open");
                received[usize::from(frame.bytes()[0])].push(frame.bytes().to_vec());
            }
        });
    });
    for (number, received) in (0..).zip(received) {
        assert_eq!(received, payloads(number, EACH), "{:?}", KINDS[usize::from(number)]);
    }
    assert!(queue.rescues() <= UNLUCKY, "{} rescues", queue.rescues());
}

#[test]
fn the_receiver_waits_now_as_a_thread_now_as_an_event_loop_and_now_as_a_task() {
    const FRAMES: usize = 3_000;
    let site = Site::new();
    let mut queue = site.create();
    let sender = site.open();
    let sent = payloads(1, FRAMES);
    thread::scope(|scope| {
        scope.spawn(|| sent.iter().for_each(|payload| sender.send(payload).expect("the queue is open")));
        for (turn, sent) in sent.iter().enumerate() {
            let received = match turn % 3 {
                0 => queue.recv().map(|frame| frame.bytes().to_vec()),
                1 => block_on(queue.recv_async()).map(|frame| frame.bytes().to_vec()),
                _ => loop {
                    match queue.try_recv() {
                        Err(RecvError::Empty) => {}
                        received => break received.map(|frame| frame.bytes().to_vec()),
                    }
                    if queue.arm() {
                        poll(&mut [PollFd::from_borrowed_fd(queue.as_fd(), PollFlags::IN)], None)
                            .expect("a descriptor");
                    }
                },
            };
            assert_eq!(received.as_ref(), Ok(sent));
        }
    });
    assert!(queue.rescues() <= UNLUCKY, "{} rescues", queue.rescues());
}

#[test]
fn a_stream_of_messages_ends_with_the_queue() {
    let site = Site::new();
    let mut queue = site.create();
    let sender = site.open();
    block_on(sender.send_async(b"the only one")).expect("the queue is open");
    queue.close();
    assert_eq!(block_on(queue.messages().collect::<Vec<_>>()), [Ok(b"the only one".to_vec())]);
    assert_eq!(block_on(sender.send_async(b"late")), Err(shm_ring::ClaimError::Closed));
}

#[test]
fn a_dropped_future_has_received_nothing() {
    let site = Site::new();
    let mut queue = site.create();
    let sender = site.open();
    for i in 0..500_u32 {
        {
            let mut receives = pin!(queue.recv_async());
            assert!(receives.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            sender.try_send(&i.to_ne_bytes()).expect("there is room");
        }
        let frame = block_on(async { closed_is_none(queue.recv_async().await) }).expect("it is open");
        assert_eq!(frame.bytes(), i.to_ne_bytes());
    }
}
