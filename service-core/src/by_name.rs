//! Calls of a service that the caller knows by its name only: values instead of types, names instead of indices.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use crate::call::{CallRequest, Form};
use crate::calling::{InFlight, no_room_in_time};
use crate::channel::{Channel, Route};
use crate::context::Deadline;
use crate::descriptor::{MethodDescriptor, ServiceDescriptor};
use crate::dynamic::typed_only;
use crate::handler::MethodIndex;
use crate::line::Place;
use crate::message::Decode;
use crate::names::Address;
use crate::options::CallOptions;
use crate::status::{Code, Outcome, Status};
use crate::transport::Connector;
use crate::typed::no_reply;
use crate::value::{ArgumentsMessage, Value, read_value};

/// What this client was compiled against: nothing. Every service fits.
static NOTHING: ServiceDescriptor =
    ServiceDescriptor { trait_name: String::new(), version: String::new(), methods: Vec::new() };

/// Most names of methods in a status.
const MOST_NAMED: usize = 32;

/// Calls the methods of any service by their names, with values that describe themselves.
///
/// Clones and threads share its connection, with each other and with typed clients. A method is looked up in the
/// descriptor of the service as it runs now, at each call: after a restart with other methods there are other methods.
/// Long bytes and numbers are written from where the caller has them. A call allocates, and takes some microseconds more
/// than a typed one.
#[derive(Clone)]
pub struct DynamicClient {
    channel: Arc<Channel>,
    options: CallOptions,
}

impl DynamicClient {
    /// Connects to the service at `address`. Blocks until the service has answered.
    ///
    /// # Errors
    /// `InvalidArgument` if `address` is none, `NotFound` if nothing serves it; nothing has run.
    pub fn connect(board: &impl Connector, address: &str) -> Result<Self, Status> {
        let channel = Channel::connect(board.registry(), Address::parse(address)?, &NOTHING)?;
        Ok(Self { channel: Arc::new(channel), options: CallOptions::new() })
    }

    /// Ends each call of this client after `timeout` at the latest; without it a call may take as long as its method says,
    /// or as the service lives. Other clones keep theirs.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }

    /// Gives a client that makes its calls with these options, over the same connection.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        Self { channel: Arc::clone(&self.channel), options }
    }

    /// Calls a method and waits for its answer, which is copied out of the reply. Arguments that the method has a default
    /// for, which are those of a type `Option`, may be left out.
    ///
    /// # Errors
    /// Not run: `Unimplemented` if the service has no such method, with the names of those it has, or the method takes
    /// typed messages only; `InvalidArgument` if these are not its arguments. Else the service's answer, or why the call did
    /// not reach it; see its outcome.
    pub fn call(
        &self,
        method: &str,
        args: &[Value<'_>],
        kwargs: &[(&str, Value<'_>)],
    ) -> Result<Value<'static>, Status> {
        self.call_with(method, args, kwargs, |value| value.into_owned())
    }

    /// Like [`call`](Self::call), but `read` gets the answer in place: long bytes and numbers are not copied.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_with<U>(
        &self,
        method: &str,
        args: &[Value<'_>],
        kwargs: &[(&str, Value<'_>)],
        read: impl FnOnce(Value<'_>) -> U,
    ) -> Result<U, Status> {
        let (route, timeout) = self.route(method)?;
        let mut reply = Answer { read: Some(read), made: None };
        route.call(&self.request(&route, timeout, &ArgumentsMessage { args, kwargs }), &mut reply)?;
        reply.made.ok_or_else(no_reply)
    }

    /// Like [`call`](Self::call), for a task. Dropped before the end, the call is given up and its handler told.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_async(
        &self,
        method: &str,
        args: &[Value<'_>],
        kwargs: &[(&str, Value<'_>)],
    ) -> Result<Value<'static>, Status> {
        let (route, timeout) = self.route(method)?;
        let message = ArgumentsMessage { args, kwargs };
        let call = self.request(&route, timeout, &message);
        let deadline = timeout.map(Deadline::after);
        let mut place = Place::default();
        let ticket = poll_fn(|cx| {
            let left = |deadline: Deadline| deadline.remaining().ok_or_else(no_room_in_time);
            let timeout = deadline.map(left).transpose()?;
            route.poll_start(cx, &CallRequest { timeout, ..call }, &mut place)
        });
        let ticket = ticket.await?;
        let mut in_flight = InFlight::new(route.clone(), route.index, ticket);
        let mut reply = Answer { read: Some(|value: Value<'_>| value.into_owned()), made: None };
        poll_fn(|cx| in_flight.poll(cx, &mut reply)).await?;
        reply.made.ok_or_else(no_reply)
    }

    /// What the service says of itself as it runs now: its methods, their arguments, types, fingerprints and docs, and which
    /// of them can be called so.
    ///
    /// # Errors
    /// As any call, if the service has to be connected again and cannot; nothing has run.
    pub fn descriptor(&self) -> Result<ServiceDescriptor, Status> {
        self.channel.served(self.options.timeout_or(None))
    }

    /// Finds a method, and how long the call may take.
    fn route(&self, method: &str) -> Result<(Route, Option<Duration>), Status> {
        let mut timeout = self.options.timeout_or(None);
        let mut own = None;
        let route = self.channel.route_to(&mut timeout, |service| {
            let (index, method) = self.find(service, method)?;
            own = (method.timeout_ns != 0).then(|| Duration::from_nanos(method.timeout_ns));
            Ok(index)
        })?;
        Ok((route, timeout.or(own)))
    }

    fn find<'s>(
        &self,
        service: &'s ServiceDescriptor,
        name: &str,
    ) -> Result<(MethodIndex, &'s MethodDescriptor), Status> {
        let address = self.channel.address();
        let found = service.methods.iter().zip(0..=u16::MAX).find(|(method, _)| method.name == name);
        match found {
            Some((method, index)) if method.dynamic => Ok((MethodIndex(index), method)),
            Some((method, _)) => Err(typed_only(method, address)),
            None => {
                let names: Vec<_> = service.methods.iter().map(|method| &*method.name).take(MOST_NAMED).collect();
                let more = if service.methods.len() > MOST_NAMED { ", …" } else { "" };
                let text = format!("`{address}` has no method `{name}`; it has: {}{more}", names.join(", "));
                Err(Status::new(Code::Unimplemented, Outcome::NotRun, text))
            }
        }
    }

    fn request<'a>(
        &'a self,
        route: &Route,
        timeout: Option<Duration>,
        message: &'a ArgumentsMessage<'_, '_>,
    ) -> CallRequest<'a> {
        let metadata = self.options.metadata();
        CallRequest { method: route.index, timeout, metadata, form: Form::Dynamic, message }
    }
}

impl fmt::Debug for DynamicClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicClient")
            .field("address", self.channel.address())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Reads an answer in place and keeps what was made of it.
struct Answer<U, F> {
    read: Option<F>,
    made: Option<U>,
}

impl<U, F: FnOnce(Value<'_>) -> U> Decode for Answer<U, F> {
    fn decode(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let value = read_value(bytes).map_err(|status| Status::internal(format!("the reply: {}", status.message())))?;
        self.made = self.read.take().map(|read| read(value));
        Ok(())
    }
}
