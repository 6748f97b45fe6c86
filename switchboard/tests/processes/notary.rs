//! The service that all these tests call: it notes what it runs, and its answers fit one call only.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use switchboard::prelude::*;

use crate::journal::{Event, Journal};
use crate::support::TempDir;
use test_support::child::{Child, Line, Voice};

/// Where it is served.
pub const NAME: &str = "test.notary";

/// The file of its socket, in a namespace's directory.
pub const SOCKET: &str = "test.notary@1.sock";

/// Path of the journal; none is kept without.
pub const JOURNAL: &str = "NOTARY_JOURNAL";

const WORKERS: &str = "NOTARY_WORKERS";

#[service]
pub trait Notary {
    /// Notes that it runs, and answers with [`answer_to`] the request.
    fn quick(&self, ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status>;
    /// The same, but takes so many microseconds.
    fn slow(&self, ctx: &Context<'_>, number: u64, filler: &[u8], us: u64) -> Result<Vec<u8>, Status>;
    /// Tells the service's parent "held", then never answers.
    fn hold(&self, ctx: &Context<'_>) -> Result<(), Status>;
    /// So many zeros.
    fn zeros(&self, ctx: &Context<'_>, len: u64) -> Result<Vec<u8>, Status>;
}

pub struct Desk {
    journal: Option<Journal>,
    parent: Option<Voice>,
}

impl Desk {
    /// A desk with a journal, and somebody to tell of calls that are held.
    pub fn new(journal: Option<Journal>, parent: Voice) -> Self {
        Self { journal, parent: Some(parent) }
    }

    /// A desk that only answers.
    pub fn silent() -> Self {
        Self { journal: None, parent: None }
    }

    fn note(&self, number: u64, event: Event) {
        if let Some(journal) = &self.journal {
            journal.note(number, event);
        }
    }
}

impl Notary for Desk {
    fn quick(&self, _ctx: &Context<'_>, number: u64, filler: &[u8]) -> Result<Vec<u8>, Status> {
        self.note(number, Event::Began);
        let answer = answer_to(number, filler);
        self.note(number, Event::Finished);
        Ok(answer)
    }

    fn slow(&self, _ctx: &Context<'_>, number: u64, filler: &[u8], us: u64) -> Result<Vec<u8>, Status> {
        self.note(number, Event::Began);
        let answer = answer_to(number, filler);
        // That it takes time is what it is for.
        std::thread::sleep(Duration::from_micros(us));
        self.note(number, Event::Finished);
        Ok(answer)
    }

    fn hold(&self, _ctx: &Context<'_>) -> Result<(), Status> {
        self.parent.iter().for_each(|parent| parent.say("held"));
        loop {
            std::thread::park();
        }
    }

    fn zeros(&self, _ctx: &Context<'_>, len: u64) -> Result<Vec<u8>, Status> {
        Ok(vec![0; len as usize])
    }
}

/// The only right answer: it shows whose call it belongs to, and every byte of the filler.
pub fn answer_to(number: u64, filler: &[u8]) -> Vec<u8> {
    let mut answer = (!number).to_le_bytes().to_vec();
    answer.extend_from_slice(filler);
    answer
}

/// Bytes that belong to the number, no two stretches of them alike.
pub fn filler_of(number: u64, len: usize) -> Vec<u8> {
    let mut filler = vec![0; len];
    let mut word = number;
    for chunk in filler.chunks_mut(8) {
        word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    filler
}

/// How a call ended: "right", "wrong", or its status in short.
pub fn verdict(number: u64, filler: &[u8], result: &Result<Vec<u8>, Status>) -> String {
    match result {
        Ok(answer) if *answer == answer_to(number, filler) => "right".into(),
        Ok(answer) => format!("wrong: {} bytes to call {number} with {} bytes", answer.len(), filler.len()),
        Err(status) => short(status),
    }
}

pub fn short(status: &Status) -> String {
    format!("{} {:?}", status.code(), status.outcome())
}

/// A runtime directory for a test, and files beside it.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(TempDir::new())
    }

    pub fn runtime_dir(&self) -> PathBuf {
        self.file("runtime")
    }

    /// Where the notary's socket is found.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir().join("default").join(SOCKET)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn board(&self) -> Switchboard {
        Switchboard::builder().in_process(false).runtime_dir(self.runtime_dir()).open().expect("the directory is ours")
    }

    /// Names the runtime directory to a child.
    pub fn environment(&self) -> (&'static str, PathBuf) {
        ("SWITCHBOARD_RUNTIME_DIR", self.runtime_dir())
    }

    /// Starts the notary in a process of its own, with a journal in the file of that name.
    pub fn start_service(&self, journal: &str) -> Child {
        start_service(&[self.environment(), (JOURNAL, self.file(journal))])
    }
}

/// Starts the notary in a process of its own with two workers, and waits until it can be called.
pub fn start_service(environment: &[(&str, PathBuf)]) -> Child {
    started(Child::start("service", environment))
}

/// The same with one worker: what it holds keeps everything else waiting.
pub fn start_service_with_one_worker(environment: &[(&str, PathBuf)]) -> Child {
    let mut environment = environment.to_vec();
    environment.push((WORKERS, "1".into()));
    started(Child::start("service", &environment))
}

fn started(mut service: Child) -> Child {
    service.expect("serving");
    service
}

/// Role: serves until told to stop; answers questions about itself.
pub fn serve(mut parent: Line) {
    let board = Switchboard::from_env().expect("the directory is ours");
    let journal = std::env::var_os(JOURNAL).map(|path| Journal::append_to(Path::new(&path)));
    let workers = std::env::var(WORKERS).map_or(2, |text| text.parse().expect("a number"));
    let server = NotaryServer::new(Desk::new(journal, parent.voice()));
    let running = board.serve(NAME, server).workers(workers).start().expect("nobody else serves here");
    parent.say("serving");
    while let Some(question) = parent.hear() {
        match &question[..] {
            "connections" => parent.say(running.connections()),
            "calls" => parent.say(running.stats().snapshot().iter().map(|method| method.calls()).sum::<u64>()),
            other => panic!("`{other}` is no question"),
        }
    }
}

/// Role: calls when told to, and says how it ended; "hold" and "wait" are told when they end.
pub fn be_a_client(mut parent: Line) {
    let mut client = None;
    while let Some(order) = parent.hear() {
        let connected = match client.take() {
            Some(client) => Ok(client),
            None => Switchboard::from_env().and_then(|board| NotaryClient::connect(&board, NAME)),
        };
        let connected = match connected {
            Ok(connected) => connected,
            Err(status) => {
                parent.say(short(&status));
                continue;
            }
        };
        let (other, voice) = (connected.clone(), parent.voice());
        match &order[..] {
            "call" => parent.say(verdict(1, b"filler", &connected.quick(1, b"filler"))),
            "hold" => {
                drop(std::thread::spawn(move || voice.say(other.hold().map_or_else(|s| short(&s), |()| "ok".into()))))
            }
            "wait" => drop(std::thread::spawn(move || voice.say(verdict(2, b"", &other.quick(2, b""))))),
            other => panic!("`{other}` is no order"),
        }
        client = Some(connected);
    }
}

/// Looks until the condition holds, at most so long; then says what is instead.
pub fn wait_until(mut holds: impl FnMut() -> bool, limit: Duration, mut instead: impl FnMut() -> String) {
    let until = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < until, "not within {limit:?}: {}", instead());
        std::thread::yield_now();
    }
}
