//! Tasks that wait by an eventfd and a reactor: no credit is given that a waiting task does not learn of. A lost wake-up
//! shows as a deadlock, which loom reports.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Condvar, Mutex};
use loom::thread;
use shm_ring::model::Credits;

use crate::explore::explore;

/// A future that is not dropped when a model fails: its drop would use the model that has ended.
struct Kept(Option<Pin<Box<dyn Future<Output = ()>>>>);

impl Kept {
    fn taking(credits: &Credits, wanted: u64) -> Self {
        let credits = credits.clone();
        Self(Some(Box::pin(async move { credits.take(wanted).await })))
    }
}

impl Future for Kept {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().expect("held until the drop").as_mut().poll(cx)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.0.take());
        }
    }
}

/// A task of an executor that has its reactor on the same thread, as a runtime of one thread has.
struct Task {
    future: Kept,
    woken: Arc<Woken>,
    done: bool,
}

/// Set and read by the thread of the executor only: nothing here for loom to explore.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Task {
    fn taking(credits: &Credits, wanted: u64) -> Self {
        Self { future: Kept::taking(credits, wanted), woken: Arc::new(Woken(AtomicBool::new(true))), done: false }
    }

    /// Polls it if it was woken.
    fn run(&mut self) {
        if self.woken.0.swap(false, Ordering::Relaxed) && !self.done {
            let waker = Waker::from(Arc::clone(&self.woken));
            self.done = Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker)).is_ready();
        }
    }

    fn is_woken(&self) -> bool {
        !self.done && self.woken.0.load(Ordering::Relaxed)
    }
}

/// A thread that blocks until its task is woken, from whichever thread.
#[derive(Default)]
struct Sleeper {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

fn block_on(mut future: Kept) {
    let sleeper = Arc::new(Sleeper::default());
    let waker = Waker::from(Arc::clone(&sleeper));
    while Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending() {
        let mut woken = sleeper.woken.lock().unwrap();
        while !std::mem::take(&mut *woken) {
            woken = sleeper.changed.wait(woken).unwrap();
        }
    }
}

/// Runs tasks to their end; blocks in the reactor while none is woken.
fn run(credits: &Credits, tasks: &mut [Task]) {
    while !tasks.iter().all(|task| task.done) {
        tasks.iter_mut().for_each(Task::run);
        if !tasks.iter().all(|task| task.done) && !tasks.iter().any(Task::is_woken) {
            credits.react();
        }
    }
}

/// A credit comes while a task goes to sleep: the giver sees the sleeper and the reactor its waker, or the task sees
/// the credit.
#[test]
fn a_task_that_goes_to_sleep_misses_nothing() {
    explore("async waker", None, || {
        let credits = Credits::new().unwrap();
        let gives = credits.clone();
        let giver = thread::spawn(move || gives.give(1));
        run(&credits, &mut [Task::taking(&credits, 1)]);
        giver.join().unwrap();
    });
}

/// The other side is the reactor as well, right after it gave: it finds a waker, or the task finds the credit.
#[test]
fn a_reactor_at_any_step_finds_the_waker() {
    explore("async waker, reactor at any step", None, || {
        let credits = Credits::new().unwrap();
        let gives = credits.clone();
        let giver = thread::spawn(move || {
            gives.give(1);
            gives.react_if_due();
        });
        block_on(Kept::taking(&credits, 1));
        giver.join().unwrap();
    });
}

/// The same with a reactor on a thread of its own, which may call the task at any step of its going to sleep.
#[test]
fn a_reactor_on_another_thread_finds_the_waker() {
    explore("async waker, reactor elsewhere", Some(2), || {
        let credits = Credits::new().unwrap();
        let gives = credits.clone();
        let giver = thread::spawn(move || gives.give(1));
        let reacts = credits.clone();
        let reactor = thread::spawn(move || {
            while !reacts.is_over() {
                reacts.react();
            }
        });
        block_on(Kept::taking(&credits, 1));
        credits.end();
        giver.join().unwrap();
        reactor.join().unwrap();
    });
}

/// One event, credits for two: the task that is called calls the other.
#[test]
fn a_task_that_finds_something_calls_the_next() {
    explore("async waker, two tasks", Some(3), || {
        let credits = Credits::new().unwrap();
        let gives = credits.clone();
        let giver = thread::spawn(move || gives.give(2));
        run(&credits, &mut [Task::taking(&credits, 1), Task::taking(&credits, 1)]);
        giver.join().unwrap();
    });
}

/// A future is dropped while the credit comes: called or not, it does not take the other's call with it.
#[test]
fn a_dropped_future_passes_its_call_on() {
    explore("async waker, dropped future", Some(3), || {
        let credits = Credits::new().unwrap();
        let gives = credits.clone();
        let mut dropped = Task::taking(&credits, 1);
        dropped.run();
        let mut stays = Task::taking(&credits, 1);
        stays.run();
        let giver = thread::spawn(move || gives.give(1));
        credits.react();
        drop(dropped);
        run(&credits, &mut [stays]);
        giver.join().unwrap();
    });
}
