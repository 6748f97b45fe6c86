//! Calls by tasks, with streams, with a service's own errors, in batches, without messages: through real messages inside
//! one process.

#[path = "../../../service-core/tests/support/mod.rs"]
mod support;

mod batched;
mod batches;
mod described;
mod dynamic;
mod errors;
mod local;
mod mocks;
mod streams;
mod tasks;

use std::sync::Arc;

use service_core::Handler;
use support::{Board, Boarded};

/// A board that serves a handler as `service`.
fn serve(handler: impl Handler) -> (Boarded, Arc<Board>) {
    let board = Board::with("service", handler);
    (Boarded(Arc::clone(&board)), board)
}
