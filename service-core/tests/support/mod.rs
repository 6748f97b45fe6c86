//! A transport inside one process: messages are really encoded and decoded, nothing else happens. A plain call is answered
//! by the caller's thread, any other by one of its own.
//!
//! Shared by the tests of this crate and of the macro, hence the unused parts in each.
#![allow(dead_code, unused_imports)]

mod flights;
mod pipe;

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as Wakers, Poll};
use std::time::Duration;

use rkyv::util::AlignedVec;
use service_core::{
    Address, BlockWriter, CallRequest, CallTimes, Caller, Code, Connector, Context, Deadline, Decode, Encode, Encoded,
    Form, Handler, InstanceInfo, Metadata, MethodIndex, NeverCancelled, Opened, Outcome, Place, Registry, ReplySink,
    ServiceDescriptor, Shape, SinkFull, Status, Ticket, Transport, encode_block, encode_small, monotonic_ns, scope,
    scope::Scope,
};

pub use flights::block_on;
use flights::{Call, Flight};
pub use pipe::ROOM;

/// Bytes of the small place, as short as a transport's cell.
const INLINE_LEN: usize = 96;

/// Calls that can be announced together.
const START_ROOM: usize = 48;

pub const CALLER: Caller = Caller { uid: 1000, gid: 100, pid: 42 };

/// One message at a 16-aligned place, small or large, as a transport would hold it.
#[derive(Default)]
pub struct Memory {
    bytes: AlignedVec<16>,
    pub was_large: bool,
}

impl Memory {
    pub fn put(&mut self, message: &dyn Encode) -> Result<(), Status> {
        self.bytes.resize(INLINE_LEN, 0);
        let encoded = encode_small(message, &mut self.bytes).map_err(|e| e.into_status(Outcome::NotRun))?;
        match encoded {
            Encoded::Inline(len) => self.bytes.resize(len, 0),
            Encoded::Large(len) => {
                self.was_large = true;
                self.bytes.clear();
                encode_block(message, &mut Block(&mut self.bytes)).map_err(|e| e.into_status(Outcome::NotRun))?;
                assert_eq!(self.bytes.len(), len, "the measured length is the written length");
            }
        }
        Ok(())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

struct Block<'a>(&'a mut AlignedVec<16>);

impl BlockWriter for Block<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

struct Sent(Option<Memory>);

impl ReplySink for Sent {
    fn send(&mut self, message: &dyn Encode) -> Result<(), Status> {
        assert!(self.0.is_none(), "a reply is sent once");
        let mut memory = Memory::default();
        memory.put(message)?;
        self.0 = Some(memory);
        Ok(())
    }
}

/// Calls a handler that a worker runs.
fn call_plain(
    handler: &dyn Handler,
    ctx: &Context<'_>,
    method: MethodIndex,
    form: Form,
    request: &Memory,
) -> Result<Memory, Status> {
    let mut sent = Sent(None);
    match form {
        Form::Typed => handler.call(ctx, method, request.bytes(), &mut sent)?,
        Form::Dynamic => handler.call_dynamic(ctx, method, request.bytes(), &mut sent)?,
    }
    sent.0.ok_or_else(|| Status::internal("no reply was sent"))
}

/// Joins clients and a handler of the same process.
pub struct Loopback {
    handler: Arc<dyn Handler>,
    alive: AtomicBool,
    /// Whether typed clients may call the handler without messages.
    offers_local: bool,
    flights: Mutex<HashMap<u64, Arc<Flight>>>,
    next: AtomicU64,
    pub batches: AtomicUsize,
    /// Calls of tasks that have come as far as they can at once.
    pub polled: Arc<AtomicUsize>,
}

impl Loopback {
    pub fn new(handler: Arc<dyn Handler>) -> Self {
        let (alive, flights, next) = (AtomicBool::new(true), Mutex::default(), AtomicU64::new(0));
        Self {
            handler,
            alive,
            offers_local: false,
            flights,
            next,
            batches: AtomicUsize::new(0),
            polled: Arc::default(),
        }
    }

    /// Calls that are neither ended nor given up.
    pub fn in_flight(&self) -> usize {
        self.flights.lock().unwrap().len()
    }

    fn start(&self, call: Call) -> Ticket {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.flights.lock().unwrap().insert(number, Arc::clone(&call.flight));
        call.run(&self.handler, &self.polled);
        Ticket { words: [number, 0, 0], started_ns: monotonic_ns() }
    }

    fn flight(&self, ticket: &Ticket) -> Arc<Flight> {
        Arc::clone(&self.flights.lock().unwrap()[&ticket.words[0]])
    }

    fn ended(&self, ticket: &Ticket) {
        self.flights.lock().unwrap().remove(&ticket.words[0]).expect("a ticket ends once");
    }
}

impl Transport for Loopback {
    fn descriptor(&self) -> &ServiceDescriptor {
        self.handler.descriptor()
    }

    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    fn call(&self, call: &CallRequest<'_>, reply: &mut dyn Decode, times: &mut CallTimes) -> Result<(), Status> {
        times.started_ns = monotonic_ns();
        let call = Call::new(call)?;
        let flight = Arc::clone(&call.flight);
        call.run(&self.handler, &self.polled);
        let result = flight.wait();
        times.ended_ns = monotonic_ns();
        reply.decode(result?.bytes())
    }

