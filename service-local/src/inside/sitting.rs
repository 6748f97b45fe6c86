//! Calls of this process that are answered later than they are made: by tasks, by threads of their own, or by a worker that
//! runs a plain handler for a caller who does not want to.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Wakers, Poll, Waker};
use std::time::Duration;

use rkyv::util::AlignedVec;
use service_core::scope::{self, Scope};
use service_core::{
    CallFuture, CallRequest, CancelProbe, Code, Context, Deadline, Decode, Encode, Form, Metadata, MethodIndex,
    Outcome, ServerCall, Status, StreamReceiver, StreamSender, Ticket,
};
use shm_ring::clock;

use super::probe::own_caller;
use super::with_encoded;
use crate::server::{Errand, Hub, bad_handler, panicked};
use crate::timers::{self, Key};

/// How often a thread that waits inside a handler asks whether anybody waits for that one.
const ASK: Duration = Duration::from_millis(10);

/// One call, as its caller and its handler share it.
pub(super) struct Sitting {
    hub: Arc<Hub>,
    method: MethodIndex,
    form: Form,
    deadline: Option<Deadline>,
    metadata: Option<Arc<Metadata>>,
    started_ns: u64,
    request: AlignedVec,
    progress: Mutex<Progress>,
    changed: Condvar,
    is_given_up: AtomicBool,
}

#[derive(Default)]
struct Progress {
    answer: Option<Result<AlignedVec, Status>>,
    is_answered: bool,
    caller: Option<Waker>,
    /// Of handlers that wait for the end of the caller's patience.
    watchers: Vec<Waker>,
    timers: Vec<Key>,
}

impl Sitting {
    /// Takes a call down: a copy of its message, since its caller may go.
    ///
    /// # Errors
    /// `InvalidArgument` or `ResourceExhausted`, not run, if the message cannot be written.
    pub(super) fn new(hub: &Arc<Hub>, call: &CallRequest<'_>) -> Result<Arc<Self>, Status> {
        let started_ns = clock::now_ns();
        let request = with_encoded(call.message, Outcome::NotRun, service_core::envelope::aligned)?;
        Ok(Arc::new(Self {
            hub: Arc::clone(hub),
            method: call.method,
            form: call.form,
            deadline: call.timeout.map(|timeout| Deadline::starting_at(started_ns, timeout)),
            metadata: call.metadata.map(|metadata| Arc::new(metadata.clone())),
            started_ns,
            request,
            progress: Mutex::default(),
            changed: Condvar::new(),
            is_given_up: AtomicBool::new(false),
        }))
    }

    pub(super) fn started_ns(&self) -> u64 {
        self.started_ns
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first answer is the call's; wakes whoever waits for it.
    fn answer(&self, answer: Result<AlignedVec, Status>) {
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        let mut progress = self.progress();
        if std::mem::replace(&mut progress.is_answered, true) {
            return;
        }
        progress.answer = Some(answer);
        let (caller, timers) = (progress.caller.take(), std::mem::take(&mut progress.timers));
        let watchers = std::mem::take(&mut progress.watchers);
        drop(progress);
        self.changed.notify_all();
        self.hub.stats.record(self.method, code, clock::now_ns().saturating_sub(self.started_ns));
        if let Some(caller) = caller {
            caller.wake();
        }
        timers.into_iter().for_each(timers::forget);
        drop(watchers);
    }

    fn fail(&self, status: Status) {
        self.answer(Err(status));
    }

    fn bad_handler(&self, what: &str) -> Status {
        bad_handler(&*self.hub.handler, &self.hub.instance, self.method, what)
    }

    /// Nobody waits any more: the handler is told.
    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
        // Under the lock a watcher is either here or will see the flag.
        let watchers = std::mem::take(&mut self.progress().watchers);
        watchers.into_iter().for_each(Waker::wake);
    }

    fn out_of_time(&self) -> Status {
        self.give_up();
        let waited = Duration::from_nanos(clock::now_ns().saturating_sub(self.started_ns));
        let text = format!("no reply from `{}` after {waited:?}", self.hub.instance);
        Status::new(Code::DeadlineExceeded, Outcome::MayHaveRun, text)
    }

