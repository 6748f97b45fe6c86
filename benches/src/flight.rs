//! Many calls in flight at once: batches of one thread, and tasks of a tokio runtime.
//!
//! A chunk's figure is the mean time for a call, as that of a message: the calls overlap.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use switchboard::{Context, Status, Switchboard, service};
use tarpc::client::Config;
use tarpc::serde_transport::unix;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tokio::runtime::{Builder, Runtime};

use crate::ours::{EchoClient, Ours, Waiting};
use crate::payload::{self, Payload};
use crate::peer::{Peer, PeerEnd};
use crate::subject::{Failure, Samples, Subject, Unit};

/// The role of tarpc's peer process.
pub const TARPC_ROLE: &str = "tarpc";
/// The role of the service whose handlers are tasks of a tokio runtime.
pub const TOKIO_ROLE: &str = "switchboard on tokio";

/// Calls in flight of a thread.
pub const PIPELINED: u64 = 64;

const SERVICE: &str = "bench.tasks";
const BYTES: usize = size_of::<Payload>();
/// Far beyond any call, so that it is carried and checked but never ends one.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Long enough that nobody sleeps while there is work, short enough that the peer rests soon after it.
const SPIN: Duration = Duration::from_micros(50);

/// The service under measurement, its handler a future.
#[service]
pub trait Tasks {
    /// Answers a request whose checksum is right.
    async fn answer(&self, ctx: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status>;
}

struct Answering;

impl Tasks for Answering {
    async fn answer(&self, _ctx: &Context<'_>, body: Payload) -> Result<Payload, Status> {
        payload::answer(&body).ok_or_else(|| Status::invalid_argument("a request with a wrong checksum"))
    }
}

/// The same for tarpc.
#[tarpc::service]
trait Remote {
    /// Answers a request whose checksum is right, others by zeros.
    async fn answer(body: [u64; 8]) -> [u64; 8];
}

#[derive(Debug, Clone)]
struct Echoing;

impl Remote for Echoing {
    async fn answer(self, _: tarpc::context::Context, body: Payload) -> Payload {
        payload::answer(&body).unwrap_or_default()
    }
}

/// Runs whole batches for about `time`; gives the mean time for a call.
fn time_batches(time: Duration, mut batch: impl FnMut(u64) -> Result<(), Failure>) -> Result<f64, Failure> {
    let start = Instant::now();
    let mut calls = 0;
    loop {
        batch(calls)?;
        calls += PIPELINED;
        let passed = start.elapsed();
        if passed >= time {
            return Ok(passed.as_nanos() as f64 / calls as f64);
        }
    }
}

fn check(number: u64, reply: &Payload) -> Result<(), Failure> {
    if payload::is_answer_to(number, reply) {
        return Ok(());
    }
    Err(format!("the reply to request {number} is not its answer").into())
}

/// Ours: batches of one thread, to a service of one worker.
#[derive(Debug)]
pub struct Batches {
    ours: Ours,
}

impl Batches {
    /// Starts the service on `peer_core` and connects to it by name.
    ///
    /// # Errors
    /// What the service's process or the connection answers.
    pub fn start(directory: &Path, peer_core: usize) -> Result<Self, Failure> {
        Ok(Self { ours: Ours::start(directory, peer_core, Waiting::Awake)? })
    }
}

impl Subject for Batches {
    fn name(&self) -> &str {
        "switchboard, 64 in flight"
    }

    fn unit(&self) -> Unit {
        Unit::Message { bytes: BYTES }
    }

    fn run(&mut self, time: Duration, _samples: &mut Samples) -> Result<f64, Failure> {
        let client: &EchoClient = self.ours.client();
        let timed = time_batches(time, |first| {
            let mut batch = client.batch();
            let queued: Vec<_> = (first..first + PIPELINED).map(|n| (n, batch.answer(payload::request(n)))).collect();
            let mut sent = batch.send_batch();
            queued.into_iter().try_for_each(|(number, call)| check(number, &sent.take(call)?))
        });
        self.ours.rest();
        timed
    }
}

fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// tarpc over a Unix socket, 64 calls in flight of one thread.
pub struct Tarpc {
    runtime: Runtime,
    client: RemoteClient,
    _peer: Peer,
}

impl std::fmt::Debug for Tarpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tarpc").finish_non_exhaustive()
    }
}

impl Tarpc {
    /// Starts the peer on `peer_core` and connects to it through a socket in `directory`.
    ///
    /// # Errors
    /// The process or the connection cannot be made.
    pub fn start(directory: &Path, peer_core: usize) -> Result<Self, Failure> {
        let path = directory.join("tarpc.sock");
        let peer = Peer::start(TARPC_ROLE, &[path.to_str().ok_or("the socket's path is not UTF-8")?])?;
        let runtime = runtime()?;
        let client = runtime.block_on(async {
            let transport = unix::connect(&path, Bincode::default).await?;
            Ok::<_, Failure>(RemoteClient::new(Config::default(), transport).spawn())
        })?;
        peer.pin(peer_core)?;
        std::fs::remove_file(&path)?;
        Ok(Self { runtime, client, _peer: peer })
    }
}

