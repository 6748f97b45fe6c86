//! Batching of a service: calls of one method that arrive while others of it run are run together.
//!
//! There is no thread and no timer for it. The call that finds nothing under way leads at once, with what there is; later
//! ones queue. Whoever fills the queue leads it; else the first of it does, as soon as nothing is under way any more, or
//! when it has waited long enough. So a lone call never waits, and a queue always has one who will lead it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context as Wakers, Poll, Waker};
use std::time::Duration;

use crate::context::{Deadline, monotonic_ns};
use crate::handler::ServerCall;
use crate::status::{Code, Outcome, Status};
use crate::typed::{Message, Writable};

/// Brings the calls of one method together.
pub struct Batcher {
    most: usize,
    delay: Duration,
    bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: Vec<Box<dyn ServerCall>>,
    /// Length of their requests.
    bytes: usize,
    /// How many queues there have been before this one.
    queues: u64,
    /// Batches that run.
    under_way: usize,
    /// The task of the first in the queue.
    first: Option<Waker>,
}

impl Batcher {
    /// A batch is run when so many calls have come, when their requests are so many bytes together, when the first has
    /// waited for so long, or when no other one is under way.
    pub fn new(most: usize, delay: Duration, bytes: usize) -> Self {
        Self { most, delay, bytes, state: Mutex::default() }
    }

    /// Joins a call to the others. Gives the batch that this task has to run; `None` if another one runs the call.
    pub fn join(&self, call: Box<dyn ServerCall>) -> Joining<'_> {
        Joining { batcher: self, place: Queued::New(call) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the queue as a batch that is under way.
    fn lead(&self, state: &mut State) -> Led<'_> {
        state.queues += 1;
        state.bytes = 0;
        state.under_way += 1;
        if let Some(first) = state.first.take() {
            // Its call is taken: it has nothing left to wait for.
            first.wake();
        }
        Led { batcher: self, calls: std::mem::take(&mut state.queue) }
    }
}

impl fmt::Debug for Batcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Batcher").field("queued", &state.queue.len()).field("under_way", &state.under_way).finish()
    }
}

/// A call that joins others.
pub struct Joining<'b> {
    batcher: &'b Batcher,
    place: Queued,
}

enum Queued {
    New(Box<dyn ServerCall>),
    /// The first of the queue with this number, due at this time.
    First(u64, u64),
    Over,
}

impl<'b> Future for Joining<'b> {
    type Output = Option<Led<'b>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Wakers<'_>) -> Poll<Self::Output> {
        let batcher = self.batcher;
        let mut state = batcher.lock();
        let (queue, due_ns) = match std::mem::replace(&mut self.place, Queued::Over) {
            Queued::New(call) => {
                state.bytes = state.bytes.saturating_add(call.request().len());
                state.queue.push(call);
                let is_full = state.queue.len() >= batcher.most || state.bytes >= batcher.bytes;
                if state.under_way == 0 || is_full {
                    return Poll::Ready(Some(batcher.lead(&mut state)));
                }
                if state.queue.len() > 1 {
                    return Poll::Ready(None);
                }
                let due_ns = Deadline::after(batcher.delay).as_monotonic_ns();
                state.queue[0].wake_at(due_ns, cx.waker());
                (state.queues, due_ns)
            }
            Queued::First(queue, _) if queue != state.queues => return Poll::Ready(None),
            Queued::First(..) if state.under_way == 0 => return Poll::Ready(Some(batcher.lead(&mut state))),
            Queued::First(_, due_ns) if monotonic_ns() >= due_ns => {
                return Poll::Ready(Some(batcher.lead(&mut state)));
            }
            Queued::First(queue, due_ns) => (queue, due_ns),
            Queued::Over => return Poll::Ready(None),
        };
        state.first = Some(cx.waker().clone());
        self.place = Queued::First(queue, due_ns);
        Poll::Pending
    }
}

impl Drop for Joining<'_> {
    /// A queue whose first is dropped has nobody to lead it: its calls end as those of a handler that is dropped.
    fn drop(&mut self) {
        let Queued::First(queue, _) = self.place else { return };
        let mut state = self.batcher.lock();
        let orphans = (queue == state.queues).then(|| self.batcher.lead(&mut state));
        drop(state);
        drop(orphans);
    }
}

impl fmt::Debug for Joining<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").field("waits", &matches!(self.place, Queued::First(..))).finish_non_exhaustive()
    }
}

/// A batch that is to be run by whoever has this. Dropped before it is answered, for example by a panic, its calls and no
/// others fail.
pub struct Led<'b> {
    batcher: &'b Batcher,
    calls: Vec<Box<dyn ServerCall>>,
}

impl Led<'_> {
    /// The calls, in the order in which they came.
    pub fn calls(&self) -> &[Box<dyn ServerCall>] {
        &self.calls
    }

    /// Answers the calls. For each there is either why it was refused, not run, or in their order one of the answers.
    pub fn answer<R: Writable>(mut self, refused: Vec<Option<Status>>, answers: Vec<Result<R, Status>>) {
        let calls = std::mem::take(&mut self.calls);
        let asked = refused.iter().filter(|refused| refused.is_none()).count();
        let miscounted = (asked != answers.len())
            .then(|| Status::internal(format!("the batch has {asked} calls and {} answers", answers.len())));
        let mut answers = answers.into_iter();
        for (call, refused) in calls.into_iter().zip(refused) {
            let answer = match refused.or_else(|| miscounted.clone()) {
                Some(status) => Err(status),
                None => answers.next().unwrap_or_else(|| Err(Status::internal("the batch has no answer"))),
            };
            match answer {
                Ok(value) => call.reply(&Message(&value)),
                Err(status) => call.fail(status),
            }
        }
    }
}

/// Says why a call of a batch need not be run: while it waited its caller gave up, or its deadline passed.
///
/// # Errors
/// `Cancelled` or `DeadlineExceeded`, not run.
pub fn still_wanted(call: &dyn ServerCall) -> Result<(), Status> {
    let ctx = call.context();
    if !ctx.is_cancelled() {
        return Ok(());
    }
    let (code, text) = match ctx.deadline() {
        Some(deadline) if deadline.has_passed() => {
            (Code::DeadlineExceeded, "the deadline passed before its batch was run")
        }
        _ => (Code::Cancelled, "the caller gave up before its batch was run"),
    };
    Err(Status::new(code, Outcome::NotRun, text))
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        let mut state = self.batcher.lock();
        state.under_way -= 1;
        if state.under_way == 0
            && let Some(first) = state.first.take()
        {
            first.wake();
        }
    }
}

impl fmt::Debug for Led<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Led").field("calls", &self.calls.len()).finish_non_exhaustive()
    }
}
