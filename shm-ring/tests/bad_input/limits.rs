//! Descriptors and mappings that the system does not give: `ResourceExhausted`, and everything works again when there are
//! some.

use std::os::fd::AsFd;
use std::time::Duration;

use shm_ring::mpsc::{Queue, QueueOptions, Sender};
use shm_ring::spsc::SpscLayout;
use shm_ring::{Error, Place, Segment, SegmentOptions};
use test_support::child::{self, Line};
use test_support::level::Level;
use test_support::limits::{Lowered, Mappings};

use crate::support::backings::{fresh_name, fresh_path};

/// More descriptors than anything here takes.
const PLENTY: usize = 40;

const SOON: Duration = Duration::from_secs(5);

/// Segments, queues and producers are refused at each step at which they need a descriptor that is not there, and leave
/// none behind.
#[test]
fn descriptor_limit_reached() {
    child::alone("owner of few descriptors");
}

/// Tries with none, one, two … left, until it is done.
fn with_ever_more<T>(parent: &Line, what: &str, mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    let level = Level::of_this_process();
    for left in 0..PLENTY {
        let limit = Lowered::descriptors(left);
        let done = attempt();
        drop(limit);
        match done {
            Ok(done) => {
                assert!(left > 0, "{what} takes no descriptor");
                parent.say(format!("figure: refusals of {what} without descriptors = {left}"));
                return done;
            }
            Err(Error::ResourceExhausted { .. }) => level.is_reached_within(SOON),
            Err(error) => panic!("{what} with {left} more: {error}"),
        }
    }
    panic!("{what}: not even with {PLENTY} more");
}

pub fn live_with_few_descriptors(parent: Line) {
    let layout = || SpscLayout::new(4096).unwrap();
    let (_made, fd) = with_ever_more(&parent, "a memfd", || Segment::memfd("few", layout(), 1));
    with_ever_more(&parent, "opening a memfd", || Segment::<SpscLayout>::open(fd.as_fd()));
    let options = SegmentOptions::new();
    for place in [Place::named(&fresh_name()).unwrap(), Place::file(fresh_path()).unwrap()] {
        let made = with_ever_more(&parent, "a place", || place.create(layout(), 1, &options));
        with_ever_more(&parent, "opening a place", || place.open::<SpscLayout>(&options));
        drop(made);
        place.remove().unwrap();
    }
    let directory = fresh_path();
    let options = QueueOptions::new().runtime_dir(&directory);
    let address = "tests/few".parse().unwrap();
    // The watcher thread has its own descriptors, once.
    drop(options.create(&address).unwrap());
    let mut queue: Queue = with_ever_more(&parent, "a queue", || options.create(&address));
    let sender: Sender = options.open(&address).unwrap();
    sender.send(b"it works").unwrap();
    assert_eq!(queue.recv().unwrap().bytes(), b"it works");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// The same for mappings: a segment that cannot be mapped is refused when it is made or opened, never later.
#[test]
fn max_map_count_reached() {
    child::alone("owner of many mappings");
}

pub fn live_with_many_mappings(_parent: Line) {
    let layout = || SpscLayout::new(4096).unwrap();
    let (made, fd) = Segment::memfd("before", layout(), 1).unwrap();
    let place = Place::file(fresh_path()).unwrap();
    {
        let _mappings = Mappings::all();
        let refused = [
            Segment::memfd("many", layout(), 1).err(),
            Segment::<SpscLayout>::open(fd.as_fd()).err(),
            place.create(layout(), 1, &SegmentOptions::new()).err(),
        ];
        for error in refused {
            let Some(Error::ResourceExhausted { source, .. }) = error else { panic!("{error:?}") };
            assert_eq!(source.raw_os_error(), Some(12), "ENOMEM");
        }
    }
    let (mut producer, mut consumer) = shm_ring::spsc::pair(&made).unwrap();
    producer.send(b"it works").unwrap();
    assert_eq!(consumer.recv().unwrap().bytes(), b"it works");
    place.create(layout(), 1, &SegmentOptions::new()).unwrap();
    place.remove().unwrap();
}
