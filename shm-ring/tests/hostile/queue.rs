//! A queue with honest producers and one that spoils its lane: the honest ones lose nothing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shm_ring::mpsc::{MpscLayout, QueueAddress, QueueOptions};
use shm_ring::{ClaimError, Trust};
use test_support::child::{Child, Line};
use test_support::memory::{Bells, Memory};

use crate::{duration, random};

/// The address of the queue, and where it is found.
const DIR: &str = "HOSTILE_QUEUE_DIR";
const SECRET: &str = "HOSTILE_QUEUE_SECRET";

/// Whether the queue trusts nobody.
const ISOLATED: &str = "HOSTILE_QUEUE_ISOLATED";

/// The memory of one lane that its producer writes.
const LANE: &str = "queue-lane";

const PRODUCERS: u64 = 2;

fn address() -> QueueAddress {
    "tests/besieged".parse().expect("a good address")
}

fn options() -> QueueOptions {
    QueueOptions::new().runtime_dir(Path::new(&std::env::var_os(DIR).expect("the parent says it")))
}

/// A frame that only who knows the secret can make.
fn frame(secret: u64, id: u64, number: u64) -> [u8; 96] {
    let mut frame = [number as u8; 96];
    let check = (secret ^ id.rotate_left(32) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (at, word) in [id, number, check].into_iter().enumerate() {
        frame[at * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    frame
}

/// Whose frame it is, and its number; `None` for what no honest producer made.
fn read(secret: u64, bytes: &[u8]) -> Option<(u64, u64)> {
    let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at * 8..)?.first_chunk()?));
    let (id, number) = (word(0)?, word(1)?);
    (bytes == frame(secret, id, number)).then_some((id, number))
}

/// Role: sends numbered frames until it is told to stop, then says how many.
pub fn produce(mut parent: Line) {
    let sender = options().open(&address()).expect("the queue is there");
    let secret = std::env::var(SECRET).unwrap().parse().unwrap();
    let id = parent.hear().expect("a number").parse().expect("a number");
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sends = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                // The consumer stops receiving while it waits to be told the sum.
                match sender.send_deadline(&frame(secret, id, number), Instant::now() + Duration::from_millis(10)) {
                    Ok(()) => number += 1,
                    Err(ClaimError::TimedOut { .. }) => continue,
                    Err(error) => panic!("{error}"),
                }
                if number % 64 == 0 {
                    // It leaves room for others on a small machine.
                    thread::sleep(Duration::from_micros(200));
                }
            }
            number
        });
        assert_eq!(parent.hear().as_deref(), Some("stop"));
        stop.store(true, Ordering::Relaxed);
        sends.join().expect("no panic")
    });
    parent.say(sent);
    assert_eq!(parent.hear(), None);
}

/// Role: opens the queue again and again, sends, and spoils the memory of its lane. If the queue trusts nobody also all else
/// that it has of it, which in `Checked` is shared with other producers.
pub fn attack(parent: Line) {
    let mut random = random();
    let isolated = std::env::var_os(ISOLATED).is_some();
    parent.say("attacking");
    loop {
        let Ok(sender) = options().open(&address()) else { return };
        let (lanes, others) = Memory::of_this_process("queue-");
        if isolated {
            assert!(lanes.iter().all(|lane| lane.name() == LANE), "{lanes:?}");
            // A lane that it was thrown out of may not be let go yet.
            assert!(!others.is_empty() && others.iter().all(|name| name == "queue-lane-down"), "{others:?}");
        }
        let lanes: Vec<_> = lanes.into_iter().filter(|memory| memory.name() == LANE).collect();
        let bells = isolated.then(Bells::of_this_process);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Sooner or later it is thrown out.
                    let _ = sender.send_deadline(&[0xee; 90], Instant::now() + Duration::from_millis(1));
                }
            });
            for _ in 0..20 {
                lanes.iter().for_each(|lane| crate::spoil(lane, &mut random, 20));
                if let Some(bells) = &bells {
                    bells.jam(random.next());
                }
                thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn a_producer_that_spoils_its_lane_harms_no_other_producer() {
    besieged("checked", Trust::CHECKED);
}

#[test]
fn an_isolated_producer_that_spoils_all_that_it_has_harms_no_other_producer() {
    besieged("isolated", Trust::ISOLATED);
}

fn besieged(mode: &str, trust: Trust) {
    let dir = std::env::temp_dir().join(format!("shm-ring-hostile-{mode}-{}", std::process::id()));
    let secret = random().next();
    let lane = MpscLayout::new(64).expect("a power of two");
    let options = QueueOptions::new().runtime_dir(&dir).lane(lane).trust(trust);
    let mut queue = options.create(&address()).expect("nobody serves here");
    let mut environment = vec![(DIR, dir.clone()), (SECRET, secret.to_string().into())];
    if trust.is_isolated() {
        environment.push((ISOLATED, "yes".into()));
    }
    let mut honest: Vec<Child> = (0..PRODUCERS)
        .map(|id| {
            let child = Child::start("honest producer", &environment);
            child.say(id);
            child
        })
        .collect();
    let mut hostile = Child::start("hostile producer", &environment);
    hostile.expect("attacking");

    let until = Instant::now() + duration();
    let (mut next, mut other, mut longest) = ([0; PRODUCERS as usize], 0u64, Duration::ZERO);
    let mut sent = None;
    while sent != Some(next) {
        if sent.is_none() && Instant::now() > until {
            honest.iter().for_each(|child| child.say("stop"));
            let heard: Vec<u64> = honest.iter_mut().map(|child| child.hear().parse().expect("a number")).collect();
            assert_ne!(hostile.stat()[0], "Z", "the attacker has ended by itself");
            hostile.kill();
            sent = heard.try_into().ok();
        }
        let began = Instant::now();
        match queue.recv_deadline(began + Duration::from_millis(100)) {
            Ok(received) => match read(secret, received.bytes()) {
                Some((id, number)) => {
                    assert_eq!(number, next[id as usize], "frame of honest producer {id}");
                    next[id as usize] += 1;
                }
                None => other += 1,
            },
            Err(error) => assert!(matches!(error, shm_ring::RecvError::TimedOut), "{error}"),
        }
        longest = longest.max(began.elapsed());
        assert!(Instant::now() < until + Duration::from_secs(20), "sent {sent:?}, received {next:?}");
    }
    let thrown_out = queue.thrown_out();
    drop((honest, queue));
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
    println!("figure: {mode} hostile queue: honest frames received = {}", next.iter().sum::<u64>());
    println!("figure: {mode} hostile queue: frames of the attacker received = {other}");
    println!("figure: {mode} hostile queue: attackers thrown out = {thrown_out}");
    println!("figure: {mode} hostile queue: longest wait for a frame = {longest:?}");
    assert!(next.iter().all(|count| *count > 0), "{next:?}");
    assert!(thrown_out > 0, "no attack was noticed");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}
