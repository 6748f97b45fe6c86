//! Waiting by itself: the real line, watcher thread and signals, over the smallest thing to wait for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use futures_executor::{ThreadPool, block_on};
use futures_util::future::join_all;
use futures_util::task::SpawnExt;

use super::Pollable;
#[cfg(any(feature = "tokio", feature = "async-io"))]
use super::Reactor;
use super::credits::Credits;
use crate::error::Error;

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicU64);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A future that is polled by hand.
struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    wakes: Arc<Wakes>,
}

impl Task {
    fn new(credits: &Credits, wanted: u64) -> Self {
        let credits = credits.clone();
        Self { future: Box::pin(async move { credits.take(wanted).await }), wakes: Arc::default() }
    }

    /// Waits for the watcher thread to call this task, which it does once for an event.
    fn is_called(&self) {
        while self.wakes.0.swap(0, Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
    }

    fn is_ready(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.wakes));
        self.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    }
}

/// Without safety looks, so that each call comes from an event.
fn credits() -> Credits {
    let credits = with_safety_looks();
    credits.signal().tasks().expect("has an eventfd").put_off_safety_looks();
    credits
}

fn with_safety_looks() -> Credits {
    Credits::new().expect("an eventfd")
}

fn rescues(credits: &Credits) -> u64 {
    credits.signal().counts().1
}

#[test]
fn a_task_is_woken_by_the_watcher_thread_when_the_other_side_publishes() {
    let credits = credits();
    let gives = credits.clone();
    let giver = thread::spawn(move || (0..1_000).for_each(|_| gives.give(1)));
    block_on(async {
        for _ in 0..1_000 {
            credits.take(1).await;
        }
    });
    giver.join().expect("the giver does not panic");
}

#[test]
fn one_event_wakes_as_many_tasks_as_find_something_and_one_more() {
    const TASKS: usize = 100;
    const ROOM: usize = 7;
    let credits = credits();
    let mut tasks: Vec<_> = (0..TASKS).map(|_| Task::new(&credits, 1)).collect();
    assert!(tasks.iter_mut().all(|task| !task.is_ready()));
    credits.give(ROOM as u64);
    // Each task that is woken is polled, as an executor would; it calls the next before its poll returns.
    for task in &mut tasks[..ROOM] {
        task.is_called();
        assert!(task.is_ready());
    }
    tasks[ROOM].is_called();
    assert!(!tasks[ROOM].is_ready());
    assert_eq!(tasks.iter().map(|task| task.wakes.count()).sum::<u64>(), 0, "nobody else was woken");
}

#[test]
fn tasks_are_called_in_the_order_in_which_they_came_even_after_a_call_in_vain() {
    let credits = credits();
    let mut first = Task::new(&credits, 2);
    let mut second = Task::new(&credits, 2);
    assert!(!first.is_ready() && !second.is_ready());
    credits.give(1);
    first.is_called();
    assert!(!first.is_ready(), "called in vain");
    credits.give(1);
    first.is_called();
    assert_eq!(second.wakes.count(), 0);
    assert!(first.is_ready());
}

#[test]
fn a_call_in_vain_is_handed_on_to_a_task_that_asks_for_less() {
    let credits = credits();
    let mut large = Task::new(&credits, 10);
    let mut as_large = Task::new(&credits, 10);
    let mut small = Task::new(&credits, 1);
    assert!(!large.is_ready() && !as_large.is_ready() && !small.is_ready());
    credits.give(1);
    large.is_called();
    assert!(!large.is_ready());
    assert_eq!((as_large.wakes.count(), small.wakes.count()), (0, 1));
    assert!(small.is_ready());
}

#[test]
fn a_future_that_is_dropped_with_a_call_in_hand_passes_it_on() {
    let credits = credits();
    let mut first = Task::new(&credits, 1);
    let mut second = Task::new(&credits, 1);
    assert!(!first.is_ready() && !second.is_ready());
    credits.give(1);
    first.is_called();
    assert_eq!(second.wakes.count(), 0);
    drop(first);
    assert_eq!(second.wakes.count(), 1);
    assert!(second.is_ready());
}

#[test]
fn a_future_that_is_dropped_while_it_waits_takes_no_call_from_others() {
    let credits = credits();
    let mut first = Task::new(&credits, 1);
    let mut second = Task::new(&credits, 1);
    assert!(!first.is_ready() && !second.is_ready());
    drop(first);
    credits.give(1);
    second.is_called();
    assert!(second.is_ready());
}

