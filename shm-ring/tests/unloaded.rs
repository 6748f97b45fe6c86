//! While both sides of a ring are awake, neither makes a system call. Counted from outside, in two processes.
//!
//! Both sides look again and again by the forms that never wait, so the count depends on nothing that the machine does
//! meanwhile. It needs two processors, and the right to trace one's own child processes.

use std::hint::spin_loop;
use std::time::Duration;

use nix::errno::Errno;
use shm_ring::spsc::{Consumer, Producer, SpscLayout};
use shm_ring::{ClaimError, Events, Place, RecvError, Segment, SegmentOptions};

use cores::{TwoCores, pin_process};
use support::backings::{EPOCH, fresh_name};
use support::role::{Child, line};
use tracer::{Tracer, Window, mark};

mod support;

// The parts of the benchmark's experiment that are about any two processes.
#[allow(dead_code, reason = "the benchmark uses more of it")]
#[path = "../../benches/src/unloaded/cores.rs"]
mod cores;
#[allow(dead_code, reason = "the benchmark uses more of it")]
#[path = "../../benches/src/unloaded/tracer.rs"]
mod tracer;

/// Frames that are answered one by one while system calls are counted. Few, because on a loaded machine the two may never
/// run at the same time, and each answer then takes until the next turn of the other one.
const ANSWERED: u64 = 200;
/// Frames that go at once, many to a turn.
const IN_A_ROW: u64 = 3_000;
/// Frames for a consumer that sleeps until each.
const SLEEPS: u64 = 10;
const CAPACITY: usize = 4096;

/// Two rings, there and back, by their names.
struct Rings {
    there: Segment<SpscLayout>,
    back: Segment<SpscLayout>,
}

impl Rings {
    fn create(names: &[String; 2]) -> Self {
        let layout = SpscLayout::new(CAPACITY).expect("a power of two");
        let [there, back] = names.each_ref().map(|name| {
            let place = Place::named(name).expect("a plain name");
            place.create(layout, EPOCH, &SegmentOptions::new()).expect("memory for a test")
        });
        Self { there, back }
    }

    fn open(names: &[String; 2]) -> Self {
        let [there, back] = names.each_ref().map(|name| {
            let place = Place::named(name).expect("a plain name");
            let opened = place.open(&SegmentOptions::new()).expect("what was made can be opened");
            place.remove().expect("what was made can be removed");
            opened
        });
        Self { there, back }
    }
}

/// Event loops and tasks may wait at such an end, but nobody does.
fn events() -> Events {
    Events::new().expect("descriptors are left")
}

/// Looks after which the other side is given up: a minute or more, by a count because a clock may be a system call.
const MOST_LOOKS: u64 = 1 << 33;

fn send(producer: &mut Producer, number: u64, len: usize) {
    let mut payload = [0; 512];
    payload[..8].copy_from_slice(&number.to_ne_bytes());
    for _ in 0..MOST_LOOKS {
        match producer.try_send(&payload[..len]) {
            Ok(()) => return,
            Err(ClaimError::Full { .. }) => spin_loop(),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the other side makes no room for frame {number}");
}

fn receive(consumer: &mut Consumer) -> u64 {
    for _ in 0..MOST_LOOKS {
        match consumer.try_recv() {
            Ok(frame) => return u64::from_ne_bytes(frame.bytes()[..8].try_into().expect("eight bytes")),
            Err(RecvError::Empty) => spin_loop(),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the other side sends nothing");
}

/// Of various lengths, so that frames wrap; long enough together that the ring fills up.
fn len_of(number: u64) -> usize {
    8 + (number * 56 % 500) as usize
}

/// Each frame is answered before the next, then many go at once and the last one is answered.
fn there_and_back(there: &mut Producer, back: &mut Consumer) {
    for number in 0..ANSWERED {
        send(there, number, len_of(number));
        assert_eq!(receive(back), number);
    }
    (0..IN_A_ROW).for_each(|number| send(there, number, len_of(number)));
    assert_eq!(receive(back), IN_A_ROW - 1);
}

fn answer(there: &mut Consumer, back: &mut Producer) {
    for number in 0..ANSWERED {
        assert_eq!(receive(there), number);
        send(back, number, len_of(number));
    }
    (0..IN_A_ROW).for_each(|number| assert_eq!(receive(there), number));
    send(back, IN_A_ROW - 1, 8);
}

#[test]
fn frames_between_processes_that_are_awake_cost_no_system_call() {
    let Some(cores) = TwoCores::find().expect("the kernel names its processors") else {
        eprintln!("SKIP: two processes cannot be awake on one processor");
        return;
    };
    let mut asks = Child::start("the_one_who_asks");
    let mut answers = Child::start("the_one_who_answers");
    let names = [fresh_name(), fresh_name()];
    asks.say(names.join(" "));
    assert_eq!(asks.hear(), "made");
    answers.say(names.join(" "));
    assert_eq!(answers.hear(), "opened");
    let pids = [asks.pid(), answers.pid()];
    // On one processor each answer would cost the rest of the other one's turn, many thousand times.
    for (pid, core) in pids.into_iter().zip([cores.caller, cores.peer]) {
        pin_process(pid, core).expect("the processor is allowed");
    }
    let mut tracer = match Tracer::seize(&pids, pids[0]) {
        Ok(tracer) => tracer,
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
            eprintln!("SKIP: child processes may not be traced here");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    asks.say("go");
    answers.say("go");
    let window = tracer.watch().expect("both run to the end of the window");
    drop(tracer);
    assert_eq!(asks.hear(), "done");
    assert_eq!(answers.hear(), "done");
    let Window { system_calls, .. } = window;
    assert!(
        system_calls.is_empty(),
        "{} system calls, the first of number {}",
        system_calls.len(),
        system_calls[0].number
    );
}

#[test]
#[ignore = "run by the child processes of the test above"]
fn the_one_who_asks() {
    let Some(mut line) = line() else { return };
    let rings = Rings::create(&names(line.hear()));
    let mut there = Producer::attach(&rings.there, events()).expect("nobody has attached");
    let mut back = Consumer::attach(&rings.back, events()).expect("nobody has attached");
    line.say("made");
    line.hear();
    // What is done once in a process, and the first laps over fresh memory, are no part of the window.
    there_and_back(&mut there, &mut back);
    mark();
    there_and_back(&mut there, &mut back);
    mark();
    send(&mut there, 0, 8);
    mark();
    for number in 0..SLEEPS {
        send(&mut there, number, 8);
        assert_eq!(receive(&mut back), number);
    }
    mark();
    line.say("done");
}

#[test]
#[ignore = "run by the child processes of the test above"]
fn the_one_who_answers() {
    let Some(mut line) = line() else { return };
    let rings = Rings::open(&names(line.hear()));
    let mut there = Consumer::attach(&rings.there, events()).expect("nobody has attached");
    let mut back = Producer::attach(&rings.back, events()).expect("nobody has attached");
    line.say("opened");
    line.hear();
    answer(&mut there, &mut back);
    answer(&mut there, &mut back);
    // Awake until the window has ended. In the next one, which tells that sleeps would have been seen, it sleeps.
    assert_eq!(receive(&mut there), 0);
    there.set_spin(Duration::ZERO);
    for number in 0..SLEEPS {
        drop(there.recv().expect("the other side goes on"));
        send(&mut back, number, 8);
    }
    line.say("done");
}

fn names(said: Option<String>) -> [String; 2] {
    let said = said.expect("the parent says two names");
    let (there, back) = said.split_once(' ').expect("two names");
    [there.to_owned(), back.to_owned()]
}
