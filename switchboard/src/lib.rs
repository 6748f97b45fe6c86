#![doc = include_str!("../../README.md")]
#![forbid(unsafe_code)]

mod board;
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;

pub use board::{Builder, Serve, Switchboard};
pub use rkyv;
pub use rkyv::Archived;
pub use service_core::value::{self, Value};
pub use service_core::{
    Address, Batch, BothWays, CallError, CallFuture, CallOptions, Caller, ClientStream, Code, Connector, Context,
    Deadline, Handler, HistogramSnapshot, Incoming, InstanceId, InstanceInfo, Metadata, MethodSnapshot, NameError,
    Namespace, Outcome, Outgoing, Priority, Queued, Registry, Sent, ServerStream, ServiceDescriptor, ServiceError,
    ServiceName, ServiceStats, Spawn, Status, TraceContext,
};
pub use service_core::{DynamicClient, Fingerprint, MethodDescriptor, Shape, TypeInfo};
pub use service_local::{Access, RunningService, Trust};
pub use service_macros::service;

#[doc(hidden)]
pub use service_core::__private;

/// What most programs need.
pub mod prelude {
    pub use crate::{
        Archived, CallError, CallOptions, Code, Context, Incoming, Outcome, Outgoing, ServiceError, Status,
        Switchboard, service,
    };
}

/// The pages of `docs/guide`: their examples are run as documentation tests.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../docs/guide/01-first-service.md")]
    struct FirstService;
    #[doc = include_str!("../../docs/guide/02-async.md")]
    struct Async;
    #[doc = include_str!("../../docs/guide/03-streaming.md")]
    struct Streaming;
    #[doc = include_str!("../../docs/guide/04-errors.md")]
    struct Errors;
    #[doc = include_str!("../../docs/guide/05-deadlines-and-cancellation.md")]
    struct DeadlinesAndCancellation;
    #[doc = include_str!("../../docs/guide/06-batching.md")]
    struct Batching;
    #[doc = include_str!("../../docs/guide/07-dynamic-calls.md")]
    struct DynamicCalls;
    #[doc = include_str!("../../docs/guide/08-testing.md")]
    struct Testing;
}
