//! Sockets between ends that are both in this process, and ends that keep no protocol.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType};

use super::socket::MAX_FDS;
use super::*;
use crate::error::Error;

const SOON: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(30);

/// A fresh directory of a test, gone with the value.
struct Place {
    path: PathBuf,
    dir: Arc<RuntimeDir>,
}

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("shm-ring-{}-{name}", std::process::id()));
        let dir = Arc::new(RuntimeDir::open(&path).unwrap());
        Self { path, dir }
    }

    fn bind(&self) -> Result<Listener, Error> {
        Listener::bind(Arc::clone(&self.dir), "a")
    }

    fn connect(&self) -> Result<Connection, Error> {
        Connection::connect(&self.dir, "a", SOON)
    }

    fn socket(&self) -> PathBuf {
        self.path.join("a.sock")
    }

    /// A socket bound to the name by somebody who knows nothing of this module, who listens if there is a backlog.
    fn stranger(&self, backlog: Option<i32>) -> OwnedFd {
        let fd = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        rustix::net::bind(&fd, &SocketAddrUnix::new(self.socket()).unwrap()).unwrap();
        if let Some(backlog) = backlog {
            rustix::net::listen(&fd, backlog).unwrap();
        }
        fd
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A listener, who connected, and what was accepted.
fn pair(place: &Place) -> (Listener, Connection, Connection) {
    let listener = place.bind().unwrap();
    let client = place.connect().unwrap();
    let server = listener.accept().unwrap().unwrap();
    (listener, client, server)
}

/// Descriptors to send, and a message beside so many of them, as no limit of ours stops it.
fn send_raw(to: &Connection, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2 * MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    let fd = to.fd();
    assert_eq!(rustix::net::sendmsg(&*fd, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()), Ok(bytes.len()));
}

#[test]
fn messages_keep_their_borders_and_bring_their_descriptors() {
    let place = Place::new("borders");
    let (_listener, client, server) = pair(&place);
    assert!(client.try_receive().unwrap().is_none());
    let event = crate::event::EventFd::new().unwrap();
    server.send(b"first", &[event.as_fd(); MAX_FDS]).unwrap();
    server.send(b"second", &[]).unwrap();
    let first = client.try_receive().unwrap().unwrap();
    assert_eq!((&first.bytes[..], first.fds.len()), (&b"first"[..], MAX_FDS));
    assert!(first.fds.iter().all(|fd| rustix::io::fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC)));
    event.signal();
    assert!(rustix::io::read(&first.fds[3], &mut [0; 8]).is_ok(), "they are the descriptors that were sent");
    let second = client.receive_within(LONG).unwrap().unwrap();
    assert_eq!((&second.bytes[..], second.fds.len()), (&b"second"[..], 0));
    assert!(client.receive_within(SOON).unwrap().is_none());
}

#[test]
fn the_longest_message_arrives_and_a_longer_one_is_refused_by_its_sender() {
    let place = Place::new("longest");
    let (_listener, client, server) = pair(&place);
    let event = crate::event::EventFd::new().unwrap();
    assert!(matches!(client.send(&[1; MAX_MESSAGE + 1], &[]), Err(Error::TooLarge { limit: MAX_MESSAGE, .. })));
    assert!(matches!(client.send(b"more", &[event.as_fd(); MAX_FDS + 1]), Err(Error::TooLarge { .. })));
    client.send(&[1; MAX_MESSAGE], &[]).unwrap();
    assert_eq!(server.try_receive().unwrap().unwrap().bytes, [1; MAX_MESSAGE]);
}

#[test]
fn what_a_sender_without_limits_sends_is_refused_and_the_next_message_arrives() {
    let place = Place::new("unlimited");
    let (_listener, client, server) = pair(&place);
    server.let_descriptors_in().unwrap();
    let event = crate::event::EventFd::new().unwrap();
    send_raw(&client, b"one more", &[event.as_fd(); MAX_FDS + 1]);
    send_raw(&client, b"twice as many", &[event.as_fd(); 2 * MAX_FDS]);
    send_raw(&client, &[1; MAX_MESSAGE + 1], &[event.as_fd()]);
    client.send(b"good", &[event.as_fd()]).unwrap();
    for _ in 0..3 {
        let refused = server.try_receive();
        assert!(matches!(refused, Err(Error::BadMessage { during: "receiving", .. })), "{refused:?}");
    }
    let good = server.try_receive().unwrap().unwrap();
    assert_eq!((&good.bytes[..], good.fds.len()), (&b"good"[..], 1));
}

