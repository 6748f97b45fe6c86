//! Clients are killed, while they call and while they connect: a call runs once or not at all, and nothing of the dead
//! stays with the service.

use std::time::Duration;

use switchboard::RunningService;
use switchboard::prelude::*;
use test_support::child::{self, Line};
use test_support::kills::{Kills, Seen};
use test_support::level::Level;
use test_support::stepped::{Victim, be_held, between_marks};

use crate::ledger::{Desk, LedgerClient, LedgerServer, NAME, answer_to, filler_of, runs};
use crate::soon;
use crate::support::TempDir;

/// The number of the call that a client is killed in.
const VICTIMS: u64 = 1;

/// The number of a first call, which makes what a client keeps.
const FIRST: u64 = 3;

/// The number of the call that shows that the service goes on.
const ON: u64 = 2;

/// What clients are killed in: its name, the bytes of the request's filler, and how long caller and service poll, in
/// microseconds.
const CALLS: &[(&str, usize, u64)] = &[
    ("call, both sides polling", 16, 50),
    ("call, both sides asleep", 16, 0),
    ("call with request and reply in blocks", 200, 50),
    (GIVEN_UP, 16, 50),
];

/// The service answers only when the call is cancelled.
const GIVEN_UP: &str = "call that is given up at its deadline";

const CONNECT: &str = "connect to a service";

/// Role: makes one call, or connects, between marks.
pub fn call(mut line: Line) {
    be_held(&mut line);
    let mut hear = || line.hear().expect("a line");
    let (dir, what) = (hear(), hear());
    let spin = CALLS.iter().find(|(name, ..)| *name == what).map_or(0, |(.., us)| *us);
    let builder = Switchboard::builder().in_process(false).runtime_dir(&dir).spin(Duration::from_micros(spin));
    let board = builder.open().expect("the directory is ours");
    let connect = || LedgerClient::connect(&board, NAME);
    if what == CONNECT {
        // What a process does only once is done.
        let first = Switchboard::builder().in_process(false).runtime_dir(&dir).open().expect("the directory is ours");
        drop(LedgerClient::connect(&first, NAME).expect("somebody serves here"));
        drop(first);
        let connected = between_marks(connect);
        line.hear();
        return drop(connected);
    }
    let client = connect().expect("somebody serves here");
    let len = CALLS.iter().find(|(name, ..)| *name == what).expect("it is known").1;
    client.note(FIRST, &filler_of(FIRST, len)).expect("it is served");
    let filler = filler_of(VICTIMS, len);
    let result = if what == GIVEN_UP {
        let hasty = client.with_timeout(Duration::from_millis(1));
        between_marks(|| hasty.note_late(VICTIMS, &filler)).map(|_| ())
    } else {
        between_marks(|| client.note(VICTIMS, &filler)).map(|_| ())
    };
    line.hear();
    drop(result);
}

/// A service in this process that stays, with a client of its own.
struct Stays {
    dir: TempDir,
    running: RunningService,
    client: LedgerClient,
}

impl Stays {
    fn new(spin: Duration) -> Self {
        let dir = TempDir::new();
        let board = Switchboard::builder()
            .in_process(false)
            .runtime_dir(dir.path().join("run"))
            .spin(spin)
            .open()
            .expect("ours");
        let desk = Desk::new(&dir.path().join("notes"), None);
        let running = board.serve(NAME, LedgerServer::new(desk)).workers(1).start().expect("nobody serves here");
        let client = LedgerClient::connect(&board, NAME).expect("it is served");
        Self { dir, running, client }
    }

    /// Starts a victim that is to do this.
    fn victim(&self, what: &str) -> Victim {
        let victim = Victim::start::<&str>("client", &[]);
        victim.say(self.dir.path().join("run").display());
        victim.say(what);
        victim.is_ready();
        victim
    }

    /// Waits until the dead one is gone; then gives how often its call ran, shows that others are served as ever, and
    /// forgets the notes.
    fn after_a_death(&self) -> u64 {
        soon("the dead one's connection is let go", || self.running.connections() == 1);
        let filler = filler_of(ON, 100);
        assert_eq!(self.client.note(ON, &filler).expect("it is served"), answer_to(ON, &filler));
        let notes = self.dir.path().join("notes");
        // The one worker ran this one last.
        assert_eq!(runs(&notes, ON), 1);
        let ran = runs(&notes, VICTIMS) as u64;
        std::fs::OpenOptions::new().write(true).open(notes).expect("it is ours").set_len(0).expect("it is ours");
        ran
    }

    fn end(self) {
        drop(self.client);
        self.running.stop();
        let namespace = self.dir.path().join("run").join("default");
        let left = std::fs::read_dir(namespace).expect("it was made").count();
        assert_eq!(left, 0, "a service takes its socket with it");
    }
}

/// Role: the service whose callers are killed.
pub fn witness(line: Line) {
    let mut kills = Kills::of("callers", &line);
    // The watcher thread, which a process keeps for good, is there from now on.
    Stays::new(Duration::ZERO).end();
    let level = Level::settled();
    for (what, _, us) in CALLS {
        let stays = Stays::new(Duration::from_micros(*us));
        let begin = || (stays.victim(what), ());
        // A request that is taken after its deadline does not run, however far its client came.
        let seen = if *what == GIVEN_UP { Seen::OneOf(0..=1) } else { Seen::Rises(0..=1) };
        kills.at_each_instruction(what, &seen, begin, |()| stays.after_a_death());
        stays.end();
    }
    kills.end();
    level.is_reached_within(Duration::from_secs(5));
}

#[test]
fn a_call_of_a_client_killed_at_any_instruction_runs_once_or_not_at_all() {
    if Victim::may_be("client") {
        child::alone("witness of killed clients");
    }
}

/// Role: the service that is connected to by clients that are killed.
pub fn witness_of_connects(line: Line) {
    let mut kills = Kills::of("connects", &line);
    Stays::new(Duration::ZERO).end();
    let level = Level::settled();
    let stays = Stays::new(Duration::ZERO);
    let look = |()| {
        // Whoever comes behind the dead one is let in, after it.
        let board =
            Switchboard::builder().in_process(false).runtime_dir(stays.dir.path().join("run")).open().expect("ours");
        let next = LedgerClient::connect(&board, NAME).expect("it is served");
        soon("the dead one's connection is let go", || stays.running.connections() == 2);
        drop((next, board));
        stays.after_a_death()
    };
    kills.at_each_system_call(CONNECT, &Seen::Rises(0..=0), || (stays.victim(CONNECT), ()), look);
    stays.end();
    kills.end();
    level.is_reached_within(Duration::from_secs(5));
}

/// A client is killed at each step of its connecting: no lane, descriptor or place stays with the service.
#[test]
fn kill_during_handshake_each_step() {
    if Victim::may_be("client") {
        child::alone("witness of killed connects");
    }
}
