//! A service with a method of each shape, and its clients.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context as Wakers, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use service_core::{
    CallFuture, CallRequest, Channel, ClientStream, Code, Context, Handler, Message, MethodDescriptor, MethodIndex,
    Registry, Reply, ReplySink, ServerCall, ServerStream, ServiceDescriptor, Shape, Status, StreamReceiver,
    StreamSender, Style, TypeInfo, access,
};
use service_local::{LocalRuntime, RunningService, Trust};
use test_support::child::{Line, Role};

pub const ROLES: [Role; 2] = [("service", serve_it), ("client", call_it)];

/// How long anything may take that does not wait for ever: more than it needs on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const COUNT: MethodIndex = MethodIndex(0);
pub const SUM: MethodIndex = MethodIndex(1);
pub const ECHO: MethodIndex = MethodIndex(2);
pub const ENDLESS: MethodIndex = MethodIndex(3);
pub const BREAKS: MethodIndex = MethodIndex(4);
pub const FIRST: MethodIndex = MethodIndex(5);
pub const DEAF: MethodIndex = MethodIndex(6);
pub const PLAIN: MethodIndex = MethodIndex(7);

const METHODS: [(&str, Shape); 8] = [
    ("count", Shape::ServerStream),
    ("sum", Shape::ClientStream),
    ("echo", Shape::BothWays),
    ("endless", Shape::ServerStream),
    ("breaks", Shape::ServerStream),
    ("first", Shape::ClientStream),
    ("deaf", Shape::ClientStream),
    ("plain", Shape::Unary),
];

/// The handler. Its requests are numbers, and so are replies and items.
pub struct Tape {
    descriptor: ServiceDescriptor,
    /// How `endless` calls ended.
    ends: Mutex<mpsc::Sender<Code>>,
}

fn descriptor() -> ServiceDescriptor {
    let methods = METHODS.map(|(name, shape)| MethodDescriptor {
        shape,
        client_items: shape.has_client_items().then(TypeInfo::of::<u64>),
        server_items: shape.has_server_items().then(TypeInfo::of::<u64>),
        ..MethodDescriptor::of::<(u64,), u64>(name)
    });
    ServiceDescriptor { trait_name: "Tape".into(), version: String::new(), methods: methods.into() }
}

/// Each end of a stream, as numbers.
fn put(sender: &mut dyn StreamSender, number: u64) -> Result<(), Status> {
    sender.send(&Message(&number), None)
}

fn take(receiver: &mut dyn StreamReceiver) -> Result<Option<u64>, Status> {
    let mut place = Reply::new();
    Ok(if receiver.recv(&mut place, None)? { Some(place.into_value()?) } else { None })
}

/// What comes back, as a task.
async fn echo(sender: &mut dyn StreamSender, receiver: &mut dyn StreamReceiver) -> Result<u64, Status> {
    let mut count = 0;
    loop {
        let mut place = Reply::<u64>::new();
        if !std::future::poll_fn(|cx| receiver.poll_recv(cx, &mut place)).await? {
            break;
        }
        let number = place.into_value()?;
        std::future::poll_fn(|cx| sender.poll_send(cx, &Message(&number))).await?;
        count += 1;
    }
    sender.finish().map(|()| count)
}

impl Tape {
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Code>) {
        let (ends, ended) = mpsc::channel();
        (Arc::new(Self { descriptor: descriptor(), ends: Mutex::new(ends) }), ended)
    }

    async fn answer(&self, call: &mut dyn ServerCall) -> Result<u64, Status> {
        let number = access::<(u64,)>(call.request())?.0.to_native();
        let (method, mut sender, mut receiver) = (call.method(), call.take_sender(), call.take_receiver());
        let missing = || Status::internal("a stream is missing");
        match method {
            COUNT => {
                let sender = sender.as_deref_mut().ok_or_else(missing)?;
                (0..number).try_for_each(|item| put(sender, item))?;
                sender.finish().map(|()| number)
            }
            SUM => {
                let receiver = receiver.as_deref_mut().ok_or_else(missing)?;
                let mut sum = 0;
                while let Some(item) = take(receiver)? {
                    sum += item;
                }
                Ok(sum)
            }
            ECHO => echo(&mut *sender.ok_or_else(missing)?, &mut *receiver.ok_or_else(missing)?).await,
            ENDLESS => {
                let sender = sender.as_deref_mut().ok_or_else(missing)?;
                let end = (0..).find_map(|item| put(sender, item).err()).ok_or_else(missing)?;
                // A test that is over does not ask.
                let _ = self.ends.lock().expect("no test panics here").send(end.code());
                Err(end)
            }
            BREAKS => {
                let sender = sender.as_deref_mut().ok_or_else(missing)?;
                (0..number).try_for_each(|item| put(sender, item))?;
                Err(Status::aborted("it breaks here"))
            }
            FIRST => take(receiver.as_deref_mut().ok_or_else(missing)?)?.ok_or_else(missing),
            // Takes nothing until nobody waits any more.
            DEAF => {
                call.context().cancelled().await;
                match call.context().remaining() {
                    Some(Duration::ZERO) => Err(Status::deadline_exceeded("nobody waits so long")),
                    _ => Err(Status::cancelled("nobody waits")),
                }
            }
            _ => Err(self.descriptor.unknown_method(method)),
        }
    }
}

