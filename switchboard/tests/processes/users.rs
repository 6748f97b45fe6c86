//! Services and clients of different users: real ones, by processes that change theirs. Only root can start such, so
//! without it these tests say loudly that they were skipped.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use memmap2::MmapOptions;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use switchboard::prelude::*;
use switchboard::{Access, Trust};

use crate::notary::{Desk, NAME, NotaryClient, NotaryServer, Place, filler_of, short, verdict, wait_until};
use test_support::child::{Child, Line};

/// Users whose numbers nobody has.
const SERVES: u32 = 54_321;
const CALLS: u32 = 54_322;
const CALLS_TOO: u32 = 54_323;

const PER_USER: &str = "USERS_CONNECTIONS";
const BYTES: &str = "USERS_BYTES";
const MODE: &str = "USERS_MODE";

const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A place for user [`SERVES`], and its notary there, or nothing if this test is not run by root.
fn service(limits: &[(&str, &str)]) -> Option<(Place, Child)> {
    let place = Place::new();
    let service = start_service(&place, limits);
    if service.is_none() {
        eprintln!("\nSKIP: processes of other users cannot be started here: run this test as root\n");
    }
    service.map(|service| (place, service))
}

fn start_service(place: &Place, limits: &[(&str, &str)]) -> Option<Child> {
    let home = place.runtime_dir();
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(SERVES), Some(SERVES)).ok()?;
    // Those who call may pass, and nobody but its owner may write.
    std::fs::set_permissions(&home, PermissionsExt::from_mode(0o711)).unwrap();
    let mut environment = vec![place.environment()];
    environment.extend(limits.iter().map(|(name, value)| (*name, PathBuf::from(value))));
    let mut service = Child::start_as(SERVES, "service for all users", &environment)?;
    service.expect("serving");
    Some(service)
}

fn client(place: &Place, uid: u32) -> Child {
    Child::start_as(uid, "client of another user", &[place.environment()]).expect("the service was started likewise")
}

/// Role: the notary, for every user unless the environment says otherwise.
pub fn serve_all(mut parent: Line) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u32>().expect("a number"));
    let access = Access::default().mode(number(MODE).unwrap_or(0o666));
    let open =
        Switchboard::builder().in_process(false).runtime_dir(std::env::var_os("SWITCHBOARD_RUNTIME_DIR").unwrap());
    let board = open.access(access).open().expect("the directory is ours");
    let serve = board.serve(NAME, NotaryServer::new(Desk::silent())).workers(2);
    let serve = serve.max_connections_per_user(number(PER_USER).unwrap_or(1024));
    let serve = serve.max_bytes(number(BYTES).map_or(1 << 30, |bytes| bytes as usize));
    let running = serve.start().expect("nobody else serves here");
    parent.say("serving");
    while let Some(question) = parent.hear() {
        match &question[..] {
            "connections" => parent.say(running.connections()),
            other => panic!("`{other}` is no question"),
        }
    }
}

/// Role: calls with so many bytes as it is told, and says how it ended.
pub fn be_a_client(mut parent: Line) {
    let board = Switchboard::from_env().expect("the directory is there");
    let mut client = None;
    while let Some(order) = parent.hear() {
        match &order[..] {
            "attack" => {
                parent.say(attack());
                continue;
            }
            "ring" => {
                parent.say(format!("shown out after {} rings", ring_for_nothing()));
                continue;
            }
            _ => {}
        }
        let connected = match client.take() {
            Some(client) => Ok(client),
            None => NotaryClient::connect(&board, "test.notary@1"),
        };
        match connected {
            Ok(connected) => {
                let filler = filler_of(7, order.parse().expect("a number of bytes"));
                parent.say(verdict(7, &filler, &connected.quick(7, &filler)));
                client = Some(connected);
            }
            Err(status) => parent.say(short(&status)),
        }
    }
}

/// The descriptors of this process and what they are open on, each a duplicate.
fn descriptors() -> impl Iterator<Item = (OwnedFd, String)> {
    let this = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).unwrap();
    std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(move |entry| {
        let target = std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
        let fd = entry.file_name().to_string_lossy().parse().unwrap();
        Some((rustix::process::pidfd_getfd(&this, fd, rustix::process::PidfdGetfdFlags::empty()).ok()?, target))
    })
}

