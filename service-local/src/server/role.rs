//! The role of the polling worker: one has it at a time.

use std::cell::Cell;

use try_lock::Locked;

use super::Hub;
use super::poller::Poller;

/// The role, in the hands of one worker.
///
/// Where there are several workers the lock is held meanwhile, so that others see at a glance that it is taken. A single
/// one takes out what goes with the role and lets go of the lock: it keeps the role while it serves, and gives it up in
/// the middle of that, if its handler is about to wait.
pub(super) struct Role<'a> {
    hub: &'a Hub,
    pub(super) poller: Option<Box<Poller>>,
    lock: Option<Locked<'a, Option<Box<Poller>>>>,
}

thread_local! {
    /// The role of a single worker while it serves.
    static HELD: Cell<Option<Box<Poller>>> = const { Cell::new(None) };
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let Some(poller) = self.poller.take() else { return };
        match &mut self.lock {
            Some(lock) => **lock = Some(poller),
            None => self.hub.put_role_back(poller),
        }
    }
}

/// By a worker in the middle of a handler: others may have the role.
pub(super) fn let_go(hub: &Hub) {
    if let Some(poller) = HELD.take() {
        // Who is woken looks into the queue of tasks.
        hub.tasks.stop_polling();
        hub.put_role_back(poller);
    }
}

/// By a single worker that is about to serve and keeps the role meanwhile; see [`Hub::role_kept`].
pub(super) fn keep(mut role: Role<'_>) {
    HELD.set(role.poller.take());
}

impl Hub {
    /// The role, if nobody else has it.
    #[inline]
    pub(super) fn take_role(&self) -> Option<Role<'_>> {
        let mut lock = self.role.try_lock()?;
        let poller = Some(lock.take()?);
        Some(Role { hub: self, poller, lock: (self.workers > 1).then_some(lock) })
    }

    /// Where nobody holds the lock for longer than a look takes.
    fn put_role_back(&self, poller: Box<Poller>) {
        loop {
            if let Some(mut role) = self.role.try_lock() {
                *role = Some(poller);
                return;
            }
            std::thread::yield_now();
        }
    }

    /// After a panic: what was kept is given back.
    pub(super) fn give_kept_role_back(&self) {
        if let Some(poller) = HELD.take() {
            self.put_role_back(poller);
        }
    }

    /// The role that a single worker has kept, or a new try to have it if it was given up meanwhile.
    #[inline]
    pub(super) fn role_kept(&self) -> Option<Role<'_>> {
        match HELD.take() {
            Some(poller) => Some(Role { hub: self, poller: Some(poller), lock: None }),
            None => self.take_role(),
        }
    }
}
