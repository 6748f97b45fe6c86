//! A subject of a one-way row: this thread sends, another process or thread on the other processor receives.
//!
//! A chunk begins when the receiver is known to be awake and ends when the receiver has said that it read the last
//! message. Both are told over a pair of lines, as the floor's are: a tenth of a microsecond in a chunk of milliseconds.

use std::path::Path;
use std::time::{Duration, Instant};

use shm_ring::floor::Floor;

use crate::bare::memory::Memory;
use crate::bare::spsc;
use crate::far::{self, Far};
use crate::floor;
use crate::message::{Bytes1K, Bytes8, Bytes64, Bytes64K, Message, Sink, Source};
use crate::peer::{Peer, PeerEnd};
use crate::subject::{Failure, Samples, Subject, Unit};
use crate::transport::ours_spsc::{self, Records};
use crate::transport::{Inlet, Outlet, shaq};

/// The role of the receiving process; its arguments are those of [`serve`].
pub const ROLE: &str = "stream";
/// The kinds of rings, as they appear in names.
pub const OURS: &str = "shm-ring spsc";
/// Our ring, a batch as records of one frame.
pub const RECORDS: &str = "shm-ring spsc, records";
/// The bare ring, written by hand.
pub const BARE: &str = "bare ring";
/// shaq between processes.
pub const SHAQ: &str = "shaq 4.1";
/// rtrb between threads.
pub const RTRB: &str = "rtrb, threads";

/// Bytes in the first chunk, whose length nobody can know yet.
const FIRST_BYTES: u64 = 1 << 20;
/// A chunk is never shorter than this many messages.
const LEAST_MESSAGES: u64 = 64;

/// The sending side of a one-way subject, with its receiver.
pub struct Stream<M, O> {
    name: String,
    outlet: O,
    source: Source<M>,
    batch: usize,
    gate: Floor,
    far: Far,
    /// Of the last chunk; none before the first.
    ns_per_message: Option<f64>,
}

impl<M, O> std::fmt::Debug for Stream<M, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("name", &self.name).field("far", &self.far).finish_non_exhaustive()
    }
}

impl<M: Message, O: Outlet<M>> Stream<M, O> {
    /// Sends through `outlet` in batches of `batch`; a batch of one is no batch. `far` receives and knows `gate`.
    #[must_use]
    pub fn new(name: String, outlet: O, batch: usize, gate: Floor, far: Far) -> Self {
        Self { name, outlet, source: Source::new(0), batch, gate, far, ns_per_message: None }
    }

    fn send(&mut self, count: u64) -> Result<(), Failure> {
        if self.batch == 1 {
            for number in 1..=count {
                self.outlet.put(self.source.next(number == count))?;
            }
            return Ok(());
        }
        let batches = count.div_ceil(self.batch as u64);
        for number in 1..=batches {
            self.outlet.put_batch(&mut self.source, self.batch, number == batches)?;
        }
        Ok(())
    }
}

impl<M: Message, O: Outlet<M>> Subject for Stream<M, O> {
    fn name(&self) -> &str {
        &self.name
    }

    fn unit(&self) -> Unit {
        Unit::Message { bytes: M::BYTES }
    }

    fn run(&mut self, time: Duration, _samples: &mut Samples) -> Result<f64, Failure> {
        let fitting =
            self.ns_per_message.map_or(FIRST_BYTES / M::BYTES as u64, |ns| (time.as_nanos() as f64 / ns) as u64);
        let count = fitting.max(LEAST_MESSAGES).next_multiple_of(self.batch as u64);
        self.far.go(0)?;
        self.gate.spin_ping(1)?;
        let start = Instant::now();
        self.send(count)?;
        self.gate.spin_ping(1)?;
        let ns_per_message = start.elapsed().as_nanos() as f64 / count as f64;
        self.ns_per_message = Some(ns_per_message);
        Ok(ns_per_message)
    }
}

