//! Who is at the other end: users, and processes whose numbers come again.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use test_support::child::{Child, Line};

use crate::directories::{STRANGER, become_a_stranger};
use crate::echo::{Place, connect, serve_here, short, verdict};
use crate::fakes::{Fake, Wire};

const SOON: Duration = Duration::from_secs(5);

/// A process of another user does not get in: the directory keeps it out, and where that was opened to everybody the
/// service refuses by the kernel's word, gives nothing, and tells both users.
#[test]
fn perm_denied() {
    let place = Place::new();
    let running = serve_here(&place.board());
    let mut hello = Vec::new();
    Fake::new().refuses(|_, heard| hello = heard);
    std::fs::write(place.file("hello"), &hello).unwrap();
    std::fs::set_permissions(place.file("hello"), Permissions::from_mode(0o644)).unwrap();
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
    assert_eq!(stranger.ask("knock"), "Permission denied (os error 13)");
    open(0o755, 0o700);
    assert_eq!(stranger.ask("knock"), "Permission denied (os error 13)");
    open(0o755, 0o777);
    let said = stranger.ask("knock");
    assert!(said.contains(&format!("serves user 0 only, not user {STRANGER}")), "{said}");
    assert!(said.ends_with("0 descriptors, then 0 bytes"), "{said}");
    assert_eq!(running.connections(), 0);
}

pub fn be_a_stranger(mut parent: Line) {
    let dir = std::env::var_os("SWITCHBOARD_RUNTIME_DIR").unwrap();
    let hello = std::fs::read(Path::new(&dir).join("hello")).unwrap();
    if !become_a_stranger() {
        parent.say("SKIP: this process may not become another user");
        return;
    }
    parent.say("ready");
    while parent.hear().is_some() {
        match Wire::to(&Path::new(&dir).join("default").join(crate::echo::SOCKET)) {
            Ok(wire) => {
                wire.say(&hello, &[]);
                let (answer, fds) = wire.hear();
                let text: String = String::from_utf8_lossy(&answer).chars().filter(|c| !c.is_control()).collect();
                parent.say(format!("{text}, {} descriptors, then {} bytes", fds.len(), wire.hear().0.len()));
            }
            Err(errno) => parent.say(std::io::Error::from(errno)),
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
