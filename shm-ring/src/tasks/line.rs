//! The tasks that wait at one side of a ring, in the order in which they came.
//!
//! A list of our own and not a crate's: a task that is called in vain gets its old place back, a call can be handed on
//! to one that asks for less, and the models see every step of it.

use std::collections::BTreeMap;
use std::task::Waker;

/// A place in the line; earlier ones are called first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
struct Waiter {
    waker: Waker,
    need: usize,
}

/// Who waits. Wakers are only ever handed out: to wake or drop one may run anything, so it is done outside the lock.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeMap<Ticket, Waiter>,
    issued: u64,
}

impl Line {
    pub(super) fn issue(&mut self) -> Ticket {
        self.issued += 1;
        Ticket(self.issued)
    }

    /// Puts `waker` in the ticket's place, asking for `need` bytes; gives the one that stood there.
    #[must_use]
    pub(super) fn stand(&mut self, ticket: Ticket, need: usize, waker: Waker) -> Option<Waker> {
        self.waiting.insert(ticket, Waiter { waker, need }).map(|before| before.waker)
    }

    /// Takes the ticket out; `None` if it was called.
    #[must_use]
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        self.waiting.remove(&ticket).map(|waiter| waiter.waker)
    }

    /// Takes out whoever has waited longest.
    #[must_use]
    pub(super) fn call_first(&mut self) -> Option<(Ticket, Waker)> {
        self.waiting.pop_first().map(|(ticket, waiter)| (ticket, waiter.waker))
    }

    /// Takes out the first that asks for less than `need`.
    #[must_use]
    pub(super) fn call_smaller(&mut self, need: usize) -> Option<Waker> {
        let ticket = *self.waiting.iter().find(|(_, waiter)| waiter.need < need)?.0;
        self.leave(ticket)
    }

    #[cfg(not(loom))]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes out everybody.
    #[cfg(not(loom))]
    #[must_use]
    pub(super) fn call_all(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting).into_values().map(|waiter| waiter.waker).collect()
    }
}
