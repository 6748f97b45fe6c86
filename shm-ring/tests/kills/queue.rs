//! Producers and consumers of a queue are killed, whose other ends go on with whoever comes next.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver as Heard, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shm_ring::mpsc::{MpscLayout, Queue, QueueAddress, QueueOptions, Sender};
use shm_ring::{ClaimError, Error};
use test_support::asleep::wait_until_asleep;
use test_support::child::{self, Line};
use test_support::kills::{Kills, Seen};
use test_support::level::Level;
use test_support::stepped::{Victim, be_held, between_marks};

use super::support::backings::fresh_path;
use super::{blocks, payload};

/// Frames that a victim sends before, and that a killed consumer finds.
const BEFORE: usize = 3;

/// Bytes of each of these.
const LEN: usize = 100;

/// The frame that shows that a survivor goes on.
pub const ON: &[u8] = b"on";

/// The dead are gone from a queue within this time, and what they sent is received.
pub const WITHIN: Duration = Duration::from_secs(1);

/// A runtime directory of its own, with one queue's address in it.
pub struct Site {
    dir: PathBuf,
    pub address: QueueAddress,
}

impl Site {
    pub fn new() -> Self {
        Self { dir: fresh_path(), address: "tests/killed".parse().expect("a good address") }
    }

    pub fn options(&self) -> QueueOptions {
        let lane = MpscLayout::new(16).expect("a power of two").with_arena(blocks(4));
        QueueOptions::new().runtime_dir(&self.dir).lane(lane)
    }

    pub fn create(&self) -> Result<Queue, Error> {
        self.options().create(&self.address)
    }

    pub fn open(&self) -> Result<Sender, Error> {
        self.options().open(&self.address)
    }

    /// Starts a victim in this role and tells it where the queue is and what to do.
    pub fn victim(&self, role: &'static str, what: &str) -> Victim {
        let victim = Victim::start::<&str>(role, &[]);
        victim.say(self.dir.display());
        victim.say(what);
        victim
    }

    /// In a victim: the place that the parent names, and what to do there.
    fn told(line: &mut Line) -> (Self, String) {
        be_held(line);
        let mut hear = || line.hear().expect("a line");
        (Self { dir: hear().into(), ..Self::new() }, hear())
    }

    /// The files beside and below the queue's socket.
    fn files(&self) -> Vec<String> {
        let queues = self.dir.join(self.address.namespace()).join("queues");
        let entries = std::fs::read_dir(queues).expect("a queue was here");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    pub fn remove(&self) {
        std::fs::remove_dir_all(&self.dir).expect("the directory is ours");
    }
}

/// What the queue's consumer is doing when a victim acts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Consumer {
    /// It polls the victim's lane.
    Polls,
    /// It is busy elsewhere: it does not sleep, and wants a ready bit.
    Away,
    /// It sleeps, and wants a ready bit and the bell.
    Sleeps,
}

pub const SLEEPS: &str = "queue send to a sleeping consumer";

/// What producers are killed in: its name, the lengths of the frames that it commits, and the consumer's state.
const PRODUCING: &[(&str, &[usize], Consumer)] = &[
    ("queue send to a polling consumer", &[40], Consumer::Polls),
    ("queue send to a consumer that is away", &[40], Consumer::Away),
    (SLEEPS, &[40], Consumer::Sleeps),
    ("queue send through a block to a sleeping consumer", &[1000], Consumer::Sleeps),
    ("queue send of a batch to a sleeping consumer", &[24, 600, 16], Consumer::Sleeps),
    ("queue claim that is dropped", &[], Consumer::Polls),
    ("queue sender that is dropped", &[], Consumer::Polls),
];

/// Role: does one thing as a producer, between marks.
pub fn produce(mut line: Line) {
    let (site, what) = Site::told(&mut line);
    if what == OPEN {
        // What a process does only once is done.
        drop(site.open().expect("the parent serves it"));
        let opened = between_marks(|| site.open());
        line.hear();
        return drop(opened);
    }
    let sender = site.open().expect("the parent serves it");
    (0..BEFORE).for_each(|i| sender.try_send(&payload(i, LEN)).expect("room"));
    let (name, lengths, _) = PRODUCING.iter().find(|(name, ..)| *name == what).expect("it is known");
    let frames: Vec<Vec<u8>> = lengths.iter().zip(BEFORE..).map(|(len, i)| payload(i, *len)).collect();
    let mut sender = Some(sender);
    between_marks(|| match (&frames[..], &sender) {
        ([], _) if *name == "queue sender that is dropped" => drop(sender.take()),
        ([frame], Some(sender)) => sender.try_send(frame).expect("room"),
        ([], Some(sender)) => sender.try_claim(100).expect("room").write(&[0xee; 100]),
        (frames, Some(sender)) => {
            let mut batch = sender.try_batch(frames.len()).expect("room");
            frames.iter().for_each(|frame| batch.try_send(frame).expect("room"));
            batch.commit();
        }
        (_, None) => unreachable!("a sender is dropped once"),
    });
    line.hear();
}