#[test]
fn a_connection_that_is_hung_up_or_dropped_ends_for_the_other_side_after_what_was_sent() {
    let place = Place::new("end");
    let (listener, client, server) = pair(&place);
    client.send(b"last", &[]).unwrap();
    client.hang_up();
    assert_eq!(server.try_receive().unwrap().unwrap().bytes, b"last");
    assert!(matches!(server.try_receive(), Err(Error::Closed { during: "receiving" })));
    assert!(matches!(server.send(b"more", &[]), Err(Error::Closed { during: "sending" })));
    let client = place.connect().unwrap();
    drop(listener.accept().unwrap().unwrap());
    assert!(matches!(client.receive_within(LONG), Err(Error::Closed { during: "receiving" })));
}

#[test]
fn no_end_blocks_or_goes_to_programs_that_we_start() {
    let place = Place::new("flags");
    let (listener, client, server) = pair(&place);
    for fd in [listener.fd(), client.fd(), server.fd()] {
        assert!(rustix::io::fcntl_getfd(&*fd).unwrap().contains(FdFlags::CLOEXEC));
        assert!(rustix::fs::fcntl_getfl(&*fd).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
    }
    assert!(listener.accept().unwrap().is_none());
}

#[test]
fn each_side_knows_who_is_at_the_other_end() {
    let place = Place::new("peers");
    let (_listener, client, server) = pair(&place);
    for peer in [client.peer(), server.peer()] {
        assert_eq!((peer.uid, peer.pid, peer.is_dead()), (own_uid(), std::process::id(), false));
        assert!(rustix::io::fcntl_getfd(peer.pidfd().unwrap()).unwrap().contains(FdFlags::CLOEXEC));
    }
    assert_eq!(own_uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn a_name_has_one_listener_until_it_closes_and_its_file_goes_with_it() {
    let place = Place::new("one");
    let listener = place.bind().unwrap();
    assert!(matches!(place.bind(), Err(Error::AlreadyServed { pid, .. }) if pid == std::process::id()));
    let waiting = place.connect().unwrap();
    listener.close();
    assert!(!place.socket().exists());
    assert!(matches!(place.connect(), Err(Error::NotFound { .. })));
    assert!(matches!(waiting.receive_within(LONG), Err(Error::Closed { .. })), "nobody will accept it");
    let second = place.bind().unwrap();
    listener.close();
    drop(listener);
    assert!(place.socket().exists(), "it is its successor's");
    drop(second);
    assert!(!place.socket().exists());
}

#[test]
fn a_listener_leaves_a_file_alone_that_somebody_else_put_in_the_place_of_its_own() {
    let place = Place::new("replaced");
    let listener = place.bind().unwrap();
    std::fs::remove_file(place.socket()).unwrap();
    let _theirs = place.stranger(Some(1));
    drop(listener);
    assert!(place.socket().exists());
    assert!(place.connect().is_ok());
}

#[test]
fn a_dead_listeners_file_is_nobody_and_is_removed_or_replaced() {
    let place = Place::new("stale");
    drop(place.stranger(Some(1)));
    assert!(matches!(place.connect(), Err(Error::NotFound { name, .. }) if name == "a"));
    assert!(!place.socket().exists(), "by who found it out");
    drop(place.stranger(None));
    let listener = place.bind().unwrap();
    assert!(place.connect().is_ok());
    assert_eq!(listener.socket().is_some(), place.socket().exists());
}

#[test]
fn a_listener_that_lets_nobody_in_any_more_is_waited_for_and_is_still_there() {
    let place = Place::new("full");
    let _theirs = place.stranger(Some(0));
    let _first = place.connect().unwrap();
    let before = Instant::now();
    assert!(matches!(place.connect(), Err(Error::System { what: "connecting", .. })));
    assert!(before.elapsed() >= SOON);
    assert!(matches!(place.bind(), Err(Error::AlreadyServed { pid: 0, .. })), "whoever it is");
    assert!(place.socket().exists());
}

#[test]
fn a_sockets_file_lets_those_in_that_its_access_says() {
    let place = Place::new("access");
    let mode = || std::fs::metadata(place.socket()).unwrap().permissions().mode() & 0o777;
    let access = Access::default().mode(0o660).group(rustix::process::getegid().as_raw());
    let listener = Listener::bind_for(Arc::clone(&place.dir), "a", &access).unwrap();
    assert_eq!(mode(), 0o660);
    drop(listener);
    assert_eq!(place.dir.names().unwrap(), [""; 0]);
}
