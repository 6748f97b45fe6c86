//! A transport inside one thread: messages are really encoded and decoded, nothing else happens.
//!
//! Shared by the tests of this crate and of the macro, hence the unused parts in each.
#![allow(dead_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rkyv::util::AlignedVec;
use service_core::{
    Address, BlockWriter, CallRequest, CallTimes, Caller, Code, Connector, Context, Deadline, Decode, Encode, Encoded,
    Handler, InstanceInfo, NeverCancelled, Outcome, Registry, ReplySink, ServiceDescriptor, SinkFull, Status,
    Transport, encode_block, encode_small, monotonic_ns,
};

/// Bytes of the small place, as short as a transport's cell.
const INLINE_LEN: usize = 96;

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

/// Joins a client and a handler of the same thread.
pub struct Loopback {
    handler: Arc<dyn Handler>,
    alive: AtomicBool,
}

impl Loopback {
    pub fn new(handler: Arc<dyn Handler>) -> Self {
        Self { handler, alive: AtomicBool::new(true) }
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
        let deadline = call.timeout.map(|timeout| Deadline::starting_at(times.started_ns, timeout));
        let mut memory = Memory::default();
        memory.put(call.message)?;
        let mut sent = Sent(None);
        let context = Context::new(deadline, CALLER, &NeverCancelled);
        let result = self.handler.call(&context, call.method, memory.bytes(), &mut sent);
        times.ended_ns = monotonic_ns();
        result?;
        match &sent.0 {
            Some(memory) => reply.decode(memory.bytes()),
            None => Ok(()),
        }
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
        let transport = Arc::new(Loopback::new(Arc::new(handler)));
        self.transports.lock().unwrap().insert(address.to_owned(), transport);
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
