//! The call that a worker answers just now, as calls see it that its handler makes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Wakers, Poll, Waker};

use service_core::scope::Scope;
use service_core::{CancelProbe, Deadline, Metadata};
use shm_ring::slot::CallId;

use super::Hub;
use super::lane::Lane;
use super::watchers::{Alarms, is_given_up};

/// One for each worker, for all of its life: a call costs two plain stores.
pub(super) struct WorkerScope {
    hub: Arc<Hub>,
    /// Whose call it is. Changes with the worker's lane, not with each call.
    lane: Mutex<Option<Arc<Lane>>>,
    call: AtomicU64,
    /// Zero if there is none.
    deadline_ns: AtomicU64,
    metadata: Mutex<Option<Arc<Metadata>>>,
    has_metadata: AtomicBool,
    alarms: Alarms,
}

impl WorkerScope {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            lane: Mutex::default(),
            call: AtomicU64::new(0),
            deadline_ns: AtomicU64::new(0),
            metadata: Mutex::default(),
            has_metadata: AtomicBool::new(false),
            alarms: Alarms::default(),
        }
    }

    fn lane(&self) -> Option<Arc<Lane>> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn call(&self) -> CallId {
        CallId::from_word(self.call.load(Ordering::Relaxed))
    }

    fn lock_metadata(&self) -> MutexGuard<'_, Option<Arc<Metadata>>> {
        self.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker turns to another lane, or to none.
    pub(super) fn turn_to(&self, lane: Option<&Arc<Lane>>) {
        let before = std::mem::replace(&mut *self.lane.lock().unwrap_or_else(PoisonError::into_inner), lane.cloned());
        drop(before);
    }

    /// A call begins.
    #[inline]
    pub(super) fn begin(&self, call: CallId, deadline_ns: Option<u64>) {
        // ORDERING: Relaxed: the handler's thread is this one.
        self.call.store(call.to_word(), Ordering::Relaxed);
        self.deadline_ns.store(deadline_ns.unwrap_or(0), Ordering::Relaxed);
    }

    /// It has metadata.
    pub(super) fn set_metadata(&self, metadata: Arc<Metadata>) {
        self.has_metadata.store(true, Ordering::Relaxed);
        *self.lock_metadata() = Some(metadata);
    }

    /// The call has ended. Two loads if nothing was set meanwhile.
    #[inline]
    pub(super) fn end(&self, lane: &Lane) {
        self.alarms.settle(lane, self.call());
        if self.has_metadata.load(Ordering::Relaxed) {
            self.has_metadata.store(false, Ordering::Relaxed);
            *self.lock_metadata() = None;
        }
    }

    /// For whoever awaits the end of the caller's patience.
    fn watch(&self, deadline: Option<Deadline>, waker: &Waker) -> Poll<()> {
        match self.lane() {
            Some(lane) => self.alarms.poll_cancelled(&lane, self.call(), deadline, waker),
            None => Poll::Pending,
        }
    }
}

impl Scope for WorkerScope {
    fn deadline(&self) -> Option<Deadline> {
        let ns = self.deadline_ns.load(Ordering::Relaxed);
        (ns != 0).then(|| Deadline::from_monotonic_ns(ns))
    }

    fn is_cancelled(&self) -> bool {
        self.lane().is_some_and(|lane| is_given_up(&lane, self.call()))
    }

    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        self.watch(None, cx.waker())
    }

    fn metadata(&self) -> Option<Arc<Metadata>> {
        self.lock_metadata().clone()
    }

    fn about_to_wait(&self) -> bool {
        self.hub.about_to_wait()
    }

    fn resumed(&self) {
        self.hub.resumed();
    }
}

/// The same call, as its context sees it. Asks the caller's flag itself.
pub(super) struct SlotProbe<'a> {
    pub(super) lane: &'a Lane,
    pub(super) call: CallId,
    pub(super) scope: &'a WorkerScope,
}

impl CancelProbe for SlotProbe<'_> {
    fn is_cancelled(&self) -> bool {
        is_given_up(self.lane, self.call)
    }

    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        self.scope.watch(self.scope.deadline(), cx.waker())
    }
}
