//! More tasks than slots: they wait in a line, and all of them get through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::desk::{block_on, poll_once, serve, until};

#[test]
fn ten_thousand_tasks_get_their_own_replies_over_few_slots() {
    const TASKS: u64 = 10_000;
    let served = serve(2, 128);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let ended = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|i| {
                let (caller, ended) = (served.caller.clone(), Arc::clone(&ended));
                tokio::spawn(async move {
                    for round in 0..3 {
                        assert_eq!(caller.add(i, round).await, Ok(i + round));
                    }
                    ended.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(ended.load(Ordering::Relaxed), TASKS);
}

#[test]
fn who_waits_longest_is_next() {
    let served = serve(1, 1);
    let mut first = Box::pin(served.caller.hold(None));
    assert!(poll_once(&mut first).is_pending());
    until("the only slot is in use", || served.desk.held() == 1);
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..50)
            .map(|name| {
                let (caller, order) = (served.caller.clone(), Arc::clone(&order));
                tokio::spawn(async move {
                    assert_eq!(caller.add(name, 0).await, Ok(name));
                    order.lock().unwrap().push(name);
                })
            })
            .collect();
        // They go to the line in this order.
        tokio::task::yield_now().await;
        served.desk.open();
        assert_eq!(first.await, Ok(1));
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
}

/// A thread's call makes room, which a task waits for.
#[test]
fn a_task_gets_the_slot_that_a_thread_gives_back() {
    let served = serve(1, 1);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(served.caller.add_and_wait(1, 2), Ok(3));
            }
        });
        for i in 0..500 {
            assert_eq!(block_on(served.caller.add(i, 1)), Ok(i + 1));
        }
        done.store(true, Ordering::Relaxed);
    });
}
