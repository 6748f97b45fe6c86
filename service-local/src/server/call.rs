//! A call that is answered later than its worker has it in hand, and perhaps elsewhere.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Wakers, Poll, Waker};

use service_core::scope::Scope;
use service_core::{
    CallFuture, CancelProbe, Code, Context, Deadline, Encode, Form, Handler, Metadata, MethodIndex, Outcome, ReplySink,
    ServerCall, Status, StreamReceiver, StreamSender, Style,
};
use shm_ring::clock;
use shm_ring::slot::CallId;

use super::Hub;
use super::dispatch::panicked;
use super::lane::Lane;
use super::reply::Responder;
use super::request::Request;
use super::streams::{Arriving, Taken};
use super::watchers::{Alarms, is_given_up};

/// Whose code a thread runs: a job's address, and its hub's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Runs {
    job: usize,
    hub: usize,
    style: Style,
}

thread_local! {
    static RUNS: Cell<Option<Runs>> = const { Cell::new(None) };
}

/// How the code is run, if this thread runs that of a call of this service which is answered later.
pub(super) fn runs_for(hub: &Hub) -> Option<Style> {
    RUNS.get().filter(|runs| runs.hub == std::ptr::from_ref(hub).addr()).map(|runs| runs.style)
}

/// A call as all who work at it share it.
pub(super) struct Job {
    pub(super) hub: Arc<Hub>,
    pub(super) lane: Arc<Lane>,
    pub(super) call: CallId,
    pub(super) method: MethodIndex,
    pub(super) deadline: Option<Deadline>,
    pub(super) metadata: Option<Arc<Metadata>>,
    pub(super) started_ns: u64,
    alarms: Alarms,
    /// The handler dropped the call without an answer; whoever runs the handler's code gives one.
    is_left: AtomicBool,
    /// Counted among the calls in hand.
    is_counted: AtomicBool,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("call", &self.call).field("method", &self.method).finish_non_exhaustive()
    }
}

impl Job {
    /// A call that was counted as [in hand](super::in_hand::InHand).
    pub(super) fn new(
        hub: Arc<Hub>,
        lane: Arc<Lane>,
        (call, method): (CallId, MethodIndex),
        deadline: Option<Deadline>,
        metadata: Option<Arc<Metadata>>,
        started_ns: u64,
    ) -> Self {
        let (alarms, is_left, is_counted) = (Alarms::default(), AtomicBool::new(false), AtomicBool::new(true));
        Self { hub, lane, call, method, deadline, metadata, started_ns, alarms, is_left, is_counted }
    }

    fn runs(&self) -> Runs {
        let hub = Arc::as_ptr(&self.hub).addr();
        Runs { job: std::ptr::from_ref(self).addr(), hub, style: self.hub.style(self.method) }
    }

    /// Runs some of the handler's code, inside the call's scope and a panic guard. If the code leaves the call without an
    /// answer, it is answered here.
    ///
    /// # Errors
    /// If the code panicked.
    pub(super) fn run<T>(self: &Arc<Self>, code: impl FnOnce() -> T) -> Result<T, ()> {
        let before = RUNS.replace(Some(self.runs()));
        let scope = service_core::scope::enter(Arc::clone(self) as Arc<dyn Scope>);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(code));
        drop(scope);
        RUNS.set(before);
        let is_left = self.is_left.swap(false, Ordering::Relaxed);
        let panic = ran.as_ref().err().map(|panic| panicked(&**panic));
        if is_left {
            let status = match &panic {
                Some(panicked) => self.hub.bad_handler(self.method, panicked),
                None => self.hub.bad_handler(self.method, "dropped the call without an answer"),
            };
            self.fail(&status);
        } else if let Some(panicked) = panic {
            // What the caller has got stands.
            self.hub.bad_handler(self.method, &panicked);
        }
        ran.map_err(drop)
    }

    /// Fails the call that `drop_it` lets go of.
    pub(super) fn refuse(&self, status: &Status, drop_it: impl FnOnce()) {
        let before = RUNS.replace(Some(self.runs()));
        drop_it();
        RUNS.set(before);
        if self.is_left.swap(false, Ordering::Relaxed) {
            self.fail(status);
        }
    }

    /// Says that the call has no answer and will get one from whoever runs its code on this thread, if somebody does.
    fn leave(&self) {
        if RUNS.get().is_some_and(|runs| runs == self.runs()) {
            self.is_left.store(true, Ordering::Relaxed);
            return;
        }
        if self.hub.is_stopping() {
            let text = format!("`{}` stopped before the call was answered", self.hub.instance);
            self.fail(&Status::new(Code::Unavailable, Outcome::MayHaveRun, text));
        } else {
            let what = if std::thread::panicking() { "panicked" } else { "was dropped before its end" };
            self.fail(&self.hub.bad_handler(self.method, what));
        }
    }

    /// Takes the call out of those in hand: before its answer, which lets the client make another one.
    fn count_out(&self) {
        if self.is_counted.swap(false, Ordering::Relaxed) {
            self.lane.in_hand.end();
        }
    }

    /// Answers with a failure.
    pub(super) fn fail(&self, status: &Status) {
        self.count_out();
        let mut responder = Responder::new(&self.lane, self.call);
        responder.prepare_failure(status);
        self.finish(responder);
    }

    /// Takes back by what it would be woken: nobody is to be woken for it any more.
    pub(super) fn settle(&self) {
        self.alarms.settle(&self.lane, self.call);
    }

    fn finish(&self, mut responder: Responder<'_>) {
        self.settle();
        let code = responder.finish();
        let ns = clock::now_ns().saturating_sub(self.started_ns);
        self.hub.stats.record(self.method, code, ns);
    }
}

