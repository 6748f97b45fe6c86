//! The ends of the spsc ring are killed.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use shm_ring::spsc::{Consumer, Control, End, Events, Producer, SpscLayout};
use shm_ring::{ClaimError, RecvError, Segment};
use test_support::asleep::wait_until_asleep;
use test_support::child::{self, Line};
use test_support::kills::{Kills, Seen};
use test_support::level::Level;
use test_support::stepped::{Victim, be_held, between_marks};

use super::{blocks, payload};

/// Bytes of the ring.
const CAPACITY: usize = 1024;

/// Blocks of its arena.
const BLOCKS: u32 = 4;

/// What a victim sends before, and what the survivor of a killed consumer has sent: so many frames.
const BEFORE: usize = 3;

/// Bytes of each of these. With them a further frame of [`WRAPPING`] does not fit before the end of the ring.
const LEN: usize = 200;

const WRAPPING: usize = 248;

/// A ring whose other end is a victim.
struct Shared {
    segment: Segment<SpscLayout>,
    file: OwnedFd,
}

impl Shared {
    fn new() -> Self {
        let layout = SpscLayout::new(CAPACITY).expect("a power of two").with_arena(blocks(BLOCKS));
        let (segment, file) = Segment::memfd("killed", layout, 1).expect("memory for a test");
        Self { segment, file }
    }

    /// Starts a victim in this role and tells it where the ring is and what to do.
    fn victim(&self, role: &'static str, what: &str) -> Victim {
        let victim = Victim::start::<&str>(role, &[]);
        victim.say(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()));
        victim.say(what);
        victim
    }

    fn control(&self) -> Control {
        Control::over(&self.segment, Events::default())
    }
}

/// The ring that the parent told of, and what to do with it.
fn told(line: &mut Line) -> (Segment<SpscLayout>, String) {
    be_held(line);
    let path = line.hear().expect("a path");
    let file = File::options().read(true).write(true).open(path).expect("the parent lives");
    (Segment::open(file.as_fd()).expect("a ring"), line.hear().expect("what to do"))
}

/// A thing that producers are killed in: its name, and the lengths of the frames that it commits.
type Case = (&'static str, &'static [usize]);

pub const SENDS: &[Case] = &[
    ("spsc send of a small frame", &[40]),
    ("spsc send of the largest frame in the ring", &[240]),
    ("spsc send through a block", &[1000]),
    ("spsc send of a batch", &[24, 600, 16]),
    ("spsc write in place and commit", &[100]),
    ("spsc claim that is dropped", &[]),
    ("spsc close by the producer", &[]),
];

pub const WRAPS: &[Case] = &[("spsc send of a frame that wraps", &[WRAPPING])];

/// The consumer sleeps meanwhile.
pub const NOTIFIES: &[Case] = &[(ASLEEP, &[40])];

const ASLEEP: &str = "spsc send to a sleeping consumer";

/// Role: does one thing as the producer, between marks.
pub fn produce(mut line: Line) {
    let (segment, what) = told(&mut line);
    let mut producer = Producer::attach(&segment, Events::default()).expect("nobody has attached");
    (0..BEFORE).for_each(|i| producer.try_send(&payload(i, LEN)).expect("room"));
    let (name, lengths) =
        [SENDS, WRAPS, NOTIFIES].concat().into_iter().find(|(name, _)| *name == what).expect("it is known");
    let frames: Vec<Vec<u8>> = lengths.iter().zip(BEFORE..).map(|(len, i)| payload(i, *len)).collect();
    let producer = &mut producer;
    between_marks(|| match (&frames[..], name) {
        ([], "spsc close by the producer") => producer.close(),
        ([], _) => producer.try_claim(100).expect("room").write(&[0xee; 100]),
        ([frame], "spsc write in place and commit") => {
            let mut claim = producer.try_claim(frame.len()).expect("room");
            frame.chunks(33).for_each(|part| claim.write(part));
            claim.commit();
        }
        ([frame], _) => producer.try_send(frame).expect("room"),
        (frames, _) => {
            let mut batch = producer.batch();
            frames.iter().for_each(|frame| batch.try_send(frame).expect("room"));
            batch.commit();
        }
    });
    line.hear();
}

/// How a survivor receives.
enum Receiving {
    /// When the producer is dead.
    Later(Box<Consumer>),
    /// It waits since before the producer acted.
    Asleep(JoinHandle<Vec<Vec<u8>>>),
}

/// Receives everything up to the end.
fn receive_all(mut consumer: Consumer) -> Vec<Vec<u8>> {
    let mut received = Vec::new();
    let end = loop {
        match consumer.recv() {
            Ok(frame) => received.push(frame.bytes().to_vec()),
            Err(end) => break end,
        }
    };
    assert_eq!(end, RecvError::Closed);
    received
}

/// Receives on a thread of its own, which sleeps when this returns.
fn receive_asleep(mut consumer: Consumer) -> Receiving {
    let (tell, told) = channel();
    consumer.set_spin(Duration::ZERO);
    let thread = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid()).expect("the witness waits for it");
        receive_all(consumer)
    });
    wait_until_asleep(told.recv().expect("the thread tells it first"));
    Receiving::Asleep(thread)
}

