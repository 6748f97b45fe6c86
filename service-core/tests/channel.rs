//! A channel over a transport inside one thread: binding, reconnecting, statistics.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use service_core::{
    Address, CallRequest, CallTimes, Channel, Code, Context, Deadline, Decode, Handler, InstanceInfo, Message,
    MethodDescriptor, MethodIndex, Outcome, Registry, Reply, ReplySink, ServiceDescriptor, Status, Transport, access,
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

/// Ends while its first call is under way, after two seconds.
struct Ending {
    doubler: Doubler,
    is_alive: AtomicBool,
    /// Of that call.
    outcome: Outcome,
}

impl Transport for Ending {
    fn descriptor(&self) -> &ServiceDescriptor {
        self.doubler.descriptor()
    }

    fn is_alive(&self) -> bool {
        self.is_alive.load(Ordering::Relaxed)
    }

    fn call(&self, _: &CallRequest<'_>, _: &mut dyn Decode, times: &mut CallTimes) -> Result<(), Status> {
        assert!(self.is_alive.swap(false, Ordering::Relaxed), "no call is made on a transport that has ended");
        *times = CallTimes { started_ns: 1, ended_ns: 2_000_000_001 };
        Err(Status::new(Code::Unavailable, self.outcome, "ended"))
    }
}

/// Connects to what ends first, and to what the board has then.
struct EndingFirst(AtomicBool, Outcome, Arc<Board>);

impl Registry for EndingFirst {
    fn connect(&self, address: &Address, deadline: Option<Deadline>) -> Result<Arc<dyn Transport>, Status> {
        if self.0.swap(false, Ordering::Relaxed) {
            return Ok(Arc::new(Ending { doubler: Doubler::new(), is_alive: AtomicBool::new(true), outcome: self.1 }));
        }
        self.2.connect(address, deadline)
    }

    fn list(&self) -> Result<Vec<InstanceInfo>, Status> {
        self.2.list()
    }
}

fn ending_first(outcome: Outcome, board: Arc<Board>) -> Channel {
    let registry = Arc::new(EndingFirst(AtomicBool::new(true), outcome, board));
    Channel::connect(registry, "doubler".parse().unwrap(), &CLIENT).unwrap()
}

#[test]
fn a_call_that_nobody_took_before_its_transport_ended_goes_to_the_next() {
    let channel = ending_first(Outcome::NotRun, Board::with("doubler", Doubler::new()));
    assert_eq!(double(&channel, 21).unwrap(), 42);
    assert_eq!(channel.stats().snapshot()[0].calls(), 1);
}

#[test]
fn a_call_that_may_have_run_is_not_made_again() {
    let channel = ending_first(Outcome::MayHaveRun, Board::with("doubler", Doubler::new()));
    assert_eq!(double(&channel, 21).unwrap_err().outcome(), Outcome::MayHaveRun);
    assert_eq!(double(&channel, 21).unwrap(), 42);
}

#[test]
fn a_call_without_a_next_transport_or_time_for_it_tells_what_ended() {
    let status = double(&ending_first(Outcome::NotRun, Board::new()), 1).unwrap_err();
    assert_eq!((status.code(), status.outcome(), status.message()), (Code::Unavailable, Outcome::NotRun, "ended"));
    let (message, mut reply) = ((21,), Reply::<u32>::new());
    let message = Message(&message);
    let just = CallRequest::new(DOUBLE, Some(Duration::from_secs(2)), &message);
    let status =
        ending_first(Outcome::NotRun, Board::with("doubler", Doubler::new())).call(&just, &mut reply).unwrap_err();
    assert_eq!((status.code(), status.outcome(), status.message()), (Code::Unavailable, Outcome::NotRun, "ended"));
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
