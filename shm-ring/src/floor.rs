//! The machine's own limits between two processes: what no call can beat.
//!
//! A [`Floor`] is two words on lines of their own in sealed shared memory. One process pings, the other echoes, either
//! by spinning (one cache line each way) or by sleeping (one futex wake each way). Benchmarks and the demo put these
//! figures beside their own, measured in the same run. It is a yardstick, not a way to send anything.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};

use crate::raw::{Access, Guarded, LINE_PAIR, Region};
use crate::sync::{Ordering, spin_loop, yield_now};

/// Bytes of the memory: one page.
const LEN: usize = 4096;

/// How often the caller pinged, ever. Written by the caller only.
const PING: usize = 0;

/// How often the peer echoed, ever. Written by the peer only.
const PONG: usize = LINE_PAIR;

/// Looks at a word before giving the processor away: some 100 µs, so never reached while the peer is awake.
const LOOKS_PER_YIELD: u32 = 4096;

/// How long a run of rounds may take before the peer is taken for gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two words shared with one other process.
///
/// The pinging and the echoing side must be told the same number of rounds in all, in any portions, with the same
/// kind (spin or futex) for the same rounds. One thread on each side.
#[derive(Debug)]
pub struct Floor {
    file: OwnedFd,
    region: Region,
}

impl Floor {
    /// Makes the words in a sealed memfd of one page. Its descriptor closes on exec: pass it on explicitly.
    ///
    /// # Errors
    /// When the kernel gives no memory or no descriptor.
    pub fn create() -> io::Result<Self> {
        let file = rustix::fs::memfd_create("switchboard-floor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        // Allocates the page now, so that a lack of memory is an error here and no signal later.
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, LEN as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::from_fd(file)
    }

    /// Opens the words that another process made.
    ///
    /// # Errors
    /// `InvalidData` if the file can shrink or has not the size of one; else what `fstat` and `mmap` say.
    pub fn from_fd(file: OwnedFd) -> io::Result<Self> {
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        let len = rustix::fs::fstat(&file)?.st_size;
        if !seals.contains(SealFlags::SHRINK) || len != LEN as i64 {
            let what = format!("no floor: {len} bytes with seals {seals:?}, expected {LEN} bytes that cannot shrink");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let region = Region::map(Guarded::map(file.as_fd(), LEN, Access::ReadWrite)?);
        Ok(Self { file, region })
    }

    /// The descriptor to pass to the other process.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Sends a line and spins until a line comes back, `rounds` times. Gives the time of all rounds together.
    ///
    /// # Errors
    /// `TimedOut` when the peer does not keep up for ten seconds.
    pub fn spin_ping(&self, rounds: u32) -> io::Result<Duration> {
        let start = Instant::now();
        for round in self.rounds_of(PING, rounds) {
            // ORDERING: Release, pairs with the Acquire load in `Floor::spin_until`, as a call's publication would.
            self.region.word(PING).store(round, Ordering::Release);
            self.spin_until(PONG, round, start)?;
        }
        Ok(start.elapsed())
    }

    /// The other side of [`Floor::spin_ping`]: spins until a line comes and sends one back, `rounds` times.
    ///
    /// # Errors
    /// `TimedOut` when the caller does not keep up for ten seconds.
    pub fn spin_echo(&self, rounds: u32) -> io::Result<()> {
        let start = Instant::now();
        for round in self.rounds_of(PONG, rounds) {
            self.spin_until(PING, round, start)?;
            // ORDERING: Release, pairs with the Acquire load in `Floor::spin_until`, as a call's reply would.
            self.region.word(PONG).store(round, Ordering::Release);
        }
        Ok(())
    }

    /// Wakes the peer and sleeps until it wakes us, `rounds` times. Gives the time of all rounds together.
    ///
    /// # Errors
    /// `TimedOut` when the peer does not keep up for ten seconds.
    pub fn futex_ping(&self, rounds: u32) -> io::Result<Duration> {
        let (start, until_ns) = (Instant::now(), patience_ns());
        for round in self.rounds_of(PING, rounds) {
            // ORDERING: Release, pairs with the Acquire load in `Floor::sleep_until`, as a call's publication would.
            self.region.word(PING).store(round, Ordering::Release);
            self.region.futex_wake(PING, 1);
            self.sleep_until(PONG, round, until_ns)?;
        }
        Ok(start.elapsed())
    }

    /// The other side of [`Floor::futex_ping`]: sleeps until it is woken and wakes the caller, `rounds` times.
    ///
    /// # Errors
    /// `TimedOut` when the caller does not keep up for ten seconds.
    pub fn futex_echo(&self, rounds: u32) -> io::Result<()> {
        let until_ns = patience_ns();
        for round in self.rounds_of(PONG, rounds) {
            self.sleep_until(PING, round, until_ns)?;
            // ORDERING: Release, pairs with the Acquire load in `Floor::sleep_until`, as a call's reply would.
            self.region.word(PONG).store(round, Ordering::Release);
            self.region.futex_wake(PONG, 1);
        }
        Ok(())
    }

    /// The numbers of the next `count` rounds, told by the word that only this side writes.
    fn rounds_of(&self, own: usize, count: u32) -> std::ops::RangeInclusive<u64> {
        let done = self.region.word(own).load(Ordering::Relaxed);
        done.wrapping_add(1)..=done.wrapping_add(u64::from(count))
    }

    #[inline]
    fn spin_until(&self, offset: usize, round: u64, start: Instant) -> io::Result<()> {
        let word = self.region.word(offset);
        loop {
            for _ in 0..LOOKS_PER_YIELD {
                // ORDERING: Acquire, pairs with the Release stores of `spin_ping` and `spin_echo`.
                if word.load(Ordering::Acquire) == round {
                    return Ok(());
                }
                spin_loop();
            }
            if start.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // With one processor the peer can only answer when it gets it.
            yield_now();
        }
    }

    fn sleep_until(&self, offset: usize, round: u64, until_ns: u64) -> io::Result<()> {
        loop {
            // ORDERING: Acquire, pairs with the Release stores of `futex_ping` and `futex_echo`.
            let seen = self.region.word(offset).load(Ordering::Acquire);
            if seen == round {
                return Ok(());
            }
            if self.region.futex_wait(offset, seen as u32, Some(until_ns)) == crate::futex::Woken::TimedOut {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// When patience ends that begins now, in nanoseconds on `CLOCK_MONOTONIC`.
fn patience_ns() -> u64 {
    crate::clock::kernel_ns() + PATIENCE.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same memory mapped a second time, as another process maps it.
    fn two_ends() -> (Floor, Floor) {
        let ours = Floor::create().expect("memory for one page");
        let theirs = ours.fd().try_clone_to_owned().and_then(Floor::from_fd).expect("a floor just made");
        (ours, theirs)
    }

    #[test]
    fn rounds_may_be_portioned_differently_on_both_sides() {
        let (ours, theirs) = two_ends();
        std::thread::scope(|scope| {
            let echo = scope.spawn(move || theirs.spin_echo(30).and_then(|()| theirs.futex_echo(12)));
            for pinged in [ours.spin_ping(10), ours.spin_ping(20), ours.futex_ping(5), ours.futex_ping(7)] {
                pinged.expect("the peer echoes");
            }
            echo.join().expect("no panic").expect("the caller pings");
        });
    }

    #[test]
    fn a_file_that_can_shrink_is_no_floor() {
        let file = rustix::fs::memfd_create("unsealed", MemfdFlags::CLOEXEC).expect("a descriptor");
        rustix::fs::ftruncate(&file, LEN as u64).expect("room for one page");
        assert_eq!(Floor::from_fd(file).expect_err("it is unsealed").kind(), io::ErrorKind::InvalidData);
    }
}
