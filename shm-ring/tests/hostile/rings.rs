//! `spsc` and `mpsc`: a third process spoils the memory under both ends.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shm_ring::arena::{ArenaLayout, Class};
use shm_ring::{Segment, Trust, mpsc, spsc};
use test_support::child::{Child, Line};
use test_support::memory::Memory;

use test_support::random::Random;

use crate::{duration, random};

/// No call with a deadline of [`A_WHILE`] may take longer, on a loaded machine.
const HUNG: Duration = Duration::from_secs(5);

const A_WHILE: Duration = Duration::from_millis(2);

/// Lives of a ring that is not found corrupt.
const CALLS: u64 = 20_000;

/// Role: spoils the memory behind each descriptor of the parent's that it is told, until it is told the next.
pub fn spoil(mut parent: Line) {
    let mut random = random();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut at_work: Option<thread::ScopedJoinHandle<'_, Random>> = None;
        while let Some(path) = parent.hear() {
            stop.store(true, Ordering::Relaxed);
            if let Some(work) = at_work.take() {
                random = work.join().expect("no panic");
            }
            stop.store(false, Ordering::Relaxed);
            let fd = OwnedFd::from(std::fs::File::options().read(true).write(true).open(path).expect("it is open"));
            let memory = Memory::over(fd).expect("it may be written");
            parent.say("spoiling");
            let mut mine = Random::new(random.next());
            let stop = &stop;
            at_work = Some(scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    crate::spoil(&memory, &mut mine, 50);
                    thread::yield_now();
                }
                mine
            }));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Has a child spoil one ring after the other while `both_ends` uses it; that says how many calls were answered.
fn under_attack(what: &str, mut both_ends: impl FnMut(Trust, &dyn Fn(&OwnedFd)) -> u64) {
    let child = std::cell::RefCell::new(Child::start::<&str>("spoiler of a ring", &[]));
    let spoil = |fd: &OwnedFd| {
        let path = format!("/proc/{}/fd/{}", std::process::id(), fd.as_fd().as_raw_fd());
        assert_eq!(child.borrow_mut().ask(path), "spoiling");
    };
    let until = Instant::now() + duration();
    let (mut rings, mut calls) = (0, 0);
    while Instant::now() < until {
        calls += both_ends(trust_of(rings), &spoil);
        rings += 1;
    }
    println!("figure: hostile {what}: rings spoilt = {rings}");
    println!("figure: hostile {what}: calls answered = {calls}");
}

/// Every other life of a ring its consumer trusts nobody.
fn trust_of(life: u64) -> Trust {
    if life.is_multiple_of(2) { Trust::CHECKED } else { Trust::ISOLATED }
}

/// Calls until `call` says that the ring is of no more use; none may take long.
fn call_on(answered: &AtomicU64, mut call: impl FnMut() -> bool) {
    for _ in 0..CALLS {
        let began = Instant::now();
        let goes_on = call();
        assert!(began.elapsed() < HUNG, "a call with a deadline took {:?}", began.elapsed());
        answered.fetch_add(1, Ordering::Relaxed);
        if !goes_on {
            break;
        }
    }
}

fn arena() -> ArenaLayout {
    ArenaLayout::new([Class { block: 1024, count: 8 }, Class::default(), Class::default()]).expect("legal classes")
}

/// Looks at each byte, so that one outside of all memory would be noticed.
fn weigh(bytes: &[u8]) -> u64 {
    std::hint::black_box(bytes.iter().map(|byte| u64::from(*byte)).sum())
}

/// Lengths, kinds, positions and payloads change under both ends, before, between and after their looks: they get errors or
/// bytes, in time.
#[test]
fn header_flip_race() {
    under_attack("spsc", |trust, spoil| {
        let layout = spsc::SpscLayout::new(4096).expect("a power of two").with_arena(arena());
        let (segment, fd) = Segment::memfd("hostile-spsc", layout, 1).expect("memory for a test");
        let (mut producer, consumer) = spsc::pair(&segment).expect("a fresh ring");
        let mut consumer = consumer.with_trust(trust);
        spoil(&fd);
        let answered = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut len = 0;
                call_on(&answered, || {
                    len = (len + 37) % 1000;
                    producer.send_deadline(&vec![7; len], Instant::now() + A_WHILE).is_ok() || !producer.is_empty()
                });
            });
            scope.spawn(|| {
                call_on(&answered, || match consumer.recv_deadline(Instant::now() + A_WHILE) {
                    Ok(frame) => weigh(frame.bytes()) < u64::MAX,
                    Err(error) => matches!(error, shm_ring::RecvError::TimedOut | shm_ring::RecvError::Empty),
                });
            });
        });
        answered.into_inner()
    });
}

#[test]
fn both_ends_of_a_spoilt_ring_of_cells_get_errors_or_bytes_in_time() {
    under_attack("mpsc", |trust, spoil| {
        let layout = mpsc::MpscLayout::new(64).expect("a power of two").with_arena(arena());
        let (segment, fd) = Segment::memfd("hostile-mpsc", layout, 1).expect("memory for a test");
        let (sender, receiver) = mpsc::pair(&segment).expect("a fresh ring");
        let mut receiver = receiver.with_trust(trust);
        spoil(&fd);
        let answered = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut len = 0;
                    call_on(&answered, || {
                        len = (len + 37) % 1000;
                        sender.send_deadline(&vec![7; len], Instant::now() + A_WHILE).is_ok() || !sender.is_closed()
                    });
                });
            }
            scope.spawn(|| {
                call_on(&answered, || match receiver.recv_deadline(Instant::now() + A_WHILE) {
                    Ok(frame) => weigh(frame.bytes()) < u64::MAX,
                    Err(error) => matches!(error, shm_ring::RecvError::TimedOut | shm_ring::RecvError::Empty),
                });
                receiver.close();
            });
        });
        answered.into_inner()
    });
}
