//! Sleeping on a word that another process may change.
//!
//! Always without the private flag: a private wake does not reach other processes. Deadlines are absolute on
//! `CLOCK_MONOTONIC`, so that a waiter that is woken for nothing waits no longer than it was told.

/// Why a wait ended. Never proof of anything: look at the state again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Somebody woke us, the value had changed already, or a signal came.
    Look,
    /// The deadline passed.
    TimedOut,
}

#[cfg(miri)]
pub(crate) use followed::{wait, wake};
#[cfg(not(any(loom, miri)))]
pub(crate) use real::{wait, wake};

#[cfg(not(any(loom, miri)))]
mod real {
    use core::num::NonZeroU32;
    use core::sync::atomic::AtomicU32;

    use rustix::io::Errno;
    use rustix::thread::futex;

    use super::Woken;

    /// `FUTEX_WAIT_BITSET` with all bits: an ordinary wait with an absolute deadline.
    pub(crate) fn wait(word: &AtomicU32, expected: u32, until_ns: Option<u64>) -> Woken {
        let until = until_ns.map(|ns| futex::Timespec {
            tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (ns % 1_000_000_000) as _,
        });
        match futex::wait_bitset(word, futex::Flags::empty(), expected, until.as_ref(), NonZeroU32::MAX) {
            Err(Errno::TIMEDOUT) => Woken::TimedOut,
            // Woken, EAGAIN (value differs) and EINTR mean the same to a caller that looks again.
            _ => Woken::Look,
        }
    }

    pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
        // The only failures are a bad address or operation, which a live word excludes; a wake is a hint anyway.
        futex::wake(word, futex::Flags::empty(), count).map_or(0, |woken| woken as u32)
    }
}

/// For Miri, which does not let the kernel compare the half of a word that others change as a whole: every wait ends
/// for nothing, as any wait may.
#[cfg(miri)]
mod followed {
    use core::sync::atomic::AtomicU32;

    use super::Woken;

    pub(crate) fn wait(_word: &AtomicU32, _expected: u32, until_ns: Option<u64>) -> Woken {
        std::thread::yield_now();
        let is_over = until_ns.is_some_and(|until| crate::clock::kernel_ns() >= until);
        if is_over { Woken::TimedOut } else { Woken::Look }
    }

    pub(crate) fn wake(_word: &AtomicU32, count: u32) -> u32 {
        count
    }
}

/// What the kernel's futex queue gives, for models: the check and the sleep are one step under the queue's lock, a wake
/// takes the same lock, and wakes those that sleep on its word in the order in which they fell asleep. One queue per
/// region.
#[cfg(loom)]
#[derive(Debug, Default)]
pub(crate) struct LoomQueue {
    lock: loom::sync::Mutex<Vec<Sleeper>>,
    changed: loom::sync::Condvar,
}

#[cfg(loom)]
#[derive(Debug)]
struct Sleeper {
    thread: loom::thread::ThreadId,
    /// Its address: compared, never followed.
    word: usize,
    woken: bool,
}

#[cfg(loom)]
impl LoomQueue {
    pub(crate) fn wait(&self, word: &crate::sync::AtomicU64, expected: u32) -> Woken {
        let mut sleepers = self.lock.lock().expect("models do not panic under the lock");
        if word.load(crate::sync::Ordering::Relaxed) as u32 == expected {
            let thread = loom::thread::current().id();
            sleepers.push(Sleeper { thread, word: address(word), woken: false });
            while sleepers.iter().any(|sleeper| sleeper.thread == thread && !sleeper.woken) {
                sleepers = self.changed.wait(sleepers).expect("models do not panic under the lock");
            }
            sleepers.retain(|sleeper| sleeper.thread != thread);
        }
        Woken::Look
    }

    pub(crate) fn wake(&self, word: &crate::sync::AtomicU64, count: u32) -> u32 {
        let mut sleepers = self.lock.lock().expect("models do not panic under the lock");
        let here = sleepers.iter_mut().filter(|sleeper| sleeper.word == address(word) && !sleeper.woken);
        let woken = here.take(count as usize).map(|sleeper| sleeper.woken = true).count() as u32;
        if woken > 0 {
            self.changed.notify_all();
        }
        woken
    }
}

#[cfg(loom)]
fn address(word: &crate::sync::AtomicU64) -> usize {
    std::ptr::from_ref(word) as usize
}