/// Pulls the rope of this process's connection until nobody is at the other end; says how often.
fn ring_for_nothing() -> u64 {
    let own = rustix::process::geteuid();
    let mut ropes = descriptors().filter(|(fd, target)| {
        target.starts_with("socket:")
            && rustix::net::sockopt::socket_type(fd) == Ok(SocketType::STREAM)
            && rustix::net::sockopt::socket_peercred(fd).is_ok_and(|peer| peer.uid != own && !peer.uid.is_root())
    });
    let (rope, _) = ropes.next().expect("an isolated client has a rope");
    for rings in 1.. {
        match rustix::net::send(&rope, &[1], SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(_) => return rings,
        }
    }
    unreachable!("the service shows it out first")
}

/// Tries to write what only the service may: the memory of this process's connection that its service named so.
fn attack() -> String {
    let mut attacked = 0;
    let ours_alone =
        |target: &str| ["switchboard-down", "switchboard-replies"].iter().any(|name| target.contains(name));
    for (ours, target) in descriptors().filter(|(_, target)| ours_alone(target)) {
        attacked += 1;
        let path = format!("/proc/self/fd/{}", ours.as_raw_fd());
        assert!(File::options().read(true).write(true).open(path).is_err(), "{target}: opened again for writing");
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(rustix::fs::fallocate(ours.as_fd(), hole, 0, 4096), Err(Errno::PERM), "{target}: hole");
        assert_eq!(rustix::fs::ftruncate(ours.as_fd(), 0), Err(Errno::PERM), "{target}: truncated");
        let ours = File::from(ours);
        assert!(MmapOptions::new().len(4096).map_raw(&ours).is_err(), "{target}: mapped for writing");
        assert!(MmapOptions::new().len(4096).map_raw_read_only(&ours).is_ok(), "{target}: not even for reading");
        assert!(ours.write_at(&[1], 128).is_err(), "{target}: written");
    }
    format!("{attacked} refused")
}

#[test]
fn another_users_client_calls_with_payloads_of_every_size() {
    let Some((place, mut service)) = service(&[]) else { return };
    let mut client = client(&place, CALLS);
    for len in [0, 1, 64, 88, 89, 500, 513, 1024, 5000, 16_384, 70_000, 1 << 20, (5 << 20) + 3, 100, 70_000] {
        assert_eq!(client.ask(len), "right", "{len} bytes");
    }
    assert_eq!(service.ask("connections"), "1");
}

#[test]
fn what_only_the_service_writes_cannot_be_written_by_another_users_client() {
    let Some((place, mut service)) = service(&[]) else { return };
    let mut client = client(&place, CALLS);
    assert_eq!(client.ask(100_000), "right");
    assert_eq!(client.ask("attack"), "2 refused", "the lane's part and a segment for replies");
    assert_eq!(client.ask(100_000), "right");
    assert_eq!(service.ask("connections"), "1");
}

#[test]
fn a_dead_client_of_another_user_leaves_nothing_and_a_dead_service_is_found_again() {
    let Some((place, mut service)) = service(&[]) else { return };
    let mut stays = client(&place, CALLS_TOO);
    assert_eq!(stays.ask(5000), "right");
    for _ in 0..3 {
        let mut dies = client(&place, CALLS);
        assert_eq!(dies.ask(70_000), "right");
        dies.kill();
        let mut left = String::new();
        let is_one = |left: &mut String, service: &mut Child| {
            *left = service.ask("connections");
            left == "1"
        };
        wait_until(|| is_one(&mut left, &mut service), GONE_WITHIN, || "connections are left".into());
    }
    service.kill();
    // The connection that ended, or nobody to connect to.
    let told = stays.ask(1);
    assert!(told == "UNAVAILABLE NotRun" || told == "NOT_FOUND NotRun", "{told}");
    let _service = start_service(&place, &[]).unwrap();
    assert_eq!(stays.ask(70_000), "right");
}

#[test]
fn a_service_that_lets_nobody_in_is_not_reached_by_other_users() {
    let Some((place, _service)) = service(&[(MODE, "384")]) else { return };
    let refused = client(&place, CALLS).ask(1);
    assert!(refused == "FAILED_PRECONDITION NotRun" || refused == "PERMISSION_DENIED NotRun", "{refused}");
}

