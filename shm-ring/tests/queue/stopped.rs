//! Producers and consumers that are stopped, slow, or sent away: nobody calls them dead, and nobody else notices.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shm_ring::mpsc::{Queue, Sender};
use shm_ring::{ClaimError, RecvError};

use super::support::role::{Child, line};
use super::{Site, number, numbered, read_numbered, until};

/// Longer than every timer of a queue: the safety time-outs and the patience of who opens one.
const LONG: Duration = Duration::from_secs(10);

/// Frames arrive at least this often while somebody sends.
const SOON: Duration = Duration::from_secs(5);

/// Claims a frame, writes half of it, says so, and ends the frame when it is told to; says what became of that, and sends
/// one more.
#[test]
#[ignore = "a role of a child process"]
fn role_holds_a_claim() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let id = number(&mut line);
    let sender = site.open();
    let frame = numbered(id, 0);
    let mut held = sender.claim(frame.len()).expect("room");
    held.write(&frame[..48]);
    line.say("half");
    line.hear().expect("told to go on");
    held.write(&frame[48..]);
    held.commit();
    match sender.send(&numbered(id, 1)) {
        Ok(()) => line.say("sent"),
        Err(error) => line.say(error),
    }
    assert_eq!(line.hear(), None);
}

/// Receives frames of one thread and says how many there were; at most so many of them, one each time that it is told so.
#[test]
#[ignore = "a role of a child process"]
fn role_receives_in_order() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let (frames, by_hand) = (number(&mut line), number(&mut line));
    let mut queue = site.create_with(16);
    line.say("created");
    for i in 0..frames {
        if i < by_hand {
            line.hear().expect("told to receive");
        }
        assert_eq!(read_numbered(queue.recv().expect("the queue is ours").bytes()), (0, i));
    }
    line.say(frames);
    assert_eq!(line.hear(), None);
}

/// A producer that is stopped in the middle of a frame.
fn stopped_with_half_a_frame(site: &Site, id: u64) -> Child {
    let mut child = site.child("stopped::role_holds_a_claim");
    child.say(id);
    assert_eq!(child.hear(), "half");
    child.stop();
    child
}

/// Receives one frame of those who flood, and sees that it is their next one.
fn receive_in_order(queue: &mut Queue, next: &mut HashMap<u64, u64>) {
    let frame = queue.recv_deadline(Instant::now() + SOON).expect("who is not stopped sends");
    let (id, i) = read_numbered(frame.bytes());
    let expected = next.entry(id).or_default();
    assert_eq!(i, *expected, "thread {id}");
    *expected += 1;
}

/// A producer that is stopped half-way through a payload for ten seconds holds up its own lane only, is not called dead,
/// and its frame arrives when it goes on.
#[test]
fn sigstop_mid_payload_10s() {
    let site = Site::new();
    let mut queue = site.create_with(64);
    let mut stopped = stopped_with_half_a_frame(&site, 7);
    let flood = site.child("role_floods");
    flood.say(10);
    let mut next = HashMap::new();
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        receive_in_order(&mut queue, &mut next);
        assert_eq!(queue.producers(), 2, "nobody is called dead");
    }
    flood.kill();
    until("the killed one is gone, the stopped one is not", || {
        queue.drain(64, |_| ());
        queue.try_recv().is_err() && queue.producers() == 1
    });
    stopped.say("go on");
    stopped.go_on();
    for i in 0..2 {
        assert_eq!(read_numbered(queue.recv_deadline(Instant::now() + SOON).unwrap().bytes()), (7, i));
    }
    assert_eq!(stopped.hear(), "sent");
    assert_eq!((queue.thrown_out(), queue.rescues()), (0, 0));
}

/// A consumer that is stopped while its ring is full: producers are told that it is full, or wait, up to their deadline;
/// when it goes on nothing is missing.
#[test]
fn sigstop_consumer_full_rings() {
    let site = Site::new();
    let mut consumer = site.child("stopped::role_receives_in_order");
    let frames = 500;
    consumer.say(frames);
    consumer.say(0);
    assert_eq!(consumer.hear(), "created");
    let sender = site.open();
    consumer.stop();
    let mut sent = fill(&sender, 0);
    let soon = Instant::now() + Duration::from_millis(50);
    let late = sender.send_deadline(&numbered(0, sent), soon).unwrap_err();
    assert!(matches!(late, ClaimError::TimedOut { .. }) && Instant::now() >= soon, "{late}");
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| sender.send(&numbered(0, sent)));
        // That time passes is the matter here: longer than each safety time-out.
        std::thread::sleep(Duration::from_millis(2_500));
        assert!(!patient.is_finished(), "a send without a deadline waits");
        assert!(!sender.is_closed(), "a stopped consumer is not a dead one");
        consumer.go_on();
        patient.join().expect("it does not panic").expect("there is room again");
    });
    sent += 1;
    (sent..frames).for_each(|i| sender.send(&numbered(0, i)).expect("the consumer lives"));
    assert_eq!(consumer.hear(), frames.to_string());
}