/// All subjects with messages of this type, sent in batches of `batch`; their receivers are on `core`.
///
/// # Errors
/// The memory, a process or a thread cannot be made, or a rival refuses.
pub fn subjects<M: Message>(core: usize, batch: usize) -> Result<Vec<Box<dyn Subject>>, Failure> {
    let capacity = capacity_for(M::BYTES);
    let name = |kind: &str| name_of(kind, M::BYTES, batch);
    let process = |kind: &str, gate: &Floor, ring: &str| {
        let peer = Peer::start(ROLE, &[kind, &M::BYTES.to_string(), &batch.to_string(), &floor::path_of(gate), ring])?;
        peer.pin(core)?;
        Ok::<Far, Failure>(Far::Process(peer))
    };

    let (gate, ring) = (Floor::create()?, ours_spsc::Ring::create(capacity)?);
    let far = process(OURS, &gate, &ring.path())?;
    let ours = Stream::<M, _>::new(name(OURS), ring.producer()?, batch, gate, far);

    let (gate, memory) = (Floor::create()?, Memory::create(capacity)?);
    let far = process(BARE, &gate, &memory.path())?;
    let bare = Stream::<M, _>::new(name(BARE), spsc::Producer::over(memory), batch, gate, far);

    let (gate, ring) = (Floor::create()?, shaq::Ring::new()?);
    let outlet = shaq::Sending::<M>::create(&ring, capacity)?;
    let far = process(SHAQ, &gate, &ring.path())?;
    let shaq = Stream::new(name(SHAQ), outlet, batch, gate, far);

    let gate = Floor::create()?;
    let (outlet, inlet) = rtrb::RingBuffer::<M>::new(capacity / M::BYTES);
    let gate_path = floor::path_of(&gate);
    let far = Far::thread(core, move || receiver(inlet, batch, gate_path.as_ref()))?;
    let rtrb = Stream::new(name(RTRB), outlet, batch, gate, far);

    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(ours)];
    if batch > 1 {
        let (gate, ring) = (Floor::create()?, ours_spsc::Ring::create(capacity)?);
        let far = process(RECORDS, &gate, &ring.path())?;
        subjects.push(Box::new(Stream::<M, _>::new(name(RECORDS), Records::over(ring.producer()?), batch, gate, far)));
    }
    subjects.extend([Box::new(bare) as Box<dyn Subject>, Box::new(shaq), Box::new(rtrb)]);
    Ok(subjects)
}

/// The name of a subject, by which bars find it.
#[must_use]
pub fn name_of(kind: &str, bytes: usize, batch: usize) -> String {
    let size = if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes >> 10) };
    let how = if batch == 1 { "single".to_owned() } else { format!("by {batch}") };
    format!("{size}, {how}: {kind}")
}

/// Bytes in the rings for messages of this size, the same for every subject: 256 KiB stays in a private cache, and
/// large messages want the shared one.
const fn capacity_for(message_bytes: usize) -> usize {
    if message_bytes < (16 << 10) { 256 << 10 } else { 4 << 20 }
}

/// The receiving process: does its part until the parent wants it to end.
///
/// # Errors
/// The ring cannot be opened, or a message was not what had been sent.
pub fn serve(end: PeerEnd, kind: &str, bytes: usize, batch: usize, gate: &Path, ring: &Path) -> Result<(), Failure> {
    match bytes {
        Bytes8::BYTES => serve_type::<Bytes8>(end, kind, batch, gate, ring),
        Bytes64::BYTES => serve_type::<Bytes64>(end, kind, batch, gate, ring),
        Bytes1K::BYTES => serve_type::<Bytes1K>(end, kind, batch, gate, ring),
        Bytes64K::BYTES => serve_type::<Bytes64K>(end, kind, batch, gate, ring),
        _ => Err(format!("there are no messages of {bytes} bytes").into()),
    }
}

fn serve_type<M: Message>(mut end: PeerEnd, kind: &str, batch: usize, gate: &Path, ring: &Path) -> Result<(), Failure> {
    match kind {
        OURS => {
            let work = receiver::<M, _>(ours_spsc::Ring::open(ring)?.consumer()?, batch, gate)?;
            end.ready()?;
            far::obey(end, work)
        }
        RECORDS => {
            let work = receiver::<M, _>(Records::over(ours_spsc::Ring::open(ring)?.consumer()?), batch, gate)?;
            end.ready()?;
            far::obey(end, work)
        }
        BARE => {
            let work = receiver::<M, _>(spsc::Consumer::over(Memory::open(ring)?), batch, gate)?;
            end.ready()?;
            far::obey(end, work)
        }
        SHAQ => {
            let work = receiver::<M, _>(shaq::Receiving::join(&shaq::Ring::open(ring)?)?, batch, gate)?;
            end.ready()?;
            far::obey(end, work)
        }
        _ => Err(format!("there is no ring of the kind `{kind}`").into()),
    }
}

/// What the receiving side does for each chunk.
///
/// # Errors
/// The gate cannot be opened; for a chunk: what the transport answers, or a wrong message.
fn receiver<M: Message, I: Inlet<M>>(
    mut inlet: I,
    batch: usize,
    gate: &Path,
) -> Result<impl FnMut(u64) -> Result<(), Failure> + use<M, I>, Failure> {
    let gate = floor::open(gate)?;
    let mut sink = Sink::<M>::new();
    Ok(move |_| {
        gate.spin_echo(1)?;
        sink.open(1);
        while !sink.is_done() {
            if batch == 1 {
                inlet.take(|bytes| sink.read(bytes))?;
            } else {
                inlet.take_batch(batch, |bytes| sink.read(bytes))?;
            }
        }
        sink.finish()?;
        Ok(gate.spin_echo(1)?)
    })
}