/// A waker that is called once too often.
#[derive(Default)]
struct Panics(Wakes);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        panic!("as a waker may");
    }
}

#[test]
fn a_waker_that_panics_takes_the_calls_of_nobody_else() {
    for credits in [credits(), with_safety_looks()] {
        let panics = Arc::new(Panics::default());
        let mut first = Task::new(&credits, 1);
        let waker = Waker::from(Arc::clone(&panics));
        assert!(first.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        credits.give(1);
        while panics.0.count() == 0 {
            thread::yield_now();
        }
        drop(first);
        let mut second = Task::new(&credits, 1);
        assert!(second.is_ready());
        let mut third = Task::new(&credits, 1);
        assert!(!third.is_ready());
        credits.give(1);
        third.is_called();
        assert!(third.is_ready());
    }
}

#[test]
fn the_latest_waker_is_the_one_that_is_woken() {
    let credits = credits();
    let mut task = Task::new(&credits, 1);
    assert!(!task.is_ready());
    let before = std::mem::take(&mut task.wakes);
    assert!(!task.is_ready());
    credits.give(1);
    task.is_called();
    assert_eq!(before.count(), 0);
}

#[test]
fn what_nobody_told_of_is_found_by_the_safety_look_and_counted() {
    let credits = with_safety_looks();
    let gives = credits.clone();
    let waits = thread::spawn(move || block_on(credits.take(2)));
    gives.give_silently(2);
    waits.join().expect("it does not panic");
    // It may have looked by itself after the credits were there; then there was nothing to rescue.
    let by_luck = rescues(&gives);
    assert!(by_luck <= 1);

    let mut task = Task::new(&gives, 1);
    assert!(!task.is_ready());
    gives.give_silently(1);
    task.is_called();
    assert!(task.is_ready());
    assert_eq!(rescues(&gives), by_luck + 1);
}

#[test]
fn a_task_that_was_told_is_no_rescue() {
    let credits = credits();
    let mut task = Task::new(&credits, 1);
    assert!(!task.is_ready());
    credits.give(1);
    task.is_called();
    assert!(task.is_ready());
    assert_eq!(rescues(&credits), 0);
}

#[test]
fn a_look_that_finds_something_at_once_says_to_nobody_that_it_sleeps() {
    let credits = credits();
    credits.give(1);
    assert!(Task::new(&credits, 1).is_ready());
    credits.give(1);
    assert_eq!(credits.signal().counts().0, 0, "the other side made no system call");
}

#[test]
fn ten_thousand_tasks_that_wait_for_one_side_all_complete() {
    const TASKS: usize = 10_000;
    let credits = with_safety_looks();
    let done = Arc::new(AtomicUsize::new(0));
    let pool = ThreadPool::builder().pool_size(2).create().expect("two threads");
    let all: Vec<_> = (0..TASKS)
        .map(|_| {
            let (credits, done) = (credits.clone(), Arc::clone(&done));
            let task = async move {
                credits.take(1).await;
                done.fetch_add(1, Ordering::Relaxed);
            };
            pool.spawn_with_handle(task).expect("the pool runs")
        })
        .collect();
    let gives = credits.clone();
    // In bunches, so that calls are passed on and also come anew.
    let giver = thread::spawn(move || (0..TASKS / 16).for_each(|_| gives.give(16)));
    block_on(join_all(all));
    giver.join().expect("the giver does not panic");
    assert_eq!(done.load(Ordering::Relaxed), TASKS);
    assert_eq!(rescues(&credits), 0);
}

#[test]
fn hundreds_of_sides_with_a_waiting_task_each_are_served_by_one_thread() {
    const SIDES: usize = 300;
    let sides: Vec<_> = (0..SIDES).map(|_| credits()).collect();
    let pool = ThreadPool::builder().pool_size(2).create().expect("two threads");
    let all: Vec<_> = sides
        .iter()
        .cloned()
        .map(|credits| pool.spawn_with_handle(async move { credits.take(1).await }).expect("the pool runs"))
        .collect();
    sides.iter().rev().for_each(|credits| credits.give(1));
    block_on(join_all(all));
    assert_eq!(sides.iter().map(rescues).sum::<u64>(), 0);
}

fn is_readable(pollable: &Pollable) -> bool {
    let mut fds = [PollFd::new(pollable, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).expect("it is a descriptor") == 1
}

#[test]
fn an_event_loop_that_takes_over_from_the_watcher_is_robbed_of_no_event() {
    let credits = credits();
    for _ in 0..1_000 {
        // The watcher thread may be about to empty the eventfd at this very moment.
        let mut task = Task::new(&credits, 1);
        assert!(!task.is_ready());
        credits.give(1);
        assert!(task.is_ready());
        let mut pollable = credits.signal().pollable().expect("the only one");
        pollable.arm();
        credits.give(1);
        assert!(is_readable(&pollable));
        assert!(credits.try_take(1).is_some());
    }
}

#[test]
fn an_unarmed_descriptor_stays_unreadable_and_costs_the_other_side_nothing() {
    let credits = credits();
    let mut pollable = credits.signal().pollable().expect("the only one");
    credits.give(1);
    assert!(!is_readable(&pollable));
    assert_eq!(credits.signal().counts().0, 0);
    pollable.arm();
    (0..10).for_each(|_| credits.give(1));
    assert!(is_readable(&pollable));
    assert_eq!(credits.signal().counts().0, 1, "ten publications, one wake-up");
    pollable.arm();
    assert!(!is_readable(&pollable), "emptied by the arming");
}

#[test]
fn tasks_beside_an_event_loop_are_woken_by_its_arming() {
    let credits = credits();
    let mut pollable = credits.signal().pollable().expect("the only one");
    let mut task = Task::new(&credits, 1);
    assert!(!task.is_ready());
    credits.give(1);
    assert!(is_readable(&pollable));
    assert_eq!(task.wakes.count(), 0);
    pollable.arm();
    assert_eq!(task.wakes.count(), 1);
    assert!(task.is_ready());
}

#[test]
fn tasks_that_wait_when_an_event_loop_ends_are_served_by_the_watcher() {
    let credits = credits();
    let pollable = credits.signal().pollable().expect("the only one");
    let mut task = Task::new(&credits, 1);
    assert!(!task.is_ready());
    drop(pollable);
    task.is_called();
    assert!(!task.is_ready());
    credits.give(1);
    task.is_called();
    assert!(task.is_ready());
}

#[test]
fn a_side_has_one_event_loop_at_a_time() {
    let credits = credits();
    let first = credits.signal().pollable().expect("the only one");
    assert!(matches!(credits.signal().pollable(), Err(Error::AlreadyPolled)));
    drop(first);
    credits.signal().pollable().expect("the only one again");
}

/// Tasks served by a runtime's reactor, in every way in which they come to it.
#[cfg(any(feature = "tokio", feature = "async-io"))]
fn tasks_are_served_by(reactor: Reactor) {
    let credits = credits();
    // One waits with the watcher thread already.
    let mut early = Task::new(&credits, 1);
    assert!(!early.is_ready());
    credits.signal().set_reactor(reactor).expect("it can be had");
    credits.give(1);
    early.is_called();
    assert!(early.is_ready());
    for _ in 0..1_000 {
        let mut tasks = [Task::new(&credits, 1), Task::new(&credits, 1)];
        assert!(tasks.iter_mut().all(|task| !task.is_ready()));
        credits.give(2);
        for task in &mut tasks {
            task.is_called();
            assert!(task.is_ready());
        }
    }
    assert_eq!(rescues(&credits), 0);
}

#[cfg(feature = "async-io")]
#[test]
fn the_reactor_of_async_io_serves_tasks() {
    tasks_are_served_by(Reactor::async_io());
}

#[cfg(feature = "tokio")]
mod on_tokio {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build().expect("a runtime")
    }

    #[test]
    fn the_reactor_of_a_runtime_serves_tasks() {
        let runtime = runtime();
        let inside = runtime.enter();
        let reactor = Reactor::tokio().expect("inside a runtime");
        drop(inside);
        tasks_are_served_by(reactor);
    }

    #[test]
    fn outside_a_runtime_there_is_no_reactor() {
        assert!(matches!(Reactor::tokio(), Err(Error::System { .. })));
    }

    #[test]
    fn tasks_outlive_the_runtime_that_served_them() {
        let credits = credits();
        let runtime = runtime();
        let inside = runtime.enter();
        credits.signal().set_reactor(Reactor::tokio().expect("inside a runtime")).expect("it can be had");
        drop(inside);
        let mut task = Task::new(&credits, 1);
        assert!(!task.is_ready());
        drop(runtime);
        task.is_called();
        assert!(!task.is_ready());
        credits.give(1);
        task.is_called();
        assert!(task.is_ready());
    }
}
