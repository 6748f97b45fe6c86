//! A subject of the round-trip row: a message through one ring, another back through a second, both sides spinning.

use std::path::Path;
use std::time::Duration;

use shm_ring::spsc::{Consumer, Producer};

use crate::bare::memory::Memory;
use crate::bare::spsc;
use crate::message::{Bytes64, Sink, Source};
use crate::peer::{Peer, PeerEnd};
use crate::subject::{Failure, Samples, Subject};
use crate::transport::iceoryx2::{Publishing, Subscribing};
use crate::transport::{Inlet, Outlet, ours_spsc, shaq};

/// The role of the peer process; its arguments are the rings' kind and where to find the two.
pub const ROLE: &str = "duplex";
const OURS: &str = "shm-ring spsc";
/// The kind of the bare rings, as it appears in names.
pub const BARE: &str = "bare ring";
const SHAQ: &str = "shaq 4.1";
const ICEORYX2: &str = "iceoryx2 publish-subscribe";
/// Bytes in each ring.
const CAPACITY: usize = 64 << 10;

/// Two rings, and the peer that answers each message with one of its own.
#[derive(Debug)]
pub struct Duplex<O, I> {
    name: &'static str,
    outlet: O,
    inlet: I,
    source: Source<Bytes64>,
    sink: Sink<Bytes64>,
    peer: Peer,
}

/// Our rings, the peer on `peer_core`.
///
/// # Errors
/// The memory or the process cannot be made.
pub fn ours(peer_core: usize) -> Result<Duplex<Producer, Consumer>, Failure> {
    let (there, back) = (ours_spsc::Ring::create(CAPACITY)?, ours_spsc::Ring::create(CAPACITY)?);
    let peer = Peer::start(ROLE, &[OURS, &there.path(), &back.path()])?;
    Duplex::new(OURS, there.producer()?, back.consumer()?, peer, peer_core)
}

/// Bare rings, the peer on `peer_core`.
///
/// # Errors
/// The memory or the process cannot be made.
pub fn bare(peer_core: usize) -> Result<Duplex<spsc::Producer, spsc::Consumer>, Failure> {
    let (there, back) = (Memory::create(CAPACITY)?, Memory::create(CAPACITY)?);
    let peer = Peer::start(ROLE, &[BARE, &there.path(), &back.path()])?;
    Duplex::new(BARE, spsc::Producer::over(there), spsc::Consumer::over(back), peer, peer_core)
}

/// shaq's rings, the peer on `peer_core`.
///
/// # Errors
/// shaq refuses the memory, or it or the process cannot be made.
pub fn shaq(peer_core: usize) -> Result<Duplex<shaq::Sending<Bytes64>, shaq::Receiving<Bytes64>>, Failure> {
    let (there, back) = (shaq::Ring::new()?, shaq::Ring::new()?);
    let (outlet, inlet) = (shaq::Sending::create(&there, CAPACITY)?, shaq::Receiving::create(&back, CAPACITY)?);
    let peer = Peer::start(ROLE, &[SHAQ, &there.path(), &back.path()])?;
    Duplex::new(SHAQ, outlet, inlet, peer, peer_core)
}

/// iceoryx2's publishers and subscribers, the peer on `peer_core`.
///
/// # Errors
/// What iceoryx2 or starting the process answers.
pub fn iceoryx2(peer_core: usize) -> Result<Duplex<Publishing, Subscribing>, Failure> {
    let [there, back] = ["there", "back"].map(|way| format!("switchboard-bench/{}/{way}", std::process::id()));
    let (outlet, inlet) = (Publishing::open(&there)?, Subscribing::open(&back)?);
    let peer = Peer::start(ROLE, &[ICEORYX2, &there, &back])?;
    Duplex::new(ICEORYX2, outlet, inlet, peer, peer_core)
}

impl<O: Outlet<Bytes64>, I: Inlet<Bytes64>> Duplex<O, I> {
    fn new(name: &'static str, outlet: O, inlet: I, peer: Peer, peer_core: usize) -> Result<Self, Failure> {
        peer.pin(peer_core)?;
        Ok(Self { name, outlet, inlet, source: Source::new(0), sink: Sink::new(), peer })
    }

    /// One round trip. The last of a chunk sends the peer back to waiting for a command.
    #[inline]
    fn call(&mut self, is_last: bool) -> Result<(), Failure> {
        self.outlet.put(self.source.next(is_last))?;
        self.inlet.take(|bytes| self.sink.read(bytes))?;
        self.sink.finish()
    }
}

impl<O: Outlet<Bytes64>, I: Inlet<Bytes64>> Subject for Duplex<O, I> {
    fn name(&self) -> &str {
        self.name
    }

    fn run(&mut self, time: Duration, samples: &mut Samples) -> Result<f64, Failure> {
        self.peer.go()?;
        self.sink.open(1);
        let timed = samples.time(time, |_| self.call(false));
        self.call(true)?;
        timed
    }
}

/// The peer's side: answers until the parent wants it to end.
///
/// # Errors
/// The rings cannot be opened, or a message was not what had been sent.
pub fn serve(end: PeerEnd, kind: &str, there: &str, back: &str) -> Result<(), Failure> {
    match kind {
        OURS => {
            let [there, back] = [there, back].map(|path| ours_spsc::Ring::open(Path::new(path)));
            answer(end, there?.consumer()?, back?.producer()?)
        }
        BARE => {
            let [there, back] = [there, back].map(|path| Memory::open(Path::new(path)));
            answer(end, spsc::Consumer::over(there?), spsc::Producer::over(back?))
        }
        SHAQ => {
            let [there, back] = [there, back].map(|path| shaq::Ring::open(Path::new(path)));
            answer(end, shaq::Receiving::join(&there?)?, shaq::Sending::join(&back?)?)
        }
        ICEORYX2 => answer(end, Subscribing::open(there)?, Publishing::open(back)?),
        _ => Err(format!("there are no rings of the kind `{kind}`").into()),
    }
}

fn answer(mut end: PeerEnd, mut inlet: impl Inlet<Bytes64>, mut outlet: impl Outlet<Bytes64>) -> Result<(), Failure> {
    let (mut sink, mut source) = (Sink::<Bytes64>::new(), Source::<Bytes64>::new(0));
    end.ready()?;
    while end.wait_for_go() {
        sink.open(1);
        while !sink.is_done() {
            inlet.take(|bytes| sink.read(bytes))?;
            outlet.put(source.next(sink.is_done()))?;
        }
        sink.finish()?;
    }
    Ok(())
}