/// Sends numbered frames from `first` on until there is no room; gives the number of the next.
fn fill(sender: &Sender, first: u64) -> u64 {
    for i in first.. {
        match sender.try_send(&numbered(0, i)) {
            Ok(()) => {}
            Err(ClaimError::Full { .. }) => return i,
            Err(other) => panic!("frame {i}: {other}"),
        }
    }
    unreachable!("a ring is full at some time")
}

/// Of eight consumers one takes its frames by hand only: who sends to all of them is told that one is full, and the other
/// seven get all of theirs meanwhile.
#[test]
fn slow_consumer_1_of_8() {
    let (frames, slow_frames) = (20_000, 40);
    let sites: Vec<Site> = (0..8).map(|_| Site::new()).collect();
    let mut consumers: Vec<Child> = sites.iter().map(|site| site.child("stopped::role_receives_in_order")).collect();
    let (slow, fast) = consumers.split_first_mut().expect("there are eight");
    slow.say(slow_frames);
    slow.say(slow_frames);
    fast.iter().for_each(|consumer| {
        consumer.say(frames);
        consumer.say(0);
    });
    assert_eq!(slow.hear(), "created");
    fast.iter_mut().for_each(|consumer| assert_eq!(consumer.hear(), "created"));
    let senders: Vec<Sender> = sites.iter().map(Site::open).collect();
    let (to_slow, to_fast) = senders.split_first().expect("there are eight");
    let (mut sent, mut refused) = (0, 0);
    for i in 0..frames {
        to_fast.iter().for_each(|sender| sender.send(&numbered(0, i)).expect("it lives"));
        match to_slow.try_send(&numbered(0, sent)) {
            Ok(()) => sent += 1,
            Err(ClaimError::Full { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    fast.iter_mut().for_each(|consumer| assert_eq!(consumer.hear(), frames.to_string()));
    assert!(refused > frames - slow_frames, "the slow one has taken nothing yet: {refused} of {frames} refused");
    for _ in 0..slow_frames {
        slow.say("receive");
        if sent < slow_frames {
            to_slow.send(&numbered(0, sent)).expect("it lives");
            sent += 1;
        }
    }
    assert_eq!(slow.hear(), slow_frames.to_string());
}

/// The inodes of the lanes that this process maps.
fn mapped_lanes() -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("proc is mounted");
    let lanes = maps.lines().filter(|line| line.contains("/memfd:queue-lane"));
    lanes.filter_map(|line| line.split_whitespace().nth(4).map(str::to_owned)).collect()
}

/// A stopped producer is sent away, and another comes in its place: what the first goes on to write when it continues is
/// in memory that nobody has any more, and it is told that the queue is closed to it.
#[test]
fn a_producer_sent_away_while_stopped_continues_and_writes_to_nobodys_memory() {
    let site = Site::new();
    let mut queue = site.create_with(16);
    let mut stopped = stopped_with_half_a_frame(&site, 3);
    let pid = stopped.pid();
    assert_eq!(queue.evict(pid + 1), 0, "nobody else is meant");
    let before = mapped_lanes();
    assert_eq!(queue.evict(pid), 1);
    until("its lane is given up", || {
        assert_eq!(queue.try_recv().map(|_| ()).unwrap_err(), RecvError::Empty);
        queue.producers() == 0
    });
    // Takes the bit of the one that is gone.
    let sender = site.open();
    let after = mapped_lanes();
    sender.send(&numbered(4, 0)).unwrap();
    let kept = fill(&sender, 1);
    assert!(kept > 1, "there was room");
    stopped.say("go on");
    stopped.go_on();
    assert_eq!(stopped.hear(), ClaimError::Closed.to_string(), "what it claims after its commit");
    assert_eq!(read_numbered(queue.recv().unwrap().bytes()), (4, 0));
    for i in 1..kept {
        assert_eq!(read_numbered(queue.recv().unwrap().bytes()), (0, i));
    }
    assert_eq!(queue.try_recv().map(|_| ()).unwrap_err(), RecvError::Empty);
    assert_eq!((queue.producers(), queue.thrown_out(), queue.evict(pid)), (1, 0, 0));
    // Other tests of this program may map lanes of theirs; an inode of before is nobody's now, unless it is one of those.
    assert_ne!(before, after, "the new lane is new memory");
}
