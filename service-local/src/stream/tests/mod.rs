//! Streams by themselves, without calls around them: within this process, and with another one.

mod hostile;
mod items;
mod processes;
mod waiting;

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use service_core::{Deadline, Message, Owned, Reply, Shape, Status, StreamReceiver, StreamSender, Writable};
use shm_ring::Trust;

use super::{Peer, Receiver, Rings, Sender};

pub(crate) use processes::ROLES;

/// Both ends of one direction within this process.
fn pair() -> (Sender, Receiver) {
    pair_trusting(Trust::CHECKED)
}

fn pair_trusting(trust: Trust) -> (Sender, Receiver) {
    let rings = Rings::heap(Shape::ClientStream).unwrap();
    let (ours, theirs) = (rings.client_ends(trust, None).unwrap(), rings.server_ends(trust, None).unwrap());
    let peer = || Peer::new("a test");
    let sender = Sender::new(ours.producer.unwrap(), None, peer(), None);
    (sender, Receiver::new(theirs.consumer.unwrap(), None, None, peer(), None))
}

fn send<T: Writable + Sync>(sender: &mut Sender, item: &T) -> Result<(), Status> {
    sender.send(&Message(item), None)
}

fn recv<T: Owned + Send>(receiver: &mut Receiver) -> Result<Option<T>, Status> {
    recv_until(receiver, None)
}

fn recv_until<T: Owned + Send>(receiver: &mut Receiver, deadline: Option<Deadline>) -> Result<Option<T>, Status> {
    let mut place = Reply::<T>::new();
    Ok(if receiver.recv(&mut place, deadline)? { Some(place.into_value()?) } else { None })
}

fn poll_send<T: Writable + Sync>(sender: &mut Sender, cx: &mut Context<'_>, item: &T) -> Poll<Result<(), Status>> {
    sender.poll_send(cx, &Message(item))
}

fn poll_recv<T: Owned + Send>(receiver: &mut Receiver, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Status>> {
    let mut place = Reply::<T>::new();
    receiver.poll_recv(cx, &mut place).map(|taken| Ok(if taken? { Some(place.into_value()?) } else { None }))
}

/// How long anything may take that does not wait for ever: more than it needs on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The smallest executor there is: one task, whose thread sleeps until it is woken.
fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(value) = poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let slept_at = std::time::Instant::now();
        std::thread::park_timeout(PATIENCE);
        assert!(slept_at.elapsed() < PATIENCE, "nobody woke the task");
    }
}