#[test]
fn a_user_has_so_many_connections_and_gets_them_back_when_its_processes_are_gone() {
    let Some((place, _service)) = service(&[(PER_USER, "2")]) else { return };
    let mut first = [client(&place, CALLS), client(&place, CALLS)];
    assert!(first.iter_mut().all(|client| client.ask(1) == "right"));
    let mut third = client(&place, CALLS);
    assert_eq!(third.ask(1), "RESOURCE_EXHAUSTED NotRun");
    assert_eq!(client(&place, CALLS_TOO).ask(1), "right", "another user has its own");
    first[0].kill();
    wait_until(|| third.ask(1) == "right", GONE_WITHIN, || "the connection is not given back".into());
}

#[test]
fn a_connection_has_so_many_bytes_for_large_payloads() {
    let Some((place, _service)) = service(&[(BYTES, "2097152")]) else { return };
    let mut client = client(&place, CALLS);
    assert_eq!(client.ask(1 << 20), "right");
    assert_eq!(client.ask(3 << 20), "RESOURCE_EXHAUSTED NotRun");
    assert_eq!(client.ask(100), "right", "the connection goes on");
}

#[test]
fn a_client_that_rings_for_nothing_is_shown_out_and_others_are_served_meanwhile() {
    let Some((place, mut service)) = service(&[]) else { return };
    let (mut rings, mut honest) = (client(&place, CALLS), client(&place, CALLS_TOO));
    assert_eq!(rings.ask(1), "right");
    assert_eq!(honest.ask(1), "right");
    rings.say("ring");
    let mut served = 0;
    let mut is_over = false;
    while !is_over {
        assert_eq!(honest.ask(1000), "right");
        served += 1;
        is_over = service.ask("connections") == "1";
    }
    println!("figure: calls of others while a client rings for nothing = {served}");
    assert!(rings.hear().starts_with("shown out"));
    assert_eq!(honest.ask(70_000), "right");
}

#[test]
fn a_user_has_so_many_connections_that_have_said_nothing_and_gets_them_back() {
    const MOST: usize = 256;
    let place = Place::new();
    let board = place.board();
    let running = board.serve(NAME, NotaryServer::new(Desk::silent())).start().unwrap();
    let before = NotaryClient::connect(&board, NAME).unwrap();
    let door = SocketAddrUnix::new(place.socket()).unwrap();
    let silent: Vec<OwnedFd> = (0..MOST)
        .map(|_| {
            let flags = SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
            rustix::net::connect(&socket, &door).unwrap();
            socket
        })
        .collect();
    // A switchboard of its own, so that its connection is another one.
    let told = short(&NotaryClient::connect(&place.board(), NAME).unwrap_err());
    assert_eq!(told, "RESOURCE_EXHAUSTED NotRun");
    assert_eq!(verdict(1, b"", &before.quick(1, b"")), "right", "who is in stays in");
    drop(silent);
    let again = || NotaryClient::connect(&place.board(), NAME).is_ok();
    wait_until(again, GONE_WITHIN, || "they are not given back".into());
    wait_until(|| running.connections() == 1, GONE_WITHIN, || format!("{} connections", running.connections()));
}

#[test]
fn whoever_wants_to_be_isolated_is_by_either_sides_word() {
    for (ours, theirs) in [(Trust::ISOLATED, Trust::CHECKED), (Trust::CHECKED, Trust::ISOLATED)] {
        let place = Place::new();
        let open = |trust| {
            Switchboard::builder().in_process(false).runtime_dir(place.runtime_dir()).trust(trust).open().unwrap()
        };
        let desk = NotaryServer::new(Desk::silent());
        let _running = open(ours).serve(NAME, desk).start().unwrap();
        let client = NotaryClient::connect(&open(theirs), NAME).unwrap();
        for len in [0, 100, 1000, 70_000] {
            let filler = filler_of(3, len);
            assert_eq!(verdict(3, &filler, &client.quick(3, &filler)), "right");
        }
        assert!(std::fs::read_to_string("/proc/self/maps").unwrap().contains("/memfd:switchboard-down"));
    }
}
