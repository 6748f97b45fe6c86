#![doc = include_str!("../../README.md")]
#![forbid(unsafe_code)]

mod board;
pub mod testing;

pub use board::{Builder, Serve, Switchboard};
pub use rkyv;
pub use rkyv::Archived;
pub use service_core::value::{self, Value};
pub use service_core::{
    Address, BothWays, CallError, CallOptions, Caller, ClientStream, Code, Connector, Context, Deadline, Handler,
    HistogramSnapshot, Incoming, InstanceId, InstanceInfo, MethodSnapshot, NameError, Namespace, Outcome, Outgoing,
    Priority, Queued, Registry, Sent, ServerStream, ServiceDescriptor, ServiceError, ServiceName, ServiceStats, Spawn,
    Status, TraceContext,
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
