//! Typed services called by values that describe themselves.

use rkyv::Archived;
use service_core::value::{Arguments, NumberKind, Numbers, Value, ValueMessage, read_value};
use service_core::{
    CallRequest, CallTimes, Code, Context, Decode, Form, MethodIndex, Outcome, Outgoing, Status, Transport,
};
use service_macros::service;

use crate::serve;

#[derive(
    Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, serde::Serialize, serde::Deserialize,
)]
struct Point {
    x: f64,
    y: f64,
}

/// Knows nothing of serde.
#[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Sealed(u8);

#[service(crate = service_core::__private)]
trait Desk {
    fn moved(&self, ctx: &Context<'_>, point: Point, by: Option<f64>) -> Result<Point, Status>;
    fn joined(
        &self,
        ctx: &Context<'_>,
        text: &str,
        bytes: &[u8],
        values: &Archived<Vec<f32>>,
    ) -> Result<String, Status>;
    async fn joined_later(
        &self,
        ctx: &Context<'_>,
        text: &str,
        bytes: &[u8],
        values: &Archived<Vec<f32>>,
    ) -> Result<String, Status>;
    fn sealed(&self, ctx: &Context<'_>, sealed: Sealed) -> Result<u8, Status>;
    fn sealed_answer(&self, ctx: &Context<'_>) -> Result<Sealed, Status>;
    fn stream(&self, ctx: &Context<'_>, out: Outgoing<u8>) -> Result<(), Status>;
    #[batch(max = 8, delay = "1ms")]
    fn many(&self, calls: &[Context<'_>], values: Vec<u8>) -> Vec<Result<u8, Status>>;
    /// Its arguments have the names of what the macro writes.
    async fn names(
        &self,
        ctx: &Context<'_>,
        request: u8,
        method: u8,
        call: u8,
        reply: u8,
        answer: u8,
    ) -> Result<u8, Status>;
    fn refuse(&self, ctx: &Context<'_>) -> Result<(), Status>;
}

struct Clerk;

fn join(text: &str, bytes: &[u8], values: &Archived<Vec<f32>>) -> String {
    let sum: f32 = values.iter().map(|value| value.to_native()).sum();
    format!("{text} {bytes:?} {sum}")
}

impl Desk for Clerk {
    fn moved(&self, _: &Context<'_>, point: Point, by: Option<f64>) -> Result<Point, Status> {
        let by = by.unwrap_or(1.0);
        Ok(Point { x: point.x + by, y: point.y + by })
    }

    fn joined(&self, _: &Context<'_>, text: &str, bytes: &[u8], values: &Archived<Vec<f32>>) -> Result<String, Status> {
        Ok(join(text, bytes, values))
    }

    async fn joined_later(
        &self,
        _: &Context<'_>,
        text: &str,
        bytes: &[u8],
        values: &Archived<Vec<f32>>,
    ) -> Result<String, Status> {
        Ok(join(text, bytes, values))
    }

    fn sealed(&self, _: &Context<'_>, sealed: Sealed) -> Result<u8, Status> {
        Ok(sealed.0)
    }

    fn sealed_answer(&self, _: &Context<'_>) -> Result<Sealed, Status> {
        Ok(Sealed(1))
    }

    fn stream(&self, _: &Context<'_>, _: Outgoing<u8>) -> Result<(), Status> {
        Ok(())
    }

    fn many(&self, _: &[Context<'_>], values: Vec<u8>) -> Vec<Result<u8, Status>> {
        values.into_iter().map(Ok).collect()
    }

    async fn names(
        &self,
        _: &Context<'_>,
        request: u8,
        method: u8,
        call: u8,
        reply: u8,
        answer: u8,
    ) -> Result<u8, Status> {
        Ok(request + method + call + reply + answer)
    }

    fn refuse(&self, _: &Context<'_>) -> Result<(), Status> {
        Err(Status::aborted("no"))
    }
}

#[service(crate = service_core::__private, typed_only)]
trait Closed {
    fn echo(&self, ctx: &Context<'_>, value: u8) -> Result<u8, Status>;
    async fn echo_later(&self, ctx: &Context<'_>, value: u8) -> Result<u8, Status>;
}

impl Closed for Clerk {
    fn echo(&self, _: &Context<'_>, value: u8) -> Result<u8, Status> {
        Ok(value)
    }

    async fn echo_later(&self, _: &Context<'_>, value: u8) -> Result<u8, Status> {
        Ok(value)
    }
}

#[derive(Default)]
struct Answer(Option<Value<'static>>);

impl Decode for Answer {
    fn decode(&mut self, bytes: &[u8]) -> Result<(), Status> {
        self.0 = Some(read_value(bytes)?.into_owned());
        Ok(())
    }
}

/// Calls a method by its name.
fn call(transport: &dyn Transport, name: &str, arguments: Arguments<'_>) -> Result<Value<'static>, Status> {
    let method = transport.descriptor().methods.iter().position(|method| method.name == name).expect("it is there");
    let value = arguments.into_value();
    let message = ValueMessage(&value);
    let request = CallRequest { form: Form::Dynamic, ..CallRequest::new(MethodIndex(method as u16), None, &message) };
    let mut answer = Answer::default();
    transport.call(&request, &mut answer, &mut CallTimes::default())?;
    Ok(answer.0.expect("it was answered"))
}

fn desk(name: &str, arguments: Arguments<'_>) -> Result<Value<'static>, Status> {
    let (_, board) = serve(DeskServer::new(Clerk));
    call(&*board.transport("service"), name, arguments)
}

fn by_place<'a>(args: impl IntoIterator<Item = Value<'a>>) -> Arguments<'a> {
    Arguments { args: args.into_iter().collect(), kwargs: Vec::new() }
}

fn point(x: f64, y: f64) -> Value<'static> {
    Value::Map(vec![("x".into(), x.into()), ("y".into(), y.into())])
}

#[test]
fn arguments_come_by_place_and_by_name() {
    let by_name = vec![("by".to_owned(), Value::from(2.0)), ("point".to_owned(), point(1.0, 2.0))];
    let answer = desk("moved", Arguments { args: Vec::new(), kwargs: by_name }).unwrap();
    assert_eq!(answer, point(3.0, 4.0));
    assert_eq!(desk("moved", by_place([point(1.0, 2.0), 2.0.into()])).unwrap(), point(3.0, 4.0));
}

#[test]
fn an_optional_argument_may_be_left_out_and_no_other() {
    assert_eq!(desk("moved", by_place([point(1.0, 2.0)])).unwrap(), point(2.0, 3.0));
    let status = desk("moved", by_place([])).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
    assert!(status.message().contains("`point` is missing"), "{status}");
}

#[test]
fn every_form_of_argument_can_be_given_to_workers_and_to_tasks() {
    let numbers: Vec<u8> = [1.5_f32, 2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    let numbers = Numbers::new(NumberKind::F32, vec![2], numbers).unwrap();
    for method in ["joined", "joined_later"] {
        let bytes: &[u8] = &[1, 2];
        let arguments = by_place([Value::from("text"), bytes.into(), numbers.clone().into()]);
        assert_eq!(desk(method, arguments).unwrap(), Value::from("text [1, 2] 3.5"), "{method}");
    }
}

#[test]
fn values_that_do_not_fit_are_refused_before_the_handler() {
    let status = desk("joined", by_place([1.into(), Value::Nil, Value::Nil])).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
    assert!(status.message().contains("`text`"), "{status}");
    let status = desk("moved", by_place([point(0.0, 0.0), Value::Nil, Value::Nil])).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
}

#[test]
fn a_handlers_failure_is_the_callers() {
    let status = desk("refuse", by_place([])).unwrap_err();
    assert_eq!((status.code(), status.message(), status.outcome()), (Code::Aborted, "no", Outcome::Ran));
}

#[test]
fn names_of_the_written_code_do_not_collide_with_arguments() {
    assert_eq!(desk("names", by_place([1, 2, 3, 4, 5].map(Value::from))).unwrap(), Value::from(15));
}

#[test]
fn methods_whose_types_know_no_serde_take_typed_messages_only_and_say_so() {
    let dynamic: Vec<_> =
        DeskClient::descriptor().methods.iter().filter(|method| method.dynamic).map(|method| &method.name).collect();
    assert_eq!(dynamic, ["moved", "joined", "joined_later", "names", "refuse"]);
    for method in ["sealed", "sealed_answer", "stream", "many"] {
        let status = desk(method, by_place([1.into()])).unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Unimplemented, Outcome::NotRun), "{method}");
        assert!(status.message().contains("typed messages only"), "{status}");
    }
}

#[test]
fn a_service_can_take_typed_messages_only() {
    let (boarded, board) = serve(ClosedServer::new(Clerk));
    for method in ["echo", "echo_later"] {
        let status = call(&*board.transport("service"), method, by_place([1.into()])).unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Unimplemented, Outcome::NotRun), "{method}");
        assert!(status.message().contains("typed messages only"), "{status}");
    }
    let client = ClosedClient::connect(&boarded, "service").unwrap();
    assert_eq!((client.echo(7).unwrap(), client.echo_later(7).unwrap()), (7, 7));
}
