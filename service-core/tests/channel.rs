//! A channel over a transport inside one thread: binding, reconnecting, statistics.

mod support;

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use service_core::{
    Address, CallRequest, Channel, Code, Context, Handler, Message, MethodDescriptor, MethodIndex, Outcome, Registry,
    Reply, ReplySink, ServiceDescriptor, Status, access,
};
use support::Board;

const DOUBLE: MethodIndex = MethodIndex(0);
const GONE: MethodIndex = MethodIndex(1);

static CLIENT: LazyLock<ServiceDescriptor> = LazyLock::new(|| {
    let methods = vec![MethodDescriptor::of::<(u32,), u32>("double"), MethodDescriptor::of::<(), ()>("gone")];
    ServiceDescriptor { trait_name: "Doubler".into(), version: String::new(), methods }
});

/// Doubles what it gets, and refuses zero. Its method has another index than the client's.
struct Doubler(ServiceDescriptor);

impl Doubler {
    fn new() -> Self {
        let methods = vec![MethodDescriptor::of::<(), ()>("newer"), MethodDescriptor::of::<(u32,), u32>("double")];
        Self(ServiceDescriptor { trait_name: "Doubler".into(), version: String::new(), methods })
    }
}

impl Handler for Doubler {
    fn descriptor(&self) -> &ServiceDescriptor {
        &self.0
    }

    fn call(
        &self,
        _: &Context<'_>,
        method: MethodIndex,
        request: &[u8],
        reply: &mut dyn ReplySink,
    ) -> Result<(), Status> {
        assert_eq!(method, MethodIndex(1), "the client's index was turned into the server's");
        let request = access::<(u32,)>(request)?;
        match request.0.to_native() {
            0 => Err(Status::out_of_range("zero")),
            value => reply.send(&Message(&(value * 2))),
        }
    }
}

fn connect(board: &Arc<Board>) -> Result<Channel, Status> {
    let address: Address = "doubler".parse().unwrap();
    Channel::connect(Arc::clone(board) as Arc<dyn Registry>, address, &CLIENT)
}

fn double(channel: &Channel, value: u32) -> Result<u32, Status> {
    let mut reply = Reply::<u32>::new();
    channel.call(&CallRequest::new(DOUBLE, None, &Message(&(value,))), &mut reply)?;
    reply.into_value()
}

#[test]
fn calls_go_to_the_servers_index_of_the_method() {
    let board = Board::with("doubler", Doubler::new());
    let channel = connect(&board).unwrap();
    assert_eq!(double(&channel, 21).unwrap(), 42);
    assert_eq!(double(&channel, 4).unwrap(), 8);
    assert_eq!(board.connects.load(Ordering::Relaxed), 1, "one connection carries all calls");
}

#[test]
fn a_method_that_the_server_lacks_fails_at_once_and_alone() {
    let channel = connect(&Board::with("doubler", Doubler::new())).unwrap();
    let status = channel.call(&CallRequest::new(GONE, None, &Message(&())), &mut Reply::<()>::new()).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Unimplemented, Outcome::NotRun));
    for part in ["`doubler`", "`gone`"] {
        assert!(status.message().contains(part), "{status}");
    }
    assert_eq!(double(&channel, 1).unwrap(), 2);
}

#[test]
fn an_unknown_service_is_told_at_connect() {
    let status = connect(&Board::new()).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::NotFound, Outcome::NotRun));
}

#[test]
fn the_same_channel_calls_the_service_after_its_restart() {
    let board = Board::with("doubler", Doubler::new());
    let channel = connect(&board).unwrap();
    board.stop("doubler");

    let status = double(&channel, 1).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::NotFound, Outcome::NotRun));
    assert_eq!(board.connects.load(Ordering::Relaxed), 2, "a call connects once");

    board.serve("doubler", Doubler::new());
    assert_eq!(double(&channel, 21).unwrap(), 42);
    assert_eq!(double(&channel, 21).unwrap(), 42);
    assert_eq!(board.connects.load(Ordering::Relaxed), 3);
}

#[test]
fn statistics_count_successes_and_errors_by_code() {
    let board = Board::with("doubler", Doubler::new());
    let channel = connect(&board).unwrap();
    double(&channel, 1).unwrap();
    double(&channel, 0).unwrap_err();
    board.stop("doubler");
    double(&channel, 1).unwrap_err();

    let stats = channel.stats().snapshot();
    let double = &stats[0];
    assert_eq!((double.name.as_str(), double.calls(), double.failed()), ("double", 3, 2));
    assert_eq!((double.errors(Code::OutOfRange), double.errors(Code::NotFound)), (1, 1));
    assert!(double.latency.max() > 0, "the transport's time stamps are used");
}
