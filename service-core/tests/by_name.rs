//! A client that knows a service by its name only, over a transport inside one thread.

mod support;

use std::sync::Arc;
use std::time::Duration;

use service_core::value::{Arguments, Value, ValueMessage, read_value};
use service_core::{
    CallOptions, Code, Context, DynamicClient, Handler, MethodDescriptor, MethodIndex, Outcome, ReplySink,
    ServiceDescriptor, Status,
};
use support::{Board, Boarded, block_on};

/// A service written by hand. Where its method is depends on how many are before it.
struct Reporter(ServiceDescriptor);

impl Reporter {
    fn behind(others: usize) -> Self {
        let typed = |at| MethodDescriptor::of::<(), ()>(&format!("typed_{at}"));
        let mut methods: Vec<_> = (0..others).map(typed).collect();
        let own = MethodDescriptor::of::<(), ()>("report");
        let arguments = vec!["first".to_owned(), "second".to_owned()];
        methods.push(MethodDescriptor { dynamic: true, arguments, timeout_ns: 3_000_000_000, ..own });
        Self(ServiceDescriptor { trait_name: "Reporter".into(), version: "7".into(), methods })
    }
}

impl Handler for Reporter {
    fn descriptor(&self) -> &ServiceDescriptor {
        &self.0
    }

    fn call(&self, _: &Context<'_>, _: MethodIndex, _: &[u8], _: &mut dyn ReplySink) -> Result<(), Status> {
        panic!("no typed call was made");
    }

    /// Answers with what it got: the arguments, milliseconds left, a name from the caller.
    fn call_dynamic(
        &self,
        ctx: &Context<'_>,
        method: MethodIndex,
        request: &[u8],
        reply: &mut dyn ReplySink,
    ) -> Result<(), Status> {
        assert_eq!(usize::from(method.0), self.0.methods.len() - 1);
        let given = Arguments::from_value(read_value(request)?)?.by_names("report", &["first", "second"])?;
        let left = ctx.remaining().map_or(Value::Nil, |left| Value::from(left.as_millis() as u64));
        let named = ctx.metadata().and_then(|metadata| metadata.baggage.first());
        let user = named.map_or(Value::Nil, |(_, user)| Value::from(user.clone()));
        let mut answer: Vec<_> = given.into_iter().map(|given| given.unwrap_or(Value::Nil)).collect();
        answer.extend([left, user]);
        reply.send(&ValueMessage(&Value::List(answer)))
    }
}

/// A board with the service, and a client of it.
fn reporter(others: usize) -> (Arc<Board>, DynamicClient) {
    let board = Board::with("reporter", Reporter::behind(others));
    let client = DynamicClient::connect(&Boarded(Arc::clone(&board)), "reporter").unwrap();
    (board, client)
}

fn parts(answer: Value<'static>) -> [Value<'static>; 4] {
    let Value::List(parts) = answer else { panic!("{answer:?}") };
    parts.try_into().unwrap()
}

#[test]
fn arguments_travel_by_place_and_by_name_for_threads_and_for_tasks() {
    let (_board, client) = reporter(2);
    let (args, kwargs) = ([Value::from("a")], [("second", Value::from(2))]);
    let [first, second, ..] = parts(client.call("report", &args, &kwargs).unwrap());
    assert_eq!((first, second), ("a".into(), 2.into()));
    let [first, second, ..] = parts(block_on(client.call_async("report", &args, &kwargs)).unwrap());
    assert_eq!((first, second), ("a".into(), 2.into()));
}

#[test]
fn a_method_is_found_where_the_service_has_it_now() {
    let (board, client) = reporter(0);
    client.call("report", &[], &[]).unwrap();
    board.stop("reporter");
    board.serve("reporter", Reporter::behind(3));
    client.call("report", &[], &[]).unwrap();
    assert_eq!(client.descriptor().unwrap().methods.len(), 4);
}

#[test]
fn an_unknown_method_is_refused_with_the_names_of_the_others() {
    let (_board, client) = reporter(1);
    let status = client.call("reprot", &[], &[]).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Unimplemented, Outcome::NotRun));
    assert!(status.message().contains("`reprot`") && status.message().contains("typed_0, report"), "{status}");
    let (_board, client) = reporter(500);
    let status = client.call("reprot", &[], &[]).unwrap_err();
    assert!(status.message().len() < 1000 && status.message().contains("typed_0"), "{status}");
}

#[test]
fn a_method_that_takes_typed_messages_only_is_told_as_such() {
    let (_board, client) = reporter(1);
    for status in [client.call("typed_0", &[], &[]), block_on(client.call_async("typed_0", &[], &[]))] {
        let status = status.unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Unimplemented, Outcome::NotRun));
        assert!(status.message().contains("typed messages only"), "{status}");
    }
}

#[test]
fn the_methods_timeout_holds_unless_the_caller_says_another() {
    let (_board, client) = reporter(0);
    let left = |client: &DynamicClient| match parts(client.call("report", &[], &[]).unwrap()) {
        [_, _, Value::Int(left), _] => left,
        parts => panic!("{parts:?}"),
    };
    assert!((1..=3_000).contains(&left(&client)));
    assert!((3_001..=60_000).contains(&left(&client.clone().with_timeout(Duration::from_secs(60)))));
}

#[test]
fn what_the_caller_says_beside_the_arguments_arrives() {
    let (_board, client) = reporter(0);
    let carrying = client.with(CallOptions::new().baggage("user", "ada"));
    let [.., user] = parts(carrying.call("report", &[], &[]).unwrap());
    assert_eq!(user, "ada".into());
    let [.., user] = parts(client.call("report", &[], &[]).unwrap());
    assert_eq!(user, Value::Nil);
}

#[test]
fn an_answer_is_read_where_it_arrived() {
    let (_board, client) = reporter(0);
    let long = vec![7_u8; 100_000];
    let is_borrowed = client.call_with("report", &[(&long[..]).into()], &[], |answer| {
        let Value::List(parts) = answer else { return false };
        matches!(&parts[0], Value::Bytes(std::borrow::Cow::Borrowed(bytes)) if bytes.len() == 100_000)
    });
    assert!(is_borrowed.unwrap());
}

#[test]
fn a_service_says_what_it_is() {
    let (_board, client) = reporter(1);
    let descriptor = client.descriptor().unwrap();
    assert_eq!((descriptor.trait_name.as_str(), descriptor.version.as_str()), ("Reporter", "7"));
    let dynamic: Vec<_> = descriptor.methods.iter().map(|method| (method.name.as_str(), method.dynamic)).collect();
    assert_eq!(dynamic, [("typed_0", false), ("report", true)]);
    assert_eq!(descriptor.methods[1].arguments, ["first", "second"]);
}

#[test]
fn a_name_that_nobody_serves_is_not_found() {
    let status = DynamicClient::connect(&Boarded(Board::new()), "reporter").unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::NotFound, Outcome::NotRun));
}
