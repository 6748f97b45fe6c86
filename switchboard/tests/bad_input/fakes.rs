//! Services that are none: whatever they say to who connects is a typed error, and all that they hand over is closed.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use switchboard::prelude::*;
use test_support::child::{self, Child, Line};
use test_support::level::Level;

use crate::echo::{EchoClient, Place, connect, short};

/// Longest message of the protocol, in bytes.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// Most descriptors that the kernel passes beside one message.
const MOST_PASSED: usize = 253;

const SOON: Duration = Duration::from_secs(5);

fn seqpacket() -> OwnedFd {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// A connected socket that says what it is told to.
pub struct Wire(OwnedFd);

impl Wire {
    /// Connects to a service's socket.
    pub fn to(socket: &Path) -> rustix::io::Result<Self> {
        let fd = seqpacket();
        rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?).map(|()| Self(fd))
    }

    /// Says it, with descriptors beside it; a listener that hung up meanwhile is as good.
    pub fn say(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_PASSED))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        let _ = rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    }

    /// Waits for a message; no bytes at the end of the other side.
    pub fn hear(&self) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut bytes = vec![0; LONGEST_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let len = match rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(received) => received.bytes,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(errno) => panic!("{errno}"),
        };
        bytes.truncate(len);
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        (bytes, rights.flatten().collect())
    }
}

/// A door at which somebody else than the service answers.
pub struct Fake {
    place: Place,
    door: OwnedFd,
}

impl Fake {
    pub fn new() -> Self {
        let place = Place::new();
        // Makes the namespace's directory.
        assert_eq!(place.board().list().unwrap(), []);
        let door = seqpacket();
        rustix::net::bind(&door, &SocketAddrUnix::new(place.socket()).unwrap()).unwrap();
        rustix::net::listen(&door, 8).unwrap();
        Self { place, door }
    }

    fn accept(&self) -> Wire {
        Wire(rustix::net::accept_with(&self.door, SocketFlags::CLOEXEC).unwrap())
    }

    /// Connects a client, whose greeting is heard, and whom `answer` answers; says how that ended for it.
    pub fn answers(&self, answer: impl FnOnce(&Wire, Vec<u8>) + Send) -> Result<EchoClient, Status> {
        std::thread::scope(|scope| {
            let client = scope.spawn(|| connect(&self.place.board()));
            let visitor = self.accept();
            let (hello, _) = visitor.hear();
            answer(&visitor, hello);
            drop(visitor);
            client.join().expect("it does not panic")
        })
    }

    /// The same, which must end in an error.
    pub fn refuses(&self, answer: impl FnOnce(&Wire, Vec<u8>) + Send) -> Status {
        self.answers(answer).expect_err("nobody serves here")
    }
}

/// What a real service says to this greeting.
pub fn real_answer(service: &Place, hello: &[u8]) -> (Vec<u8>, Vec<OwnedFd>) {
    let wire = Wire::to(&service.socket()).unwrap();
    wire.say(hello, &[]);
    wire.hear()
}

fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

/// Whatever a fake service says, or does not say, its client is told so by a status that fits, and keeps nothing.
#[test]
fn garbage_too_much_or_nothing_from_a_service_is_told_and_leaves_nothing() {
    child::alone("client of fakes");
}

/// Descriptors that are no sealed memfds are refused before they are mapped, and closed.
#[test]
fn wrong_fd_types() {
    child::alone("client of wrong descriptors");
}

/// A real service in another process, whose words can be had, and a fake one.
fn real_and_fake() -> (Place, Child, Fake) {
    let service = Place::new();
    let process = service.start_service();
    // Once, so that what a process has for good is there.
    drop(connect(&service.board()).unwrap());
    (service, process, Fake::new())
}

