//! Replies reach tasks on any executor, awake or asleep.

use std::future::Future;
use std::time::Duration;

use switchboard::Trust;

use crate::desk::{Served, block_on, serve, serve_as, until};

/// Some calls one after the other, then two at once of which the first one's reply comes last.
async fn use_desk(served: &Served) {
    for i in 0..100 {
        assert_eq!(served.caller.add(i, 1).await, Ok(i + 1));
    }
    served.desk.close();
    let held = served.desk.held();
    let mut hold = Box::pin(served.caller.hold(None));
    assert!(crate::desk::poll_once(&mut hold).is_pending());
    until("the call is with its handler", || served.desk.held() > held);
    assert_eq!(served.caller.add(1, 2).await, Ok(3));
    served.desk.open();
    assert_eq!(hold.await, Ok(1));
}

fn tokio(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads.max(1)).enable_time().build().expect("threads can be started")
}

#[test]
fn calls_are_answered_on_the_smallest_executor() {
    block_on(use_desk(&serve(2, 16)));
}

#[test]
fn calls_are_answered_on_the_smallest_executor_by_a_service_that_is_a_stranger() {
    block_on(use_desk(&serve_as(2, 16, Trust::ISOLATED)));
}

#[test]
fn calls_are_answered_on_tokio() {
    for threads in [0, 2] {
        tokio(threads).block_on(use_desk(&serve(2, 16)));
    }
}

#[test]
fn calls_are_answered_on_the_executor_of_async_io() {
    async_io::block_on(use_desk(&serve(2, 16)));
}

/// The executor's thread sleeps when the reply comes: only the rope and the watcher thread can wake it.
#[test]
fn a_task_that_sleeps_is_woken_by_its_reply() {
    let served = serve(1, 16);
    for _ in 0..20 {
        served.desk.close();
        let held = served.desk.held();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                until("the call is with its handler", || served.desk.held() > held);
                // Whether the task sleeps by now is not known; that it does in some round is what this is for.
                std::thread::sleep(Duration::from_millis(2));
                served.desk.open();
            });
            assert_eq!(block_on(served.caller.hold(None)), Ok(1));
        });
    }
}

#[test]
fn requests_and_replies_of_every_size_arrive_whole() {
    for trust in [Trust::CHECKED, Trust::ISOLATED] {
        let served = serve_as(2, 16, trust);
        let ask = async |len: usize| {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            let turned: Vec<u8> = bytes.iter().rev().copied().collect();
            assert_eq!(served.caller.turn(&bytes).await, Ok(turned), "{len} bytes");
        };
        for _ in 0..20 {
            block_on(async {
                tokio::join!(ask(0), ask(33), ask(100), ask(1000), ask(20_000), ask(300_000), ask(3_000_000));
            });
        }
    }
}

/// Threads that sleep for their replies and tasks that do so share a connection, and each has its own.
#[test]
fn threads_and_tasks_share_a_connection() {
    let served = serve(2, 16);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let served = &served;
            scope.spawn(move || {
                for i in 0..2_000 {
                    let (a, b) = (thread << 32, i);
                    let sum = match thread % 2 {
                        0 => served.caller.add_and_wait(a, b),
                        _ => block_on(served.caller.add(a, b)),
                    };
                    assert_eq!(sum, Ok(a + b));
                }
            });
        }
    });
    assert_eq!(served.running.connections(), 1);
}

#[test]
fn futures_of_calls_move_between_threads() {
    fn is_send<T: Send>(_: &impl Future<Output = T>) {}
    let served = serve(1, 16);
    is_send(&served.caller.add(1, 2));
    is_send(&served.caller.turn(&[1]));
}