    fn is_out_of_time(&self) -> bool {
        self.deadline.is_some_and(Deadline::has_passed)
    }

    pub(super) fn poll(&self, cx: &mut Wakers<'_>, reply: &mut dyn Decode) -> Poll<Result<(), Status>> {
        let mut progress = self.progress();
        if let Some(answer) = progress.answer.take() {
            drop(progress);
            return Poll::Ready(decoded(answer, reply));
        }
        progress.caller = Some(cx.waker().clone());
        drop(progress);
        match self.deadline {
            Some(deadline) if deadline.has_passed() => Poll::Ready(Err(self.out_of_time())),
            Some(deadline) => {
                self.wake_at(deadline.as_monotonic_ns(), cx.waker());
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    pub(super) fn wait(&self, reply: &mut dyn Decode) -> Result<(), Status> {
        let outer = scope::current();
        let has_leave = outer.as_ref().is_none_or(|outer| outer.about_to_wait());
        let result = if has_leave { self.wait_here(outer.as_deref()) } else { Err(self.no_worker_left()) };
        if let (Some(outer), true) = (&outer, has_leave) {
            outer.resumed();
        }
        result.and_then(|answer| decoded(answer, reply))
    }

    fn wait_here(&self, outer: Option<&dyn Scope>) -> Result<Result<AlignedVec, Status>, Status> {
        let mut progress = self.progress();
        loop {
            if let Some(answer) = progress.answer.take() {
                return Ok(answer);
            }
            let ends = [self.deadline.map(|deadline| deadline.remaining().unwrap_or_default()), outer.map(|_| ASK)];
            progress = match ends.into_iter().flatten().min() {
                None => self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.changed.wait_timeout(progress, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            if progress.answer.is_some() {
                continue;
            }
            if self.is_out_of_time() {
                drop(progress);
                return Err(self.out_of_time());
            }
            if outer.is_some_and(Scope::is_cancelled) {
                drop(progress);
                self.give_up();
                let text = "nobody waits any more for the call that made this one";
                return Err(Status::new(Code::Cancelled, Outcome::MayHaveRun, text));
            }
        }
    }

    fn no_worker_left(&self) -> Status {
        self.give_up();
        let text =
            format!("no worker was left that could have answered calls of `{}` which come back", self.hub.instance);
        Status::new(Code::ResourceExhausted, Outcome::MayHaveRun, text)
    }

    fn wake_at(&self, at_ns: u64, waker: &Waker) {
        let key = timers::wake_at(at_ns, waker);
        let now_ns = clock::kernel_ns();
        let mut progress = self.progress();
        progress.timers.retain(|known| *known != key && known.at_ns() > now_ns);
        progress.timers.push(key);
    }
}

fn decoded(answer: Result<AlignedVec, Status>, reply: &mut dyn Decode) -> Result<(), Status> {
    reply.decode(&answer?).map_err(|status| status.with_outcome(Outcome::Ran))
}

impl CancelProbe for Sitting {
    fn is_cancelled(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        let mut progress = self.progress();
        if self.is_given_up.load(Ordering::Relaxed) || self.is_out_of_time() {
            return Poll::Ready(());
        }
        if !progress.watchers.iter().any(|known| known.will_wake(cx.waker())) {
            progress.watchers.push(cx.waker().clone());
        }
        drop(progress);
        if let Some(deadline) = self.deadline {
            self.wake_at(deadline.as_monotonic_ns(), cx.waker());
        }
        Poll::Pending
    }
}

impl Scope for Sitting {
    fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    fn is_cancelled(&self) -> bool {
        CancelProbe::is_cancelled(self) || self.is_out_of_time()
    }

    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        CancelProbe::poll_cancelled(self, cx)
    }

    fn metadata(&self) -> Option<Arc<Metadata>> {
        self.metadata.clone()
    }

    fn about_to_wait(&self) -> bool {
        self.hub.about_to_wait()
    }

    fn resumed(&self) {
        self.hub.resumed();
    }
}

/// Items to and from the client, as the handler gets them.
#[derive(Default)]
pub(super) struct HandlersEnds {
    pub(super) receiver: Option<Box<dyn StreamReceiver>>,
    pub(super) sender: Option<Box<dyn StreamSender>>,
}

/// A call as its handler holds it.
pub(super) struct SittingCall {
    sitting: Arc<Sitting>,
    ends: Mutex<HandlersEnds>,
}

impl SittingCall {
    pub(super) fn new(sitting: &Arc<Sitting>, ends: HandlersEnds) -> Self {
        Self { sitting: Arc::clone(sitting), ends: Mutex::new(ends) }
    }

    fn ends(&mut self) -> &mut HandlersEnds {
        self.ends.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCall for SittingCall {
    fn method(&self) -> MethodIndex {
        self.sitting.method
    }

    fn context(&self) -> Context<'_> {
        let Sitting { deadline, metadata, .. } = &*self.sitting;
        Context::new(*deadline, own_caller(), &*self.sitting).with_metadata(metadata.as_deref())
    }

    fn request(&self) -> &[u8] {
        &self.sitting.request
    }

    fn form(&self) -> Form {
        self.sitting.form
    }

    fn take_receiver(&mut self) -> Option<Box<dyn StreamReceiver>> {
        self.ends().receiver.take()
    }

    fn take_sender(&mut self) -> Option<Box<dyn StreamSender>> {
        self.ends().sender.take()
    }

    fn wake_at(&self, at_ns: u64, waker: &Waker) {
        self.sitting.wake_at(at_ns, waker);
    }

    fn reply(self: Box<Self>, message: &dyn Encode) {
        let written = with_encoded(message, Outcome::Ran, service_core::envelope::aligned);
        self.sitting.answer(written);
    }

    fn fail(self: Box<Self>, status: Status) {
        self.sitting.fail(status);
    }
}

impl Drop for SittingCall {
    fn drop(&mut self) {
        if !self.sitting.progress().is_answered && !std::thread::panicking() {
            self.sitting.fail(self.sitting.bad_handler("dropped the call without an answer"));
        }
    }
}

/// The handler's code, with all around it that a call has.
pub(super) struct SittingWork {
    // Dropped first: what the handler's code holds may be what is waited for.
    code: Option<CallFuture>,
    sitting: Arc<Sitting>,
}

impl SittingWork {
    pub(super) fn new(code: CallFuture, sitting: Arc<Sitting>) -> Self {
        Self { code: Some(code), sitting }
    }
}

impl Future for SittingWork {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Wakers<'_>) -> Poll<()> {
        let work = &mut *self;
        let Some(code) = &mut work.code else { return Poll::Ready(()) };
        let entered = scope::enter(Arc::clone(&work.sitting) as Arc<dyn Scope>);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| code.as_mut().poll(cx)));
        drop(entered);
        match ran {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                work.code = None;
                Poll::Ready(())
            }
            Err(panic) => {
                // Its answer, if it gave one before, stands.
                work.sitting.fail(work.sitting.bad_handler(&panicked(&*panic)));
                work.code = None;
                Poll::Ready(())
            }
        }
    }
}

impl Drop for SittingWork {
    fn drop(&mut self) {
        self.code = None;
        let text = format!("`{}` stopped before the call was answered", self.sitting.hub.instance);
        self.sitting.fail(Status::new(Code::Unavailable, Outcome::MayHaveRun, text));
    }
}

impl Errand for SittingWork {
    fn refuse(mut self: Box<Self>, status: &Status) {
        self.sitting.fail(status.clone());
        self.code = None;
    }
}

/// Calls in flight, by the number in their tickets.
#[derive(Default)]
pub(super) struct Sittings {
    issued: AtomicU64,
    by_number: Mutex<HashMap<u64, Arc<Sitting>>>,
}

impl Sittings {
    fn by_number(&self) -> MutexGuard<'_, HashMap<u64, Arc<Sitting>>> {
        self.by_number.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, sitting: Arc<Sitting>) -> Ticket {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let started_ns = sitting.started_ns();
        self.by_number().insert(number, sitting);
        Ticket { words: [number, 0, 0], started_ns }
    }

    pub(super) fn get(&self, ticket: &Ticket) -> Option<Arc<Sitting>> {
        self.by_number().get(&ticket.words[0]).cloned()
    }

    pub(super) fn take(&self, ticket: &Ticket) -> Option<Arc<Sitting>> {
        self.by_number().remove(&ticket.words[0])
    }
}
