//! The services that the behaviours are shown with.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use switchboard::prelude::*;
use switchboard::{RunningService, rkyv};

use crate::Fixture;

pub(crate) const NAME: &str = "conformance.bench";

#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct Wrong {
    pub key: String,
    pub at: u32,
}

#[service]
pub(crate) trait Bench {
    fn bytes(&self, ctx: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status>;
    fn double(&self, ctx: &Context<'_>, value: u64) -> Result<u64, Status>;
    fn fail(&self, ctx: &Context<'_>, code: u8, message: &str) -> Result<(), Status>;
    fn fail_with_details(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn panic(&self, ctx: &Context<'_>, message: &str) -> Result<(), Status>;
    /// User and process of the caller.
    fn caller(&self, ctx: &Context<'_>) -> Result<(u32, u32), Status>;
    /// Milliseconds that the caller still waits.
    fn remaining_ms(&self, ctx: &Context<'_>) -> Result<Option<u64>, Status>;
    /// Busy until nobody waits any more, for ten seconds at most.
    fn until_cancelled(&self, ctx: &Context<'_>) -> Result<(), Status>;
    /// Stops the service that was left here.
    fn stop_yourself(&self, ctx: &Context<'_>) -> Result<(), Status>;
}

/// A newer client of the same name.
pub(crate) mod newer {
    use super::*;

    #[service]
    #[allow(dead_code, reason = "only its client is used")]
    pub trait Bench {
        fn double(&self, ctx: &Context<'_>, value: u64) -> Result<u64, Status>;
        fn triple(&self, ctx: &Context<'_>, value: u64) -> Result<u64, Status>;
    }
}

/// A client that means other types.
pub(crate) mod other {
    use super::*;

    #[service]
    #[allow(dead_code, reason = "only its client is used")]
    pub trait Bench {
        fn double(&self, ctx: &Context<'_>, value: u32) -> Result<u32, Status>;
    }
}

#[derive(Default)]
pub(crate) struct Served {
    pub(crate) itself: std::sync::Arc<Mutex<Option<RunningService>>>,
}

impl Bench for Served {
    fn bytes(&self, _: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status> {
        Ok(bytes.iter().rev().copied().collect())
    }

    fn double(&self, _: &Context<'_>, value: u64) -> Result<u64, Status> {
        Ok(value.wrapping_mul(2))
    }

    fn fail(&self, _: &Context<'_>, code: u8, message: &str) -> Result<(), Status> {
        Err(Status::new(Code::from_u8(code).expect("a code"), Outcome::Ran, message))
    }

    fn fail_with_details(&self, _: &Context<'_>) -> Result<(), Status> {
        Err(Status::not_found("no such key")
            .with_details(&Wrong { key: "k".into(), at: 7 })
            .with_retry_after(Duration::from_millis(20))
            .with_kind("KeyError"))
    }

    fn panic(&self, _: &Context<'_>, message: &str) -> Result<(), Status> {
        panic!("{message}")
    }

    fn caller(&self, ctx: &Context<'_>) -> Result<(u32, u32), Status> {
        Ok((ctx.caller().uid, ctx.caller().pid))
    }

    fn remaining_ms(&self, ctx: &Context<'_>) -> Result<Option<u64>, Status> {
        Ok(ctx.remaining().map(|left| left.as_millis() as u64))
    }

    fn until_cancelled(&self, ctx: &Context<'_>) -> Result<(), Status> {
        let end = Instant::now() + Duration::from_secs(10);
        while !ctx.is_cancelled() {
            if Instant::now() > end {
                return Err(Status::internal("nobody told that the call was given up"));
            }
            std::thread::yield_now();
        }
        // An answer that comes right at the deadline may come in time.
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    fn stop_yourself(&self, _: &Context<'_>) -> Result<(), Status> {
        drop(self.itself.lock().unwrap().take());
        Ok(())
    }
}

/// A service and its client.
pub(crate) fn bench(fixture: &Fixture) -> (RunningService, BenchClient) {
    let board = fixture.board();
    let running = board.serve(NAME, BenchServer::new(Served::default())).start().expect("it starts");
    let client = BenchClient::connect(&board, NAME).expect("it is served");
    (running, client.with_timeout(Duration::from_secs(20)))
}
