//! Futures that are dropped before their end, at any await, leave nothing behind.

use std::future::Future;
use std::task::{Context as Wakers, Poll, Waker};

use test_support::child::{self, Line};
use test_support::level::Level;
use test_support::random::Random;

use crate::desk::{Served, block_on, poll_once, serve, until};

const SLOTS: u32 = 8;

/// All slots can be in use at once, so none is stuck; and each carries its own reply.
fn expect_all_slots(served: &Served) {
    served.desk.close();
    let held = served.desk.held();
    let mut holds: Vec<_> = (0..SLOTS).map(|_| Box::pin(served.caller.hold(None))).collect();
    until("every slot is in use at once", || {
        for hold in &mut holds {
            assert!(poll_once(hold).is_pending());
        }
        served.desk.held() == held + SLOTS
    });
    served.desk.open();
    for hold in holds {
        assert_eq!(block_on(hold), Ok(1));
    }
}

#[test]
fn a_dropped_call_tells_its_handler_and_gives_its_slot_back() {
    let served = serve(1, SLOTS);
    let mut hold = Box::pin(served.caller.hold(None));
    assert!(poll_once(&mut hold).is_pending());
    until("the call is with its handler", || served.desk.held() == 1);
    drop(hold);
    until("the handler learns of it", || served.desk.cancelled() == 1);
    assert_eq!(block_on(served.caller.add(1, 2)), Ok(3));
}

#[test]
fn a_task_in_the_line_gets_the_slot_of_a_call_that_was_dropped() {
    let served = serve(1, 2);
    let mut dropped: Vec<_> = (0..2).map(|_| Box::pin(served.caller.hold(None))).collect();
    for hold in &mut dropped {
        assert!(poll_once(hold).is_pending());
    }
    until("the first is with its handler", || served.desk.held() == 1);
    let mut waits = Box::pin(served.caller.add(1, 2));
    assert!(poll_once(&mut waits).is_pending());
    drop(dropped);
    // Both slots are with the service for a while; then the task is told.
    assert_eq!(block_on(waits), Ok(3));
}

/// A future that counts the polls that it lets through, then is never polled again.
async fn polled<F: Future>(future: F, mut most: u32) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(move |wakers: &mut Wakers<'_>| match most {
        0 => Poll::Ready(None),
        _ => {
            most -= 1;
            future.as_mut().poll(wakers).map(Some)
        }
    })
    .await
}

/// Calls of all sizes, dropped after any number of polls, in the line or in flight, answered already or not.
fn drop_at_random(served: &Served, rounds: u32) {
    let mut random = Random::new(Random::seed());
    served.desk.open();
    for _ in 0..rounds {
        let mut tasks = Vec::new();
        for _ in 0..random.below(20) {
            let (caller, len) = (served.caller.clone(), random.below(5) as usize * 700);
            let most = random.below(3) as u32;
            tasks.push(Box::pin(polled(
                async move {
                    let bytes = vec![len as u8; len];
                    assert_eq!(caller.turn(&bytes).await, Ok(bytes));
                },
                most,
            )));
        }
        for _ in 0..random.below(60) {
            if tasks.is_empty() {
                break;
            }
            let i = random.below(tasks.len() as u64) as usize;
            let is_over = tasks[i].as_mut().poll(&mut Wakers::from_waker(Waker::noop())).is_ready();
            if is_over || random.one_in(10) {
                drop(tasks.swap_remove(i));
            }
        }
    }
}

/// A future dropped at any await leaves no stuck slot; its reply, if one comes, reaches nobody.
#[test]
fn thread_cancel_by_drop() {
    let served = serve(SLOTS as usize, SLOTS);
    for _ in 0..20 {
        drop_at_random(&served, 50);
        expect_all_slots(&served);
    }
}

#[test]
fn futures_that_are_dropped_leave_no_memory_and_no_descriptors_behind() {
    child::alone("witness of what is dropped");
}

/// Role: see the test above.
pub fn count_what_is_left(_parent: Line) {
    let served = serve(SLOTS as usize, SLOTS);
    let mut before = None;
    // A connection keeps the segments that its busiest moment needed, and a busier one may come: a few times, not for ever.
    for _ in 0..30 {
        drop_at_random(&served, 300);
        expect_all_slots(&served);
        let after = Level::settled();
        if before.as_ref() == Some(&after) {
            return;
        }
        before = Some(after);
    }
    panic!("it grows and grows: {before:#?}");
}
