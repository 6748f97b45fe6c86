//! Streams to a real process, and what becomes of them when it dies.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use service_core::{Code, Shape, StreamSender};
use shm_ring::rendezvous::{Connection, Listener, RuntimeDir};
use shm_ring::spsc::SpscLayout;
use shm_ring::{Segment, Trust};
use test_support::child::{Child, Line, Role};

use super::{PATIENCE, Peer, Receiver, Rings, Sender, recv, send};
use crate::stream::{RING_BYTES, rings};

pub(crate) const ROLES: [Role; 3] = [("adds up", adds_up), ("takes frames", takes_frames), ("sends back", sends_back)];

const DIR: &str = "STREAM_TEST_DIR";

/// Items of a measurement: a million where the program is optimised.
const ITEMS: u64 = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("switchboard-stream-{name}-{}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A child in a role, and the socket to it.
fn child(role: &'static str) -> (Child, Connection, Scratch) {
    let scratch = Scratch::new(&role.replace(' ', "-"));
    let dir = Arc::new(RuntimeDir::open(&scratch.0).unwrap());
    let listener = Listener::bind(dir, "stream").unwrap();
    let child = Child::start(role, &[(DIR, &scratch.0)]);
    let until = Instant::now() + PATIENCE;
    let connection = loop {
        if let Some(connection) = listener.accept().unwrap() {
            break connection;
        }
        assert!(Instant::now() < until, "the child does not come");
        std::thread::yield_now();
    };
    (child, connection, scratch)
}

/// The child's side of it: what the parent sends first.
fn received() -> Vec<std::os::fd::OwnedFd> {
    let dir = RuntimeDir::open(&PathBuf::from(std::env::var_os(DIR).unwrap())).unwrap();
    let connection = Connection::connect(&dir, "stream", PATIENCE).unwrap();
    connection.receive_within(PATIENCE).unwrap().expect("the parent sends descriptors").fds
}

fn peer() -> Peer {
    Peer::new("the other process")
}

/// Rings to a child in a role, our ends of them.
fn streams(role: &'static str, shape: Shape) -> (Child, Rings, Option<Sender>, Option<Receiver>, Scratch) {
    let (child, connection, scratch) = child(role);
    let (rings, fds) = Rings::make(shape, Trust::CHECKED).unwrap();
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    connection.send(b"rings", &fds).unwrap();
    let ends = rings.client_ends(Trust::CHECKED, None).unwrap();
    let sender = ends.producer.map(|producer| Sender::new(producer, None, peer(), None));
    let receiver = ends.consumer.map(|consumer| Receiver::new(consumer, None, None, peer(), None));
    (child, rings, sender, receiver, scratch)
}

/// Answers with the sum of all numbers.
fn adds_up(parent: Line) {
    let rings = Rings::open(Shape::ClientStream, received(), Trust::CHECKED).unwrap();
    let ends = rings.server_ends(Trust::CHECKED, None).unwrap();
    let mut receiver = Receiver::new(ends.consumer.unwrap(), None, None, peer(), None);
    parent.say("ready");
    let mut sum = 0;
    while let Some(number) = recv::<u64>(&mut receiver).unwrap() {
        sum += number;
    }
    parent.say(sum);
}

/// The same over a bare ring.
fn takes_frames(parent: Line) {
    let [memory] = <[_; 1]>::try_from(received()).unwrap();
    let segment: Segment<SpscLayout> = Segment::open(memory.as_fd()).unwrap();
    let mut consumer = shm_ring::spsc::Consumer::attach(&segment, Default::default()).unwrap();
    parent.say("ready");
    let mut sum = 0;
    while let Ok(frame) = consumer.recv() {
        sum += u64::from_le_bytes(frame.bytes().try_into().unwrap());
    }
    parent.say(sum);
}

/// Sends each number back, and dies of the one that is asked for.
fn sends_back(parent: Line) {
    let rings = Rings::open(Shape::BothWays, received(), Trust::CHECKED).unwrap();
    let ends = rings.server_ends(Trust::CHECKED, None).unwrap();
    let mut sender = Sender::new(ends.producer.unwrap(), None, peer(), None);
    let mut receiver = Receiver::new(ends.consumer.unwrap(), None, None, peer(), None);
    parent.say("ready");
    while let Some(number) = recv::<u64>(&mut receiver).unwrap() {
        send(&mut sender, &number).unwrap();
    }
    sender.finish().unwrap();
}

fn per_second(started: Instant) -> f64 {
    ITEMS as f64 / started.elapsed().as_secs_f64()
}

#[test]
fn a_million_items_go_at_the_speed_of_the_ring() {
    let (mut child_, _rings, sender, _, _scratch) = streams("adds up", Shape::ClientStream);
    let mut sender = sender.unwrap();
    child_.expect("ready");
    let started = Instant::now();
    (0..ITEMS).for_each(|number| send(&mut sender, &number).unwrap());
    sender.finish().unwrap();
    child_.expect(&(ITEMS * (ITEMS - 1) / 2).to_string());
    println!("figure: items of a stream = {:.0} items/s", per_second(started));

    let (mut child, connection, _scratch) = child("takes frames");
    let (segment, fd) = Segment::memfd("bare", SpscLayout::new(RING_BYTES).unwrap(), 0).unwrap();
    connection.send(b"ring", &[fd.as_fd()]).unwrap();
    let mut producer = shm_ring::spsc::Producer::attach(&segment, Default::default()).unwrap();
    child.expect("ready");
    let started = Instant::now();
    (0..ITEMS).for_each(|number: u64| producer.send(&number.to_le_bytes()).unwrap());
    producer.close();
    child.expect(&(ITEMS * (ITEMS - 1) / 2).to_string());
    println!("figure: frames of the bare ring = {:.0} frames/s", per_second(started));
}

#[test]
fn both_ways_of_one_call_go_at_the_same_time() {
    let (mut child, _rings, sender, receiver, _scratch) = streams("sends back", Shape::BothWays);
    let (mut sender, mut receiver) = (sender.unwrap(), receiver.unwrap());
    child.expect("ready");
    let sends = std::thread::spawn(move || {
        (0..ITEMS).for_each(|number| send(&mut sender, &number).unwrap());
        // Half of it is closed: the other half goes on.
        sender.finish().unwrap();
    });
    (0..ITEMS).for_each(|number| assert_eq!(recv(&mut receiver).unwrap(), Some(number)));
    assert_eq!(recv::<u64>(&mut receiver).unwrap(), None);
    sends.join().unwrap();
}

#[test]
fn a_process_that_is_killed_ends_its_streams_for_whoever_waits() {
    let (mut child, rings, sender, receiver, _scratch) = streams("sends back", Shape::BothWays);
    let (mut sender, mut receiver) = (sender.unwrap(), receiver.unwrap());
    child.expect("ready");
    send(&mut sender, &1_u64).unwrap();
    assert_eq!(recv(&mut receiver).unwrap(), Some(1_u64));
    let waits = std::thread::spawn(move || recv::<u64>(&mut receiver));
    let sends = std::thread::spawn(move || (2_u64..).find_map(|number| send(&mut sender, &number).err()).unwrap());
    child.kill();
    rings::end(&rings.controls());
    assert_eq!(sends.join().unwrap().code(), Code::Unavailable);
    // What it had sent before it died may come first.
    let received = waits.join().unwrap();
    assert!(
        received.as_ref().is_ok_and(Option::is_some)
            || received.is_err_and(|status| status.code() == Code::Unavailable)
    );
}
