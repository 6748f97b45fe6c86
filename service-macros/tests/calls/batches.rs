//! Calls of a client that are announced together.

use std::sync::atomic::Ordering;

use service_core::{Code, Context, Status};
use service_macros::service;

use crate::serve;
use crate::support::block_on;

#[service(crate = service_core::__private)]
trait Maths {
    fn half(&self, ctx: &Context<'_>, of: u64) -> Result<u64, Status>;
    async fn shout(&self, ctx: &Context<'_>, text: &str) -> Result<String, Status>;
}

struct Head;

impl Maths for Head {
    fn half(&self, _: &Context<'_>, of: u64) -> Result<u64, Status> {
        match of % 2 {
            0 => Ok(of / 2),
            _ => Err(Status::out_of_range("odd")),
        }
    }

    async fn shout(&self, _: &Context<'_>, text: &str) -> Result<String, Status> {
        Ok(text.to_uppercase())
    }
}

#[test]
fn calls_of_a_batch_are_announced_together_and_answered_each_by_itself() {
    let (boarded, board) = serve(MathsServer::new(Head));
    let client = MathsClient::connect(&boarded, "service").unwrap();
    let text = "abc".to_owned();

    let mut batch = client.batch();
    let (four, odd, shout) = (batch.half(8), batch.half(3), batch.shout(&text));
    let mut sent = batch.send_batch();
    assert_eq!(board.transport("service").batches.load(Ordering::Relaxed), 1);
    assert_eq!(block_on(sent.take_async(shout)).unwrap(), "ABC");
    assert_eq!(sent.take(odd).unwrap_err().code(), Code::OutOfRange);
    assert_eq!(sent.take(four).unwrap(), 4);
    assert_eq!(board.transport("service").in_flight(), 0);
    assert_eq!(client.stats().snapshot()[0].calls(), 2);
}

#[test]
fn a_batch_may_be_longer_than_what_a_transport_has_room_for() {
    let (boarded, board) = serve(MathsServer::new(Head));
    let client = MathsClient::connect(&boarded, "service").unwrap();
    let mut batch = client.batch();
    let calls: Vec<_> = (0..1000).map(|number| batch.half(number * 2)).collect();
    let mut sent = batch.send_batch();
    assert!(board.transport("service").in_flight() <= 64);
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(sent.take(call).unwrap(), number as u64);
    }
}

#[test]
fn a_batch_that_is_dropped_gives_its_calls_up() {
    let (boarded, board) = serve(MathsServer::new(Head));
    let client = MathsClient::connect(&boarded, "service").unwrap();
    let mut batch = client.batch();
    let _ = (batch.half(8), batch.half(8));
    let sent = batch.send_batch();
    assert_eq!(board.transport("service").in_flight(), 2);
    drop(sent);
    assert_eq!(board.transport("service").in_flight(), 0);
}

#[test]
fn calls_of_a_batch_that_cannot_be_sent_fail_when_they_are_asked_for() {
    let (boarded, board) = serve(MathsServer::new(Head));
    let client = MathsClient::connect(&boarded, "service").unwrap();
    board.stop("service");
    let mut batch = client.batch();
    let calls = [batch.half(8), batch.half(8)];
    let mut sent = batch.send_batch();
    for call in calls {
        assert_eq!(sent.take(call).unwrap_err().code(), Code::NotFound);
    }
}
