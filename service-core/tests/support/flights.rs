//! Calls in flight of the transport inside one process: answered by a thread each, waited for by threads or tasks.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context as Wakers, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use service_core::{
    CallRequest, CancelProbe, Code, Context, Deadline, Encode, Form, Handler, Metadata, MethodIndex, Outcome,
    ServerCall, Status, StreamReceiver, StreamSender, Style, monotonic_ns,
};

use super::{CALLER, Memory};

/// Runs a future on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Wakers::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// One call in flight.
#[derive(Default)]
pub struct Flight {
    answer: Mutex<Answer>,
    changed: Condvar,
    is_cancelled: AtomicBool,
    on_cancel: Mutex<Vec<Waker>>,
    pub deadline: Option<Deadline>,
}

#[derive(Default)]
struct Answer {
    result: Option<Result<Memory, Status>>,
    waker: Option<Waker>,
}

impl Flight {
    pub fn end(&self, result: Result<Memory, Status>) {
        let mut answer = self.answer.lock().unwrap();
        answer.result.get_or_insert(result);
        self.changed.notify_all();
        if let Some(waker) = answer.waker.take() {
            waker.wake();
        }
    }

    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        self.on_cancel.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    /// The answer, or that the deadline came first.
    pub fn wait(&self) -> Result<Memory, Status> {
        let mut answer = self.answer.lock().unwrap();
        loop {
            if let Some(result) = answer.result.take() {
                return result;
            }
            let left = match self.deadline {
                Some(deadline) => deadline.remaining().ok_or_else(|| self.too_late())?,
                None => Duration::from_secs(60),
            };
            answer = self.changed.wait_timeout(answer, left).unwrap().0;
        }
    }

    pub fn poll(&self, cx: &mut Wakers<'_>) -> Poll<Result<Memory, Status>> {
        let mut answer = self.answer.lock().unwrap();
        match answer.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                answer.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn too_late(&self) -> Status {
        self.cancel();
        Status::new(Code::DeadlineExceeded, Outcome::MayHaveRun, "too late")
    }
}

impl CancelProbe for Flight {
    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    fn poll_cancelled(&self, cx: &mut Wakers<'_>) -> Poll<()> {
        let mut on_cancel = self.on_cancel.lock().unwrap();
        if self.is_cancelled() {
            return Poll::Ready(());
        }
        on_cancel.push(cx.waker().clone());
        Poll::Pending
    }
}

/// What a handler gets.
pub struct Call {
    pub flight: Arc<Flight>,
    pub method: MethodIndex,
    pub form: Form,
    pub metadata: Option<Metadata>,
    pub request: Memory,
    pub sender: Mutex<Option<Box<dyn StreamSender>>>,
    pub receiver: Mutex<Option<Box<dyn StreamReceiver>>>,
}

impl Call {
    /// Takes a request as it is sent.
    pub fn new(call: &CallRequest<'_>) -> Result<Self, Status> {
        let mut request = Memory::default();
        request.put(call.message)?;
        let deadline = call.timeout.map(|timeout| Deadline::starting_at(monotonic_ns(), timeout));
        let (method, form, metadata) = (call.method, call.form, call.metadata.cloned());
        let flight = Arc::new(Flight { deadline, ..Flight::default() });
        Ok(Self { flight, method, form, metadata, request, sender: Mutex::default(), receiver: Mutex::default() })
    }

    /// Runs the handler; the answer comes to the flight. A future that has come as far as it can at once is counted.
    pub fn run(self, handler: &Arc<dyn Handler>, polled: &Arc<AtomicUsize>) {
        match handler.style(self.method) {
            Style::Plain => {
                let result = super::call_plain(&**handler, &self.context(), self.method, self.form, &self.request);
                self.flight.end(result);
            }
            Style::Task | Style::Thread => {
                let (handler, polled) = (Arc::clone(handler), Arc::clone(polled));
                thread::spawn(move || {
                    // A panic drops the future, and by it the call, which is then answered as `Internal`.
                    let _ = catch_unwind(AssertUnwindSafe(|| {
                        let (mut future, mut is_first) = (handler.start(Box::new(self)), true);
                        block_on(poll_fn(|cx| {
                            let poll = future.as_mut().poll(cx);
                            polled.fetch_add(usize::from(std::mem::take(&mut is_first)), Ordering::Release);
                            poll
                        }));
                    }));
                });
            }
        }
    }
}

impl ServerCall for Call {
    fn method(&self) -> MethodIndex {
        self.method
    }

    fn context(&self) -> Context<'_> {
        Context::new(self.flight.deadline, CALLER, &*self.flight).with_metadata(self.metadata.as_ref())
    }

    fn request(&self) -> &[u8] {
        self.request.bytes()
    }

    fn form(&self) -> Form {
        self.form
    }

    fn take_receiver(&mut self) -> Option<Box<dyn StreamReceiver>> {
        self.receiver.get_mut().unwrap().take()
    }

    fn take_sender(&mut self) -> Option<Box<dyn StreamSender>> {
        self.sender.get_mut().unwrap().take()
    }

    fn wake_at(&self, at_ns: u64, waker: &Waker) {
        let (waker, left) = (waker.clone(), at_ns.saturating_sub(monotonic_ns()));
        thread::spawn(move || {
            thread::sleep(Duration::from_nanos(left));
            waker.wake();
        });
    }

    fn reply(self: Box<Self>, message: &dyn Encode) {
        let mut memory = Memory::default();
        let result = memory.put(message).map(|()| memory);
        self.flight.end(result);
    }

    fn fail(self: Box<Self>, status: Status) {
        self.flight.end(Err(status));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.flight.end(Err(Status::internal("dropped unanswered")));
    }
}
