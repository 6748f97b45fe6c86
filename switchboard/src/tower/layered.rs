//! A stack of layers around a handler.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Wakers, Poll};

use service_core::{
    CallFuture, Code, Context, Encode, EncodeError, Form, Handler, MethodIndex, Outcome, ReplySink, ServerCall,
    ServiceDescriptor, Sink, Status, Style,
};
use tower_layer::Layer;
use tower_service::Service;

use super::slot::Call;

/// A handler with a stack around it: every call of every client goes through.
///
/// The stack says `Ok(())` when the handler has answered. A failure of the handler goes through it as a [`Status`], and what
/// comes out is what the caller is told. Any other error of a layer is `Unavailable` with the error's text; a layer above it
/// that maps errors, such as `ServiceBuilder::map_err`, may make a better status of it. It says `NotRun` if the call did not
/// get to the handler, and else `MayHaveRun`.
///
/// A call that its caller gave up, or whose deadline passed, while the stack was not ready for it is not run.
///
/// Costs some allocations and a clone of the stack for each call. Handlers that block, plain `fn`s too, get a thread of
/// their own each, and clients of the same process come through the stack instead of calling directly.
pub struct Layered<S> {
    handler: Arc<dyn Handler>,
    /// Cloned for each call, as the contract of `poll_ready` wants it.
    stack: Mutex<S>,
}

impl<S> Layered<S> {
    /// Puts a layer, or a whole stack of them such as a `ServiceBuilder`, around a handler.
    pub fn new(handler: impl Handler, layer: impl Layer<HandlerService, Service = S>) -> Self {
        let handler: Arc<dyn Handler> = Arc::new(handler);
        let stack = Mutex::new(layer.layer(HandlerService { handler: Arc::clone(&handler) }));
        Self { handler, stack }
    }
}

impl<S> fmt::Debug for Layered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").field("service", &self.handler.descriptor().trait_name).finish_non_exhaustive()
    }
}

impl<S> Handler for Layered<S>
where
    S: Service<Call, Response = ()> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
{
    fn descriptor(&self) -> &ServiceDescriptor {
        self.handler.descriptor()
    }

    /// Not called: no method is a plain one.
    fn call(&self, _: &Context<'_>, method: MethodIndex, _: &[u8], _: &mut dyn ReplySink) -> Result<(), Status> {
        Err(self.descriptor().unknown_method(method))
    }

    fn style(&self, method: MethodIndex) -> Style {
        match self.handler.style(method) {
            Style::Plain | Style::Thread => Style::Thread,
            Style::Task => Style::Task,
        }
    }

    fn start(self: Arc<Self>, call: Box<dyn ServerCall>) -> CallFuture {
        let mut stack = self.stack.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            let call = Call::new(call);
            let slot = call.slot();
            let ended = async {
                poll_fn(|cx| stack.poll_ready(cx)).await.map_err(Into::into)?;
                still_wanted(&call)?;
                stack.call(call).await.map_err(Into::into)
            };
            let refused = ended.await.err().map(|error| status_of(&*error, slot.outcome()));
            slot.end(refused);
        })
    }
}

/// The stack was not ready at once: perhaps nobody waits any more.
fn still_wanted(call: &Call) -> Result<(), Status> {
    let ctx = call.context();
    match ctx.deadline() {
        _ if !ctx.is_cancelled() => Ok(()),
        Some(deadline) if deadline.has_passed() => {
            let text = "the deadline passed before the layers around the handler were ready";
            Err(Status::new(Code::DeadlineExceeded, Outcome::NotRun, text))
        }
        _ => {
            let text = "the caller gave up before the layers around the handler were ready";
            Err(Status::new(Code::Cancelled, Outcome::NotRun, text))
        }
    }
}

/// The status among an error and its causes; else one made of the error.
fn status_of(error: &(dyn Error + Send + Sync + 'static), outcome: Outcome) -> Status {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    // Causes that go in a circle end here.
    for _ in 0..16 {
        let Some(error) = cause else { break };
        if let Some(status) = error.downcast_ref::<Status>() {
            return status.clone();
        }
        cause = error.source();
    }
    Status::new(Code::Unavailable, outcome, error.to_string())
}

/// The innermost service of a stack around a handler: has the handler answer.
#[derive(Clone)]
pub struct HandlerService {
    handler: Arc<dyn Handler>,
}

impl fmt::Debug for HandlerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.handler.descriptor().trait_name;
        f.debug_struct("HandlerService").field("service", name).finish_non_exhaustive()
    }
}

impl Service<Call> for HandlerService {
    type Response = ();
    /// What the handler fails the call with.
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

    /// Handlers are always ready.
    fn poll_ready(&mut self, _: &mut Wakers<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let handler = Arc::clone(&self.handler);
        Box::pin(async move {
            let slot = call.slot();
            slot.begin();
            match handler.style(call.method()) {
                Style::Plain => run_plain(&*handler, Box::new(call)),
                Style::Task | Style::Thread => handler.start(Box::new(call)).await,
            }
            slot.failure().map_or(Ok(()), Err)
        })
    }
}

/// Runs a plain handler, whose reply waits until the call can be taken for it.
fn run_plain(handler: &dyn Handler, call: Box<Call>) {
    let mut reply = Kept(None);
    let ctx = call.context();
    let result = match call.form() {
        Form::Typed => handler.call(&ctx, call.method(), call.request(), &mut reply),
        Form::Dynamic => handler.call_dynamic(&ctx, call.method(), call.request(), &mut reply),
    };
    match (result, reply.0) {
        (Ok(()), Some(bytes)) => call.reply(&Written(&bytes)),
        // Dropped, it is answered as one whose handler gave no answer.
        (Ok(()), None) => drop(call),
        (Err(status), _) => call.fail(status),
    }
}

/// A reply that is written already.
struct Kept(Option<Vec<u8>>);

impl ReplySink for Kept {
    fn send(&mut self, message: &dyn Encode) -> Result<(), Status> {
        if self.0.is_some() {
            return Err(Status::internal("a call is answered once; the handler tried again"));
        }
        let refused = |error: EncodeError| error.into_status(Outcome::Ran);
        let mut count = Sink::count();
        message.encode(&mut count).map_err(refused)?;
        let mut bytes = vec![0; count.len()];
        message.encode(&mut Sink::slice(&mut bytes)).map_err(refused)?;
        self.0 = Some(bytes);
        Ok(())
    }
}

struct Written<'a>(&'a [u8]);

impl Encode for Written<'_> {
    fn encode(&self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        Ok(sink.write(self.0)?)
    }
}
