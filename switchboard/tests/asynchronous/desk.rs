//! The service of these tests, and a client of it whose calls are futures.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context as Wakers, Poll, Wake, Waker};
use std::time::Duration;

use service_core::{ByRef, Bytes, CallRequest, Channel, Message, MethodIndex};
use switchboard::prelude::*;
use switchboard::{Address, Connector, RunningService, Trust};

use crate::support::TempDir;

#[service]
pub trait Desk {
    fn add(&self, ctx: &Context<'_>, a: u64, b: u64) -> Result<u64, Status>;
    /// The bytes, the other way round.
    fn turn(&self, ctx: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status>;
    /// Answers when the gate is open, or nobody waits any more; says how often it was open.
    fn hold(&self, ctx: &Context<'_>) -> Result<u64, Status>;
}

const ADD: MethodIndex = MethodIndex(0);
const TURN: MethodIndex = MethodIndex(1);
const HOLD: MethodIndex = MethodIndex(2);

#[derive(Debug, Default)]
struct Gate {
    is_open: Mutex<bool>,
    changed: Condvar,
    held: AtomicU32,
    cancelled: AtomicU32,
}

/// The handler. Clones have one gate.
#[derive(Debug, Clone, Default)]
pub struct Plain(Arc<Gate>);

impl Plain {
    pub fn open(&self) {
        *self.0.is_open.lock().unwrap() = true;
        self.0.changed.notify_all();
    }

    pub fn close(&self) {
        *self.0.is_open.lock().unwrap() = false;
    }

    /// How many calls of `hold` began.
    pub fn held(&self) -> u32 {
        self.0.held.load(Ordering::SeqCst)
    }

    /// How many of them saw that nobody waits.
    pub fn cancelled(&self) -> u32 {
        self.0.cancelled.load(Ordering::SeqCst)
    }
}

impl Desk for Plain {
    fn add(&self, _ctx: &Context<'_>, a: u64, b: u64) -> Result<u64, Status> {
        Ok(a + b)
    }

    fn turn(&self, _ctx: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status> {
        Ok(bytes.iter().rev().copied().collect())
    }

    fn hold(&self, ctx: &Context<'_>) -> Result<u64, Status> {
        let mut is_open = self.0.is_open.lock().unwrap();
        self.0.held.fetch_add(1, Ordering::SeqCst);
        while !*is_open {
            if ctx.is_cancelled() {
                self.0.cancelled.fetch_add(1, Ordering::SeqCst);
                // A deadline is seen here as soon as by the caller, which would take the answer.
                drop(is_open);
                std::thread::sleep(Duration::from_millis(20));
                return Err(Status::internal("nobody waits"));
            }
            is_open = self.0.changed.wait_timeout(is_open, Duration::from_millis(1)).unwrap().0;
        }
        Ok(1)
    }
}

/// Calls a desk.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Channel>);

impl Caller {
    pub fn connect(board: &Switchboard) -> Result<Self, Status> {
        let address = Address::parse("test.desk").expect("a name");
        Channel::connect(board.registry(), address, DeskClient::descriptor()).map(|channel| Self(Arc::new(channel)))
    }

    pub async fn add(&self, a: u64, b: u64) -> Result<u64, Status> {
        self.0.call_async(CallRequest::new(ADD, None, &Message(&(ByRef(&a), ByRef(&b))))).await
    }

    pub async fn turn(&self, bytes: &[u8]) -> Result<Vec<u8>, Status> {
        self.0.call_async(CallRequest::new(TURN, None, &Message(&(Bytes(bytes),)))).await
    }

    pub async fn hold(&self, timeout: Option<Duration>) -> Result<u64, Status> {
        self.0.call_async(CallRequest::new(HOLD, timeout, &Message(&()))).await
    }

    /// The same by a thread.
    pub fn add_and_wait(&self, a: u64, b: u64) -> Result<u64, Status> {
        let mut reply = service_core::Reply::new();
        self.0.call(&CallRequest::new(ADD, None, &Message(&(ByRef(&a), ByRef(&b)))), &mut reply)?;
        reply.into_value()
    }
}

/// A desk that is served in this process and called over socket and shared memory.
pub struct Served {
    pub desk: Plain,
    pub running: RunningService,
    pub board: Switchboard,
    pub caller: Caller,
    _dir: TempDir,
}

pub fn serve(workers: usize, calls: u32) -> Served {
    serve_as(workers, calls, Trust::CHECKED)
}

pub fn serve_as(workers: usize, calls: u32, trust: Trust) -> Served {
    let dir = TempDir::new();
    let board =
        Switchboard::builder().in_process(false).trust(trust).runtime_dir(dir.path()).open().expect("it is ours");
    let desk = Plain::default();
    let serve = board.serve("test.desk", DeskServer::new(desk.clone())).workers(workers).max_calls(calls);
    let running = serve.start().expect("nobody else serves here");
    let caller = Caller::connect(&board).expect("it is served");
    Served { desk, running, board, caller, _dir: dir }
}

struct Thread(std::thread::Thread);

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor: one task on this thread, which sleeps while it waits.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Thread(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Wakers::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

/// Polls once, for nobody.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Wakers::from_waker(Waker::noop()))
}

/// Waits for something that is about to come.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + test_support::child::PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}
