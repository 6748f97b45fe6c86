//! Threads that wait for news on descriptors: connections, messages, hang-ups, deaths, deadlines.
//!
//! A process has one for news that must be passed on at once, and one for news whose handling takes its time: who makes
//! memory for a newcomer must not hold up the ring of somebody who calls. Each starts with the first thing to watch and
//! sleeps in `epoll_wait` until the kernel has news; it never polls.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::event::{Timespec, epoll, eventfd};
use rustix::io::Errno;

use crate::error::Error;
use crate::fork::Home;

/// What happened to a watched descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// There is something to read, or to accept.
    Readable,
    /// The other end hung up, or the watched process died.
    Ended,
    /// The deadline that was given with the watch has passed.
    Expired,
}

/// Whether to go on watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go on. A deadline that has not passed yet stays.
    Keep,
    /// Go on, and tell [`Event::Expired`] at this time (nanoseconds on the monotonic clock).
    KeepUntil(u64),
    /// Go on, and tell [`Event::Expired`] at this time, or earlier if an earlier one was chosen meanwhile.
    KeepWithin(u64),
    /// Watch the descriptor no more, but tell [`Event::Expired`] at this time (nanoseconds on the monotonic clock). `Keep` or
    /// `KeepUntil` as the answer to that watch it again.
    ExpireAt(u64),
    /// Watch the descriptor no more.
    Stop,
}

/// Whoever wants the news. Called on the thread that watches, one event at a time; never blocking, and quick unless it is
/// the one of [`watch_at_leisure`].
pub trait Watched: Send + Sync {
    /// Takes one event.
    fn on_event(&self, event: Event) -> Next;
}

/// A descriptor under watch; dropped, the watch ends. A call of its handler that is under way is not waited for.
pub struct Watch {
    id: u64,
    watcher: &'static Watcher,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Watch {
    /// Tells [`Event::Expired`] at this time (nanoseconds on the monotonic clock) instead of any earlier choice. One
    /// system call. Nothing happens if the handler has ended the watch.
    pub fn expire_at(&self, at_ns: u64) {
        if self.watcher.is_ours() {
            self.watcher.expire_at(self.id, at_ns);
        }
    }

    /// As [`expire_at`](Self::expire_at), unless an earlier time was chosen: then that one stays, at no cost but a lock.
    pub fn expire_within(&self, at_ns: u64) {
        if self.watcher.is_ours() && self.watcher.entries().expire_within(self.id, at_ns) {
            self.watcher.nudge();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // In a forked child the epoll descriptor is still the parent's too, and the watch is the parent's.
        if self.watcher.is_ours() {
            self.watcher.forget(self.id);
        }
    }
}

/// Watches a descriptor: for its end, for something to read if `readable`, and for the deadline (nanoseconds on the
/// monotonic clock).
///
/// # Errors
/// [`Error::ResourceExhausted`] if the thread or a descriptor cannot be had.
pub fn watch(
    fd: Arc<OwnedFd>,
    readable: bool,
    deadline_ns: Option<u64>,
    handler: Arc<dyn Watched>,
) -> Result<Watch, Error> {
    watch_by(&AT_ONCE, fd, readable, deadline_ns, handler)
}

/// As [`watch`], on another thread, whose handlers may take some milliseconds: what they keep waiting is each other.
///
/// # Errors
/// As [`watch`].
pub fn watch_at_leisure(
    fd: Arc<OwnedFd>,
    readable: bool,
    deadline_ns: Option<u64>,
    handler: Arc<dyn Watched>,
) -> Result<Watch, Error> {
    // Who lets visitors in passes their rings on sooner or later: if that thread cannot be had, it is told now.
    AT_ONCE.here()?;
    watch_by(&AT_LEISURE, fd, readable, deadline_ns, handler)
}

fn watch_by(
    start: &'static Start,
    fd: Arc<OwnedFd>,
    readable: bool,
    deadline_ns: Option<u64>,
    handler: Arc<dyn Watched>,
) -> Result<Watch, Error> {
    let watcher = start.here()?;
    let id = watcher.add(fd, readable, deadline_ns, handler)?;
    Ok(Watch { id, watcher })
}

struct Entry {
    fd: Arc<OwnedFd>,
    /// The kernel tells news of the descriptor. If not any more, another watch may be over it.
    is_told_of: bool,
    readable: bool,
    deadline_ns: Option<u64>,
    handler: Arc<dyn Watched>,
}

impl Entry {
    /// What the kernel is asked for: the end, and something to read.
    fn flags(&self) -> epoll::EventFlags {
        let end = epoll::EventFlags::RDHUP;
        if self.readable { end | epoll::EventFlags::IN } else { end }
    }
}

#[derive(Default)]
struct Entries {
    by_id: HashMap<u64, Entry>,
    by_deadline: BTreeSet<(u64, u64)>,
    last_id: u64,
}

impl Entries {
    /// Replaces the deadline; gives the entry, if there is one.
    fn expire_at(&mut self, id: u64, at: u64) -> Option<&mut Entry> {
        let entry = self.by_id.get_mut(&id)?;
        if let Some(before) = entry.deadline_ns.replace(at) {
            self.by_deadline.remove(&(before, id));
        }
        self.by_deadline.insert((at, id));
        Some(entry)
    }

