use std::pin::pin;
use std::task::{Context, Poll, Waker};

use service_core::{Message, Reply, StreamReceiver, StreamSender};
use shm_ring::rendezvous::own_uid;

use super::*;
use crate::stream::{Receiver, Sender};

/// A client's streams at a service, and what the client has of them.
struct Site {
    streams: Arc<Streams>,
    quota: Quota,
    next: u64,
}

/// The client's side of one number.
struct Theirs {
    number: u64,
    rings: Rings,
    sender: Option<Sender>,
    receiver: Option<Receiver>,
}

impl Site {
    fn new(of_the_user: u32) -> Self {
        let (trust, peer) = (Trust::CHECKED, Peer::new("a test"));
        let quota = Quota::up_to(of_the_user, 0);
        let client = Client { uid: own_uid(), trust, assurance: None, spin: None, peer };
        Self { streams: Streams::new(client, quota.clone()), quota, next: 0 }
    }

    /// Makes rings, and announces them.
    fn announced(&mut self, shape: Shape) -> Theirs {
        let (theirs, fds) = self.made(shape);
        self.streams.announce(theirs.number, shape, fds).unwrap();
        theirs
    }

    fn made(&mut self, shape: Shape) -> (Theirs, Vec<OwnedFd>) {
        let (rings, fds) = Rings::make(shape, Trust::CHECKED).unwrap();
        let ends = rings.client_ends(Trust::CHECKED, None).unwrap();
        let peer = || Peer::new("the service");
        let sender = ends.producer.map(|producer| Sender::new(producer, None, peer(), None));
        let receiver = ends.consumer.map(|consumer| Receiver::new(consumer, None, None, peer(), None));
        let number = self.next;
        self.next += 1;
        (Theirs { number, rings, sender, receiver }, fds)
    }

    /// A call that names this number.
    fn call(&self, number: u64, shape: Shape) -> Arriving {
        self.streams.take(number, shape, None)
    }

    fn open(&self) -> usize {
        let left = std::iter::from_fn(|| self.quota.take(own_uid())).collect::<Vec<_>>().len();
        self.quota.limit(own_uid()) as usize - left
    }
}

/// What the call is told by now.
fn told(call: Arriving) -> Result<Taken, Status> {
    let Poll::Ready(told) = pin!(call).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the call is told nothing")
    };
    told
}

fn is_told(call: &mut Arriving) -> bool {
    std::pin::Pin::new(call).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn send(sender: &mut dyn StreamSender, number: u32) -> Result<(), Status> {
    sender.send(&Message(&number), None)
}

fn recv(receiver: &mut dyn StreamReceiver) -> Result<Option<u32>, Status> {
    let mut place = Reply::new();
    Ok(if receiver.recv(&mut place, None)? { Some(place.into_value()?) } else { None })
}

/// Passes a number each way and ends both; the ends are kept by the caller.
fn used(theirs: &mut Theirs, taken: &mut Taken) {
    let (sender, receiver) = (taken.sender.as_mut().unwrap(), taken.receiver.as_mut().unwrap());
    send(theirs.sender.as_mut().unwrap(), 1).unwrap();
    theirs.sender.as_mut().unwrap().finish().unwrap();
    assert_eq!(recv(receiver.as_mut()).unwrap(), Some(1));
    assert_eq!(recv(receiver.as_mut()).unwrap(), None);
    send(sender.as_mut(), 2).unwrap();
    sender.finish().unwrap();
    assert_eq!(recv(theirs.receiver.as_mut().unwrap()).unwrap(), Some(2));
    assert_eq!(recv(theirs.receiver.as_mut().unwrap()).unwrap(), None);
}

#[test]
fn a_call_gets_its_streams_whichever_comes_first() {
    let mut site = Site::new(8);
    let mut theirs = site.announced(Shape::BothWays);
    let mut taken = told(site.call(theirs.number, Shape::BothWays)).unwrap();
    used(&mut theirs, &mut taken);
    let (mut theirs, fds) = site.made(Shape::BothWays);
    let mut call = site.call(theirs.number, Shape::BothWays);
    assert!(!is_told(&mut call), "told before they were announced");
    site.streams.announce(theirs.number, Shape::BothWays, fds).unwrap();
    used(&mut theirs, &mut told(call).unwrap());
}

#[test]
fn rings_that_ended_well_serve_the_next_call_even_if_their_ends_are_still_held() {
    let mut site = Site::new(8);
    let mut theirs = site.announced(Shape::ClientStream);
    let mut first = told(site.call(theirs.number, Shape::ClientStream)).unwrap();
    let mut second = site.call(theirs.number, Shape::ClientStream);
    assert!(!is_told(&mut second), "the first call still has them");
    theirs.sender.as_mut().unwrap().finish().unwrap();
    assert_eq!(recv(first.receiver.as_mut().unwrap().as_mut()).unwrap(), None);
    let second = told(second).unwrap();
    assert!(second.receiver.is_some());
    drop(first);
    assert_eq!(site.open(), 1);
}

#[test]
fn rings_that_were_broken_off_are_given_up() {
    let mut site = Site::new(8);
    let mut theirs = site.announced(Shape::ClientStream);
    let taken = told(site.call(theirs.number, Shape::ClientStream)).unwrap();
    let next = site.call(theirs.number, Shape::ClientStream);
    drop(taken);
    assert_eq!(send(theirs.sender.as_mut().unwrap(), 1).unwrap_err().code(), Code::Cancelled);
    assert_eq!(told(next).unwrap_err().code(), Code::Cancelled);
    assert_eq!(told(site.call(theirs.number, Shape::ClientStream)).unwrap_err().code(), Code::Cancelled);
    assert_eq!(site.open(), 0);
}

#[test]
fn what_the_client_forgets_is_closed_now_or_after_its_call() {
    let mut site = Site::new(8);
    let mut theirs = site.announced(Shape::ClientStream);
    site.streams.forget(theirs.number);
    assert!(send(theirs.sender.as_mut().unwrap(), 1).is_err());
    let mut theirs = site.announced(Shape::BothWays);
    let mut taken = told(site.call(theirs.number, Shape::BothWays)).unwrap();
    site.streams.forget(theirs.number);
    used(&mut theirs, &mut taken);
    assert_eq!(site.open(), 0);
}

#[test]
fn a_method_gets_no_streams_of_another_shape() {
    let mut site = Site::new(8);
    let theirs = site.announced(Shape::ClientStream);
    let status = told(site.call(theirs.number, Shape::BothWays)).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
    drop(theirs);
}

#[test]
fn more_streams_than_the_limit_are_closed_and_their_calls_told() {
    let mut site = Site::new(2);
    let kept = [site.announced(Shape::ClientStream), site.announced(Shape::ClientStream)];
    let mut third = site.announced(Shape::ClientStream);
    assert!(send(third.sender.as_mut().unwrap(), 1).is_err(), "its sender need not wait for anybody");
    let status = told(site.call(third.number, Shape::ClientStream)).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::ResourceExhausted, Outcome::NotRun));
    site.streams.forget(kept[0].number);
    let fourth = site.announced(Shape::ClientStream);
    assert!(told(site.call(fourth.number, Shape::ClientStream)).is_ok());
}

