//! What time of day it is, is of no interest to any wait or deadline.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::gettid;
use shm_ring::spsc::{self, SpscLayout};
use shm_ring::{RecvError, Segment};
use test_support::asleep::wait_until_asleep;

/// Names of the clock that jumps, or is set, when somebody corrects the time of day.
const TIME_OF_DAY: [&str; 4] = ["SystemTime", "CLOCK_REALTIME", "Realtime", "UNIX_EPOCH"];

/// Crates whose code runs in processes that call, serve, send and receive.
const CRATES: [&str; 5] = ["shm-ring", "service-core", "service-local", "service-macros", "switchboard"];

/// The lines below a folder that name such a clock.
fn lines_with_time_of_day(folder: &Path, found: &mut Vec<String>) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            files += lines_with_time_of_day(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("the sources can be read");
            let named = text.lines().filter(|line| TIME_OF_DAY.iter().any(|name| line.contains(name)));
            found.extend(named.map(|line| format!("{}: {line}", path.display())));
            files += 1;
        }
    }
    files
}

/// A jump of the time of day by an hour cannot be tried without giving it to the whole machine. Shown instead: no line of
/// the product asks for that clock, and a thread that waits up to a deadline sleeps in the one system call that takes the
/// monotonic clock, without the flag for the other one.
#[test]
fn clock_jump_1h() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie in the workspace");
    let mut found = Vec::new();
    let files: usize =
        CRATES.iter().map(|name| lines_with_time_of_day(&workspace.join(name).join("src"), &mut found)).sum();
    assert!(files > 100, "{files} files");
    assert_eq!(found, [] as [String; 0]);

    let (segment, _fd) = Segment::memfd("clock", SpscLayout::new(256).unwrap(), 1).unwrap();
    let (_producer, mut consumer) = spsc::pair(&segment).unwrap();
    let wait = Duration::from_millis(300);
    let (tell, told) = std::sync::mpsc::channel();
    let waits = std::thread::spawn(move || {
        tell.send(gettid()).expect("the test waits for it");
        let began = Instant::now();
        assert_eq!(consumer.recv_deadline(began + wait).err(), Some(RecvError::TimedOut));
        began.elapsed()
    });
    // By `FUTEX_WAIT_BITSET` and nothing else, neither `FUTEX_CLOCK_REALTIME`.
    wait_until_asleep(told.recv().expect("the thread tells it first"));
    assert!(waits.join().expect("it does not panic") >= wait);
}
