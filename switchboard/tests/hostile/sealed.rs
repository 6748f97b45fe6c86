//! Clients that offer a service anything but sealed memory, where sealed memory is accepted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use switchboard::Trust;
use switchboard::prelude::*;
use test_support::child::{Child, Line};
use test_support::level::Level;

use crate::overheard::{Socket, between};
use crate::siege::{BesiegedClient, BesiegedServer, NAME, RUNTIME_DIR, SOCKET, Wall, answer_to};
use crate::support::TempDir;

/// Large enough to be sent as sealed memory.
const LARGE: usize = 17 << 20;

/// The service hangs up, or answers, within this time on a loaded machine.
const IN_TIME: Duration = Duration::from_secs(4);

/// Role: serves, and accepts sealed memory.
pub fn serve(mut parent: Line) {
    let board = board(Path::new(&std::env::var_os(RUNTIME_DIR).expect("the parent says where")));
    let serve = board.serve(NAME, BesiegedServer::new(Wall)).workers(2).accept_sealed(true);
    let _running = serve.start().expect("the name is free");
    parent.say("serving");
    assert_eq!(parent.hear(), None);
}

fn board(dir: &Path) -> Switchboard {
    Switchboard::builder()
        .in_process(false)
        .runtime_dir(dir)
        .trust(Trust::ISOLATED)
        .open()
        .expect("the directory is ours")
}

/// What a client says that sends a large request: its greeting, its announcement, and the sealed memory beside that.
fn overheard(door: &Path) -> (Vec<u8>, Vec<u8>, OwnedFd) {
    let call = |board: Switchboard| {
        let client = BesiegedClient::connect(&board, NAME)?.with_timeout(Duration::from_secs(2));
        client.mark(1, &vec![1; LARGE])
    };
    let (hello, client_side, client) = between(Trust::ISOLATED, door, call);
    let (announcement, mut gifts) = client_side.hear().expect("the client announces its request");
    let sealed = gifts.pop().expect("its memory comes beside it");
    drop(client_side);
    // How its call ends is of no interest.
    let _ = client.join().expect("no panic");
    (hello, announcement, sealed)
}

fn memfd(len: u64, seals: SealFlags) -> OwnedFd {
    let fd = rustix::fs::memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory");
    rustix::fs::fallocate(&fd, rustix::fs::FallocateFlags::empty(), 0, len).expect("memory");
    rustix::fs::fcntl_add_seals(&fd, seals).expect("nobody maps it");
    fd
}

#[test]
fn a_client_that_offers_anything_but_sealed_memory_ends_its_own_connection_only() {
    let dir = TempDir::new();
    let mut service = Child::start("service that accepts sealed memory", &[(RUNTIME_DIR, dir.path())]);
    service.expect("serving");
    let door = dir.path().join(SOCKET);
    let (hello, announcement, right) = overheard(&door);
    let len = rustix::fs::fstat(&right).expect("a file").st_size as u64;

    let honest = BesiegedClient::connect(&board(dir.path()), NAME).expect("it is served");
    let filler = vec![5; LARGE];
    assert_eq!(honest.mark(2, &filler), Ok(answer_to(2, &filler)));
    let level = Level::of_process(service.id());

    let open =
        |path: &str| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("it is there");
    let all = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    let pipe = OwnedFd::from(std::io::pipe().expect("two descriptors").0);
    let wrong: [(&str, OwnedFd); 10] = [
        ("unsealed", memfd(len, SealFlags::empty())),
        ("sealed against writing from now on only", memfd(len, (all - SealFlags::WRITE) | SealFlags::FUTURE_WRITE)),
        ("can be truncated", memfd(len, all - SealFlags::SHRINK)),
        ("can grow", memfd(len, all - SealFlags::GROW)),
        ("shorter", memfd(len - 1, all)),
        ("longer", memfd(len + 1, all)),
        ("a pipe", pipe),
        ("a directory", open("/")),
        ("/dev/zero", open("/dev/zero")),
        ("a file without a size", open("/proc/self/maps")),
    ];
    let mut offers: Vec<(&str, Vec<BorrowedFd<'_>>)> =
        wrong.iter().map(|(what, fd)| (*what, vec![fd.as_fd()])).collect();
    offers.push(("nothing", vec![]));
    offers.push(("two of them", vec![right.as_fd(); 2]));
    for (number, (what, gifts)) in offers.iter().enumerate() {
        let socket = Socket::connect(&door).expect("the service listens");
        assert!(socket.say(&hello));
        assert!(socket.hear().is_some(), "{what}: no welcome");
        assert!(socket.hand_over(&announcement, gifts));
        let began = Instant::now();
        assert!(socket.hear().is_none(), "{what}: answered");
        assert!(began.elapsed() < IN_TIME, "{what}: neither answered nor shown out");
        let number = number as u64;
        assert_eq!(honest.mark(number, b"small"), Ok(answer_to(number, b"small")), "an honest call beside {what}");
    }
    println!("figure: wrong descriptors offered as sealed memory, each refused = {}", offers.len());

    // The right one, twice under one number, and one that nobody calls for.
    for second in [true, false] {
        let socket = Socket::connect(&door).expect("the service listens");
        assert!(socket.say(&hello));
        assert!(socket.hear().is_some());
        assert!(socket.hand_over(&announcement, &[right.as_fd()]));
        assert!(socket.hear().is_some(), "what is right is kept");
        if second {
            assert!(socket.hand_over(&announcement, &[right.as_fd()]));
            assert!(socket.hear().is_none(), "one number twice");
        }
    }
    let until = Instant::now() + IN_TIME;
    while Level::of_process(service.id()) != level {
        assert!(Instant::now() < until, "left behind: {:#?}, not {level:#?}", Level::of_process(service.id()));
        thread::yield_now();
    }
    assert_eq!(honest.mark(7, &filler), Ok(answer_to(7, &filler)));
}