#[test]
fn the_clients_death_reaches_calls_that_have_streams_and_calls_that_wait_for_some() {
    let mut site = Site::new(8);
    let theirs = site.announced(Shape::BothWays);
    let mut taken = told(site.call(theirs.number, Shape::BothWays)).unwrap();
    let early = site.call(theirs.number + 2, Shape::BothWays);
    let resting = site.announced(Shape::ClientStream);
    let waits = std::thread::spawn(move || recv(taken.receiver.as_mut().unwrap().as_mut()));
    site.streams.end();
    assert_eq!(waits.join().unwrap().unwrap_err().code(), Code::Unavailable);
    drop(taken.sender);
    assert_eq!(told(early).unwrap_err().code(), Code::Unavailable);
    assert_eq!(told(site.call(resting.number, Shape::ClientStream)).unwrap_err().code(), Code::Unavailable);
    assert_eq!(site.open(), 0);
}

#[test]
fn what_no_honest_client_announces_ends_the_connection() {
    let mut site = Site::new(8);
    let (theirs, fds) = site.made(Shape::BothWays);
    assert!(site.streams.announce(theirs.number + 1, Shape::BothWays, fds).is_err(), "a number that is not next");
    let (_, fds) = site.made(Shape::BothWays);
    assert!(site.streams.announce(0, Shape::ClientStream, fds).is_err(), "descriptors too many");
    let (_, fds) = site.made(Shape::ClientStream);
    assert!(site.streams.announce(0, Shape::BothWays, fds).is_err(), "descriptors too few");
    assert!(site.streams.announce(0, Shape::Unary, Vec::new()).is_err(), "nothing");
    let (theirs, fds) = site.made(Shape::ClientStream);
    drop(theirs.rings.server_ends(Trust::CHECKED, None).unwrap());
    assert!(site.streams.announce(0, Shape::ClientStream, fds).is_err(), "an end that was used already");
    let pipes = (0..3).map(|_| OwnedFd::from(std::io::pipe().unwrap().0)).collect();
    assert!(site.streams.announce(0, Shape::ClientStream, pipes).is_err(), "pipes");
}

/// Calls and announcements that wait for each other's counterpart are bounded.
#[test]
fn a_flood_of_either_half_ends() {
    let mut site = Site::new(0);
    let mut calls: Vec<_> = (1000..1000 + MOST_STREAMS as u64 + 1).map(|n| site.call(n, Shape::BothWays)).collect();
    assert_eq!(told(calls.pop().unwrap()).unwrap_err().code(), Code::ResourceExhausted);
    for _ in 0..MOST_STREAMS {
        site.announced(Shape::ClientStream);
    }
    let (theirs, fds) = site.made(Shape::ClientStream);
    assert!(site.streams.announce(theirs.number, Shape::ClientStream, fds).is_err());
}
