//! A subject of the row with many producers: they share one processor, and this thread consumes on the other.
//!
//! A chunk begins when all producers have been told to begin and ends when the last message of each has been read.
//! Producers that share a processor run by turns, so one of them is often stopped in the middle of something.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ipc_channel::ipc::{IpcBytesReceiver, bytes_channel};
use shm_ring::Segment;
use shm_ring::mpsc::{MpscLayout, Queue, QueueOptions, Receiver, Sender, pair};

use crate::bare::memory::Memory;
use crate::bare::mpsc;
use crate::far::{self, Far};
use crate::message::{Bytes64, Message, Sink, Source};
use crate::peer::{Peer, PeerEnd};
use crate::subject::{Failure, Samples, Subject, Unit};
use crate::transport::iceoryx2::{Publishing, Subscribing};
use crate::transport::{Inlet, Outlet, ipc};

/// The role of a producing process; its arguments are those of [`serve`].
pub const ROLE: &str = "funnel";
/// The kinds of rings and channels, as they appear in names.
pub const OURS: &str = "shm-ring mpsc";
/// The shared ring, written by hand.
pub const AGRONA: &str = "shared ring like Agrona's";
/// crossbeam-channel between threads.
pub const CROSSBEAM: &str = "crossbeam-channel";
/// iceoryx2 without loss.
pub const ICEORYX2: &str = "iceoryx2 publish-subscribe";
/// ipc-channel's channel of bytes.
pub const IPC: &str = "ipc-channel";
/// The address of our queue in its directory.
const QUEUE: &str = "bench/funnel";
/// Messages that fit into each ring or channel; a ring of bytes is rounded up to a power of two.
const CAPACITY: usize = 1024;
/// Messages of each producer in the first chunk, whose length nobody can know yet, and at least in all others.
const LEAST_SHARE: u64 = 64;

/// Where the producers live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Producers {
    /// Threads of this process.
    Threads(usize),
    /// Processes of their own.
    Processes(usize),
}

impl Producers {
    fn count(self) -> usize {
        match self {
            Self::Threads(count) | Self::Processes(count) => count,
        }
    }

    /// The name of a subject with these producers, by which bars find it.
    #[must_use]
    pub fn name_of(self, kind: &str) -> String {
        let (count, what) = match self {
            Self::Threads(count) => (count, "thread"),
            Self::Processes(count) => (count, "process"),
        };
        let plural = match (count, self) {
            (1, _) => "",
            (_, Self::Threads(_)) => "s",
            (_, Self::Processes(_)) => "es",
        };
        format!("{count} {what}{plural}: {kind}")
    }
}

/// The consuming side, with its producers.
pub struct Funnel<I> {
    name: String,
    inlet: I,
    sink: Sink<Bytes64>,
    producers: Vec<Far>,
    /// Of the last chunk; none before the first.
    ns_per_message: Option<f64>,
}

impl<I> std::fmt::Debug for Funnel<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Funnel").field("name", &self.name).field("producers", &self.producers).finish_non_exhaustive()
    }
}

impl<I: Inlet<Bytes64>> Funnel<I> {
    fn new(name: String, inlet: I, producers: Vec<Far>) -> Self {
        Self { name, inlet, sink: Sink::new(), producers, ns_per_message: None }
    }
}

impl<I: Inlet<Bytes64>> Subject for Funnel<I> {
    fn name(&self) -> &str {
        &self.name
    }

    fn unit(&self) -> Unit {
        Unit::Message { bytes: Bytes64::BYTES }
    }

    fn run(&mut self, time: Duration, _samples: &mut Samples) -> Result<f64, Failure> {
        let producers = self.producers.len() as u64;
        let fitting = self.ns_per_message.map_or(0, |ns| (time.as_nanos() as f64 / ns) as u64);
        let share = (fitting / producers).max(LEAST_SHARE);
        self.sink.open(self.producers.len());
        for producer in &mut self.producers {
            producer.go(share)?;
        }
        let start = Instant::now();
        while !self.sink.is_done() {
            self.inlet.take(|bytes| self.sink.read(bytes))?;
        }
        let ns_per_message = start.elapsed().as_nanos() as f64 / (share * producers) as f64;
        self.ns_per_message = Some(ns_per_message);
        self.sink.finish()?;
        Ok(ns_per_message)
    }
}

/// All subjects with these producers, which are on `core`. Sockets are made in `directory`.
///
/// # Errors
/// The memory, a process or a thread cannot be made, or a rival refuses.
pub fn subjects(producers: Producers, directory: &Path, core: usize) -> Result<Vec<Box<dyn Subject>>, Failure> {
    let mut subjects: Vec<Box<dyn Subject>> = match producers {
        Producers::Threads(count) => vec![Box::new(ours_of_threads(count, core)?), Box::new(crossbeam(count, core)?)],
        Producers::Processes(count) => {
            vec![Box::new(ours_of_processes(count, directory, core)?), Box::new(ipc_channel(count, core)?)]
        }
    };
    subjects.push(Box::new(agrona(producers, core)?));
    subjects.push(Box::new(iceoryx2(producers, core)?));
    Ok(subjects)
}

