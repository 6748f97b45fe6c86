//! Programs of different versions that meet: an error with both versions, before any memory is mapped.

use std::os::fd::{AsFd, OwnedFd};

use crate::echo::{Place, connect, serve_here, short, verdict};
use crate::fakes::{Fake, Wire, real_answer};

/// Where the version stands in a message, behind four bytes of magic.
const VERSION: std::ops::Range<usize> = 4..8;

fn version_of(message: &[u8]) -> u32 {
    u32::from_le_bytes(message[VERSION].try_into().unwrap())
}

/// What a client says first: heard at a door of our own.
fn hello() -> Vec<u8> {
    let mut heard = Vec::new();
    Fake::new().refuses(|_, hello| heard = hello);
    heard
}

/// A service tells a client of another version both versions, gives it nothing, and serves on.
#[test]
fn old_client_new_server() {
    let place = Place::new();
    let running = serve_here(&place.board());
    let hello = hello();
    let ours = version_of(&hello);
    for theirs in [0, ours + 1, u32::MAX] {
        let mut other = hello.clone();
        other[VERSION].copy_from_slice(&theirs.to_le_bytes());
        let wire = Wire::to(&place.socket()).unwrap();
        wire.say(&other, &[]);
        let (answer, fds) = wire.hear();
        assert_eq!(version_of(&answer), ours, "in words of the service's own version, which it names");
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.contains(&format!("of the peer is {theirs}, this program has {ours}")), "{text}");
        assert_eq!(fds.len(), 0);
        assert_eq!(wire.hear().0, [], "and then it hangs up");
    }
    assert_eq!(running.connections(), 0);
    assert_eq!(verdict(&connect(&place.board()).unwrap(), b"same version"), "right");
}

/// A client that meets a service of another version is told both versions, whatever that one says besides.
#[test]
fn new_client_old_server() {
    let service = Place::new();
    let _running = serve_here(&service.board());
    let fake = Fake::new();
    for theirs in [0_u32, 7, u32::MAX] {
        let mut ours = 0;
        let status = fake.refuses(|wire, hello| {
            ours = version_of(&hello);
            let (mut welcome, fds) = real_answer(&service, &hello);
            welcome[VERSION].copy_from_slice(&theirs.to_le_bytes());
            wire.say(&welcome, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>());
        });
        assert_eq!(short(&status), "FAILED_PRECONDITION NotRun", "{status}");
        assert!(status.message().contains(&format!("of the peer is {theirs}, this program has {ours}")), "{status}");
    }
}

/// Memory of another layout is refused by its version, be it the lane's or the ready set's.
#[test]
fn memory_of_another_version_is_told_with_both_numbers() {
    let service = Place::new();
    let _running = serve_here(&service.board());
    let fake = Fake::new();
    for place in 0..2 {
        let status = fake.refuses(|wire, hello| {
            let (welcome, fds) = real_answer(&service, &hello);
            // A copy: the ready set belongs to all clients of the service.
            let fds: Vec<OwnedFd> =
                fds.into_iter().enumerate().map(|(i, fd)| if i == place { of_version(77, &fd) } else { fd }).collect();
            wire.say(&welcome, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>());
        });
        assert_eq!(short(&status), "FAILED_PRECONDITION NotRun", "{status}");
        assert!(status.message().contains("version of the segment is 77, this program has"), "{status}");
    }
}

/// Sealed memory with the same content, but for the version in its header: the low half of the first word.
fn of_version(version: u32, fd: &OwnedFd) -> OwnedFd {
    use rustix::fs::{MemfdFlags, SealFlags};
    let mut bytes = vec![0; rustix::fs::fstat(fd).unwrap().st_size as usize];
    assert_eq!(rustix::io::pread(fd, &mut bytes[..], 0), Ok(bytes.len()));
    bytes[..4].copy_from_slice(&version.to_le_bytes());
    let copy = rustix::fs::memfd_create("copy", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    assert_eq!(rustix::io::pwrite(&copy, &bytes, 0), Ok(bytes.len()));
    rustix::fs::fcntl_add_seals(&copy, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
    copy
}
