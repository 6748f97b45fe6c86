//! The machine's own limits: what two processes need without any call between them.
//!
//! [`LineFloor`] is one word on a cache line each way, both sides spinning. [`FutexFloor`] is a wake each way, both
//! sides asleep. A call cannot be faster than its floor; how close it comes is what the bars are about. The round trips
//! themselves are [`shm_ring::floor`]'s, which the demo shows as well.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use shm_ring::floor::Floor;

use crate::peer::{Peer, PeerEnd};
use crate::subject::{Failure, Samples, Subject};

/// The role of the peer that spins.
pub const LINE_ROLE: &str = "floor-lines";
/// The role of the peer that sleeps.
pub const FUTEX_ROLE: &str = "floor-futex";

/// Spinning round trips timed together: a look at the clock costs a quarter of one.
const LINE_BATCH: u32 = 64;
/// Batches of one chunk: about a millisecond near, four far.
const LINE_BATCHES: u32 = 128;
/// Sleeping round trips of one chunk, each timed by itself: 10 to 20 ms.
const FUTEX_ROUNDS: u32 = 400;

/// Round trip of a cache line each way between two spinning processes; each sample is a mean of 64.
#[derive(Debug)]
pub struct LineFloor(Shared);

/// Round trip of a futex wake each way between two sleeping processes.
#[derive(Debug)]
pub struct FutexFloor(Shared);

#[derive(Debug)]
struct Shared {
    floor: Floor,
    peer: Peer,
}

impl Shared {
    fn start(role: &'static str, peer_core: usize) -> Result<Self, Failure> {
        let floor = Floor::create()?;
        let peer = Peer::start(role, &[&path_of(&floor)])?;
        peer.pin(peer_core)?;
        Ok(Self { floor, peer })
    }
}

impl LineFloor {
    /// Starts the peer on `peer_core`.
    ///
    /// # Errors
    /// The memory or the process cannot be made.
    pub fn start(peer_core: usize) -> Result<Self, Failure> {
        Shared::start(LINE_ROLE, peer_core).map(Self)
    }
}

impl FutexFloor {
    /// Starts the peer on `peer_core`.
    ///
    /// # Errors
    /// The memory or the process cannot be made.
    pub fn start(peer_core: usize) -> Result<Self, Failure> {
        Shared::start(FUTEX_ROLE, peer_core).map(Self)
    }
}

impl Subject for LineFloor {
    fn name(&self) -> &str {
        "floor: a line each way"
    }

    /// Makes a fixed number of round trips, whatever the time: the peer must know it before.
    fn run(&mut self, _time: Duration, samples: &mut Samples) -> Result<f64, Failure> {
        self.0.peer.go()?;
        // The first batch waits for the peer to wake up.
        self.0.floor.spin_ping(LINE_BATCH)?;
        for _ in 1..LINE_BATCHES {
            samples.add(self.0.floor.spin_ping(LINE_BATCH)? / LINE_BATCH);
        }
        Ok(samples.median_ns())
    }
}

impl Subject for FutexFloor {
    fn name(&self) -> &str {
        "floor: a futex wake each way"
    }

    /// Makes a fixed number of round trips, whatever the time: the peer must know it before.
    fn run(&mut self, _time: Duration, samples: &mut Samples) -> Result<f64, Failure> {
        self.0.peer.go()?;
        self.0.floor.futex_ping(1)?;
        for _ in 1..FUTEX_ROUNDS {
            samples.add(self.0.floor.futex_ping(1)?);
        }
        Ok(samples.median_ns())
    }
}

/// The peer's side of [`LineFloor`]: answers until the parent wants it to end.
///
/// # Errors
/// The memory cannot be opened, or the parent is gone.
pub fn serve_lines(end: PeerEnd, path: &Path) -> Result<(), Failure> {
    serve(end, path, |floor| floor.spin_echo(LINE_BATCH * LINE_BATCHES))
}

/// The peer's side of [`FutexFloor`]: answers until the parent wants it to end.
///
/// # Errors
/// The memory cannot be opened, or the parent is gone.
pub fn serve_futex(end: PeerEnd, path: &Path) -> Result<(), Failure> {
    serve(end, path, |floor| floor.futex_echo(FUTEX_ROUNDS))
}

/// Where another process of this user finds a floor while this one keeps it.
#[must_use]
pub fn path_of(floor: &Floor) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), floor.fd().as_raw_fd())
}

/// Opens the floor at this path.
///
/// # Errors
/// It cannot be opened, or is none.
pub fn open(path: &Path) -> Result<Floor, Failure> {
    Ok(Floor::from_fd(File::options().read(true).write(true).open(path)?.into())?)
}

fn serve(mut end: PeerEnd, path: &Path, echo: impl Fn(&Floor) -> std::io::Result<()>) -> Result<(), Failure> {
    let floor = open(path)?;
    end.ready()?;
    while end.wait_for_go() {
        echo(&floor)?;
    }
    Ok(())
}
