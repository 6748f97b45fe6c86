//! Where there is one processor nobody polls: it would only keep the other side from running.

use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use shm_ring::Segment;
use shm_ring::spsc::{SpscLayout, pair};
use shm_ring::wait::SpinBudget;

/// Leaves the calling thread, and those that it starts from now on, one of its processors.
fn stay_on_one_processor() {
    let this_thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(this_thread).expect("the kernel names the processors");
    let first = (0..CpuSet::count()).find(|&processor| allowed.is_set(processor).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(first.expect("there is one")).expect("the number came from the kernel");
    sched_setaffinity(this_thread, &one).expect("fewer processors are always allowed");
}

#[test]
fn a_waiter_looks_once_before_it_sleeps() {
    stay_on_one_processor();
    for budget in [SpinBudget::new(None), SpinBudget::new(Some(Duration::from_secs(1)))] {
        let mut looks = 0;
        let found = budget.poll(None, || {
            looks += 1;
            None::<()>
        });
        assert_eq!((found, looks, budget.ns()), (None, 1, 0));
    }
}

#[test]
fn both_ends_of_a_ring_sleep_instead_of_polling() {
    const FRAMES: u64 = 1_000;
    stay_on_one_processor();
    let layout = SpscLayout::new(4096).expect("a power of two");
    let (there, back) = (Segment::heap(layout, 1), Segment::heap(layout, 1));
    let (mut ask, mut asked) = pair(&there).expect("nobody has attached");
    let (mut answer, mut answered) = pair(&back).expect("nobody has attached");
    let looks = answered.control();
    let answers = std::thread::spawn(move || {
        while let Ok(frame) = asked.recv() {
            answer.send(frame.bytes()).expect("the other side waits for it");
        }
    });
    for number in 0..FRAMES {
        ask.send(&number.to_ne_bytes()).expect("the other side waits for it");
        assert_eq!(answered.recv().expect("it is answered").bytes(), number.to_ne_bytes());
    }
    drop(ask);
    answers.join().expect("it does not panic");
    let consumer = looks.stats().consumer;
    // Each answer finds its waiter asleep, unless the kernel runs the two in another order than that of the frames.
    assert!(consumer.wakes > FRAMES / 2, "{consumer:?}");
    assert!(consumer.rescues < FRAMES / 100, "{consumer:?}");
}