    /// Sets the deadline if there is no earlier one; says whether it did.
    fn expire_within(&mut self, id: u64, at: u64) -> bool {
        let sooner = self.by_id.get(&id).is_some_and(|entry| entry.deadline_ns.is_none_or(|before| at < before));
        sooner && self.expire_at(id, at).is_some()
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        if let Some(at) = entry.deadline_ns {
            self.by_deadline.remove(&(at, id));
        }
        Some(entry)
    }
}

struct Watcher {
    /// Where its thread is: a child has the memory, but not the thread.
    home: Home,
    epoll: OwnedFd,
    /// Written when a deadline is added, so that the thread computes its sleep anew.
    nudge: OwnedFd,
    entries: Mutex<Entries>,
    /// The watcher of a child, in the child's memory.
    of_child: Start,
}

/// Where a watcher is, or will be.
struct Start {
    /// Of its thread.
    name: &'static str,
    started: OnceLock<Arc<Watcher>>,
    one_at_a_time: Mutex<()>,
}

static AT_ONCE: Start = Start::of("switchboard-watcher");
static AT_LEISURE: Start = Start::of("switchboard-porter");

/// When a descriptor that could not be watched again is tried once more.
const AGAIN_NS: u64 = 10_000_000;

/// The id of the nudge itself.
const NUDGE: u64 = 0;

impl Start {
    const fn of(name: &'static str) -> Self {
        Self { name, started: OnceLock::new(), one_at_a_time: Mutex::new(()) }
    }

    /// The watcher of this very process. A child made by fork has its parent's in its memory, and shares the epoll
    /// descriptor, but not the thread: it starts its own.
    fn here(&'static self) -> Result<&'static Watcher, Error> {
        let mut start = self;
        loop {
            let watcher = match start.started.get() {
                Some(watcher) => watcher,
                None => start.start()?,
            };
            if watcher.is_ours() {
                return Ok(watcher);
            }
            start = &watcher.of_child;
        }
    }

    #[cold]
    fn start(&'static self) -> Result<&'static Watcher, Error> {
        let _one_at_a_time = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = self.started.get() {
            return Ok(watcher);
        }
        let exhausted = |source| Error::ResourceExhausted { what: "watcher", bytes: 0, source };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|errno| exhausted(errno.into()))?;
        let nudge = eventfd(0, rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK)
            .map_err(|errno| exhausted(errno.into()))?;
        epoll::add(&epoll, &nudge, epoll::EventData::new_u64(NUDGE), epoll::EventFlags::IN)
            .map_err(|errno| exhausted(errno.into()))?;
        let home = Home::here()?;
        let watcher =
            Arc::new(Watcher { home, epoll, nudge, entries: Mutex::default(), of_child: Start::of(self.name) });
        let runs = Arc::clone(&watcher);
        // Known to others only once it runs: who watches must be told.
        std::thread::Builder::new().name(self.name.into()).spawn(move || runs.run()).map_err(exhausted)?;
        // Its thread lives as long as the process, and so does this.
        Ok(self.started.get_or_init(|| watcher))
    }
}

/// Tells a handler. One that panics is told nothing more; the others are.
fn tell(handler: &dyn Watched, event: Event) -> Next {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handler.on_event(event))).unwrap_or(Next::Stop)
}