/// A consumer on a thread of its own, that gives the queue back when it was told to go on.
pub struct Sleeper {
    pub thread: JoinHandle<Queue>,
    id: nix::unistd::Pid,
    pub frames: Heard<Vec<u8>>,
}

impl Sleeper {
    pub fn start(mut queue: Queue) -> Self {
        let (tell, told) = channel();
        let (hand_on, frames) = channel();
        let thread = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid()).expect("the witness waits for it");
            queue.set_spin(Duration::ZERO);
            loop {
                let frame = queue.recv().expect("the queue lasts").bytes().to_vec();
                if frame == ON {
                    return queue;
                }
                hand_on.send(frame).expect("the witness listens");
            }
        });
        Self { thread, id: told.recv().expect("the thread tells it first"), frames }
    }

    /// Takes the frames that the victim has sent before, and sleeps.
    pub fn sleeps(self) -> (Self, Vec<Vec<u8>>) {
        let before = (0..BEFORE).map(|_| self.frames.recv().expect("they are sent")).collect();
        wait_until_asleep(self.id);
        (self, before)
    }
}

/// A queue at work, and what it has received of the victim.
enum Receiving {
    Awake(Queue, Vec<Vec<u8>>),
    Asleep(Sleeper, Vec<Vec<u8>>),
}

/// Lanes of queues that this process has mapped.
fn lanes() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("proc is mounted");
    maps.lines().filter(|line| line.contains("queue-lane")).count()
}

/// Waits until something becomes true that follows from a death.
pub fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + WITHIN;
    while !holds() {
        assert!(Instant::now() < until, "not within {WITHIN:?}: {what}");
        std::thread::yield_now();
    }
}

/// Role: the consumer whose producers are killed, with another producer that stays.
pub fn witness_of_producers(line: Line) {
    let mut kills = Kills::of("queue producers", &line);
    let site = Site::new();
    // The watcher thread, which a process keeps for good, is there from now on.
    drop(site.create().expect("nobody serves here"));
    let level = Level::settled();
    let mut idle = Some(site.create().expect("nobody serves here"));
    let stays = site.open().expect("it is served");
    let lanes_without_a_victim = lanes();
    for (what, lengths, consumer) in PRODUCING {
        let queue = std::cell::RefCell::new(idle.take());
        let begin = || {
            let mut queue = queue.take().expect("one victim at a time");
            let victim = site.victim("producer of a queue", what);
            let receiving = match consumer {
                Consumer::Sleeps => {
                    let sleeper = Sleeper::start(queue);
                    victim.is_ready();
                    let (sleeper, before) = sleeper.sleeps();
                    Receiving::Asleep(sleeper, before)
                }
                Consumer::Away => {
                    victim.is_ready();
                    Receiving::Awake(queue, Vec::new())
                }
                Consumer::Polls => {
                    victim.is_ready();
                    let before = (0..BEFORE).map(|_| queue.recv().expect("they are sent").bytes().to_vec()).collect();
                    Receiving::Awake(queue, before)
                }
            };
            (victim, receiving)
        };
        let look = |receiving: Receiving| {
            let (queue_again, received) = after_a_death(receiving, &stays, lanes_without_a_victim);
            *queue.borrow_mut() = Some(queue_again);
            for (i, (frame, len)) in received.iter().zip([LEN; BEFORE].iter().chain(*lengths)).enumerate() {
                assert_eq!(*frame, payload(i, *len), "frame {i}");
            }
            assert!(received.len() <= BEFORE + lengths.len(), "more than was sent");
            (received.len() - BEFORE) as u64
        };
        // Frames of a batch become visible one by one.
        kills.at_each_instruction(what, &Seen::Rises(0..=lengths.len() as u64), begin, look);
        idle = queue.take();
    }
    drop((idle, stays));
    assert_eq!(site.files(), [""; 0], "a queue takes its socket with it");
    site.remove();
    kills.end();
    level.is_reached_within(Duration::from_secs(5));
}

/// Receives what a dead producer has sent, until its lane is gone; then shows that the queue and another producer go on.
fn after_a_death(receiving: Receiving, stays: &Sender, lanes_then: usize) -> (Queue, Vec<Vec<u8>>) {
    match receiving {
        Receiving::Awake(mut queue, mut received) => {
            soon("the dead one's lane is gone", || {
                queue.drain(100, |frame| received.push(frame.bytes().to_vec()));
                // Says so to the queue when nothing is there any more.
                let is_empty = queue.try_recv().is_err();
                is_empty && queue.producers() == 1
            });
            stays.try_send(ON).expect("room");
            assert_eq!(queue.recv().expect("it was sent").bytes(), ON);
            (queue, received)
        }
        Receiving::Asleep(sleeper, mut received) => {
            // Nobody else rings: the death alone, if nothing else, brings what was committed.
            soon("the dead one's lane is gone", || lanes() == lanes_then);
            stays.try_send(ON).expect("room");
            let queue = sleeper.thread.join().expect("no panic");
            received.extend(sleeper.frames.try_iter());
            (queue, received)
        }
    }
}

