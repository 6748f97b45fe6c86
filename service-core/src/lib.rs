//! What services and transports agree on: names, statuses, contexts, messages, descriptors and
//! statistics.
//!
//! Three seams keep the rest of the project apart. A [`Handler`] answers calls and knows no
//! transport; a [`Transport`] carries calls and knows no types; a [`Registry`] finds transports by
//! name. A typed client, written by `#[service]`, calls through a [`Channel`], which joins the
//! three. There is no memory mapping, no socket and no thread in here.
#![deny(unsafe_code)] // The files that allow it, and why: `MAY_BE_UNSAFE` in `xtask/src/source.rs`.

mod assured;
mod batch;
mod batcher;
mod by_name;
mod call;
mod calling;
mod channel;
mod context;
mod descriptor;
mod details;
mod dynamic;
pub mod envelope;
mod forms;
#[cfg(any(test, fuzzing))]
pub mod fuzz;

mod handler;
mod histogram;
mod items;
mod line;
mod local;
mod lock;
mod message;
mod metadata;
mod names;
mod options;
pub mod scope;
mod scratch;
mod spawn;
mod stats;
mod status;
mod stream;
mod streaming;
mod transport;
mod typed;
pub mod value;

pub use assured::Assurance;
pub use batch::{Batch, Queued, Sent};
pub use by_name::DynamicClient;
pub use call::{CallRequest, Form, Ticket};
pub use calling::Calling;
pub use channel::Channel;
pub use context::{Caller, CancelProbe, Context, Deadline, NeverCancelled, monotonic_ns};
pub use descriptor::{Fingerprint, MethodDescriptor, MethodMap, ServiceDescriptor, TypeInfo};
pub use details::{CallError, Failure, MAX_DETAILS_LEN, ServiceError};
pub use handler::{CallFuture, Handler, MethodIndex, ReplySink, ServerCall, Style};
pub use histogram::{Histogram, HistogramSnapshot};
pub use items::{Incoming, Items, Outgoing, SendItem};
pub use line::{Line, Place};
pub use lock::lock_until;
pub use message::{
    BlockWriter, Decode, Encode, EncodeError, Encoded, MAX_MESSAGE_LEN, Sink, SinkFull, encode_block, encode_small,
};
pub use metadata::{Metadata, Priority, TraceContext};
pub use names::{
    Address, InstanceId, MAX_INSTANCE_LEN, MAX_LABEL_LEN, MAX_SERVICE_LEN, NameError, NameKind, Namespace, ServiceName,
};
pub use options::CallOptions;
pub use spawn::Spawn;
pub use stats::{MethodSnapshot, MethodStats, ServiceStats};
pub use status::{Code, Outcome, Status};
pub use stream::{Opened, Shape, StreamReceiver, StreamSender};
pub use streaming::{BothWays, ClientStream, ServerStream};
pub use transport::{CallTimes, Connector, InstanceInfo, Registry, Transport};
pub use typed::{
    ByRef, Bytes, MAX_DEPTH, Message, MessageSerializer, Owned, Readable, Reply, ReplyWith, Str, Writable, access,
    access_request, deserialize,
};

/// What the code written by `#[service]` refers to. Not for use by hand; may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use std::boxed::Box;
    pub use std::sync::{Arc, OnceLock};
    pub use std::time::Duration;

    pub use rkyv::{self, Archived};

    pub use crate::batcher::{Batcher, still_wanted};
    pub use crate::dynamic::{Answer, Dynamic, TypedOnly, arguments, is_dynamic, not_dynamic};
    pub use crate::forms::{by_value, in_place, own_error, status_of};
    pub use crate::items::{Lender, answer, incoming};
    pub use crate::local::InArchive;
    pub use crate::{
        Address, Batch, BothWays, ByRef, Bytes, CallError, CallFuture, CallOptions, CallRequest, Channel, ClientStream,
        Code, Connector, Context, Form, Handler, Incoming, Message, MethodDescriptor, MethodIndex, Outcome, Outgoing,
        Owned, Priority, Queued, Readable, Reply, ReplySink, ReplyWith, Sent, ServerCall, ServerStream,
        ServiceDescriptor, ServiceStats, Shape, Status, Str, Style, TypeInfo, Writable, access_request, deserialize,
    };

    /// What the closures of mocks give that wait.
    pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
}
