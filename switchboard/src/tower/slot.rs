//! A call on its way through a stack, and where it comes back to if its handler does not answer it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use service_core::{Context, Encode, Form, MethodIndex, Outcome, ServerCall, Status, StreamReceiver, StreamSender};

/// What goes through a stack around a handler: layers can ask which method is called, by whom and until when.
///
/// A layer that drops it refuses the call; what the caller is told is the stack's error.
pub struct Call {
    /// Gone when it is answered or given back.
    call: Option<Box<dyn ServerCall>>,
    slot: Arc<Slot>,
}

/// What a stack, its call and whoever began both know of the call's end.
#[derive(Default)]
pub(super) struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    /// The call, given back without an answer.
    returned: Option<Box<dyn ServerCall>>,
    /// What the handler fails it with.
    failure: Option<Status>,
    /// Its handler has begun.
    is_begun: bool,
    /// The stack has ended, perhaps with a failure: what comes back later is answered at once.
    ended: Option<Option<Status>>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The innermost service has the call.
    pub(super) fn begin(&self) {
        self.state().is_begun = true;
    }

    /// What the call's handler failed it with.
    pub(super) fn failure(&self) -> Option<Status> {
        self.state().failure.clone()
    }

    /// What a call may have done that the stack has refused.
    pub(super) fn outcome(&self) -> Outcome {
        if self.state().is_begun { Outcome::MayHaveRun } else { Outcome::NotRun }
    }

    /// The stack has ended. A call that came back fails as the stack or else its handler says; without either it is dropped,
    /// as by a handler.
    pub(super) fn end(&self, refused: Option<Status>) {
        let mut state = self.state();
        let status = refused.or_else(|| state.failure.take());
        state.ended = Some(status.clone());
        let returned = state.returned.take();
        drop(state);
        settle(returned, status);
    }

    fn give_back(&self, call: Option<Box<dyn ServerCall>>, failure: Option<Status>) {
        let mut state = self.state();
        match &state.ended {
            None => {
                state.failure = failure;
                state.returned = call;
            }
            Some(ended) => {
                let status = failure.or_else(|| ended.clone());
                drop(state);
                settle(call, status);
            }
        }
    }
}

/// Ends a call outside of the lock: whoever waits for it may go on at once.
fn settle(call: Option<Box<dyn ServerCall>>, status: Option<Status>) {
    if let (Some(call), Some(status)) = (call, status) {
        call.fail(status);
    }
}

impl Call {
    pub(super) fn new(call: Box<dyn ServerCall>) -> Self {
        Self { call: Some(call), slot: Arc::default() }
    }

    pub(super) fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.slot)
    }

    fn held(&self) -> &dyn ServerCall {
        &**self.call.as_ref().expect("only what takes the whole call takes it out")
    }

    fn held_mut(&mut self) -> &mut dyn ServerCall {
        &mut **self.call.as_mut().expect("only what takes the whole call takes it out")
    }

    /// The method that is called, by its place in the service's descriptor.
    pub fn method(&self) -> MethodIndex {
        self.held().method()
    }

    /// What a handler may ask about the call: its deadline, its caller, what came beside the arguments.
    pub fn context(&self) -> Context<'_> {
        self.held().context()
    }
}

impl ServerCall for Call {
    fn method(&self) -> MethodIndex {
        self.held().method()
    }

    fn context(&self) -> Context<'_> {
        self.held().context()
    }

    fn request(&self) -> &[u8] {
        self.held().request()
    }

    fn form(&self) -> Form {
        self.held().form()
    }

    fn take_receiver(&mut self) -> Option<Box<dyn StreamReceiver>> {
        self.held_mut().take_receiver()
    }

    fn take_sender(&mut self) -> Option<Box<dyn StreamSender>> {
        self.held_mut().take_sender()
    }

    fn wake_at(&self, at_ns: u64, waker: &Waker) {
        self.held().wake_at(at_ns, waker);
    }

    fn reply(mut self: Box<Self>, message: &dyn Encode) {
        if let Some(call) = self.call.take() {
            call.reply(message);
        }
    }

    /// Not told to the caller yet: the stack may make something else of it.
    fn fail(mut self: Box<Self>, status: Status) {
        let call = self.call.take();
        self.slot.give_back(call, Some(status));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.call.is_some() {
            self.slot.give_back(self.call.take(), None);
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Call");
        if let Some(call) = &self.call {
            shown.field("method", &call.method()).field("context", &call.context());
        }
        shown.finish_non_exhaustive()
    }
}
