//! Queues between users, and between producers of one user that are trusted more or less.
#![allow(unsafe_code)] // One trust mode is made by a promise.

use std::fs::Permissions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use shm_ring::mpsc::{MpscLayout, Queue, QueueOptions};
use shm_ring::rendezvous::{Access, Connection, RuntimeDir};
use shm_ring::{BuildId, Error, Layout, RecvError, Trust};

use super::support::backings::fresh_path;
use super::support::role::{Child, line, this_program};
use super::{Site, numbered, read_numbered, until};

/// A user and group that nobody has, and that are not the overflow ones.
const STRANGER: u32 = 54_321;

/// A queue whose lanes are isolated whoever comes, and which lets everybody in.
fn isolated(site: &Site) -> QueueOptions {
    site.options().trust(Trust::ISOLATED).access(Access::default().mode(0o666))
}

fn create(site: &Site, options: &QueueOptions) -> Queue {
    options.create(&site.address).expect("nobody serves here")
}

/// This program as another user may execute it; removed when it is dropped.
struct Copy(PathBuf);

impl Copy {
    fn new(change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut program = std::fs::read(this_program()).expect("this program can be read");
        change(&mut program);
        let path = fresh_path();
        std::fs::write(&path, program).expect("there is room for a program");
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    fn child(&self, site: &Site, role: &str, uid: Option<u32>) -> Child {
        let mut command = Command::new(&self.0);
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let child = Child::start_by(command, role);
        child.say(site.dir.display());
        child.say(&site.address);
        child
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A copy of this program for children that run as [`STRANGER`]; `None` where only root could start them.
fn as_stranger() -> Option<Copy> {
    if rustix::process::geteuid().is_root() {
        return Some(Copy::new(|_| ()));
    }
    println!("SKIP: only root can start a process of another user");
    None
}

/// Opens the queue as often as it is told to, and says what came of it.
#[test]
#[ignore = "a role of a child process"]
fn role_opens() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let mut senders = Vec::new();
    while line.hear().is_some() {
        match site.options().open(&site.address) {
            Ok(sender) => {
                line.say("opened");
                senders.push(sender);
            }
            Err(error) => line.say(error),
        }
    }
}

/// Receives `count` numbered frames of one producer.
fn receive_numbered(queue: &mut Queue, id: u64, count: u64, trust: Trust) {
    for i in 0..count {
        let frame = queue.recv().expect("its producer sends so many");
        assert_eq!((read_numbered(frame.bytes()), frame.trust()), ((id, i), trust));
    }
}

#[test]
fn a_process_of_another_user_sends_through_an_isolated_lane() {
    let Some(program) = as_stranger() else { return };
    let site = Site::new();
    let access = Access::default().mode(0o666);
    let mut queue = create(&site, &site.options().access(access));
    let mut child = program.child(&site, "role_counts", Some(STRANGER));
    child.say(7);
    child.say(3_000);
    receive_numbered(&mut queue, 7, 3_000, Trust::ISOLATED);
    assert_eq!(child.hear(), "sent");
    child.kill();
    until("its lane goes", || queue.try_recv().is_err() && queue.producers() == 0);
    // Its own user's processes are checked, as ever.
    site.open().send(b"ours").unwrap();
    assert_eq!(queue.recv().unwrap().trust(), Trust::CHECKED);
}

#[test]
fn another_user_is_let_in_by_the_mode_of_the_socket_alone() {
    let Some(program) = as_stranger() else { return };
    for (access, may_come) in [
        (Access::default(), false),
        (Access::default().mode(0o600), false),
        (Access::default().mode(0o660), false),
        (Access::default().mode(0o660).group(STRANGER), true),
        (Access::default().mode(0o606), true),
    ] {
        let site = Site::new();
        let _queue = create(&site, &site.options().access(access));
        let mut child = program.child(&site, "trust::role_opens", Some(STRANGER));
        child.say("open");
        let answer = child.hear();
        assert_eq!(answer == "opened", may_come, "{access:?}: {answer}");
        assert!(may_come || answer.contains("ermission denied"), "{access:?}: {answer}");
    }
}

#[test]
fn a_user_is_refused_more_lanes_than_its_quota_and_gets_them_back_when_it_leaves() {
    let Some(program) = as_stranger() else { return };
    let lane = MpscLayout::new(64).unwrap();
    let quotas: [fn(QueueOptions, usize) -> QueueOptions; 2] =
        [|options, _| options.producers_per_user(2), |options, lane| options.bytes_per_user(2 * lane + 1)];
    for quota in quotas {
        let site = Site::new();
        let options = site.options().lane(lane).access(Access::default().mode(0o666));
        let queue = create(&site, &quota(options, lane.bytes()));
        let mut child = program.child(&site, "trust::role_opens", Some(STRANGER));
        let asks = |child: &mut Child| {
            child.say("open");
            child.hear()
        };
        assert_eq!((asks(&mut child), asks(&mut child)), ("opened".to_owned(), "opened".to_owned()));
        let refused = asks(&mut child);
        let tells = [&format!("a further lane of this user of {} bytes", lane.bytes()), "this user may have 2 lanes"];
        assert!(tells.iter().all(|text| refused.contains(*text)), "{refused}");
        // Ours is another user.
        let _ours: Vec<_> = (0..3).map(|_| site.open()).collect();
        child.kill();
        until("its lanes go", || queue.producers() == 3);
        let mut child = program.child(&site, "trust::role_opens", Some(STRANGER));
        assert_eq!(asks(&mut child), "opened");
    }
}

#[test]
fn isolated_lanes_carry_every_frame_of_many_processes_once_and_in_order() {
    const CHILDREN: u64 = 4;
    const FRAMES: u64 = 2_000;
    let site = Site::new();
    let mut queue = create(&site, &isolated(&site).lane(MpscLayout::new(64).unwrap()));
    let children: Vec<_> = (0..CHILDREN)
        .map(|id| {
            let child = site.child("role_counts");
            child.say(id);
            child.say(FRAMES);
            child
        })
        .collect();
    let mut next = [0; CHILDREN as usize];
    for _ in 0..CHILDREN * FRAMES {
        let frame = queue.recv().unwrap();
        let (id, i) = read_numbered(frame.bytes());
        assert_eq!((i, frame.trust()), (next[id as usize], Trust::ISOLATED));
        next[id as usize] += 1;
    }
    drop(children);
    until("all lanes go", || queue.try_recv().is_err() && queue.producers() == 0);
    assert_eq!((queue.thrown_out(), queue.rescues()), (0, 0));
}

/// The rope has to wake a consumer that sleeps in any way, each time.
#[test]
fn a_sleeping_consumer_is_woken_by_the_rope_in_every_way_of_waiting() {
    const ROUNDS: u64 = 200;
    let site = Site::new();
    let mut queue = create(&site, &isolated(&site));
    queue.set_spin(Duration::ZERO);
    let sender = site.open();
    let (go, goes) = std::sync::mpsc::channel();
    let sends = std::thread::spawn(move || {
        for i in goes {
            sender.send(&numbered(0, i)).expect("the consumer lives");
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for i in 0..ROUNDS {
        go.send(i).unwrap();
        let frame = match i % 3 {
            0 => queue.recv().unwrap(),
            1 => runtime.block_on(queue.recv_async()).unwrap(),
            _ => {
                while queue.is_empty() && queue.arm() {
                    let mut polled = [rustix::event::PollFd::new(&queue, rustix::event::PollFlags::IN)];
                    rustix::event::poll(&mut polled, None).unwrap();
                }
                queue.recv_deadline(Instant::now() + Duration::from_secs(60)).unwrap()
            }
        };
        assert_eq!(read_numbered(frame.bytes()), (0, i));
    }
    drop(go);
    sends.join().unwrap();
    assert_eq!(queue.rescues(), 0);
}

#[test]
fn a_full_isolated_lane_waits_for_room_and_a_closed_queue_ends_it() {
    let site = Site::new();
    let mut queue = create(&site, &isolated(&site).lane(MpscLayout::new(4).unwrap()));
    let sender = site.open();
    let sends = std::thread::spawn(move || (0..).find_map(|i| sender.send(&numbered(1, i)).err()));
    receive_numbered(&mut queue, 1, 1_000, Trust::ISOLATED);
    queue.close();
    while queue.recv().is_ok() {}
    assert_eq!(sends.join().unwrap(), Some(shm_ring::ClaimError::Closed));
    assert_eq!(queue.try_recv().unwrap_err(), RecvError::Closed);
}

/// A producer that speaks the protocol of the socket itself: what it may write, what it may read, its rope.
struct Rogue {
    up: OwnedFd,
    down: OwnedFd,
    rope: OwnedFd,
    _connection: Connection,
}

impl Rogue {
    fn at(site: &Site) -> Self {
        let dir = RuntimeDir::open_to_connect(site.socket().parent().expect("it is in a directory")).unwrap();
        let connection = Connection::connect(&dir, site.address.name(), Duration::from_secs(60)).unwrap();
        let received = connection.receive_within(Duration::from_secs(60)).unwrap().expect("an answer");
        let [up, down, rope] = <[OwnedFd; 3]>::try_from(received.fds).expect("three descriptors");
        Self { up, down, rope, _connection: connection }
    }
}

#[test]
fn what_the_consumer_writes_for_an_isolated_producer_cannot_be_written_by_it() {
    let site = Site::new();
    let _queue = create(&site, &isolated(&site));
    let rogue = Rogue::at(&site);
    assert_eq!(rustix::io::pwrite(&rogue.up, &[0; 8], 2048), Ok(8));
    assert_eq!(rustix::io::pwrite(&rogue.down, &[0; 8], 512), Err(Errno::PERM));
    // SAFETY: the kernel chooses the place, and nobody touches what would be mapped there.
    let mapped = unsafe {
        rustix::mm::mmap(std::ptr::null_mut(), 512, ProtFlags::WRITE, MapFlags::SHARED, rogue.down.as_fd(), 0)
    };
    assert_eq!(mapped.map(drop), Err(Errno::PERM));
}

/// An honest producer rings once a frame at most; who rings on and on is thrown out, and the others notice nothing.
#[test]
fn a_producer_that_rings_for_nothing_all_the_time_is_thrown_out() {
    let site = Site::new();
    let mut queue = create(&site, &isolated(&site));
    let honest = site.open();
    let rogue = Rogue::at(&site);
    let is_over = Arc::new(AtomicBool::new(false));
    let flood = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let flags = rustix::net::SendFlags::NOSIGNAL;
            let pulls = (0..).take_while(|_| !is_over.load(Ordering::Relaxed));
            pulls.filter(|_: &u64| rustix::net::send(&rogue.rope, &[1], flags).is_ok()).count()
        }
    });
    let end = Instant::now() + Duration::from_secs(60);
    let mut sent = 0;
    while queue.thrown_out() == 0 {
        assert!(Instant::now() < end, "it is not thrown out");
        honest.send(&numbered(3, sent)).unwrap();
        assert_eq!(read_numbered(queue.recv().unwrap().bytes()), (3, sent));
        sent += 1;
    }
    is_over.store(true, Ordering::Relaxed);
    println!("figure: pulls of a rope before its producer was thrown out = {}", flood.join().unwrap());
    until("its lane goes", || queue.try_recv().is_err() && queue.producers() == 1);
    honest.send(&numbered(3, sent)).unwrap();
    assert_eq!(read_numbered(queue.recv().unwrap().bytes()), (3, sent));
}

/// Every word of what an isolated producer may write, with words that mean something and words that do not: its lane is
/// given up, or brings nonsense that is a payload; the lane of the honest producer is not touched.
#[test]
fn an_isolated_producer_that_writes_anything_anywhere_harms_its_own_lane_only() {
    let site = Site::new();
    let lane = MpscLayout::new(4).unwrap();
    let mut queue = create(&site, &isolated(&site).lane(lane));
    let honest = site.open();
    let mut sent = 0;
    // Behind the header of the segment, which is read once, at the door.
    for at in (128..lane.bytes()).step_by(8) {
        for word in [0, 1, 7, 0x80_0000 | 0x1_0000, u64::from(u32::MAX), 1 << 63, u64::MAX - 1, u64::MAX] {
            let rogue = Rogue::at(&site);
            rustix::io::pwrite(&rogue.up, &u64::to_ne_bytes(word), at as u64).unwrap();
            rustix::net::send(&rogue.rope, &[1], rustix::net::SendFlags::NOSIGNAL).unwrap();
            honest.send(&numbered(5, sent)).unwrap();
            let is_ours = |frame: &[u8]| frame.len() == 96 && frame[..8] == 5_u64.to_le_bytes();
            while !is_ours(queue.recv().unwrap().bytes()) {}
            sent += 1;
        }
    }
    until("all their lanes go", || queue.try_recv().is_err() && queue.producers() == 1);
}

fn trusted() -> Trust {
    // SAFETY: all producers of these tests are this program, but for one that a test makes to be told from it.
    unsafe { Trust::trusted() }
}

#[test]
fn a_producer_is_trusted_only_if_it_is_the_same_build() {
    let site = Site::new();
    let mut queue = create(&site, &site.options().trust(trusted()));
    let other = Copy::new(|program| {
        let id = BuildId::own().expect("this program's file can be read").to_bytes();
        let id = &id[1..21];
        match program.windows(id.len()).position(|bytes| bytes == id) {
            Some(at) => program[at] ^= 1,
            // The linker writes no ids here: a longer file is another one.
            None => program.push(0),
        }
    });
    for (mut child, trust) in
        [(site.child("role_counts"), trusted()), (other.child(&site, "role_counts", None), Trust::CHECKED)]
    {
        child.say(1);
        child.say(10);
        receive_numbered(&mut queue, 1, 10, trust);
        assert_eq!(child.hear(), "sent");
    }
}

#[test]
fn a_stranger_is_isolated_even_where_producers_are_trusted() {
    let Some(program) = as_stranger() else { return };
    let site = Site::new();
    let options = site.options().trust(trusted()).access(Access::default().mode(0o666));
    let mut queue = create(&site, &options);
    let child = program.child(&site, "role_counts", Some(STRANGER));
    child.say(2);
    child.say(10);
    receive_numbered(&mut queue, 2, 10, Trust::ISOLATED);
}

/// A consumer of another user is believed where its directory is its own, and nowhere else.
#[test]
fn a_queue_that_its_directorys_owner_does_not_serve_is_not_opened() {
    let Some(program) = as_stranger() else { return };
    let site = Site::new();
    // The stranger's queue in the stranger's directory is opened by us; we are root, so that we may pass.
    std::fs::create_dir(&site.dir).unwrap();
    std::os::unix::fs::chown(&site.dir, Some(STRANGER), Some(STRANGER)).unwrap();
    let mut child = program.child(&site, "trust::role_serves", Some(STRANGER));
    assert_eq!(child.hear(), "serves");
    let sender = site.open();
    sender.send(&numbered(4, 4)).unwrap();
    assert_eq!(child.hear(), "(4, 4) isolated");
    drop(sender);
    // The same socket in a directory that is somebody else's: nobody has put it there who may.
    std::os::unix::fs::chown(site.socket().parent().unwrap(), Some(STRANGER + 1), None).unwrap();
    let error = site.options().open(&site.address).unwrap_err();
    let expected = format!("it is served by user {STRANGER}, who does not own its directory");
    assert!(matches!(&error, Error::BadMessage { what, .. } if *what == expected), "{error}");
}

/// Serves the queue and says what it received first.
#[test]
#[ignore = "a role of a child process"]
fn role_serves() {
    let Some(mut line) = line() else { return };
    let site = Site::told(&mut line);
    let mut queue = create(&site, &site.options());
    line.say("serves");
    let frame = queue.recv().unwrap();
    line.say(format!("{:?} {}", read_numbered(frame.bytes()), frame.trust()));
    drop(frame);
    assert_eq!(line.hear(), None);
}
