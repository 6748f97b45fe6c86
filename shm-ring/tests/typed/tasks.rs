//! Typed messages between tasks.

use std::future::Future;

use futures_executor::block_on;
use shm_ring::typed::{SendError, Typed};
use shm_ring::{ClaimError, Events, RecvError, Segment, mpsc, spsc};

use super::support::backings::EPOCH;
use super::{Order, cells, pair, ring};

const COUNT: u64 = 1_000;

fn order(id: u64) -> Order {
    Order::of(id, (id * 37 % 400) as u32)
}

/// Compiles only for what a runtime with several threads can run.
fn sendable<F: Future + Send>(future: F) -> F {
    future
}

macro_rules! between_tasks {
    ($name:ident, $layout:expr, $producer:ty, $consumer:ty) => {
        #[test]
        fn $name() {
            let segment = Segment::heap(Typed::<Order, _>::new($layout), EPOCH);
            let events = Events::new().unwrap();
            let mut sender = segment.sender(|ring| <$producer>::attach(ring, events.clone())).unwrap();
            let mut receiver = segment.receiver(|ring| <$consumer>::attach(ring, events)).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    block_on(sendable(async {
                        for id in 0..COUNT {
                            sender.send_async(&order(id)).await.unwrap();
                        }
                    }));
                    drop(sender);
                });
                block_on(sendable(async {
                    for id in 0..COUNT {
                        assert_eq!(*receiver.recv_async().await.unwrap().read().unwrap(), order(id));
                    }
                    assert_eq!(receiver.recv_async().await.map(drop), Err(RecvError::Closed));
                }));
            });
        }
    };
}

between_tasks!(tasks_stream_to_each_other_over_frames, ring(), spsc::Producer, spsc::Consumer);
between_tasks!(tasks_stream_to_each_other_over_cells, cells(), mpsc::Sender, mpsc::Receiver);

#[test]
fn an_end_without_events_cannot_wait_in_a_task() {
    let (mut sender, mut receiver) = pair::<[u8]>();
    let received = block_on(receiver.recv_async()).map(drop);
    assert!(matches!(received, Err(RecvError::CannotWait { .. })), "{received:?}");
    while sender.try_send(&[0; 500]).is_ok() {}
    let sent = block_on(sender.send_async(&[0; 500]));
    assert!(matches!(sent, Err(SendError::Claim(ClaimError::CannotWait { .. }))), "{sent:?}");
}
