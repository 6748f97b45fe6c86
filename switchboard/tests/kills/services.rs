//! A service is killed between its answer to one call and the end of the next one's handler: both callers are told
//! exactly what became of their calls.

use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use switchboard::prelude::*;
use test_support::asleep::wait_until_asleep;
use test_support::child::{self, Child, Line};
use test_support::kills::{Kills, Seen};
use test_support::level::Level;
use test_support::stepped::Victim;

use crate::ledger::{Desk, LedgerClient, LedgerServer, NAME, answer_to, filler_of, runs};
use crate::soon;
use crate::support::TempDir;

/// Path of the notes.
const NOTES: &str = "LEDGER_NOTES";

/// How long the service's worker polls, in microseconds.
const SPIN: &str = "LEDGER_SPIN";

/// What services are killed in: its name, the bytes of both requests' filler, and how long the worker polls, in
/// microseconds.
const SERVING: &[(&str, usize, u64)] = &[
    ("reply to a parked caller, take and handler of the next call", 16, 50),
    ("reply in a block, take and handler of the next call", 200, 50),
];

/// Role: serves with one worker, which is going to be held.
pub fn serve(line: Line) {
    let [notes, spin] = [NOTES, SPIN].map(|name| std::env::var(name).expect("the parent names it"));
    let spin = Duration::from_micros(spin.parse().expect("a number"));
    let dir = std::env::var_os("SWITCHBOARD_RUNTIME_DIR").expect("the parent names it");
    let board =
        Switchboard::builder().in_process(false).runtime_dir(dir).spin(spin).open().expect("the directory is ours");
    let voice = line.voice();
    let desk = Desk::new(Path::new(&notes), Some(line));
    let running = board.serve(NAME, LedgerServer::new(desk)).workers(1).start().expect("nobody alive serves here");
    voice.say("serving");
    // Until it is killed, at the latest with its parent.
    loop {
        std::thread::park();
        assert!(running.connections() <= 2);
    }
}

/// Starts a service of one worker, which polls for so many microseconds, and waits until it can be called. It is found in
/// the directory `run`, and its notes in the file `notes`.
pub fn start_service(dir: &TempDir, spin_us: u64) -> Child {
    let [run, notes] = ["run", "notes"].map(|name| dir.path().join(name).into_os_string());
    let environment = [("SWITCHBOARD_RUNTIME_DIR", run), (NOTES, notes), (SPIN, spin_us.to_string().into())];
    let mut service = Child::start("service", &environment);
    service.expect("serving");
    service
}

/// A call on a thread of its own.
type Call = JoinHandle<Result<Vec<u8>, Status>>;

/// Calls on a thread of its own, which sleeps when this returns.
fn call(client: &LedgerClient, call: impl FnOnce(&LedgerClient) -> Result<Vec<u8>, Status> + Send + 'static) -> Call {
    let client = client.clone();
    let (tell, told) = channel();
    let thread = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid()).expect("the witness waits for it");
        call(&client)
    });
    wait_until_asleep(told.recv().expect("the thread tells it first"));
    thread
}

/// Role: the client of services that are killed.
pub fn witness(line: Line) {
    let mut kills = Kills::of("services", &line);
    let dir = TempDir::new();
    let runtime = dir.path().join("run");
    let notes = dir.path().join("notes");
    let board =
        Switchboard::builder().in_process(false).runtime_dir(&runtime).spin(Duration::ZERO).open().expect("ours");
    let mut level = None;
    let mut numbers = (1..).step_by(3);
    for (what, len, us) in SERVING {
        let begin = || {
            let service = start_service(&dir, *us);
            let client = LedgerClient::connect(&board, NAME).expect("it is served");
            // The worker is held by this thread while another one has called it.
            let held = std::thread::spawn({
                let client = client.clone();
                move || client.be_held()
            });
            let victim = Victim::hold(service);
            held.join().expect("no panic").expect("it is served");
            let number = numbers.next().expect("there are more numbers than kills");
            let (first, second) = (filler_of(number, *len), filler_of(number + 1, *len));
            let answered = call(&client, move |client| client.note_and_begin(number, &first));
            victim.is_ready();
            let taken = call(&client, move |client| client.note_and_end(number + 1, &second));
            (victim, (client, number, answered, taken))
        };
        let look = |(client, number, answered, taken): (LedgerClient, u64, Call, Call)| {
            soon("both callers are told", || answered.is_finished() && taken.is_finished());
            let first = match answered.join().expect("no panic") {
                Ok(answer) => {
                    assert_eq!(answer, answer_to(number, &filler_of(number, *len)));
                    1
                }
                Err(status) => {
                    assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::MayHaveRun), "{status}");
                    0
                }
            };
            assert_eq!(runs(&notes, number), 1, "its handler had ended");
            let status = taken.join().expect("no panic").expect_err("nobody lived to answer it");
            let second = match (status.code(), status.outcome(), runs(&notes, number + 1)) {
                (Code::Unavailable, Outcome::NotRun, 0) => 0,
                (Code::Unavailable, Outcome::MayHaveRun, 0 | 1) => 1,
                (_, _, ran) => panic!("it ran {ran} times, and its caller is told: {status}"),
            };
            let status = client.note(number + 2, b"").expect_err("nobody serves any more");
            assert_eq!(status.outcome(), Outcome::NotRun, "{status}");
            drop(client);
            let level = level.get_or_insert_with(Level::settled);
            level.is_reached_within(Duration::from_secs(5));
            first + second
        };
        kills.at_each_instruction(what, &Seen::Rises(0..=2), begin, look);
    }
    assert_eq!(board.list().expect("it is ours"), []);
    let left = std::fs::read_dir(runtime.join("default")).expect("it was made").count();
    assert_eq!(left, 0, "a dead service's socket goes with a list");
    kills.end();
}

/// A service is killed after each instruction between the end of one handler and the end of the next: who was answered
/// reads the answer, even if it was not woken for it; who was not is told that the call ran no further than it did.
#[test]
fn kill_server_after_reply_commit() {
    if Victim::may_be("client") {
        child::alone("witness of killed services");
    }
}
