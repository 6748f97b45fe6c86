//! Who is at the other end: users, and processes whose numbers come again.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use switchboard::prelude::*;
use test_support::child::{Child, Line};

use crate::directories::become_a_stranger;
use crate::echo::{EchoClient, Place, SOCKET, connect, serve_here, short, verdict};
use crate::fakes::Wire;

const SOON: Duration = Duration::from_secs(5);

/// A process of another user that was not given the right to connect does not get in, whichever of directory and socket
/// keeps it out; through the front door it is told so by a status.
#[test]
fn perm_denied() {
    let place = Place::new();
    let running = serve_here(&place.board());
    let open = |directory: u32, socket: u32| {
        std::fs::set_permissions(place.file("default"), Permissions::from_mode(directory)).unwrap();
        std::fs::set_permissions(place.socket(), Permissions::from_mode(socket)).unwrap();
    };
    std::fs::set_permissions(place.file(""), Permissions::from_mode(0o755)).unwrap();
    open(0o700, 0o777);
    let mut stranger = place.child("stranger at the door");
    let said = stranger.hear();
    if said.starts_with("SKIP") {
        println!("{said}: other users were NOT tested");
        return;
    }
    assert_eq!(said, "ready");
    let denied = "Permission denied (os error 13)";
    for (directory, socket) in [(0o700, 0o777), (0o755, 0o700)] {
        open(directory, socket);
        assert_eq!(stranger.ask("knock"), denied);
        let said = stranger.ask("connect");
        let is_typed = said.starts_with("PERMISSION_DENIED NotRun") || said.starts_with("FAILED_PRECONDITION NotRun");
        assert!(is_typed && said.contains(denied), "{said}");
    }
    assert_eq!(running.connections(), 0);
}

pub fn be_a_stranger(mut parent: Line) {
    if !become_a_stranger() {
        parent.say("SKIP: this process may not become another user");
        return;
    }
    let board = Switchboard::from_env().unwrap();
    let dir = std::path::PathBuf::from(std::env::var_os("SWITCHBOARD_RUNTIME_DIR").unwrap());
    parent.say("ready");
    while let Some(order) = parent.hear() {
        if order == "knock" {
            let socket = dir.join("default").join(SOCKET);
            parent.say(Wire::to(&socket).map_or_else(|errno| std::io::Error::from(errno).to_string(), |_| "in".into()));
        } else {
            parent.say(
                EchoClient::connect(&board, "test.echo@1")
                    .map_or_else(|s| format!("{}: {}", short(&s), s.message()), |_| "in".into()),
            );
        }
    }
}

/// Where the kernel is told which number the next process gets, less one.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// Starts a child with this number, which was another's a moment ago; `None` if numbers cannot be chosen here.
fn start_as(number: u32, start: impl Fn() -> Child) -> Option<Child> {
    let until = Instant::now() + SOON;
    while Instant::now() < until {
        std::fs::write(LAST_PID, (number - 1).to_string()).ok()?;
        // Somebody else may have started a process in between: again, then.
        let child = start();
        if child.id() == number {
            return Some(child);
        }
    }
    None
}

/// The number of a dead client is given to another process, while the service is stopped and sees neither: it takes the one
/// for dead and lets the other in, as if the numbers were different. And the other way round for a service.
#[test]
fn pid_reuse() {
    let place = Place::new();
    let mut service = place.start_service();
    let mut client = place.child("client");
    assert_eq!(client.ask("call"), "right");
    assert_eq!(service.ask("connections"), "1");
    let number = client.id();
    service.stop();
    client.kill();
    let Some(mut next) = start_as(number, || place.child("client")) else {
        println!("SKIP: the kernel does not let numbers of processes be chosen here: their re-use was NOT tested");
        return;
    };
    next.say("call");
    service.signal(Signal::CONT);
    assert_eq!(next.hear(), "right");
    until("the dead one is known to be gone", || service.ask("connections") == "1");
    assert_eq!(next.ask("call"), "right");
    next.kill();
    until("the next one too", || service.ask("connections") == "0");

    let client = connect(&place.board()).unwrap();
    assert_eq!(verdict(&client, b"before"), "right");
    let number = service.id();
    service.kill();
    // The next process of this number is a client, and no service.
    let mut next = start_as(number, || place.child("client")).expect("numbers can be chosen, as before");
    let status = client.echo(b"after").unwrap_err();
    assert!(["NOT_FOUND NotRun", "UNAVAILABLE NotRun"].contains(&&short(&status)[..]), "{status}");
    assert!(next.ask("call").starts_with("NOT_FOUND NotRun"));
    let _service = place.start_service();
    assert_eq!(verdict(&client, b"again"), "right");
    assert_eq!(next.ask("call"), "right");
    println!("figure: process numbers used again = 2");
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < limit, "not in {SOON:?}: {what}");
        std::thread::yield_now();
    }
}
