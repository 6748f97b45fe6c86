//! Tasks that are woken at a time: one list for the process, seen to by the watcher thread.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use shm_ring::rendezvous::{Event, Next, Watch, Watched, watch};
use shm_ring::{Error, EventFd, Home, clock};

/// Names an entry. The same task at the same time is one entry, however often it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    at_ns: u64,
    /// Wakers of one task are the same two addresses.
    task: (usize, usize),
}

impl Key {
    /// When the entry is due, a reading of the monotonic clock.
    pub(crate) fn at_ns(self) -> u64 {
        self.at_ns
    }
}

/// Wakes a task at a time, a reading of the monotonic clock, or a little later. Takes a lock, and makes a system call if
/// nobody is to be woken earlier. If the process has no descriptor left the task is woken at once.
pub(crate) fn wake_at(at_ns: u64, waker: &Waker) -> Key {
    let key = Key { at_ns, task: (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr()) };
    match Timers::of_this_process() {
        Ok(timers) => timers.add(key, waker),
        Err(error) => {
            tracing::warn!(%error, "no timers: a task is woken too early");
            waker.wake_by_ref();
        }
    }
    key
}

/// Takes an entry out; nothing happens if its task was woken already.
pub(crate) fn forget(key: Key) {
    if let Ok(timers) = Timers::of_this_process() {
        let forgotten = timers.list().by_time.remove(&key);
        // Dropped outside the lock: it may be the last of its task, whose drop may come here.
        drop(forgotten);
    }
}

/// The list of one process, which lives as long as that.
struct Timers {
    /// Where the watcher thread is that sees to it: not in a forked child.
    home: Home,
    list: Mutex<List>,
    of_child: OnceLock<&'static Timers>,
}

#[derive(Default)]
struct List {
    by_time: BTreeMap<Key, Waker>,
    /// By it the watcher thread is told when to look.
    watch: Option<Watch>,
}

impl List {
    /// Says when the first entry is due.
    fn tell(&self) {
        if let (Some(watch), Some((first, _))) = (&self.watch, self.by_time.first_key_value()) {
            watch.expire_at(first.at_ns);
        }
    }
}

static FIRST: OnceLock<&'static Timers> = OnceLock::new();

impl Timers {
    fn of_this_process() -> Result<&'static Self, Error> {
        let mut slot = &FIRST;
        loop {
            let timers = match slot.get() {
                Some(timers) => timers,
                None => {
                    let home = Home::here()?;
                    // One of two that are made at the same time is of no use, and is left.
                    slot.get_or_init(|| {
                        Box::leak(Box::new(Self { home, list: Mutex::default(), of_child: OnceLock::new() }))
                    })
                }
            };
            if timers.home.is_here() {
                return timers.begin();
            }
            slot = &timers.of_child;
        }
    }

    /// Has the list watched, once.
    fn begin(&'static self) -> Result<&'static Self, Error> {
        let mut list = self.list();
        if list.watch.is_none() {
            // A descriptor that never has news: only the time matters.
            let fd = EventFd::new()?.as_fd().try_clone_to_owned();
            let fd = fd.map_err(|source| Error::ResourceExhausted { what: "timers", bytes: 0, source })?;
            list.watch = Some(watch(Arc::new(fd), false, None, Arc::new(Due(self)))?);
        }
        drop(list);
        Ok(self)
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: Key, waker: &Waker) {
        let mut list = self.list();
        let before = list.by_time.insert(key, waker.clone());
        // Told under the lock, by us and by `Due`: what is told last is what holds.
        if before.is_none() && list.by_time.first_key_value().is_some_and(|(first, _)| *first == key) {
            list.tell();
        }
        drop(list);
        drop(before);
    }
}

/// Called by the watcher thread when an entry is due.
struct Due(&'static Timers);

impl Watched for Due {
    fn on_event(&self, _event: Event) -> Next {
        let now_ns = clock::kernel_ns();
        loop {
            let mut list = self.0.list();
            let Some(first) = list.by_time.first_entry().filter(|first| first.key().at_ns <= now_ns) else {
                list.tell();
                return Next::Keep;
            };
            let waker = first.remove();
            // A waker may come here again.
            drop(list);
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    struct Tells(u64, mpsc::Sender<(u64, u64)>);

    impl Wake for Tells {
        fn wake(self: Arc<Self>) {
            let _ = self.1.send((self.0, clock::kernel_ns()));
        }
    }

    #[test]
    fn tasks_are_woken_in_the_order_of_their_times_and_not_before() {
        let (tells, told) = mpsc::channel();
        let now_ns = clock::kernel_ns();
        for ms in [60, 20, 40, 1] {
            let at_ns = now_ns + ms * 1_000_000;
            let waker = Waker::from(Arc::new(Tells(at_ns, tells.clone())));
            // Asked twice is woken once.
            assert_eq!(wake_at(at_ns, &waker), wake_at(at_ns, &waker.clone()));
        }
        drop(tells);
        let woken: Vec<_> = told.iter().collect();
        assert_eq!(woken.len(), 4);
        assert!(woken.is_sorted() && woken.iter().all(|(at, woken)| woken >= at), "{woken:?}");
    }

    #[test]
    fn who_is_forgotten_is_not_woken_and_let_go_at_once() {
        let (tells, told) = mpsc::channel();
        let hour_ns = clock::kernel_ns() + 3_600_000_000_000;
        let key = wake_at(hour_ns, &Waker::from(Arc::new(Tells(hour_ns, tells))));
        assert_eq!(key.at_ns(), hour_ns);
        forget(key);
        assert_eq!(told.recv_timeout(Duration::from_secs(30)), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