impl Subject for Tarpc {
    fn name(&self) -> &str {
        "tarpc 0.38, Unix socket, 64 in flight"
    }

    fn unit(&self) -> Unit {
        Unit::Message { bytes: BYTES }
    }

    fn run(&mut self, time: Duration, _samples: &mut Samples) -> Result<f64, Failure> {
        let (runtime, client) = (&self.runtime, &self.client);
        time_batches(time, |first| {
            let calls = (first..first + PIPELINED).map(|number| async move {
                let reply = client.answer(tarpc::context::current(), payload::request(number)).await?;
                check(number, &reply)
            });
            runtime.block_on(join_all(calls)).into_iter().collect()
        })
    }
}

/// The peer's side of tarpc: answers one connection on a runtime of one thread.
///
/// # Errors
/// The socket cannot be made.
pub fn serve_tarpc(mut end: PeerEnd, path: &Path) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let mut listener = unix::listen(path, Bincode::default).await?;
        end.ready()?;
        if let Some(transport) = listener.next().await {
            let channel = BaseChannel::with_defaults(transport?);
            channel.execute(Echoing.serve()).for_each(|call| async { drop(tokio::spawn(call)) }).await;
        }
        Ok(())
    })
}

/// Ours: tasks of a tokio runtime of one thread, each with one call after the other, to handlers that are tasks of one.
#[derive(Debug)]
pub struct InTasks {
    name: String,
    tasks: u64,
    runtime: Runtime,
    client: TasksClient,
    _board: Switchboard,
    _peer: Peer,
}

impl InTasks {
    /// Starts the service on `peer_core`, for `tasks` calls in flight.
    ///
    /// # Errors
    /// What the service's process or the connection answers.
    pub fn start(directory: &Path, peer_core: usize, tasks: u64) -> Result<Self, Failure> {
        let shown = directory.to_str().ok_or("the runtime directory's path is not UTF-8")?;
        let service = format!("{SERVICE}@{tasks}");
        let peer = Peer::start(TOKIO_ROLE, &[shown, &service])?;
        let board = open(directory)?;
        let client = TasksClient::connect(&board, &service)?.with_timeout(TIMEOUT);
        client.answer(payload::request(0))?;
        peer.pin(peer_core)?;
        let name = format!("switchboard, tokio, {tasks} in flight");
        Ok(Self { name, tasks, runtime: runtime()?, client, _board: board, _peer: peer })
    }
}

impl Subject for InTasks {
    fn name(&self) -> &str {
        &self.name
    }

    fn unit(&self) -> Unit {
        Unit::Message { bytes: BYTES }
    }

    fn run(&mut self, time: Duration, _samples: &mut Samples) -> Result<f64, Failure> {
        let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = Instant::now();
        self.runtime.block_on(async {
            let tasks: Vec<_> = (0..self.tasks)
                .map(|task| {
                    let (client, over, calls) = (self.client.clone(), Arc::clone(&over), Arc::clone(&calls));
                    tokio::spawn(async move {
                        let mut number = task << 32;
                        while !over.load(Ordering::Relaxed) {
                            check(number, &client.answer_async(payload::request(number)).await?)?;
                            number += 1;
                            calls.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok::<_, Failure>(())
                    })
                })
                .collect();
            tokio::time::sleep(time).await;
            over.store(true, Ordering::Relaxed);
            for task in tasks {
                task.await??;
            }
            Ok::<_, Failure>(())
        })?;
        Ok(start.elapsed().as_nanos() as f64 / calls.load(Ordering::Relaxed) as f64)
    }
}

/// The peer's side of tasks: serves on a tokio runtime of one thread until the parent wants it to end.
///
/// # Errors
/// What opening the board or serving answers.
pub fn serve_tasks(mut end: PeerEnd, directory: &Path, service: &str) -> Result<(), Failure> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let handle = runtime.handle().clone();
    let board = open(directory)?;
    let serve = board.serve(service, TasksServer::new(Answering)).workers(1);
    let _running = serve.runtime(move |future| drop(handle.spawn(future))).start()?;
    end.ready()?;
    while end.wait_for_go() {}
    Ok(())
}

fn open(directory: &Path) -> Result<Switchboard, Failure> {
    Ok(Switchboard::builder().in_process(false).runtime_dir(directory).namespace("bench")?.spin(SPIN).open()?)
}
