//! Ours: a typed call to a service in another process, 64 B, with all of the service layer on.
//!
//! A deadline travels with every call, both sides keep their statistics, and the handler's argument is validated before
//! it is read. Nothing is switched off for the measurement; only how long a waiter polls before it sleeps is set.

use std::path::Path;
use std::time::Duration;

use switchboard::{Context, RunningService, Status, Switchboard, service};

use crate::payload::{self, Payload};
use crate::peer::{Peer, PeerEnd};
use crate::subject::{Failure, Samples, Subject};

/// The role of the peer process.
pub const ROLE: &str = "switchboard";
const NAMESPACE: &str = "bench";
const SERVICE: &str = "bench.echo";
/// Far beyond any call, so that it is carried and checked but never ends one.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Long enough that nobody sleeps within a chunk, short enough that the peer rests soon after it.
const AWAKE_SPIN: Duration = Duration::from_millis(2);

/// The service under measurement.
#[service]
pub trait Echo {
    /// Answers a request whose checksum is right.
    fn answer(&self, ctx: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status>;
}

struct Answering;

impl Echo for Answering {
    fn answer(&self, _ctx: &Context<'_>, body: Payload) -> Result<Payload, Status> {
        payload::answer(&body).ok_or_else(|| Status::invalid_argument("a request with a wrong checksum"))
    }
}

/// How both sides wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Caller and worker poll: nobody sleeps within a chunk.
    Awake,
    /// Caller and worker sleep at once: each call wakes both.
    Asleep,
}

impl Waiting {
    fn spin(self) -> Duration {
        match self {
            Self::Awake => AWAKE_SPIN,
            Self::Asleep => Duration::ZERO,
        }
    }
}

/// A typed client, and the service process that answers it.
#[derive(Debug)]
pub struct Ours {
    client: EchoClient,
    waiting: Waiting,
    _board: Switchboard,
    _peer: Peer,
}

impl Ours {
    /// Starts the service on `peer_core` and connects to it by name.
    ///
    /// # Errors
    /// What the service's process or the connection answers.
    pub fn start(directory: &Path, peer_core: usize, waiting: Waiting) -> Result<Self, Failure> {
        let shown = directory.to_str().ok_or("the runtime directory's path is not UTF-8")?;
        let spin_ns = waiting.spin().as_nanos().to_string();
        let peer = Peer::start(ROLE, &[shown, &spin_ns])?;
        let board = open(directory, waiting.spin())?;
        let client = EchoClient::connect(&board, SERVICE)?.with_timeout(TIMEOUT);
        // The first call has made every thread and every budget of the service; only now may it be pinned.
        client.answer(payload::request(0))?;
        peer.pin(peer_core)?;
        Ok(Self { client, waiting, _board: board, _peer: peer })
    }
}

impl Ours {
    /// The client, for other ways to call.
    #[must_use]
    pub fn client(&self) -> &EchoClient {
        &self.client
    }

    /// Returns when the worker polls no more and its processor is free.
    pub fn rest(&self) {
        std::thread::sleep(self.waiting.spin() * 2);
    }
}

impl Subject for Ours {
    fn name(&self) -> &str {
        match self.waiting {
            Waiting::Awake => "switchboard, awake",
            Waiting::Asleep => "switchboard, asleep",
        }
    }

    fn run(&mut self, time: Duration, samples: &mut Samples) -> Result<f64, Failure> {
        let timed = samples.time_calls(time, |body| Ok(self.client.answer(body)?));
        self.rest();
        timed
    }
}

/// The peer's side: serves until the parent wants it to end.
///
/// # Errors
/// What opening the board or serving answers.
pub fn serve(mut end: PeerEnd, directory: &Path, spin_ns: u64) -> Result<(), Failure> {
    let board = open(directory, Duration::from_nanos(spin_ns))?;
    let _running: RunningService = board.serve(SERVICE, EchoServer::new(Answering)).workers(1).start()?;
    end.ready()?;
    // Its calls need no word from the parent; the end of the input ends the service.
    while end.wait_for_go() {}
    Ok(())
}

fn open(directory: &Path, spin: Duration) -> Result<Switchboard, Failure> {
    Ok(Switchboard::builder().in_process(false).runtime_dir(directory).namespace(NAMESPACE)?.spin(spin).open()?)
}
