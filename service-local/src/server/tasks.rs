//! Asynchronous handlers: their futures, the queue of those that were woken, and the workers' part in it.
//!
//! A future is polled first by the worker that took its call. Woken, it stands in the service's queue, from which workers
//! take beside frames. Who puts it there wakes a worker unless one polls, which will look into the queue before it stops.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Wakers, Poll};

use async_task::{Runnable, Task};
use crossbeam_queue::SegQueue;
use crossbeam_utils::CachePadded;
use service_core::CallFuture;

use super::Hub;
use super::call::Job;

/// What the service knows of its calls that are answered later.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// Futures that were woken.
    woken: SegQueue<Runnable>,
    /// Some worker polls, and looks at `woken` before it stops. Said only while there are such calls.
    is_polled: CachePadded<AtomicBool>,
    /// Such calls that have begun and not ended.
    live: CachePadded<AtomicUsize>,
    /// By them those are dropped whom nobody wakes any more.
    handles: Mutex<HashMap<u64, Task<()>>>,
    issued: AtomicU64,
    /// Nothing is run any more.
    is_closed: AtomicBool,
}

impl Tasks {
    /// How many calls there are that are answered later. One load.
    #[inline]
    pub(super) fn live(&self) -> usize {
        // ORDERING: Relaxed: a call is counted by whoever has the role, before another worker can have it; so a worker
        // that has the role and reads zero knows that none of them can be woken.
        self.live.load(Ordering::Relaxed)
    }

    /// A future that was woken. Two loads if there is none.
    #[inline]
    pub(super) fn take(&self) -> Option<Runnable> {
        if self.woken.is_empty() { None } else { self.woken.pop() }
    }

    pub(super) fn any_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// By a worker that has the role: it looks at the queue again and again. Two loads while there are no such calls.
    #[inline]
    pub(super) fn begin_polling(&self) {
        if self.live() > 0 && !self.is_polled.load(Ordering::Relaxed) {
            self.is_polled.store(true, Ordering::Relaxed);
        }
    }

    /// By a worker that has the role and is about to give it up, or to look away for long; tells whether there is something
    /// in the queue that another worker should see to. Two loads while there are no such calls.
    #[inline]
    pub(super) fn stop_polling(&self) -> bool {
        if self.live() == 0 && !self.is_polled.load(Ordering::Relaxed) {
            return false;
        }
        self.is_polled.store(false, Ordering::Relaxed);
        // ORDERING: SeqCst fence between the store and the look at the queue, pairs with the one in `Hub::schedule` between
        // the queue and the load: either the waker sees that nobody polls, or we see the task.
        fence(Ordering::SeqCst);
        self.any_woken()
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<u64, Task<()>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        // ORDERING: SeqCst: see `close`.
        self.is_closed.load(Ordering::SeqCst)
    }

    fn keep(&self, id: u64, task: Task<()>) {
        self.handles().insert(id, task);
        if self.is_closed() {
            let kept = self.handles().remove(&id);
            drop(kept);
        }
    }

    /// Drops what has not ended, and whatever is woken from now on.
    pub(super) fn close(&self) {
        // ORDERING: SeqCst, as the loads in `keep` and `schedule` after what they add: either they see it, or what they
        // have added is found here.
        self.is_closed.store(true, Ordering::SeqCst);
        let handles = std::mem::take(&mut *self.handles());
        // Outside the lock: futures that are dropped come here.
        drop(handles);
        while let Some(woken) = self.woken.pop() {
            drop(woken);
        }
    }
}

/// Counts a call that is answered later. To be made by whoever has the role.
pub(super) struct Live(Arc<Hub>);

impl Live {
    pub(super) fn new(hub: &Arc<Hub>) -> Self {
        hub.tasks.live.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(hub))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // ORDERING: SeqCst fence between the count and the look at the stop, pairs with the one in `Hub::stop` between the
        // stop and the look at the count: either we see that somebody waits, or it does not wait for us.
        self.0.tasks.live.fetch_sub(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.0.is_stopping() {
            self.0.stir();
        }
    }
}

/// The work of one call.
pub(super) struct Work {
    // Dropped first: what the handler's code holds may be what is waited for.
    code: Option<CallFuture>,
    job: Arc<Job>,
    handle: Option<u64>,
    _live: Live,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("job", &self.job).finish_non_exhaustive()
    }
}

impl Work {
    pub(super) fn new(code: CallFuture, job: Arc<Job>, live: Live) -> Self {
        Self { code: Some(code), job, handle: None, _live: live }
    }

    /// Gives the call up for want of something, before any of its code has run.
    pub(super) fn refuse(mut self, status: &service_core::Status) {
        let job = Arc::clone(&self.job);
        job.refuse(status, || self.code = None);
    }
}

impl Future for Work {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Wakers<'_>) -> Poll<()> {
        let work = &mut *self;
        let Some(code) = &mut work.code else { return Poll::Ready(()) };
        let polled = work.job.run(|| code.as_mut().poll(cx)).unwrap_or(Poll::Ready(()));
        if polled.is_ready() {
            work.code = None;
        }
        polled
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // The code may have gone on after the answer.
        self.job.settle();
        if let Some(handle) = self.handle {
            let handle = self.job.hub.tasks.handles().remove(&handle);
            if let Some(task) = handle {
                task.detach();
            }
        }
    }
}

impl Hub {
    /// Begins the work of a call on the workers, by a first poll on this one.
    pub(super) fn begin(self: &Arc<Self>, mut work: Work) {
        let id = self.tasks.issued.fetch_add(1, Ordering::Relaxed);
        work.handle = Some(id);
        let hub = Arc::clone(self);
        let (runnable, task) = async_task::spawn(work, move |runnable| hub.schedule(runnable));
        self.tasks.keep(id, task);
        runnable.run();
    }

    /// Puts a future into the queue that was woken.
    fn schedule(&self, runnable: Runnable) {
        self.tasks.woken.push(runnable);
        // ORDERING: SeqCst fence between the queue and the looks that follow, pairs with the one in `Tasks::stop_polling`,
        // and with the store in `Tasks::close`.
        fence(Ordering::SeqCst);
        if self.tasks.is_closed() {
            self.tasks.close();
        } else if !self.tasks.is_polled.load(Ordering::Relaxed) {
            self.wake_another();
        }
    }

    /// What a worker still does when no more frames are taken: the futures of calls that were, until they have ended or
    /// are given up.
    pub(super) fn finish_tasks(&self) {
        while self.tasks.live() > 0 && !self.tasks.is_closed() {
            self.idle.fetch_add(1, Ordering::Relaxed);
            // ORDERING: SeqCst fence, as in `work`.
            fence(Ordering::SeqCst);
            let bell = self.ready.bell();
            let woken = self.tasks.take();
            if woken.is_none() && self.tasks.live() > 0 && !self.tasks.is_closed() {
                self.ready.sleep(bell, None);
            }
            self.idle.fetch_sub(1, Ordering::Relaxed);
            if let Some(runnable) = woken {
                runnable.run();
            }
        }
    }
}
