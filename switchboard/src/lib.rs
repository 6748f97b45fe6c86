#![doc = include_str!("../../README.md")]
#![forbid(unsafe_code)]

mod board;
pub mod testing;

pub use board::{Builder, Serve, Switchboard};
pub use rkyv;
pub use rkyv::Archived;
pub use service_core::{
    Address, Caller, Code, Connector, Context, Deadline, Handler, HistogramSnapshot, InstanceId, InstanceInfo,
    MethodSnapshot, NameError, Namespace, Outcome, Registry, ServiceDescriptor, ServiceName, ServiceStats, Spawn,
    Status,
};
pub use service_local::{Access, RunningService, Trust};
pub use service_macros::service;

#[doc(hidden)]
pub use service_core::__private;

/// What most programs need.
pub mod prelude {
    pub use crate::{Archived, Code, Context, Outcome, Status, Switchboard, service};
}
