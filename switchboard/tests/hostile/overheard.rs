//! The real protocol's words, overheard from the product's own client, and a socket to say them at.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::IoSliceMut;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use switchboard::Trust;
use switchboard::prelude::*;

use crate::siege::{BesiegedClient, Ground, NAME, SOCKET};
use crate::support::TempDir;

/// Longest message that the socket's protocol allows, in bytes.
pub const LONGEST_MESSAGE: usize = 64 * 1024;

/// Most descriptors that the kernel passes with one message.
pub const MOST_DESCRIPTORS: usize = 253;

/// How long the service may take to answer, on a loaded machine.
const ANSWERED_WITHIN: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// A connected socket; dropped, it hangs up.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    pub fn connect(path: &Path) -> rustix::io::Result<Self> {
        let socket = seqpacket();
        // A full backlog is no reason to wait.
        rustix::io::ioctl_fionbio(&socket, true)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// Says it if there is room; a service that hung up meanwhile is as good. Whether it was said.
    pub fn say(&self, words: &[u8]) -> bool {
        rustix::net::send(&self.0, words, SendFlags::NOSIGNAL).is_ok()
    }

    pub fn hand_over(&self, words: &[u8], gifts: &[BorrowedFd<'_>]) -> bool {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(gifts.is_empty() || control.push(SendAncillaryMessage::ScmRights(gifts)));
        rustix::net::sendmsg(&self.0, &[IoSlice::new(words)], &mut control, SendFlags::NOSIGNAL).is_ok()
    }

    /// Waits for a message and what comes beside it; `None` if the other side hangs up, or says nothing for long.
    pub fn hear(&self) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
        let mut words = vec![0; LONGEST_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&ANSWERED_WITHIN)).ok()?;
        let mut parts = [IoSliceMut::new(&mut words)];
        let received = rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        let gifts = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(gifts) => Some(gifts),
            _ => None,
        });
        let gifts = gifts.flatten().collect();
        words.truncate(received.bytes);
        (received.bytes > 0).then_some((words, gifts))
    }
}

fn seqpacket() -> OwnedFd {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("a descriptor is left")
}

/// Lets a real client call, and stands between it and the service at `door` for the handshake; gives the greeting, the
/// socket to the client, and the thread in which it calls.
pub fn between<T: Send + 'static>(
    trust: Trust,
    door: &Path,
    call: impl FnOnce(Switchboard) -> T + Send + 'static,
) -> (Vec<u8>, Socket, thread::JoinHandle<T>) {
    let dir = TempDir::new();
    let board = Switchboard::builder()
        .in_process(false)
        .runtime_dir(dir.path())
        .trust(trust)
        .open()
        .expect("the directory is ours");
    // Makes the namespace's directory.
    assert_eq!(board.list(), Ok(vec![]));
    let own_door = seqpacket();
    rustix::net::bind(&own_door, &SocketAddrUnix::new(dir.path().join(SOCKET)).expect("short enough")).expect("free");
    rustix::net::listen(&own_door, 1).expect("bound");
    let client = thread::spawn(move || call(board));
    let client_side = Socket(rustix::net::accept(&own_door).expect("the client comes"));
    let (hello, _) = client_side.hear().expect("the client greets");
    let service_side = Socket::connect(door).expect("the service listens");
    assert!(service_side.say(&hello));
    let (welcome, gifts) = service_side.hear().expect("the service answers");
    let gifts: Vec<_> = gifts.iter().map(AsFd::as_fd).collect();
    assert!(client_side.hand_over(&welcome, &gifts));
    (hello, client_side, client)
}

/// What a real client says: first, and when a request of a MiB has no room.
#[derive(Debug, Clone)]
pub struct Words {
    pub hello: Vec<u8>,
    pub grow: Vec<u8>,
}

impl Words {
    /// Stands between a client and the service for one handshake.
    pub fn overheard(ground: &Ground) -> Self {
        let (hello, client_side, client) = between(Trust::CHECKED, &ground.socket(), |board| {
            let client = BesiegedClient::connect(&board, NAME)?.with_timeout(Duration::from_millis(500));
            client.mark(1, &vec![1; 1 << 20])
        });
        let (grow, _) = client_side.hear().expect("the client asks for room");
        drop(client_side);
        // How its call ends is of no interest.
        let _ = client.join().expect("no panic");
        Self { hello, grow }
    }
}
