//! Typed services called by those who know their names only, over each transport.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context as Wakers, Poll, Wake, Waker};
use std::time::Duration;

use switchboard::prelude::*;
use switchboard::testing::TestBoard;
use switchboard::value::{NumberKind, Numbers, to_value};
use switchboard::{DynamicClient, RunningService, Value, rkyv};

#[derive(
    Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, serde::Serialize, serde::Deserialize,
)]
enum Shape {
    Point,
    Circle(f64),
    Box { width: f64, height: f64 },
}

#[derive(
    Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, serde::Serialize, serde::Deserialize,
)]
struct Drawing {
    title: String,
    shapes: Vec<Shape>,
    note: Option<String>,
}

/// Draws and counts.
#[service(version = "1.2")]
trait Studio {
    /// Says how large the drawing is.
    fn area(&self, ctx: &Context<'_>, drawing: Drawing, scale: Option<f64>) -> Result<f64, Status>;
    fn add(&self, ctx: &Context<'_>, drawing: Drawing, shape: Shape) -> Result<Drawing, Status>;
    fn reversed(&self, ctx: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status>;
    fn doubled(&self, ctx: &Context<'_>, values: Vec<f32>) -> Result<Vec<f32>, Status>;
    /// The numbers where they are.
    fn sum(&self, ctx: &Context<'_>, values: &Archived<Vec<f32>>) -> Result<f64, Status>;
    async fn shout(&self, ctx: &Context<'_>, text: &str, mark: Option<String>) -> Result<String, Status>;
    /// Waits until nobody waits for it any more.
    async fn held(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn fail(&self, ctx: &Context<'_>, why: &str) -> Result<(), Status>;
    /// Milliseconds that the caller still waits.
    fn left(&self, ctx: &Context<'_>) -> Result<Option<u64>, Status>;
}

/// Tells what becomes of `held`.
struct Drawer(mpsc::Sender<&'static str>);

fn area(shape: &Shape) -> f64 {
    match shape {
        Shape::Point => 0.0,
        Shape::Circle(radius) => radius * radius * 3.0,
        Shape::Box { width, height } => width * height,
    }
}

impl Studio for Drawer {
    fn area(&self, _: &Context<'_>, drawing: Drawing, scale: Option<f64>) -> Result<f64, Status> {
        Ok(drawing.shapes.iter().map(area).sum::<f64>() * scale.unwrap_or(1.0))
    }

    fn add(&self, _: &Context<'_>, mut drawing: Drawing, shape: Shape) -> Result<Drawing, Status> {
        drawing.shapes.push(shape);
        Ok(drawing)
    }

    fn reversed(&self, _: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status> {
        Ok(bytes.iter().rev().copied().collect())
    }

    fn doubled(&self, _: &Context<'_>, values: Vec<f32>) -> Result<Vec<f32>, Status> {
        Ok(values.iter().map(|value| value * 2.0).collect())
    }

    fn sum(&self, _: &Context<'_>, values: &Archived<Vec<f32>>) -> Result<f64, Status> {
        Ok(values.iter().map(|value| f64::from(value.to_native())).sum())
    }

    async fn shout(&self, _: &Context<'_>, text: &str, mark: Option<String>) -> Result<String, Status> {
        Ok(text.to_uppercase() + mark.as_deref().unwrap_or("!"))
    }

    async fn held(&self, ctx: &Context<'_>) -> Result<(), Status> {
        let told = |what| self.0.send(what).map_err(|error| Status::internal(error.to_string()));
        told("held")?;
        ctx.cancelled().await;
        told("given up")
    }

    fn fail(&self, _: &Context<'_>, why: &str) -> Result<(), Status> {
        Err(Status::aborted(why))
    }

    fn left(&self, ctx: &Context<'_>) -> Result<Option<u64>, Status> {
        Ok(ctx.remaining().map(|left| left.as_millis() as u64))
    }
}

#[service(typed_only)]
trait Closed {
    fn echo(&self, ctx: &Context<'_>, value: u8) -> Result<u8, Status>;
}

struct Echo;

impl Closed for Echo {
    fn echo(&self, _: &Context<'_>, value: u8) -> Result<u8, Status> {
        Ok(value)
    }
}

/// The service, and a client that knows its name only.
struct Open {
    board: TestBoard,
    client: DynamicClient,
    running: RunningService,
    told: mpsc::Receiver<&'static str>,
}

/// One over each transport.
fn each() -> [Open; 2] {
    [TestBoard::new(), TestBoard::through_shared_memory()].map(|board| {
        let board = board.unwrap();
        let (tell, told) = mpsc::channel();
        let running = board.serve("art.studio", StudioServer::new(Drawer(tell))).start().unwrap();
        let client = DynamicClient::connect(&*board, "art.studio").unwrap().with_timeout(Duration::from_secs(60));
        Open { board, client, running, told }
    })
}

fn drawing(shapes: Vec<Shape>) -> Drawing {
    Drawing { title: "untitled".into(), shapes, note: None }
}

/// A map as a caller writes it who has no such type.
fn map(pairs: &[(&'static str, Value<'static>)]) -> Value<'static> {
    Value::Map(pairs.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
}

#[test]
fn each_transport_is_the_one_that_is_meant() {
    let [inside, outside] = each();
    assert_eq!((inside.running.connections(), outside.running.connections()), (0, 1));
}

#[test]
fn arguments_come_by_place_by_name_and_not_at_all_if_they_are_optional() {
    for Open { client, .. } in each() {
        let (circle, scale) = (to_value(&drawing(vec![Shape::Circle(2.0)])).unwrap(), Value::from(10.0));
        let args = [circle.clone()];
        assert_eq!(client.call("area", &args, &[]), Ok(12.0.into()));
        assert_eq!(client.call("area", &args, &[("scale", scale.clone())]), Ok(120.0.into()));
        assert_eq!(client.call("area", &[circle.clone(), scale.clone()], &[]), Ok(120.0.into()));
        assert_eq!(client.call("area", &[], &[("scale", scale), ("drawing", circle)]), Ok(120.0.into()));
        assert_eq!(client.call("shout", &["hey".into()], &[]), Ok("HEY!".into()));
        assert_eq!(client.call("shout", &["hey".into()], &[("mark", "?".into())]), Ok("HEY?".into()));
    }
}

#[test]
fn structs_and_enums_are_maps_and_texts() {
    for Open { client, .. } in each() {
        let (point, circle) = (Value::from("Point"), map(&[("Circle", 1.0.into())]));
        let width_only = map(&[("Box", map(&[("width", 2.0.into())]))]);
        let empty = map(&[("title", "t".into()), ("shapes", Value::List(vec![point.clone()]))]);
        let answer = client.call("add", &[empty.clone(), circle.clone()], &[]).unwrap();
        let expected =
            map(&[("title", "t".into()), ("shapes", Value::List(vec![point, circle])), ("note", Value::Nil)]);
        assert_eq!(answer, expected);
        let status = client.call("add", &[empty, width_only], &[]).unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
        assert!(status.message().contains("`shape`") && status.message().contains("height"), "{status}");
    }
}

#[test]
fn large_bytes_go_both_ways() {
    for Open { client, .. } in each() {
        for len in [0, 255, 256, 64 << 10, 8 << 20] {
            let bytes: Vec<u8> = (0..len).map(|at: usize| (at * 31 + at / 251) as u8).collect();
            let back = client.call("reversed", &[(&bytes[..]).into()], &[]).unwrap();
            let Value::Bytes(back) = back else { panic!("{back:?}") };
            assert!(back.iter().rev().eq(&bytes), "{len} bytes");
        }
    }
}

#[test]
fn large_numbers_go_both_ways_and_are_read_in_place() {
    for Open { client, .. } in each() {
        for bytes in [64 << 10, 8 << 20] {
            let values: Vec<f32> = (0..bytes / 4).map(|at: u32| (at % 1000) as f32).collect();
            let args = [Value::from(&values[..])];
            let is_doubled = client.call_with("doubled", &args, &[], |answer| {
                let Value::Numbers(numbers) = &answer else { panic!("{answer:?}") };
                // A copy of its own would not be a slice of what arrived.
                assert_eq!((numbers.kind(), numbers.shape()), (NumberKind::F32, &[values.len() as u64][..]));
                let doubled = numbers.as_slice::<f32>().expect("they begin at a multiple of 16");
                doubled.iter().zip(&values).all(|(doubled, value)| *doubled == value * 2.0)
            });
            assert_eq!(is_doubled, Ok(true), "{bytes} bytes");
            let sum: f64 = values.iter().copied().map(f64::from).sum();
            assert_eq!(client.call("sum", &args, &[]), Ok(sum.into()));
        }
    }
}

#[test]
fn numbers_of_another_kind_and_lists_become_what_the_method_wants() {
    for Open { client, .. } in each() {
        let whole = [1_i16, 2, 3];
        assert_eq!(client.call("sum", &[(&whole[..]).into()], &[]), Ok(6.0.into()));
        assert_eq!(client.call("sum", &[Value::List(vec![1.into(), 2.5.into()])], &[]), Ok(3.5.into()));
        let bytes = Numbers::of(&[1_u8, 2]);
        assert_eq!(client.call("reversed", &[bytes.into()], &[]), Ok(vec![2_u8, 1].into()));
    }
}

#[test]
fn wrong_arguments_are_refused_with_their_names_and_nothing_runs() {
    for Open { client, .. } in each() {
        let refused = |method: &str, args: &[Value<'_>], kwargs: &[(&str, Value<'_>)], parts: &[&str]| {
            let status = client.call(method, args, kwargs).unwrap_err();
            assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun), "{status}");
            assert!(parts.iter().all(|part| status.message().contains(part)), "{status}");
        };
        refused("area", &[], &[], &["drawing", "missing"]);
        refused("area", &["a text".into()], &[], &["drawing"]);
        refused("area", &[], &[("size", 1.into())], &["size", "drawing, scale"]);
        refused("reversed", &[Value::Nil, Value::Nil], &[], &["reversed", "1 arguments"]);
        refused("reversed", &[vec![1_u8].into()], &[("bytes", vec![1_u8].into())], &["bytes", "twice"]);
        refused("doubled", &[Value::List(vec!["one".into()])], &[], &["values"]);
        refused("shout", &[], &[], &["text", "missing"]);
    }
}

#[test]
fn methods_that_cannot_be_called_are_told_apart() {
    for Open { board, client, .. } in each() {
        let status = client.call("shuot", &[], &[]).unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Unimplemented, Outcome::NotRun));
        assert!(status.message().contains("`shuot`") && status.message().contains("reversed"), "{status}");

        let _running = board.serve("art.closed", ClosedServer::new(Echo)).start().unwrap();
        let status = board.call("art.closed", "echo", &[1.into()], &[]).unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Unimplemented, Outcome::NotRun));
        assert!(status.message().contains("typed messages only"), "{status}");
        assert!(!board.describe("art.closed").unwrap().methods[0].dynamic);

        let status = board.call("art.nobody", "echo", &[], &[]).unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::NotFound, Outcome::NotRun));
    }
}

#[test]
fn a_handlers_failure_reaches_its_caller_and_the_callers_deadline_the_handler() {
    for Open { client, .. } in each() {
        let status = client.call("fail", &["no luck".into()], &[]).unwrap_err();
        assert_eq!((status.code(), status.message(), status.outcome()), (Code::Aborted, "no luck", Outcome::Ran));
        let left = client.with_timeout(Duration::from_secs(7)).call("left", &[], &[]).unwrap();
        assert!(matches!(left, Value::Int(1..=7_000)), "{left:?}");
    }
}

#[test]
fn a_service_describes_itself() {
    for Open { board, .. } in each() {
        let described = board.describe("art.studio").unwrap();
        assert_eq!(&described, StudioClient::descriptor());
        assert_eq!(described.version, "1.2");
        let area = &described.methods[0];
        assert_eq!((area.name.as_str(), area.arguments.join(" ").as_str()), ("area", "drawing scale"));
        assert_eq!(area.docs, "Says how large the drawing is.");
        assert!(described.methods.iter().all(|method| method.dynamic));
    }
}

#[test]
fn a_client_survives_the_restart_of_its_service() {
    for Open { board, client, running, .. } in each() {
        running.stop();
        assert_eq!(client.call("fail", &["".into()], &[]).unwrap_err().outcome(), Outcome::NotRun);
        let _running = board.serve("art.studio", ClosedServer::new(Echo)).start().unwrap();
        let status = client.call("fail", &["".into()], &[]).unwrap_err();
        assert!(status.message().contains("it has: echo"), "the service that runs now is looked at: {status}");
    }
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Flag(std::thread::Thread, AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::Release);
            self.0.unpark();
        }
    }
    let flag = Arc::new(Flag(std::thread::current(), AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut future = std::pin::pin!(future);
    loop {
        if flag.1.swap(false, Ordering::Acquire) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Wakers::from_waker(&waker)) {
                return output;
            }
        } else {
            std::thread::park();
        }
    }
}

#[test]
fn tasks_call_too() {
    for Open { client, .. } in each() {
        let bytes = vec![7_u8; 8 << 20];
        let args = [Value::from(&bytes[..])];
        assert_eq!(block_on(client.call_async("reversed", &args, &[])), Ok(Value::from(&bytes[..])));
        assert_eq!(block_on(client.call_async("shout", &["hey".into()], &[])), Ok("HEY!".into()));
        let status = block_on(client.call_async("shout", &[], &[])).unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
    }
}

#[test]
fn a_call_that_its_task_drops_is_given_up_and_its_handler_told() {
    let patience = Duration::from_secs(20);
    for Open { client, told, .. } in each() {
        let mut call: std::pin::Pin<Box<dyn Future<Output = _> + Send + '_>> =
            Box::pin(client.call_async("held", &[], &[]));
        assert!(call.as_mut().poll(&mut Wakers::from_waker(Waker::noop())).is_pending());
        assert_eq!(told.recv_timeout(patience), Ok("held"));
        drop(call);
        assert_eq!(told.recv_timeout(patience), Ok("given up"));
        assert_eq!(client.call("sum", &[Value::from(&[1.0_f32][..])], &[]), Ok(1.0.into()));
    }
}
