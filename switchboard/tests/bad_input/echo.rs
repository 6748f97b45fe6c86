//! The service that these tests call, and processes that serve and call it.

use std::path::PathBuf;

use switchboard::prelude::*;
use test_support::child::{Child, Line};

use crate::support::TempDir;

/// Where it is served.
pub const NAME: &str = "test.echo";

/// The file of its socket, in a namespace's directory.
pub const SOCKET: &str = "test.echo@1.sock";

#[service]
pub trait Echo {
    fn echo(&self, ctx: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status>;
    /// So many zeros.
    fn zeros(&self, ctx: &Context<'_>, len: u64) -> Result<Vec<u8>, Status>;
    /// Panics if the number is even, else gives it back.
    fn odd(&self, ctx: &Context<'_>, number: u64) -> Result<u64, Status>;
}

pub struct Plain;

impl Echo for Plain {
    fn echo(&self, _ctx: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status> {
        Ok(bytes.to_vec())
    }

    fn zeros(&self, _ctx: &Context<'_>, len: u64) -> Result<Vec<u8>, Status> {
        Ok(vec![0; len as usize])
    }

    fn odd(&self, _ctx: &Context<'_>, number: u64) -> Result<u64, Status> {
        assert!(number % 2 == 1, "{number} is even");
        Ok(number)
    }
}

/// A runtime directory for a test.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(TempDir::new())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Where the service's socket is found.
    pub fn socket(&self) -> PathBuf {
        self.file("default").join(SOCKET)
    }

    pub fn board(&self) -> Switchboard {
        Switchboard::builder().in_process(false).runtime_dir(self.0.path()).open().expect("the directory is ours")
    }

    /// Names the runtime directory to a child.
    pub fn environment(&self) -> (&'static str, PathBuf) {
        ("SWITCHBOARD_RUNTIME_DIR", self.0.path().to_owned())
    }

    pub fn child(&self, role: &'static str) -> Child {
        Child::start(role, &[self.environment()])
    }

    /// Starts the service in a process of its own, and waits until it can be called.
    pub fn start_service(&self) -> Child {
        let mut service = self.child("service");
        service.expect("serving");
        service
    }
}

pub fn serve_here(board: &Switchboard) -> switchboard::RunningService {
    board.serve(NAME, EchoServer::new(Plain)).workers(2).start().expect("nobody else serves here")
}

pub fn connect(board: &Switchboard) -> Result<EchoClient, Status> {
    EchoClient::connect(board, NAME)
}

/// How a status is compared: its code and outcome.
pub fn short(status: &Status) -> String {
    format!("{} {:?}", status.code(), status.outcome())
}

/// "right", "wrong", or the status in short and its text.
pub fn verdict(client: &EchoClient, bytes: &[u8]) -> String {
    match client.echo(bytes) {
        Ok(answer) if answer == bytes => "right".into(),
        Ok(answer) => format!("wrong: {} bytes for {}", answer.len(), bytes.len()),
        Err(status) => format!("{}: {}", short(&status), status.message()),
    }
}

/// Role: serves until its parent is gone; says how many are connected when asked.
pub fn serve(mut parent: Line) {
    let board = Switchboard::from_env().expect("the directory is ours");
    let running = serve_here(&board);
    parent.say("serving");
    while let Some(question) = parent.hear() {
        assert_eq!(question, "connections");
        parent.say(running.connections());
    }
}

/// Role: connects once, calls when told to, and says how it ended.
pub fn be_a_client(mut parent: Line) {
    let mut client = None;
    while let Some(order) = parent.hear() {
        assert_eq!(order, "call");
        let connected = match client.take() {
            Some(client) => Ok(client),
            None => Switchboard::from_env().and_then(|board| connect(&board)),
        };
        match connected {
            Ok(connected) => {
                parent.say(verdict(&connected, b"client"));
                client = Some(connected);
            }
            Err(status) => parent.say(format!("{}: {}", short(&status), status.message())),
        }
    }
}
