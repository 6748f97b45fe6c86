//! Callers' threads inside a service, which a stop waits for.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::server::Hub;

thread_local! {
    /// The services whose handlers this thread runs, innermost last.
    static HOSTS: RefCell<Vec<*const Guests>> = const { RefCell::new(Vec::new()) };
}

/// How many threads are inside.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    count: AtomicUsize,
    lock: Mutex<()>,
    left: Condvar,
}

/// A thread inside; it leaves when this is dropped.
pub(super) struct Guest<'a>(&'a Hub);

impl Guests {
    /// Comes in; `None` if the service stops.
    pub(super) fn enter<'a>(&'a self, hub: &'a Hub) -> Option<Guest<'a>> {
        self.count.fetch_add(1, Ordering::Relaxed);
        // ORDERING: SeqCst fence between the count and the look at the stop, pairs with the fence in `wait`: either we see
        // the stop, or whoever stops sees us.
        fence(Ordering::SeqCst);
        let guest = Guest(hub);
        HOSTS.with_borrow_mut(|hosts| hosts.push(self));
        // Dropped if it came too late.
        (!hub.is_stopping()).then_some(guest)
    }

    /// Waits until all are gone but those that are this thread itself. To be called once the service is known to stop.
    pub(crate) fn wait(&self) {
        // ORDERING: SeqCst fence between the stop and the look at the count, pairs with the one in `enter`.
        fence(Ordering::SeqCst);
        let own = HOSTS.with_borrow(|hosts| hosts.iter().filter(|host| std::ptr::eq(**host, self)).count());
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // ORDERING: Acquire, pairs with the Release in `leave`: what the handlers did is done.
        while self.count.load(Ordering::Acquire) > own {
            lock = self.left.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn leave(&self, hub: &Hub) {
        HOSTS.with_borrow_mut(|hosts| hosts.pop());
        // ORDERING: Release, pairs with the Acquire in `wait`: what the handler did is done.
        self.count.fetch_sub(1, Ordering::Release);
        // ORDERING: SeqCst fence between the count and the look at the stop, pairs with the one in `wait`: either we see
        // the stop and tell, or `wait` sees that we are gone.
        fence(Ordering::SeqCst);
        if hub.is_stopping() {
            // Whoever waits is asleep or has not looked yet.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.left.notify_all();
        }
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.0.guests.leave(self.0);
    }
}
