//! A call's streams, from the moment when it asks for them to the moment when it gets them.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use service_core::{Deadline, Status, StreamReceiver, StreamSender};

/// A call's ends of its streams.
#[derive(Default)]
pub(in crate::server) struct Taken {
    pub(in crate::server) sender: Option<Box<dyn StreamSender>>,
    pub(in crate::server) receiver: Option<Box<dyn StreamReceiver>>,
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sender, receiver } = self;
        f.debug_struct("Taken").field("sends", &sender.is_some()).field("receives", &receiver.is_some()).finish()
    }
}

#[derive(Default)]
struct State {
    news: Option<Result<Taken, Status>>,
    waker: Option<Waker>,
}

/// Who is told, once.
pub(super) struct Arrival {
    state: Arc<Mutex<State>>,
    deadline: Option<Deadline>,
}

/// Ready when the streams are there, or will not come. Dropped before, they are broken off when they come.
#[must_use = "streams that nobody waits for are broken off"]
pub(in crate::server) struct Arriving(Arc<Mutex<State>>);

/// Both ends of it, for a call with this deadline.
pub(super) fn arrival(deadline: Option<Deadline>) -> (Arrival, Arriving) {
    let state = Arc::<Mutex<State>>::default();
    (Arrival { state: Arc::clone(&state), deadline }, Arriving(state))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arrival {
    /// The call's.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    pub(super) fn tell(self, news: Result<Taken, Status>) {
        let mut state = lock(&self.state);
        state.news = Some(news);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Arriving {
    type Output = Result<Taken, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.0);
        match state.news.take() {
            Some(news) => Poll::Ready(news),
            None => {
                let before = state.waker.replace(cx.waker().clone());
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    }
}