pub fn be_a_client_of_fakes(_parent: Line) {
    let (service, mut process, fake) = real_and_fake();
    let level = Level::of_this_process();
    let is_told = |what: &str, expected: &str, text: &str, answer: &(dyn Fn(&Wire, Vec<u8>) + Sync)| {
        let status = fake.refuses(answer);
        assert_eq!(short(&status), expected, "{what}: {status}");
        assert!(status.message().contains(text) && status.message().len() < 400, "{what}: {status}");
        level.is_reached_within(SOON);
    };

    is_told("nothing", "UNAVAILABLE NotRun", "closed", &|_, _| {});
    is_told("garbage", "FAILED_PRECONDITION NotRun", "not a message of this protocol (19 bytes)", &|wire, _| {
        wire.say(b"HTTP/1.1 400 Sorry\n", &[]);
    });
    is_told("too much", "INTERNAL NotRun", "over 65536 bytes", &|wire, _| wire.say(&[7; LONGEST_MESSAGE + 1], &[]));
    is_told("its own words", "FAILED_PRECONDITION NotRun", "cannot be understood", &|wire, hello| {
        wire.say(&hello, &[]);
    });
    is_told("half a welcome", "FAILED_PRECONDITION NotRun", "malformed", &|wire, hello| {
        let (welcome, fds) = real_answer(&service, &hello);
        wire.say(&welcome[..welcome.len() / 2], &borrowed(&fds));
    });
    for count in [0, 1, 2, 4] {
        is_told(
            "another number of descriptors",
            "INTERNAL NotRun",
            "descriptors with a lane in the mode",
            &|wire, hello| {
                let (welcome, fds) = real_answer(&service, &hello);
                let fds: Vec<_> = borrowed(&fds).into_iter().cycle().take(count).collect();
                wire.say(&welcome, &fds);
            },
        );
    }
    is_told("253 descriptors", "INTERNAL NotRun", "6 descriptors", &|wire, hello| {
        let (welcome, fds) = real_answer(&service, &hello);
        wire.say(&welcome, &[fds[0].as_fd(); MOST_PASSED]);
    });

    let (client, wire) = {
        let mut kept = None;
        let client = fake.answers(|wire, hello| {
            let (welcome, fds) = real_answer(&service, &hello);
            wire.say(&welcome, &borrowed(&fds));
            kept = Some(Wire(wire.0.try_clone().unwrap()));
        });
        (client.unwrap(), kept.unwrap())
    };
    // Nobody serves the lane from here on.
    process.kill();
    let status = client.clone().with_timeout(Duration::from_millis(50)).echo(b"anybody?").unwrap_err();
    assert_eq!(short(&status), "DEADLINE_EXCEEDED MayHaveRun", "{status}");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.echo(b"anybody?").unwrap_err());
        drop(wire);
        let status = call.join().unwrap();
        // The call may find out before it is sent, and then comes to the door, where nobody answers any more.
        assert!(matches!(status.code(), Code::Unavailable), "{status}");
    });
    drop(client);
    level.is_reached_within(SOON);
}

pub fn be_handed_wrong_descriptors(_parent: Line) {
    let (service, _process, fake) = real_and_fake();
    let (reader, _writer) = std::io::pipe().unwrap();
    let path_only = rustix::fs::open("/dev/shm", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let unsealed = rustix::fs::memfd_create("unsealed", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&unsealed, 1 << 20).unwrap();
    let wrong: [(&str, OwnedFd); 6] = [
        ("a pipe", reader.into()),
        ("a directory", File::open("/").unwrap().into()),
        ("a descriptor of a path", path_only),
        ("a device", File::open("/dev/zero").unwrap().into()),
        ("a socket", seqpacket()),
        ("memory without seals", unsealed),
    ];
    let level = Level::of_this_process();
    for (what, fd) in &wrong {
        for place in 0..2 {
            let status = fake.refuses(|wire, hello| {
                let (welcome, fds) = real_answer(&service, &hello);
                let mut fds = borrowed(&fds);
                fds[place] = fd.as_fd();
                wire.say(&welcome, &fds);
            });
            assert_eq!(short(&status), "INTERNAL NotRun", "{what}: {status}");
            assert!(status.message().contains("segment refused"), "{what}: {status}");
            level.is_reached_within(SOON);
        }
        // The third is no memory, but the rope by which tasks are told of replies.
        let status = fake.refuses(|wire, hello| {
            let (welcome, fds) = real_answer(&service, &hello);
            wire.say(&welcome, &[fds[0].as_fd(), fds[1].as_fd(), fd.as_fd()]);
        });
        assert_eq!(short(&status), "INTERNAL NotRun", "{what}: {status}");
        assert!(status.message().contains("bell rope"), "{what}: {status}");
        level.is_reached_within(SOON);
    }
}