/// Role: the consumer whose producers are killed.
pub fn witness_of_producers(line: &Line, subject: &str, cases: &[Case]) {
    let mut kills = Kills::of(subject, line);
    let level = Level::settled();
    for (what, lengths) in cases {
        let begin = || {
            let shared = Shared::new();
            let consumer = Consumer::attach(&shared.segment, Events::default()).expect("nobody has attached");
            let victim = shared.victim("producer of a ring", what);
            victim.is_ready();
            let receiving =
                if *what == ASLEEP { receive_asleep(consumer) } else { Receiving::Later(Box::new(consumer)) };
            (victim, (shared, receiving))
        };
        // A frame that is one of several is seen with the others or not at all.
        let look = |(shared, receiving): (Shared, Receiving)| {
            let told_itself = shared.control().stats().producer.end == End::Closed;
            shared.control().producer_died();
            let received = match receiving {
                Receiving::Later(consumer) => receive_all(*consumer),
                Receiving::Asleep(thread) => thread.join().expect("no panic"),
            };
            let seen = received.len();
            for (i, (frame, len)) in received.iter().zip([LEN; BEFORE].iter().chain(*lengths)).enumerate() {
                assert_eq!(*frame, payload(i, *len), "frame {i}");
            }
            let all = BEFORE + lengths.len();
            assert!(seen == BEFORE || seen == all, "{seen} frames");
            assert_eq!(shared.control().stats().used, 0);
            if lengths.is_empty() { u64::from(told_itself) } else { u64::from(seen == all) }
        };
        let last = u64::from(!what.ends_with("dropped"));
        kills.at_each_instruction(what, &Seen::Rises(0..=last), begin, look);
    }
    kills.end();
    level.is_reached_within(Duration::from_secs(5));
}

fn producers_are_killed(witness: &'static str) {
    if Victim::may_be("producer of a ring") {
        child::alone(witness);
    }
}

/// A producer is killed after each instruction of a send: the frame is absent or byte-identical, never torn, and once it
/// is there it stays.
#[test]
fn kill_each_instruction_send() {
    producers_are_killed("witness of killed sends");
}

/// A producer is killed in a send that wraps, between the padding and the frame behind it among others: the frame is
/// absent or whole, and the ring ends as it should.
#[test]
fn kill_in_pad_wrap() {
    producers_are_killed("witness of killed wraps");
}

/// A producer is killed when its frame's header is there and the sleeping consumer was not told: the frame is received.
/// The instructions around the header's are among those it is killed at.
#[test]
fn kill_after_header_before_notify() {
    producers_are_killed("witness of killed notifies");
}

/// What consumers are killed in.
const CONSUMING: &[&str] = &["spsc receive and release", "spsc receive through a block"];

/// Role: does one thing as the consumer, between marks.
pub fn consume(mut line: Line) {
    let (segment, what) = told(&mut line);
    let mut consumer = Consumer::attach(&segment, Events::default()).expect("nobody has attached");
    let len = len_to(&what);
    between_marks(|| {
        let frame = consumer.try_recv().expect("a frame");
        assert_eq!(frame.len(), len);
    });
    line.hear();
}

/// Bytes of the frames that a consumer gets.
fn len_to(what: &str) -> usize {
    if what.ends_with("block") { 1000 } else { LEN }
}

/// Role: the producer whose consumers are killed.
pub fn witness_of_consumers(line: Line) {
    let mut kills = Kills::of("spsc consumers", &line);
    let level = Level::settled();
    for what in CONSUMING {
        let begin = || {
            let shared = Shared::new();
            let mut producer = Producer::attach(&shared.segment, Events::default()).expect("nobody has attached");
            (0..BEFORE).for_each(|i| producer.try_send(&payload(i, len_to(what))).expect("room"));
            let victim = shared.victim("consumer of a ring", what);
            victim.is_ready();
            (victim, (shared, producer))
        };
        let look = |(shared, mut producer): (Shared, Producer)| {
            // Whatever the dead one gave back or did not, there is room for what there was room for.
            producer.try_send(b"unread").expect("room");
            shared.control().consumer_died();
            assert_eq!(producer.try_send(b"more").unwrap_err(), ClaimError::Closed);
            assert!(Consumer::attach(&shared.segment, Events::default()).is_err(), "nobody takes a dead one's place");
            let stats = shared.control().stats();
            assert_eq!(stats.frames + stats.received, BEFORE as u64 + 1);
            stats.received
        };
        kills.at_each_instruction(what, &Seen::Rises(0..=1), begin, look);
    }
    kills.end();
    level.is_reached_within(Duration::from_secs(5));
}

#[test]
fn a_consumer_killed_at_any_instruction_has_received_a_frame_or_not() {
    if Victim::may_be("consumer of a ring") {
        child::alone("witness of killed consumers");
    }
}