    fn poll_start(&self, _: &mut Wakers<'_>, call: &CallRequest<'_>, _: &mut Place) -> Poll<Result<Ticket, Status>> {
        Poll::Ready(Call::new(call).map(|call| self.start(call)))
    }

    fn start_all(&self, calls: &[CallRequest<'_>], tickets: &mut Vec<Ticket>) -> Result<(), Status> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        for call in calls.iter().take(START_ROOM) {
            tickets.push(self.start(Call::new(call)?));
        }
        Ok(())
    }

    fn poll(&self, cx: &mut Wakers<'_>, ticket: &Ticket, reply: &mut (dyn Decode + Send)) -> Poll<Result<(), Status>> {
        match self.flight(ticket).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                self.ended(ticket);
                Poll::Ready(result.and_then(|memory| reply.decode(memory.bytes())))
            }
        }
    }

    fn wait(&self, ticket: Ticket, reply: &mut dyn Decode) -> Result<(), Status> {
        let result = self.flight(&ticket).wait();
        self.ended(&ticket);
        reply.decode(result?.bytes())
    }

    fn cancel(&self, ticket: Ticket) {
        self.flight(&ticket).cancel();
        self.ended(&ticket);
    }

    fn open(&self, call: &CallRequest<'_>, shape: Shape) -> Result<Opened, Status> {
        let mut call = Call::new(call)?;
        let (mut sender, mut receiver) = (None, None);
        if shape.has_client_items() {
            let (ours, theirs) = pipe::pipe();
            (sender, call.receiver) = (Some(ours), Mutex::new(Some(theirs)));
        }
        if shape.has_server_items() {
            let (theirs, ours) = pipe::pipe();
            (call.sender, receiver) = (Mutex::new(Some(theirs)), Some(ours));
        }
        Ok(Opened { ticket: self.start(call), sender, receiver })
    }

    fn local(&self) -> Option<&dyn Any> {
        self.offers_local.then(|| self.handler.local()).flatten()
    }

    fn call_local(
        &self,
        _: MethodIndex,
        timeout: Option<Duration>,
        metadata: Option<&Metadata>,
        times: &mut CallTimes,
        run: &mut dyn FnMut(&Context<'_>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        times.started_ns = monotonic_ns();
        let deadline = timeout.map(|timeout| Deadline::starting_at(times.started_ns, timeout));
        let _scope = scope::enter(Arc::new(Within { deadline, metadata: metadata.cloned().map(Arc::new) }));
        let context = Context::new(deadline, CALLER, &NeverCancelled).with_metadata(metadata);
        let ran = catch_unwind(AssertUnwindSafe(|| run(&context)));
        times.ended_ns = monotonic_ns();
        ran.unwrap_or_else(|_| Err(Status::internal("the handler panicked")))
    }
}

/// A call that is answered on the caller's thread, as calls made for it see it.
struct Within {
    deadline: Option<Deadline>,
    metadata: Option<Arc<Metadata>>,
}

impl Scope for Within {
    fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn poll_cancelled(&self, _: &mut Wakers<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn metadata(&self) -> Option<Arc<Metadata>> {
        self.metadata.clone()
    }
}

/// A registry of handlers of this process.
#[derive(Default)]
pub struct Board {
    transports: Mutex<HashMap<String, Arc<Loopback>>>,
    pub connects: AtomicUsize,
}

impl Board {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn with(address: &str, handler: impl Handler) -> Arc<Self> {
        let board = Self::new();
        board.serve(address, handler);
        board
    }

    pub fn serve(&self, address: &str, handler: impl Handler) {
        self.add(address, Loopback::new(Arc::new(handler)));
    }

    /// Serves a handler that typed clients may call without messages.
    pub fn serve_local(&self, address: &str, handler: impl Handler) {
        self.add(address, Loopback { offers_local: true, ..Loopback::new(Arc::new(handler)) });
    }

    fn add(&self, address: &str, transport: Loopback) {
        self.transports.lock().unwrap().insert(address.to_owned(), Arc::new(transport));
    }

    pub fn transport(&self, address: &str) -> Arc<Loopback> {
        Arc::clone(&self.transports.lock().unwrap()[address])
    }

    /// Ends a service: clients that hold its transport see it dead.
    pub fn stop(&self, address: &str) {
        let transport = self.transports.lock().unwrap().remove(address).expect("it is served");
        transport.alive.store(false, Ordering::Relaxed);
    }
}

impl Registry for Board {
    fn connect(&self, address: &Address, _: Option<Deadline>) -> Result<Arc<dyn Transport>, Status> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        match self.transports.lock().unwrap().get(&address.to_string()) {
            Some(transport) => Ok(Arc::clone(transport) as Arc<dyn Transport>),
            // A wrong outcome on purpose: the channel knows better.
            None => Err(Status::new(Code::NotFound, Outcome::MayHaveRun, format!("nothing serves `{address}`"))),
        }
    }

    fn list(&self) -> Result<Vec<InstanceInfo>, Status> {
        let transports = self.transports.lock().unwrap();
        let info = |name: &String| InstanceInfo { address: name.parse().expect("it was served"), pid: 42 };
        Ok(transports.keys().map(info).collect())
    }
}

/// What a client is connected through.
pub struct Boarded(pub Arc<Board>);

impl Connector for Boarded {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::clone(&self.0) as Arc<dyn Registry>
    }
}