impl Watcher {
    fn is_ours(&self) -> bool {
        self.home.is_here()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(
        &self,
        fd: Arc<OwnedFd>,
        readable: bool,
        deadline_ns: Option<u64>,
        handler: Arc<dyn Watched>,
    ) -> Result<u64, Error> {
        let mut entries = self.entries();
        entries.last_id += 1;
        let id = entries.last_id;
        let entry = Entry { fd, is_told_of: true, readable, deadline_ns, handler };
        epoll::add(&self.epoll, &*entry.fd, epoll::EventData::new_u64(id), entry.flags())
            .map_err(|errno| Error::ResourceExhausted { what: "watch", bytes: 0, source: errno.into() })?;
        if let Some(at) = deadline_ns {
            entries.by_deadline.insert((at, id));
        }
        entries.by_id.insert(id, entry);
        drop(entries);
        if deadline_ns.is_some() {
            self.nudge();
        }
        Ok(id)
    }

    fn expire_at(&self, id: u64, at: u64) {
        let known = self.entries().expire_at(id, at).is_some();
        if known {
            self.nudge();
        }
    }

    fn nudge(&self) {
        // A full counter is a nudge too.
        let _ = rustix::io::write(&self.nudge, &1u64.to_ne_bytes());
    }

    fn forget(&self, id: u64) {
        let entry = self.entries().remove(id);
        if let Some(entry) = entry.as_ref().filter(|entry| entry.is_told_of) {
            // The entry still holds the descriptor, so this cannot hit a stranger's.
            let _ = epoll::delete(&self.epoll, &*entry.fd);
        }
        // The handler may own things whose drop watches or forgets: let it go outside the lock.
        drop(entry);
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            let first = self.entries().by_deadline.first().map(|(at, _)| *at);
            let timeout = first.map(|at| {
                let left = at.saturating_sub(crate::clock::kernel_ns());
                Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 }
            });
            events.clear();
            let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
            if let Err(errno) = waited
                && errno != Errno::INTR
            {
                // Only a broken epoll descriptor gets here; without it nothing can be watched any more.
                return;
            }
            for event in &events {
                self.deliver(event.data.u64(), event.flags);
            }
            self.expire();
        }
    }

    fn deliver(&self, id: u64, flags: epoll::EventFlags) {
        if id == NUDGE {
            // Emptied so that it does not stay readable; a failed read is an empty counter.
            let _ = rustix::io::read(&self.nudge, &mut [0; 8]);
            return;
        }
        let found = self.entries().by_id.get(&id).map(|entry| (Arc::clone(&entry.handler), entry.readable));
        let Some((handler, readable)) = found else {
            return;
        };
        let mut next = Next::Keep;
        // What the peer sent before it left is read before the end is told.
        if readable && flags.contains(epoll::EventFlags::IN) {
            next = tell(&*handler, Event::Readable);
        }
        let ended = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        if next == Next::Keep && flags.intersects(ended) {
            next = match tell(&*handler, Event::Ended) {
                Next::Keep => Next::Stop, // an end stays readable and would be told for ever
                other => other,
            };
        }
        self.settle(id, next);
    }

    fn settle(&self, id: u64, next: Next) {
        match next {
            Next::Keep => self.watch_again(id),
            Next::Stop => self.forget(id),
            Next::KeepUntil(at) => {
                // Computed anew before the next sleep, so no nudge. Forgotten meanwhile is as good.
                self.entries().expire_at(id, at);
                self.watch_again(id);
            }
            Next::KeepWithin(at) => {
                self.entries().expire_within(id, at);
                self.watch_again(id);
            }
            Next::ExpireAt(at) => {
                if let Some(entry) = self.entries().expire_at(id, at)
                    && std::mem::take(&mut entry.is_told_of)
                {
                    let _ = epoll::delete(&self.epoll, &*entry.fd);
                }
            }
        }
    }

    /// Has the kernel tell of a descriptor again that was not looked at for a while. One look if it was.
    fn watch_again(&self, id: u64) {
        let mut entries = self.entries();
        let Some(entry) = entries.by_id.get_mut(&id).filter(|entry| !entry.is_told_of) else { return };
        if epoll::add(&self.epoll, &*entry.fd, epoll::EventData::new_u64(id), entry.flags()).is_ok() {
            entry.is_told_of = true;
            return;
        }
        // The kernel has no memory for it just now.
        entries.expire_at(id, crate::clock::kernel_ns().saturating_add(AGAIN_NS));
    }

    fn expire(&self) {
        let now = crate::clock::kernel_ns();
        loop {
            let mut entries = self.entries();
            let Some((at, id)) = entries.by_deadline.first().copied().filter(|(at, _)| *at <= now) else {
                return;
            };
            entries.by_deadline.remove(&(at, id));
            let handler = entries.by_id.get_mut(&id).map(|entry| {
                entry.deadline_ns = None;
                Arc::clone(&entry.handler)
            });
            drop(entries);
            if let Some(handler) = handler {
                self.settle(id, tell(&*handler, Event::Expired));
            }
        }
    }
}

#[cfg(test)]
mod tests;