impl Handler for Tape {
    fn descriptor(&self) -> &ServiceDescriptor {
        &self.descriptor
    }

    fn call(
        &self,
        _: &Context<'_>,
        method: MethodIndex,
        request: &[u8],
        reply: &mut dyn ReplySink,
    ) -> Result<(), Status> {
        assert_eq!(method, PLAIN);
        reply.send(&Message(&access::<(u64,)>(request)?.0.to_native()))
    }

    fn style(&self, method: MethodIndex) -> Style {
        match method {
            PLAIN => Style::Plain,
            ECHO | DEAF => Style::Task,
            _ => Style::Thread,
        }
    }

    fn start(self: Arc<Self>, mut call: Box<dyn ServerCall>) -> CallFuture {
        Box::pin(async move {
            match self.answer(&mut *call).await {
                Ok(number) => call.reply(&Message(&number)),
                Err(status) => call.fail(status),
            }
        })
    }
}

/// A client of it.
pub struct Client(Channel);

impl Client {
    pub fn of(runtime: &LocalRuntime) -> Self {
        static NAMES: std::sync::LazyLock<ServiceDescriptor> = std::sync::LazyLock::new(descriptor);
        let registry = Arc::new(runtime.clone()) as Arc<dyn Registry>;
        Self(Channel::connect(registry, "tape".parse().expect("a name"), &NAMES).expect("it is served"))
    }

    pub fn plain(&self, number: u64) -> Result<u64, Status> {
        let mut reply = Reply::new();
        self.0.call(&CallRequest::new(PLAIN, None, &Message(&(number,))), &mut reply)?;
        reply.into_value()
    }

    pub fn receives(
        &self,
        method: MethodIndex,
        number: u64,
        timeout: Option<Duration>,
    ) -> Result<ServerStream<u64, u64>, Status> {
        self.0.server_stream(&CallRequest::new(method, timeout, &Message(&(number,))))
    }

    pub fn sends(&self, method: MethodIndex, timeout: Option<Duration>) -> Result<ClientStream<u64, u64>, Status> {
        self.0.client_stream(&CallRequest::new(method, timeout, &Message(&(0_u64,))))
    }

    pub fn echo(&self) -> Result<service_core::BothWays<u64, u64, u64>, Status> {
        self.0.both_ways(&CallRequest::new(ECHO, None, &Message(&(0_u64,))))
    }
}

/// How a client reaches the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Checked,
    Isolated,
    /// In the same process, without a socket.
    Inside,
}

pub const WAYS: [Way; 3] = [Way::Checked, Way::Isolated, Way::Inside];

/// A directory that goes with the test, and what is in it.
pub struct Host {
    dir: PathBuf,
    is_ours: bool,
}

impl Host {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("switchboard-streams-{}-{count}", std::process::id()));
        std::fs::create_dir(&dir).expect("the name is unique");
        Self { dir, is_ours: true }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn runtime(&self, way: Way) -> LocalRuntime {
        let trust = if way == Way::Isolated { Trust::ISOLATED } else { Trust::CHECKED };
        let builder = LocalRuntime::builder().runtime_dir(&self.dir).in_process(way == Way::Inside).trust(trust);
        builder.open().expect("the directory is ours")
    }

    pub fn serve(&self, tape: Arc<Tape>) -> RunningService {
        let runtime = self.runtime(Way::Inside);
        runtime.serve("tape".parse().expect("a name"), tape).workers(2).start().expect("nobody else has the name")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.is_ours {
            std::fs::remove_dir_all(&self.dir).expect("the directory is ours");
        }
    }
}

pub const DIR: &str = "STREAMS_TEST_DIR";

fn of_the_parent() -> Host {
    Host { dir: PathBuf::from(std::env::var_os(DIR).expect("the parent says where")), is_ours: false }
}

/// Serves until it is killed, and says how endless calls end.
fn serve_it(parent: Line) {
    let (tape, ended) = Tape::new();
    let _running = of_the_parent().serve(tape);
    parent.say("serves");
    for end in ended {
        parent.say(format!("{end:?}"));
    }
}

/// Opens a stream of each direction, and holds them until it is killed.
fn call_it(mut parent: Line) {
    let client = Client::of(&of_the_parent().runtime(Way::Checked));
    let mut endless = client.receives(ENDLESS, 0, None).expect("it is served");
    assert_eq!(endless.recv().map(Result::ok), Some(Some(0)));
    let mut sum = client.sends(SUM, None).expect("it is served");
    sum.send(&1).expect("it listens");
    parent.say("streams");
    parent.hear();
}

/// The smallest executor there is.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Wakers::from_waker(&waker)) {
            return value;
        }
        std::thread::park_timeout(PATIENCE);
    }
}