/// A producer is killed after each instruction of a send to a queue, also when the frame's header is there and its
/// lane's ready bit is not: a frame that is committed is received soon, by the death alone.
#[test]
fn kill_after_header_before_ready_bit() {
    if Victim::may_be("producer of a queue") {
        child::alone("witness of killed producers of a queue");
    }
}

const OPEN: &str = "queue open";

/// Role: the consumer of a queue that is opened by processes that are killed meanwhile.
pub fn witness_of_openers(line: Line) {
    let mut kills = Kills::of("openers of a queue", &line);
    let site = Site::new();
    drop(site.create().expect("nobody serves here"));
    let level = Level::settled();
    let mut queue = site.create().expect("nobody serves here");
    let begin = || {
        let victim = site.victim("producer of a queue", OPEN);
        victim.is_ready();
        (victim, ())
    };
    let look = |()| {
        // Whoever comes behind the dead one is let in, after it.
        let next = site.open().expect("it is served");
        soon("the dead one's lane is gone", || queue.try_recv().is_err() && queue.producers() == 1);
        next.try_send(ON).expect("room");
        assert_eq!(queue.recv().expect("it was sent").bytes(), ON);
        drop(next);
        soon("the lanes are gone", || queue.try_recv().is_err() && queue.producers() == 0);
        0
    };
    kills.at_each_system_call(OPEN, &Seen::Rises(0..=0), begin, look);
    assert_eq!((queue.thrown_out(), lanes()), (0, 0));
    drop(queue);
    assert_eq!(site.files(), [""; 0]);
    site.remove();
    kills.end();
    level.is_reached_within(Duration::from_secs(5));
}

#[test]
fn a_queue_whose_openers_are_killed_at_any_instruction_keeps_nothing_of_them() {
    if Victim::may_be("producer of a queue") {
        child::alone("witness of killed openers of a queue");
    }
}

/// What consumers are killed in.
const CONSUMING: &[&str] = &["queue receive and release", "queue drain of three frames", "queue create", "queue close"];

/// Role: does one thing as the consumer, between marks.
pub fn consume(mut line: Line) {
    let (site, what) = Site::told(&mut line);
    if what == "queue create" {
        let queue = between_marks(|| site.create());
        line.hear();
        return drop(queue);
    }
    let mut queue = site.create().expect("nobody alive serves here");
    line.say("created");
    assert_eq!(line.hear().as_deref(), Some("sent"));
    between_marks(|| match &what[..] {
        "queue close" => queue.close(),
        "queue receive and release" => assert_eq!(queue.try_recv().expect("a frame").len(), LEN),
        _ => assert_eq!(queue.drain(BEFORE, |frame| assert_eq!(frame.len(), LEN)), BEFORE),
    });
    line.hear();
}

/// Role: the producer whose consumers are killed; the next consumer takes the name.
pub fn witness_of_consumers(line: Line) {
    let mut kills = Kills::of("queue consumers", &line);
    let site = Site::new();
    drop(site.create().expect("nobody serves here"));
    let level = Level::settled();
    for what in CONSUMING {
        let begin = || {
            let mut victim = site.victim("consumer of a queue", what);
            if *what == "queue create" {
                victim.is_ready();
                return (victim, None);
            }
            assert_eq!(victim.hear(), "created");
            let sender = site.open().expect("it is served");
            (0..BEFORE).for_each(|i| sender.try_send(&payload(i, LEN)).expect("room"));
            victim.say("sent");
            victim.is_ready();
            (victim, Some(sender))
        };
        let look = |sender: Option<Sender>| {
            let seen = sender.map_or(0, |sender| {
                let given_back = BEFORE - sender.len();
                soon("the producer is told", || match sender.try_send(b"unread") {
                    Err(error) => error == ClaimError::Closed,
                    Ok(()) => false,
                });
                given_back as u64
            });
            // The next one takes the name, as if nobody had been there.
            let mut next = site.create().expect("nobody alive serves here");
            site.open().expect("it is served").try_send(ON).expect("room");
            assert_eq!(next.recv().expect("it was sent").bytes(), ON);
            drop(next);
            assert_eq!(site.files(), [""; 0]);
            seen
        };
        let last = match *what {
            "queue receive and release" => 1,
            "queue drain of three frames" => BEFORE as u64,
            _ => 0,
        };
        let seen = Seen::Rises(0..=last);
        match *what {
            "queue create" => kills.at_each_system_call(what, &seen, begin, look),
            _ => kills.at_each_instruction(what, &seen, begin, look),
        }
    }
    site.remove();
    kills.end();
    level.is_reached_within(Duration::from_secs(5));
}

#[test]
fn producers_of_a_consumer_killed_at_any_instruction_are_told_and_the_next_one_takes_the_name() {
    if Victim::may_be("consumer of a queue") {
        child::alone("witness of killed consumers of a queue");
    }
}
