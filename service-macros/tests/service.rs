//! Services from traits, called through real messages inside one process.

#[path = "../../service-core/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rkyv::Archived;
use service_core::{Code, Context, Handler, MethodIndex, Outcome, ReplySink, Status};
use service_macros::service;
use support::{Board, Boarded};

#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Point {
    x: f64,
    y: f64,
}

#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Shape {
    Dot(Point),
    Polygon { name: String, corners: Vec<Point> },
}

/// Everything that can be an argument or a reply.
#[service(crate = service_core::__private)]
trait Kitchen {
    /// Takes nothing.
    fn none(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn echo(&self, ctx: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status>;
    fn sum(&self, ctx: &Context<'_>, values: &Archived<Vec<f32>>, scale: f32) -> Result<f32, Status>;
    fn scaled(&self, ctx: &Context<'_>, values: Vec<f32>, scale: f32) -> Result<Vec<f32>, Status>;
    fn shout(&self, ctx: &Context<'_>, text: &str) -> Result<String, Status>;
    fn reverse(&self, ctx: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status>;
    fn moved(&self, ctx: &Context<'_>, shapes: Vec<Shape>, by: Point) -> Result<Vec<Shape>, Status>;
    fn corners(&self, ctx: &Context<'_>, shape: &Archived<Shape>) -> Result<BTreeMap<String, u32>, Status>;
    #[allow(clippy::too_many_arguments)]
    fn eight(
        &self,
        ctx: &Context<'_>,
        a: u8,
        b: i16,
        c: &str,
        d: &[u8],
        e: Option<u64>,
        f: (u32, bool),
        g: &Archived<String>,
        h: char,
    ) -> Result<String, Status>;
    fn refuse(&self, ctx: &Context<'_>, why: &str) -> Result<u32, Status>;
    fn remaining(&self, ctx: &Context<'_>) -> Result<Option<u64>, Status>;
    /// Its name is a keyword, its arguments have the names of what the macro writes.
    fn r#type(&self, ctx: &Context<'_>, request: u8, reply: u8, place: u8, read: u8, r#move: u8)
    -> Result<u32, Status>;
}

struct Cook;

impl Kitchen for Cook {
    fn none(&self, _: &Context<'_>) -> Result<(), Status> {
        Ok(())
    }

    fn echo(&self, _: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status> {
        Ok(body)
    }

    fn sum(&self, _: &Context<'_>, values: &Archived<Vec<f32>>, scale: f32) -> Result<f32, Status> {
        Ok(values.iter().map(|value| value.to_native() * scale).sum())
    }

    fn scaled(&self, _: &Context<'_>, values: Vec<f32>, scale: f32) -> Result<Vec<f32>, Status> {
        Ok(values.into_iter().map(|value| value * scale).collect())
    }

    fn shout(&self, _: &Context<'_>, text: &str) -> Result<String, Status> {
        Ok(text.to_uppercase())
    }

    fn reverse(&self, _: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status> {
        Ok(bytes.iter().rev().copied().collect())
    }

    fn moved(&self, _: &Context<'_>, shapes: Vec<Shape>, by: Point) -> Result<Vec<Shape>, Status> {
        let shift = |point: Point| Point { x: point.x + by.x, y: point.y + by.y };
        let shapes = shapes.into_iter().map(|shape| match shape {
            Shape::Dot(point) => Shape::Dot(shift(point)),
            Shape::Polygon { name, corners } => {
                Shape::Polygon { name, corners: corners.into_iter().map(shift).collect() }
            }
        });
        Ok(shapes.collect())
    }

    fn corners(&self, _: &Context<'_>, shape: &Archived<Shape>) -> Result<BTreeMap<String, u32>, Status> {
        Ok(match shape {
            ArchivedShape::Dot(_) => BTreeMap::new(),
            ArchivedShape::Polygon { name, corners } => BTreeMap::from([(name.to_string(), corners.len() as u32)]),
        })
    }

    fn eight(
        &self,
        _: &Context<'_>,
        a: u8,
        b: i16,
        c: &str,
        d: &[u8],
        e: Option<u64>,
        f: (u32, bool),
        g: &Archived<String>,
        h: char,
    ) -> Result<String, Status> {
        Ok(format!("{a} {b} {c} {d:?} {e:?} {f:?} {g} {h}"))
    }

    fn refuse(&self, _: &Context<'_>, why: &str) -> Result<u32, Status> {
        Err(Status::failed_precondition(why))
    }

    fn remaining(&self, ctx: &Context<'_>) -> Result<Option<u64>, Status> {
        assert_eq!(ctx.caller(), support::CALLER);
        Ok(ctx.remaining().map(|left| left.as_nanos() as u64))
    }

    fn r#type(&self, _: &Context<'_>, request: u8, reply: u8, place: u8, read: u8, r#move: u8) -> Result<u32, Status> {
        Ok(u32::from_le_bytes([request, reply, place, read]) + u32::from(r#move))
    }
}

fn kitchen() -> KitchenClient {
    let board = Boarded(Board::with("kitchen", KitchenServer::new(Cook)));
    KitchenClient::connect(&board, "kitchen").unwrap()
}

#[test]
fn values_come_back_as_they_went() {
    let client = kitchen();
    client.none().unwrap();
    assert_eq!(client.echo([7; 8]).unwrap(), [7; 8]);
    assert_eq!(client.scaled(vec![1.0, 2.5], 2.0).unwrap(), [2.0, 5.0]);
    assert!(client.scaled(vec![], 2.0).unwrap().is_empty());
    assert_eq!(client.shout("straße").unwrap(), "STRASSE");
    assert_eq!(client.shout("").unwrap(), "");
    assert_eq!(client.reverse(&[1, 2, 3]).unwrap(), [3, 2, 1]);
    assert!(client.reverse(&[]).unwrap().is_empty());
}

#[test]
fn messages_longer_than_the_small_place_come_back_as_they_went() {
    let client = kitchen();
    let text = "long ".repeat(100_000);
    assert_eq!(client.shout(&text).unwrap(), text.to_uppercase());
    let values: Vec<f32> = (0..60_000_u16).map(f32::from).collect();
    assert_eq!(client.scaled(values.clone(), 1.0).unwrap(), values);
}

#[test]
fn archived_arguments_are_read_in_place() {
    assert_eq!(kitchen().sum(&vec![1.0, 2.0, 3.0], 2.0).unwrap(), 12.0);
}

#[test]
fn nested_structs_and_enums_come_back_as_they_went() {
    let client = kitchen();
    let triangle = |by: f64| Shape::Polygon {
        name: "a triangle with a long name".into(),
        corners: [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)].map(|(x, y)| Point { x: x + by, y: y + by }).into(),
    };
    let moved = client.moved(vec![Shape::Dot(Point { x: 1.0, y: 2.0 }), triangle(0.0)], Point { x: 3.0, y: 3.0 });
    assert_eq!(moved.unwrap(), [Shape::Dot(Point { x: 4.0, y: 5.0 }), triangle(3.0)]);
    assert_eq!(client.corners(&triangle(0.0)).unwrap()["a triangle with a long name"], 3);
}

#[test]
fn a_method_may_have_eight_arguments_of_every_form() {
    let eight = kitchen().eight(1, -2, "three", &[4], Some(5), (6, true), &"seven".to_owned(), '8');
    assert_eq!(eight.unwrap(), "1 -2 three [4] Some(5) (6, true) seven 8");
}

#[test]
fn a_reply_can_be_read_in_place() {
    let client = kitchen();
    let len = client.shout_with("abc", |text| text.as_str().len());
    assert_eq!(len.unwrap(), 3);
    let sum: f32 =
        client.scaled_with(vec![1.0; 1000], 0.5, |values| values.iter().map(|v| v.to_native()).sum()).unwrap();
    assert_eq!(sum, 500.0);
}

#[test]
fn names_of_the_written_code_do_not_collide_with_arguments() {
    assert_eq!(kitchen().r#type(1, 0, 0, 0, 4).unwrap(), 5);
    assert_eq!(kitchen().type_with(1, 0, 0, 0, 4, |sum| sum.to_native()).unwrap(), 5);
}

#[test]
fn a_handlers_status_arrives_with_code_message_and_outcome() {
    let status = kitchen().refuse("the oven is cold").unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!((status.message(), status.outcome()), ("the oven is cold", Outcome::Ran));
}

#[test]
fn a_timeout_becomes_the_deadline_of_each_call() {
    let client = kitchen();
    assert_eq!(client.remaining().unwrap(), None);
    let left = client.clone().with_timeout(Duration::from_secs(5)).remaining().unwrap().unwrap();
    assert!(left > 0 && left <= 5_000_000_000, "{left} ns left of 5 s");
    assert_eq!(client.remaining().unwrap(), None, "the other clone keeps having none");
}

#[test]
fn threads_share_a_client() {
    let client = kitchen();
    thread::scope(|scope| {
        for n in 0..4_u64 {
            let client = &client;
            scope.spawn(move || (0..100).for_each(|_| assert_eq!(client.echo([n; 8]).unwrap(), [n; 8])));
        }
    });
    let stats = client.stats().snapshot();
    let echo = stats.iter().find(|method| method.name == "echo").unwrap();
    assert_eq!((echo.calls(), echo.failed()), (400, 0));
}

#[test]
fn statistics_count_failures_by_code() {
    let client = kitchen();
    client.refuse("no").unwrap_err();
    client.refuse("no").unwrap_err();
    let refuse = client.stats().snapshot().into_iter().find(|method| method.name == "refuse").unwrap();
    assert_eq!((refuse.calls(), refuse.errors(Code::FailedPrecondition)), (2, 2));
}

#[test]
fn an_unknown_service_is_told_when_connecting() {
    let board = Boarded(Board::new());
    let status = KitchenClient::connect(&board, "nowhere").unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::NotFound, Outcome::NotRun));
    let status = KitchenClient::connect(&board, "no/where").unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
}

mod other {
    use super::*;

    /// The kitchen of an older server: one method fewer, another order, one type changed.
    #[service(crate = service_core::__private)]
    pub trait Old {
        fn shout(&self, ctx: &Context<'_>, text: &str) -> Result<String, Status>;
        fn none(&self, ctx: &Context<'_>) -> Result<(), Status>;
    }

    #[service(crate = service_core::__private)]
    pub trait Changed {
        fn echo(&self, ctx: &Context<'_>, body: [u32; 8]) -> Result<[u32; 8], Status>;
    }

    #[service(crate = service_core::__private)]
    pub trait ChangedReply {
        fn none(&self, ctx: &Context<'_>) -> Result<u8, Status>;
    }
}

struct OldCook;

impl other::Old for OldCook {
    fn shout(&self, _: &Context<'_>, text: &str) -> Result<String, Status> {
        Ok(text.to_uppercase())
    }

    fn none(&self, _: &Context<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl other::Changed for OldCook {
    fn echo(&self, _: &Context<'_>, body: [u32; 8]) -> Result<[u32; 8], Status> {
        Ok(body)
    }
}

impl other::ChangedReply for OldCook {
    fn none(&self, _: &Context<'_>) -> Result<u8, Status> {
        Ok(0)
    }
}

#[test]
fn methods_are_matched_by_name_and_a_missing_one_fails_alone() {
    let board = Boarded(Board::with("kitchen", other::OldServer::new(OldCook)));
    let client = KitchenClient::connect(&board, "kitchen").unwrap();

    assert_eq!(client.shout("abc").unwrap(), "ABC");
    client.none().unwrap();
    let status = client.echo([1; 8]).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Unimplemented, Outcome::NotRun));
    assert!(status.message().contains("`echo`"), "{status}");
}

#[test]
fn a_method_with_other_types_is_told_when_connecting() {
    let changed = Boarded(Board::with("kitchen", other::ChangedServer::new(OldCook)));
    let status = KitchenClient::connect(&changed, "kitchen").unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::FailedPrecondition, Outcome::NotRun));
    for part in ["`echo`", "request", "[u64; 8]", "[u32; 8]"] {
        assert!(status.message().contains(part), "`{part}` is missing: {status}");
    }

    let changed = Boarded(Board::with("kitchen", other::ChangedReplyServer::new(OldCook)));
    let status = KitchenClient::connect(&changed, "kitchen").unwrap_err();
    assert!(status.message().contains("reply"), "{status}");
}

struct NoReply;

impl ReplySink for NoReply {
    fn send(&mut self, _: &dyn service_core::Encode) -> Result<(), Status> {
        panic!("nothing may be answered");
    }
}

fn call_raw(method: u16, bytes: &[u8]) -> Status {
    let context = Context::new(None, support::CALLER, &service_core::NeverCancelled);
    KitchenServer::new(Cook).call(&context, MethodIndex(method), bytes, &mut NoReply).unwrap_err()
}

#[test]
fn an_index_without_a_method_is_unimplemented() {
    let status = call_raw(999, &[]);
    assert_eq!((status.code(), status.outcome()), (Code::Unimplemented, Outcome::NotRun));
}

#[test]
fn bytes_that_are_no_request_are_refused_before_the_handler() {
    let shout = KitchenClient::descriptor().methods.iter().position(|m| m.name == "shout").unwrap() as u16;
    // The first byte of a text out of line, with its offset pointing nowhere.
    let garbage = rkyv::util::Align([0x80_u8; 64]);
    for len in [0, 1, 7, 8, 64] {
        let status = call_raw(shout, &garbage[..len]);
        assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun), "{len} bytes");
    }
}

/// More arguments than rkyv has tuples for.
#[service(crate = service_core::__private)]
trait Wide {
    #[allow(clippy::too_many_arguments)]
    fn join(
        &self,
        ctx: &Context<'_>,
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
        g: u8,
        h: u8,
        i: u8,
        j: u8,
        k: u8,
        l: &str,
        m: &str,
        n: Vec<u16>,
        o: &[u8],
    ) -> Result<String, Status>;
}

struct Joiner;

impl Wide for Joiner {
    fn join(
        &self,
        _: &Context<'_>,
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
        g: u8,
        h: u8,
        i: u8,
        j: u8,
        k: u8,
        l: &str,
        m: &str,
        n: Vec<u16>,
        o: &[u8],
    ) -> Result<String, Status> {
        Ok(format!("{:?} {l} {m} {n:?} {o:?}", [a, b, c, d, e, f, g, h, i, j, k]))
    }
}

#[test]
fn a_method_may_have_more_arguments_than_rkyv_has_tuples_for() {
    let board = Boarded(Board::with("wide", WideServer::new(Joiner)));
    let client = WideClient::connect(&board, "wide").unwrap();
    let joined = client.join(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, "twelve", "thirteen", vec![14], &[15]);
    assert_eq!(joined.unwrap(), "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] twelve thirteen [14] [15]");
}

#[test]
fn clients_and_servers_can_go_to_other_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<KitchenClient>();
    check::<KitchenServer<Cook>>();
    let _: Arc<dyn Handler> = Arc::new(KitchenServer::new(Cook));
}
