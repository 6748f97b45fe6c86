//! Clients and handlers as services of [tower](https://docs.rs/tower)'s, so that its layers go around them: limits, load
//! shedding, timeouts, and your own. With the feature `tower`.
//!
//! A stack around a client is for its calls of all methods; a stack around a handler is for the calls of all clients.
//!
//! ```
//! use switchboard::prelude::*;
//! use switchboard::testing::TestBoard;
//! use switchboard::tower::{ClientService, Layered};
//! use tower::limit::ConcurrencyLimitLayer;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! #[service]
//! pub trait Adder {
//!     async fn add(&self, ctx: &Context<'_>, a: u64, b: u64) -> Result<u64, Status>;
//! }
//!
//! struct Plain;
//!
//! impl Adder for Plain {
//!     async fn add(&self, _: &Context<'_>, a: u64, b: u64) -> Result<u64, Status> {
//!         Ok(a + b)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let board = TestBoard::new()?;
//! let handler = Layered::new(AdderServer::new(Plain), ConcurrencyLimitLayer::new(8));
//! let _running = board.serve("test.adder", handler).start()?;
//!
//! let client = AdderClient::connect(&*board, "test.adder")?;
//! let stack = ServiceBuilder::new().concurrency_limit(2).service(ClientService::new(client));
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let sum = stack.oneshot(async |adder: AdderClient| adder.add_async(2, 3).await).await?;
//! assert_eq!(sum, 5);
//! # Ok::<(), Status>(())
//! # })?;
//! # Ok(())
//! # }
//! ```

mod layered;
mod slot;

use std::task::{Context as Wakers, Poll};

use tower_service::Service;

pub use self::layered::{HandlerService, Layered};
pub use self::slot::Call;

/// A typed client as the innermost service of a stack. A request is what to do with the client: a closure that takes it
/// and gives the call's future.
///
/// It is always ready: room for a call is found when its future is polled. Costs a clone of the client for each call.
#[derive(Debug, Clone)]
pub struct ClientService<C>(C);

impl<C> ClientService<C> {
    /// Makes a service of a client.
    pub fn new(client: C) -> Self {
        Self(client)
    }
}

impl<C, Call, Answer, T, E> Service<Call> for ClientService<C>
where
    C: Clone,
    Call: FnOnce(C) -> Answer,
    Answer: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Wakers<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Answer {
        call(self.0.clone())
    }
}
