use std::path::PathBuf;
use std::time::Instant;

use service_core::{Decode, Message, Reply, StreamReceiver, StreamSender};
use shm_ring::rendezvous::{Listener, RuntimeDir};

use super::*;
use crate::stream::{Receiver, Sender};

const PATIENCE: Duration = Duration::from_secs(60);

/// A client's streams, and the socket on which a service would hear of them.
struct Site {
    streams: Arc<Streams>,
    service: Connection,
    keeper: Arc<Keeper>,
    path: PathBuf,
}

/// Keeps what comes back to the service, as it does.
#[derive(Default)]
struct Keeper(Mutex<Vec<Option<Ends>>>);

impl Owner for Keeper {
    fn settled(&self, _number: u64, ends: Option<Ends>) {
        self.0.lock().unwrap().push(ends);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Site {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("switchboard-client-{name}-{}", std::process::id()));
        let dir = Arc::new(RuntimeDir::open(&path).unwrap());
        let listener = Listener::bind(Arc::clone(&dir), "streams").unwrap();
        let connection = Arc::new(Connection::connect(&dir, "streams", PATIENCE).unwrap());
        let until = Instant::now() + PATIENCE;
        let service = loop {
            match listener.accept().unwrap() {
                Some(service) => break service,
                None => assert!(Instant::now() < until),
            }
        };
        service.let_descriptors_in().unwrap();
        let streams = Streams::new(connection, (Trust::CHECKED, None), None, Peer::new("a test"));
        Self { streams, service, keeper: Arc::default(), path }
    }

    /// What the service hears next, if anything.
    fn heard(&self) -> Option<(FromClient, Vec<std::os::fd::OwnedFd>)> {
        let received = self.service.try_receive().unwrap()?;
        Some((FromClient::read(&received.bytes).unwrap(), received.fds))
    }

    /// The service's ends of what it hears of next.
    fn service_ends(&self, shape: Shape, number: u64) -> (Sender, Receiver) {
        let (message, fds) = self.heard().expect("the rings are announced");
        assert_eq!(message, FromClient::Streams { number, shape });
        let ends = Rings::open(shape, fds, Trust::CHECKED).unwrap().server_ends(Trust::CHECKED, None).unwrap();
        let owner: Weak<dyn Owner> = Arc::downgrade(&(Arc::clone(&self.keeper) as Arc<dyn Owner>));
        let (lease, peer) = (Lease::new(number, owner, 2), || Peer::new("the client"));
        let sender = Sender::new(ends.producer.unwrap(), None, peer(), Some(Arc::clone(&lease)));
        (sender, Receiver::new(ends.consumer.unwrap(), None, None, peer(), Some(lease)))
    }
}

fn next(receiver: &mut dyn StreamReceiver) -> Option<u32> {
    let mut place = Reply::new();
    receiver.recv(&mut place as &mut (dyn Decode + Send), None).unwrap().then(|| place.into_value().unwrap())
}

/// Both directions, used and ended well by both sides.
fn used(opening: &mut Opening, theirs: &mut (Sender, Receiver)) {
    let sender = opening.sender.as_deref_mut().unwrap();
    pass(sender, &mut theirs.1);
    pass(&mut theirs.0, opening.receiver.as_deref_mut().unwrap());
}

fn pass(sender: &mut dyn StreamSender, receiver: &mut dyn StreamReceiver) {
    sender.send(&Message(&7_u32), None).unwrap();
    sender.finish().unwrap();
    assert_eq!(next(receiver), Some(7));
    assert_eq!(next(receiver), None);
}

#[test]
fn rings_that_ended_well_are_used_again_by_their_number_and_shape() {
    let site = Site::new("again");
    let mut first = site.streams.open(Shape::BothWays, None).unwrap();
    let mut theirs = site.service_ends(Shape::BothWays, 0);
    used(&mut first, &mut theirs);
    drop(first);
    let other = site.streams.open(Shape::ServerStream, None).unwrap();
    assert_eq!(other.number, 1, "of another shape");
    assert_eq!(site.heard().unwrap().0, FromClient::Streams { number: 1, shape: Shape::ServerStream });
    let again = site.streams.open(Shape::BothWays, None).unwrap();
    assert_eq!(again.number, 0);
    assert!(site.heard().is_none(), "nothing is announced");
    let more = site.streams.open(Shape::BothWays, None).unwrap();
    assert_eq!(more.number, 2, "those of number 0 are in use");
}

/// The service has not seen the end, or dropped its own end before it.
#[test]
fn rings_whose_end_the_service_has_not_seen_wait_and_closed_ones_are_not_used() {
    let site = Site::new("unseen");
    let mut opening = site.streams.open(Shape::BothWays, None).unwrap();
    let (mut sender, receiver) = site.service_ends(Shape::BothWays, 0);
    opening.sender.as_mut().unwrap().finish().unwrap();
    sender.finish().unwrap();
    assert_eq!(next(opening.receiver.as_deref_mut().unwrap()), None);
    assert_eq!(site.streams.open(Shape::BothWays, None).unwrap().number, 1);
    drop(receiver);
    assert_eq!(site.streams.open(Shape::BothWays, None).unwrap().number, 2);
}

#[test]
fn streams_that_were_broken_off_are_given_up_and_the_service_hears_of_it() {
    let site = Site::new("broken");
    for (number, ends_well) in [(0, false), (1, true)] {
        let mut opening = site.streams.open(Shape::BothWays, None).unwrap();
        let _theirs = site.service_ends(Shape::BothWays, number);
        if ends_well {
            opening.sender.as_mut().unwrap().finish().unwrap();
        }
        // Its other direction has not ended.
        drop(opening);
        assert_eq!(site.heard().unwrap().0, FromClient::Streamed { number });
    }
}

#[test]
fn one_more_than_the_limit_is_refused_here_already() {
    let site = Site::new("limit");
    let open: Vec<_> = (0..MOST_STREAMS).map(|_| site.streams.open(Shape::ClientStream, None).unwrap()).collect();
    let status = site.streams.open(Shape::ClientStream, None).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::ResourceExhausted, Outcome::NotRun));
    drop(open);
    assert!(site.streams.open(Shape::ClientStream, None).is_ok());
}

#[test]
fn only_so_many_rings_rest() {
    let site = Site::new("resting");
    let mut open: Vec<_> = (0..=MOST_RESTING as u64)
        .map(|number| (site.streams.open(Shape::BothWays, None).unwrap(), site.service_ends(Shape::BothWays, number)))
        .collect();
    open.iter_mut().for_each(|(opening, theirs)| used(opening, theirs));
    assert_eq!(site.heard().unwrap().0, FromClient::Streamed { number: MOST_RESTING as u64 });
    assert!(site.heard().is_none());
}

#[test]
fn the_services_end_reaches_whoever_waits_and_nothing_is_opened_any_more() {
    let site = Site::new("ended");
    let mut opening = site.streams.open(Shape::BothWays, None).unwrap();
    let _theirs = site.service_ends(Shape::BothWays, 0);
    let mut receiver = opening.receiver.take().unwrap();
    let waits = std::thread::spawn(move || receiver.recv(&mut Reply::<u32>::new(), None).unwrap_err());
    site.streams.end();
    assert_eq!(waits.join().unwrap().code(), Code::Unavailable);
    let status = site.streams.open(Shape::BothWays, None).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::NotRun));
}
