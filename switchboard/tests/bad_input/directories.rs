//! Runtime directories that cannot be used, and instances that somebody else has.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Gid, Uid};
use switchboard::prelude::*;
use test_support::child::{self, Child, Line};

use crate::echo::{EchoServer, NAME, Place, Plain, SOCKET, connect, serve_here, short, verdict};

/// Processes that want one instance at once.
const RACERS: usize = 24;

/// How long a race may take, files of dead racers included.
const RACE: Duration = Duration::from_secs(20);

/// Of many processes that claim one instance at once exactly one serves it, and the others are told which one does. When it
/// is killed exactly one of the next serves, over the socket file that it left.
#[test]
fn of_many_processes_that_claim_one_instance_exactly_one_serves_it() {
    let place = Place::new();
    let started = std::time::Instant::now();
    for _ in 0..3 {
        let mut racers: Vec<Child> = (0..RACERS).map(|_| place.child("racer for an instance")).collect();
        racers.iter_mut().for_each(|racer| racer.expect("ready"));
        racers.iter().for_each(|racer| racer.say("go"));
        let said: Vec<String> = racers.iter_mut().map(Child::hear).collect();
        let winners: Vec<u32> =
            racers.iter().zip(&said).filter(|(_, said)| *said == "serving").map(|(racer, _)| racer.id()).collect();
        let [winner] = winners[..] else { panic!("{} serve: {said:?}", winners.len()) };
        let named = format!("ALREADY_EXISTS NotRun: `{NAME}@1` is already served by process {winner}");
        assert_eq!(said.iter().filter(|said| **said == named).count(), RACERS - 1, "{said:?}");
        assert_eq!(verdict(&connect(&place.board()).unwrap(), b"the winner"), "right");
        racers.iter_mut().for_each(Child::kill);
        assert!(place.socket().exists(), "the winner was killed and left its file");
    }
    assert!(started.elapsed() < RACE);
}

pub fn race_for_an_instance(mut parent: Line) {
    let board = Switchboard::from_env().unwrap();
    parent.say("ready");
    let Some(_) = parent.hear() else { return };
    let started = board.serve(NAME, EchoServer::new(Plain)).workers(1).start();
    match &started {
        Ok(_) => parent.say("serving"),
        Err(status) => parent.say(format!("{}: {}", short(status), status.message())),
    }
    assert_eq!(parent.hear(), None);
}

/// What a killed service left is in nobody's way: it is neither called nor listed, and its instance is served again.
#[test]
fn stale_files_after_kill() {
    let place = Place::new();
    for _ in 0..3 {
        place.start_service().kill();
        assert!(place.socket().exists(), "a kill leaves the socket's file");
        assert_eq!(short(&connect(&place.board()).unwrap_err()), "NOT_FOUND NotRun");
        assert!(!place.socket().exists(), "who found it stale removed it");
        place.start_service().kill();
        let service = place.start_service();
        assert_eq!(verdict(&connect(&place.board()).unwrap(), b"again"), "right");
        drop(service);
    }
    let left: Vec<_> =
        std::fs::read_dir(place.file("default")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [SOCKET], "one socket's file, however many services there were");
}

/// A directory on a full disk: no namespace can be made, no socket bound; told as a want of room, not as a misuse.
#[test]
fn a_full_disk_is_told_at_start_and_serves_again_when_there_is_room() {
    child::alone("user of a full disk");
}

pub fn use_a_full_disk(parent: Line) {
    let place = Place::new();
    let disk = place.file("disk");
    std::fs::create_dir(&disk).unwrap();
    let none = None::<&str>;
    // What this thread mounts only it sees.
    let alone = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| mount(Some("none"), &disk, Some("tmpfs"), MsFlags::empty(), Some("nr_inodes=8,mode=700")));
    if let Err(errno) = alone {
        parent.say(format!("SKIP: no file system can be mounted here ({errno}): a full disk was NOT tested"));
        return;
    }
    let board = Switchboard::builder().in_process(false).runtime_dir(&disk).open().unwrap();
    let fill = || (0..).map(|i| disk.join(format!("filler{i}"))).take_while(|path| std::fs::write(path, "").is_ok());
    let filled: Vec<_> = fill().collect();
    assert!(!filled.is_empty());
    let is_full = |what: &str| {
        let status = board.serve(NAME, EchoServer::new(Plain)).workers(1).start().unwrap_err();
        assert_eq!(short(&status), "RESOURCE_EXHAUSTED NotRun", "{what}: {status}");
        assert!(status.message().contains("free space"), "{what}: {status}");
    };
    is_full("no room for the namespace's directory");
    std::fs::remove_file(&filled[0]).unwrap();
    assert_eq!(board.list().unwrap(), []);
    is_full("no room for the socket's file");
    std::fs::remove_file(&filled[1]).unwrap();
    let running = serve_here(&board);
    assert_eq!(verdict(&connect(&board).unwrap(), b"there is room"), "right");
    drop((running, board));
    umount2(&disk, MntFlags::MNT_DETACH).unwrap();
}

/// In somebody else's directory nobody else can serve, and below it nothing can be made: refused with both users, or with
/// the system's reason.
#[test]
fn a_directory_that_is_not_ours_is_refused_with_both_users() {
    let place = Place::new();
    std::fs::set_permissions(place.file(""), Permissions::from_mode(0o755)).unwrap();
    // Makes the namespace's directory.
    assert_eq!(place.board().list().unwrap(), []);
    std::fs::set_permissions(place.file("default"), Permissions::from_mode(0o755)).unwrap();
    let mut stranger = place.child("stranger to a directory");
    let said = stranger.hear();
    if said.starts_with("SKIP") {
        println!("{said}: somebody else's directory was NOT tested");
        return;
    }
    assert!(said.starts_with("FAILED_PRECONDITION NotRun"), "{said}");
    assert!(said.contains(&format!("belongs to user 0, this process runs as user {STRANGER}")), "{said}");
    let said = stranger.hear();
    assert!(said.starts_with("FAILED_PRECONDITION NotRun"), "{said}");
    assert!(said.contains("cannot be made: Permission denied"), "{said}");
}

/// Somebody without rights: a number that no account has, and not the one that stands for users of other namespaces.
pub const STRANGER: u32 = 65_533;

/// Makes this thread, and those that it starts, somebody else's; says whether it may.
pub fn become_a_stranger() -> bool {
    let (user, group) = (Uid::from_raw(STRANGER), Gid::from_raw(STRANGER));
    rustix::thread::set_thread_res_gid(group, group, group).is_ok()
        && rustix::thread::set_thread_res_uid(user, user, user).is_ok()
}

pub fn be_a_stranger(parent: Line) {
    if !become_a_stranger() {
        parent.say("SKIP: this process may not become another user");
        return;
    }
    let tell = |status: Status| parent.say(format!("{}: {}", short(&status), status.message()));
    let board = Switchboard::from_env().unwrap();
    tell(board.serve(NAME, EchoServer::new(Plain)).workers(1).start().unwrap_err());
    let below = std::path::PathBuf::from(std::env::var_os("SWITCHBOARD_RUNTIME_DIR").unwrap()).join("below");
    tell(Switchboard::builder().in_process(false).runtime_dir(below).open().unwrap_err());
}
