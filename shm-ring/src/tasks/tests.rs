//! Waiting by itself: the real line, watcher thread and signals, over the smallest thing to wait for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use futures_executor::{ThreadPool, block_on};
use futures_util::future::join_all;
use futures_util::task::SpawnExt;

use super::credits::Credits;

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

fn credits() -> Credits {
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
    let credits = credits();
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
fn a_look_that_finds_something_at_once_waits_nowhere() {
    let credits = credits();
    credits.give(1);
    assert!(Task::new(&credits, 1).is_ready());
    let tasks = credits.signal().tasks().expect("has an eventfd");
    assert!(!tasks.turn(), "nothing is registered with any reactor");
    credits.give(1);
    assert_eq!(credits.signal().counts().0, 0, "the other side was not told of a sleeper");
}

#[test]
fn ten_thousand_tasks_that_wait_for_one_side_all_complete() {
    const TASKS: usize = 10_000;
    let credits = credits();
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
fn a_thousand_sides_with_a_waiting_task_each_are_served_by_one_thread() {
    const SIDES: usize = 1_500;
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

#[test]
fn an_event_loop_that_takes_over_is_robbed_of_no_event() {
    let credits = credits();
    let tasks = Arc::clone(credits.signal().tasks().expect("has an eventfd"));
    let mut task = Task::new(&credits, 1);
    assert!(!task.is_ready());
    drop(task);
    for _ in 0..1_000 {
        // As `Signal::arm_for_loop` does, with an event that the watcher may be about to take at this very moment.
        tasks.retire();
        tasks.event().drain();
        super::Sleeper::arm_event(credits.signal());
        credits.give(1);
        assert!(tasks.event().drain(), "the event came and stayed");
        assert!(credits.try_take(1).is_some());
        // And back: a task that waits for a moment registers with the watcher again.
        let mut task = Task::new(&credits, 1);
        assert_eq!(task.future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
        credits.give(1);
        assert!(task.is_ready());
    }
}
