//! Typed clients of the same program call the implementation itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rkyv::Archived;
use service_core::{CallError, CallOptions, Code, Context, Outcome, ServiceError, Status};
use service_macros::service;

use crate::support::{Board, Boarded, block_on};

#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Odd(u64);

impl std::fmt::Display for Odd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is odd", self.0)
    }
}

impl ServiceError for Odd {
    fn code(&self) -> Code {
        Code::OutOfRange
    }
}

#[service(crate = service_core::__private)]
trait Here {
    /// Where the bytes are, and where the vector's are.
    fn places(&self, ctx: &Context<'_>, bytes: &[u8], text: &str, owned: Vec<u8>) -> Result<[u64; 3], Status>;
    fn sum(&self, ctx: &Context<'_>, values: &Archived<Vec<u16>>, scale: u64) -> Result<u64, Status>;
    fn half(&self, ctx: &Context<'_>, of: u64) -> Result<u64, Odd>;
    fn panics(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn carried(&self, ctx: &Context<'_>) -> Result<Vec<(String, String)>, Status>;
    fn remaining(&self, ctx: &Context<'_>) -> Result<Option<u64>, Status>;
    fn again(&self, ctx: &Context<'_>) -> Result<u64, Status>;
    async fn task(&self, ctx: &Context<'_>) -> Result<u64, Status>;
}

#[derive(Default)]
struct There {
    /// Calls itself through this.
    client: Arc<Mutex<Option<HereClient>>>,
}

fn place(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

impl Here for There {
    fn places(&self, _: &Context<'_>, bytes: &[u8], text: &str, owned: Vec<u8>) -> Result<[u64; 3], Status> {
        Ok([place(bytes), place(text.as_bytes()), place(&owned)])
    }

    fn sum(&self, _: &Context<'_>, values: &Archived<Vec<u16>>, scale: u64) -> Result<u64, Status> {
        Ok(values.iter().map(|value| u64::from(value.to_native())).sum::<u64>() * scale)
    }

    fn half(&self, _: &Context<'_>, of: u64) -> Result<u64, Odd> {
        if of.is_multiple_of(2) { Ok(of / 2) } else { Err(Odd(of)) }
    }

    fn panics(&self, _: &Context<'_>) -> Result<(), Status> {
        panic!("on purpose");
    }

    fn carried(&self, ctx: &Context<'_>) -> Result<Vec<(String, String)>, Status> {
        Ok(ctx.metadata().map(|metadata| metadata.baggage.clone()).unwrap_or_default())
    }

    fn remaining(&self, ctx: &Context<'_>) -> Result<Option<u64>, Status> {
        Ok(ctx.remaining().map(|left| left.as_nanos() as u64))
    }

    fn again(&self, _: &Context<'_>) -> Result<u64, Status> {
        let client = self.client.lock().unwrap().clone().expect("it has a client");
        client.again().map(|depth| depth + 1)
    }

    async fn task(&self, _: &Context<'_>) -> Result<u64, Status> {
        Ok(5)
    }
}

fn here() -> HereClient {
    let board = Board::new();
    let there = There::default();
    let own = Arc::clone(&there.client);
    board.serve_local("here", HereServer::new(there));
    let client = HereClient::connect(&Boarded(board), "here").unwrap();
    *own.lock().unwrap() = Some(client.clone());
    client
}

#[test]
fn arguments_are_handed_over_and_not_copied() {
    let client = here();
    let (bytes, text, owned) = (vec![1; 100_000], "text".repeat(1000), vec![2; 100_000]);
    let expected = [place(&bytes), place(text.as_bytes()), place(&owned)];
    assert_eq!(client.places(&bytes, &text, owned).unwrap(), expected);
    assert_eq!(client.stats().snapshot()[0].calls(), 1);
}

#[test]
fn what_is_read_in_place_is_written_once() {
    assert_eq!(here().sum(&vec![1, 2, 3], 2).unwrap(), 12);
}

#[test]
fn calls_that_cannot_be_handed_over_go_as_messages() {
    let client = here();
    let bytes = vec![1; 100];
    let places = block_on(client.places_async(&bytes, "", vec![])).unwrap();
    assert_ne!(places[0], place(&bytes), "a handler of a worker does not run in a task");
    assert_eq!(client.task().unwrap(), 5);
    assert_eq!(client.half_with(8, |half| half.to_native()).unwrap(), 4);
}

#[test]
fn failures_are_what_they_are_between_processes() {
    let client = here();
    assert_eq!(client.half(8).unwrap(), 4);
    assert_eq!(client.half(3).unwrap_err(), CallError::Service(Odd(3)));
    let status = client.panics().unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Internal, Outcome::Ran));
    assert_eq!(client.half(8).unwrap(), 4);
    assert_eq!(client.stats().snapshot()[3].errors(Code::Internal), 1);
}

#[test]
fn what_a_caller_sends_beside_the_arguments_arrives() {
    let client = here();
    assert!(client.carried().unwrap().is_empty());
    assert!(client.remaining().unwrap().is_none());
    let timed = client.clone().with_timeout(Duration::from_secs(5));
    assert!(timed.remaining().unwrap().is_some_and(|left| left > 0 && left <= 5_000_000_000));
    let carrying = client.with(CallOptions::new().baggage("user", "ada"));
    assert_eq!(carrying.carried().unwrap(), [("user".to_owned(), "ada".to_owned())]);
}

#[test]
fn a_service_that_calls_itself_without_end_is_stopped() {
    let status = here().again().unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("too deep"), "{status}");
}