fn ours_of_threads(count: usize, core: usize) -> Result<Funnel<Receiver>, Failure> {
    let layout = MpscLayout::new(CAPACITY as u32)?.with_inline(Bytes64::BYTES)?;
    let (sender, receiver) = pair(&Segment::heap(layout, 1))?;
    let producing: Result<_, Failure> = (0..count)
        .map(|number| {
            let sender = sender.clone();
            Far::thread(core, move || Ok(producer(sender, number)))
        })
        .collect();
    Ok(Funnel::new(Producers::Threads(count).name_of(OURS), receiver, producing?))
}

fn ours_of_processes(count: usize, directory: &Path, core: usize) -> Result<Funnel<Queue>, Failure> {
    let producers = Producers::Processes(count);
    // A directory for each, so that all can have the same name.
    let directory = directory.join(format!("queue-{count}"));
    DirBuilder::new().mode(0o700).create(&directory)?;
    let layout = MpscLayout::new(CAPACITY as u32)?.with_inline(Bytes64::BYTES)?;
    let queue = QueueOptions::new().runtime_dir(&directory).lane(layout).create(&QUEUE.parse()?)?;
    let place = directory.to_str().ok_or("the directory's path is not UTF-8")?;
    let producing = each(producers, core, OURS, place, |place| open_queue(Path::new(place)))?;
    Ok(Funnel::new(producers.name_of(OURS), queue, producing))
}

fn open_queue(directory: &Path) -> Result<Sender, Failure> {
    Ok(QueueOptions::new().runtime_dir(directory).open(&QUEUE.parse()?)?)
}

fn agrona(producers: Producers, core: usize) -> Result<Funnel<mpsc::Consumer>, Failure> {
    let consumer = mpsc::Consumer::over(Memory::create((CAPACITY * Bytes64::BYTES).next_power_of_two() * 2)?);
    let path = consumer.path();
    let producing =
        each(producers, core, AGRONA, &path, |path| Ok(mpsc::Producer::over(Memory::open(Path::new(path))?)))?;
    Ok(Funnel::new(producers.name_of(AGRONA), consumer, producing))
}

fn iceoryx2(producers: Producers, core: usize) -> Result<Funnel<Subscribing>, Failure> {
    let service = format!("switchboard-bench/{}/{}", std::process::id(), producers.name_of("funnel"));
    let subscriber = Subscribing::open(&service)?;
    let producing = each(producers, core, ICEORYX2, &service, Publishing::open)?;
    Ok(Funnel::new(producers.name_of(ICEORYX2), subscriber, producing))
}

fn crossbeam(count: usize, core: usize) -> Result<Funnel<crossbeam_channel::Receiver<Bytes64>>, Failure> {
    let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
    let producing: Result<_, Failure> = (0..count)
        .map(|number| {
            let sender = sender.clone();
            Far::thread(core, move || Ok(producer(sender, number)))
        })
        .collect();
    Ok(Funnel::new(Producers::Threads(count).name_of(CROSSBEAM), receiver, producing?))
}

fn ipc_channel(count: usize, core: usize) -> Result<Funnel<IpcBytesReceiver>, Failure> {
    let (sender, receiver) = bytes_channel()?;
    let producing: Result<_, Failure> = (0..count)
        .map(|number| {
            let (handing, place) = ipc::Handing::new()?;
            let peer = Peer::start(ROLE, &[IPC, &number.to_string(), &place])?;
            handing.give(&sender)?;
            peer.pin(core)?;
            Ok(Far::Process(peer))
        })
        .collect();
    Ok(Funnel::new(Producers::Processes(count).name_of(IPC), receiver, producing?))
}

/// Starts all producers of a kind whose sending ends are opened by a path or a name.
fn each<O: Outlet<Bytes64> + 'static>(
    producers: Producers,
    core: usize,
    kind: &'static str,
    place: &str,
    open: fn(&str) -> Result<O, Failure>,
) -> Result<Vec<Far>, Failure> {
    (0..producers.count())
        .map(|number| match producers {
            Producers::Threads(_) => {
                let place = place.to_owned();
                Far::thread(core, move || Ok(producer(open(&place)?, number)))
            }
            Producers::Processes(_) => {
                let peer = Peer::start(ROLE, &[kind, &number.to_string(), place])?;
                peer.pin(core)?;
                Ok(Far::Process(peer))
            }
        })
        .collect()
}

/// A producing process: does its part until the parent wants it to end.
///
/// # Errors
/// The sending end cannot be opened or used.
pub fn serve(mut end: PeerEnd, kind: &str, number: usize, place: &str) -> Result<(), Failure> {
    match kind {
        OURS => {
            let outlet = open_queue(Path::new(place))?;
            end.ready()?;
            far::obey(end, producer(outlet, number))
        }
        AGRONA => {
            let outlet = mpsc::Producer::over(Memory::open(Path::new(place))?);
            end.ready()?;
            far::obey(end, producer(outlet, number))
        }
        ICEORYX2 => {
            let outlet = Publishing::open(place)?;
            end.ready()?;
            far::obey(end, producer(outlet, number))
        }
        IPC => {
            let outlet = ipc::ask(place, || Ok(end.ready()?))?;
            far::obey(end, producer(outlet, number))
        }
        _ => Err(format!("there is no ring or channel of the kind `{kind}`").into()),
    }
}

/// What a producer does for each chunk: sends its share.
fn producer(mut outlet: impl Outlet<Bytes64>, number: usize) -> impl FnMut(u64) -> Result<(), Failure> {
    let mut source = Source::new(number);
    move |share| {
        for number in 1..=share {
            outlet.put(source.next(number == share))?;
        }
        Ok(())
    }
}
