//! Who knocks at a service's socket without being a client, or stops half-way: others are served, nothing stays.

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use switchboard::prelude::*;

use crate::notary::{Desk, NAME, NotaryClient, NotaryServer, Place, verdict, wait_until};
use test_support::child::{self, Child, Line};
use test_support::level::Level;

/// Longest message that the socket's protocol allows, in bytes.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// A stranger's traces are gone within this time.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Who says nothing is shown out after five seconds; this is the most that a loaded machine makes of them.
const SHOWN_OUT_WITHIN: Duration = Duration::from_secs(20);

/// Where a stranger knocks, and a file with what it says there.
const DOOR: &str = "STRANGER_DOOR";
const WORDS: &str = "STRANGER_WORDS";

#[test]
fn strangers_and_half_clients_disturb_nobody_and_leave_nothing() {
    child::alone("host of strangers");
}

/// A connected socket that speaks no protocol.
struct Stranger(OwnedFd);

impl Stranger {
    fn knock(door: &Path) -> Self {
        let socket = seqpacket();
        rustix::net::connect(&socket, &SocketAddrUnix::new(door).unwrap()).unwrap();
        Self(socket)
    }

    /// Says it; a service that hung up meanwhile is as good.
    fn says(self, words: &[u8]) -> Self {
        let _ = rustix::net::send(&self.0, words, SendFlags::NOSIGNAL);
        self
    }

    /// From Linux 6.16 on the kernel refuses this for the service; then the words alone are said.
    fn hands_over(self, count: usize) -> Self {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let gifts = vec![self.0.as_fd(); count];
        assert!(control.push(SendAncillaryMessage::ScmRights(&gifts)));
        match rustix::net::sendmsg(&self.0, &[IoSlice::new(b"gifts")], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::PERM) => self.says(b"gifts"),
            handed => handed.map(|_| self).unwrap(),
        }
    }

    /// Waits for the service to hang up, reading what it says before.
    fn is_shown_out(&self, within: Duration) {
        let limit = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: 0 };
        let mut bytes = [0; 4096];
        loop {
            let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
            let events = rustix::event::poll(&mut polled, Some(&limit)).unwrap();
            assert_eq!(events, 1, "not shown out within {within:?}");
            match rustix::net::recv(&self.0, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => return,
                Ok(_) => {}
                Err(errno) => panic!("{errno}"),
            }
        }
    }
}

fn seqpacket() -> OwnedFd {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// Role: the service at whose door they knock, and its one honest client.
pub fn host(_parent: Line) {
    let hello = real_hello();
    let place = Place::new();
    let board = place.board();
    let running = board.serve(NAME, NotaryServer::new(Desk::silent())).workers(2).start().unwrap();
    let client = NotaryClient::connect(&board, NAME).unwrap().with_timeout(Duration::from_secs(2));
    let is_served = |who: &str| assert_eq!(verdict(1, b"1", &client.quick(1, b"1")), "right", "beside {who}");
    is_served("nobody");
    let door = place.socket();
    let level = Level::of_this_process();
    let is_clean = |who: &str| {
        is_served(who);
        let left = || running.connections();
        wait_until(|| left() == 1, GONE_WITHIN, || format!("{} connections after {who}", left()));
        level.is_reached_within(GONE_WITHIN);
    };

    let silent = Stranger::knock(&door);
    for (who, words) in [
        ("garbage", &b"GET / HTTP/1.1\r\n\r\n"[..]),
        ("one byte", b"s"),
        ("zeros", &[0; 4096]),
        ("a greeting without an end", &hello[..hello.len() / 2]),
        ("a greeting of another version", &[&hello[..4], &[255; 4], &hello[8..]].concat()),
        ("the longest message", &[7; LONGEST_MESSAGE]),
        ("a message that is too long", &[7; LONGEST_MESSAGE + 1]),
        ("a message that is far too long", &[7; 3 * LONGEST_MESSAGE / 2]),
    ] {
        let stranger = Stranger::knock(&door).says(words);
        is_served(who);
        stranger.is_shown_out(GONE_WITHIN);
    }
    Stranger::knock(&door).says(&hello).says(b"nonsense").is_shown_out(GONE_WITHIN);
    Stranger::knock(&door).says(&hello).says(&hello).is_shown_out(GONE_WITHIN);
    for count in [1, 4, 5, 32] {
        Stranger::knock(&door).hands_over(count).is_shown_out(GONE_WITHIN);
    }
    is_served("all of them");
    silent.is_shown_out(SHOWN_OUT_WITHIN);
    drop(silent);
    is_clean("strangers who were shown out");

    drop(Stranger::knock(&door));
    drop(Stranger::knock(&door).says(&hello));
    is_clean("strangers who left");
    let crowd: Vec<Stranger> = (0..200).map(|_| Stranger::knock(&door)).collect();
    is_served("a silent crowd");
    let crowd: Vec<Stranger> = crowd.into_iter().map(|stranger| stranger.says(&hello)).collect();
    is_served("a crowd that waits for its welcome");
    drop(crowd);
    is_clean("a crowd that left");

    let words = place.file("hello");
    for said in [&[], &hello[..], &hello[..5]] {
        for _ in 0..10 {
            std::fs::write(&words, said).unwrap();
            let mut half = Child::start("half a client", &[(DOOR, &door), (WORDS, &words)]);
            half.expect("said");
            half.kill();
            drop(half);
        }
        is_clean("clients who were killed in the handshake");
    }
    drop(running);
}

/// Role: says its words and waits to be killed; never takes an answer.
pub fn be_half_a_client(mut parent: Line) {
    let mut words = Vec::new();
    std::fs::File::open(std::env::var_os(WORDS).unwrap()).unwrap().read_to_end(&mut words).unwrap();
    let stranger = Stranger::knock(Path::new(&std::env::var_os(DOOR).unwrap()));
    let stranger = if words.is_empty() { stranger } else { stranger.says(&words) };
    parent.say("said");
    assert_eq!(parent.hear(), None);
    drop(stranger);
}

/// What a real client says first: heard at a door of our own.
fn real_hello() -> Vec<u8> {
    let place = Place::new();
    let board = place.board();
    // Makes the namespace's directory.
    assert_eq!(board.list().unwrap(), []);
    let door = seqpacket();
    rustix::net::bind(&door, &SocketAddrUnix::new(place.socket()).unwrap()).unwrap();
    rustix::net::listen(&door, 1).unwrap();
    let client = thread::spawn(move || NotaryClient::connect(&board, "test.notary@1").unwrap_err());
    let visitor = rustix::net::accept(&door).unwrap();
    let mut hello = vec![0; LONGEST_MESSAGE];
    let (len, _) = rustix::net::recv(&visitor, &mut hello[..], RecvFlags::empty()).unwrap();
    hello.truncate(len);
    drop(visitor);
    let status = client.join().expect("no panic");
    assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::NotRun), "{status}");
    hello
}