impl CancelProbe for Job {
    fn is_cancelled(&self) -> bool {
        is_given_up(&self.lane, self.call)
    }

    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        self.alarms.poll_cancelled(&self.lane, self.call, self.deadline, cx.waker())
    }
}

impl Scope for Job {
    fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    fn is_cancelled(&self) -> bool {
        is_given_up(&self.lane, self.call)
    }

    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        self.alarms.poll_cancelled(&self.lane, self.call, None, cx.waker())
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

/// A call as the handler holds it.
pub(super) struct LaneCall {
    job: Arc<Job>,
    request: Request,
    /// Bytes of the message; behind it may be an envelope.
    len: usize,
    form: Form,
    /// Locked by nobody: it is reached through `&mut` only, and makes the call one that threads may share.
    streams: Mutex<Taken>,
    is_answered: bool,
}

impl LaneCall {
    pub(super) fn new(job: Arc<Job>, request: Request, len: usize, form: Form) -> Self {
        Self { job, request, len, form, streams: Mutex::default(), is_answered: false }
    }

    /// The work of a call that has to have its streams before the handler begins.
    pub(super) fn with_streams(mut self: Box<Self>, arriving: Arriving, handler: Arc<dyn Handler>) -> CallFuture {
        Box::pin(async move {
            let job = Arc::clone(&self.job);
            let mut arriving = arriving;
            let arrived = std::future::poll_fn(|cx| match Pin::new(&mut arriving).poll(cx) {
                Poll::Pending => CancelProbe::poll_cancelled(&*job, cx).map(|()| Err(without_streams())),
                arrived => arrived,
            });
            match arrived.await {
                Ok(taken) => {
                    self.streams = Mutex::new(taken);
                    handler.start(self).await;
                }
                Err(status) => self.fail(status),
            }
        })
    }
}

#[cold]
fn without_streams() -> Status {
    Status::new(Code::Cancelled, Outcome::NotRun, "the call was given up before its streams came")
}

impl ServerCall for LaneCall {
    fn method(&self) -> MethodIndex {
        self.job.method
    }

    fn context(&self) -> Context<'_> {
        let Job { lane, deadline, metadata, .. } = &*self.job;
        Context::new(*deadline, lane.caller, &*self.job).assured(lane.assurance).with_metadata(metadata.as_deref())
    }

    fn request(&self) -> &[u8] {
        &self.request.bytes(&self.job.lane)[..self.len]
    }

    fn form(&self) -> Form {
        self.form
    }

    fn take_receiver(&mut self) -> Option<Box<dyn StreamReceiver>> {
        self.streams.get_mut().unwrap_or_else(PoisonError::into_inner).receiver.take()
    }

    fn take_sender(&mut self) -> Option<Box<dyn StreamSender>> {
        self.streams.get_mut().unwrap_or_else(PoisonError::into_inner).sender.take()
    }

    fn wake_at(&self, at_ns: u64, waker: &Waker) {
        self.job.alarms.wake_at(at_ns, waker);
    }

    fn reply(mut self: Box<Self>, message: &dyn Encode) {
        let mut responder = Responder::new(&self.job.lane, self.job.call);
        // If the encoder panics, the responder is dropped and answers.
        self.is_answered = true;
        self.job.count_out();
        if let Err(status) = responder.send(message) {
            responder.prepare_failure(&status);
        }
        self.job.finish(responder);
    }

    fn fail(mut self: Box<Self>, status: Status) {
        self.is_answered = true;
        self.job.fail(&status);
    }
}

impl Drop for LaneCall {
    fn drop(&mut self) {
        if !self.is_answered {
            self.job.leave();
        }
        self.request.settle(&self.job.lane);
    }
}
