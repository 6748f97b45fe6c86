//! A handler put together of closures, and a client of it. Every method takes a number and gives one.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as Wakers, Poll};
use std::time::Duration;

use service_core::{
    CallFuture, CallRequest, Channel, Context, Handler, Message, MethodDescriptor, MethodIndex, Registry, Reply,
    ReplySink, ServerCall, ServiceDescriptor, Status, Style, access, access_request, monotonic_ns,
};
use service_local::{LocalRuntime, RunningService, Serve};

type Plain = Box<dyn Fn(&Context<'_>, u64) -> Result<u64, Status> + Send + Sync>;
type Later = Box<dyn Fn(Box<dyn ServerCall>) -> CallFuture + Send + Sync>;

enum Code {
    Plain(Plain),
    Task(Later),
    Thread(Later),
}

/// The handler.
pub struct Desk {
    descriptor: ServiceDescriptor,
    methods: Vec<Code>,
}

impl Desk {
    pub fn new() -> Self {
        let descriptor = ServiceDescriptor { trait_name: "Desk".into(), version: String::new(), methods: Vec::new() };
        Self { descriptor, methods: Vec::new() }
    }

    fn with(mut self, name: &str, code: Code) -> Self {
        self.descriptor.methods.push(MethodDescriptor::of::<(u64,), u64>(name));
        self.methods.push(code);
        self
    }

    pub fn plain(
        self,
        name: &str,
        code: impl Fn(&Context<'_>, u64) -> Result<u64, Status> + Send + Sync + 'static,
    ) -> Self {
        self.with(name, Code::Plain(Box::new(code)))
    }

    pub fn task<F: Future<Output = ()> + Send + 'static>(
        self,
        name: &str,
        code: impl Fn(Box<dyn ServerCall>) -> F + Send + Sync + 'static,
    ) -> Self {
        self.with(name, Code::Task(Box::new(move |call| Box::pin(code(call)))))
    }

    pub fn thread<F: Future<Output = ()> + Send + 'static>(
        self,
        name: &str,
        code: impl Fn(Box<dyn ServerCall>) -> F + Send + Sync + 'static,
    ) -> Self {
        self.with(name, Code::Thread(Box::new(move |call| Box::pin(code(call)))))
    }
}

impl Handler for Desk {
    fn descriptor(&self) -> &ServiceDescriptor {
        &self.descriptor
    }

    fn call(
        &self,
        ctx: &Context<'_>,
        method: MethodIndex,
        request: &[u8],
        reply: &mut dyn ReplySink,
    ) -> Result<(), Status> {
        let Some(Code::Plain(code)) = self.methods.get(usize::from(method.0)) else {
            return Err(self.descriptor.unknown_method(method));
        };
        let number = access_request::<(u64,)>(ctx, request)?.0.to_native();
        reply.send(&Message(&code(ctx, number)?))
    }

    fn call_dynamic(
        &self,
        _: &Context<'_>,
        method: MethodIndex,
        request: &[u8],
        reply: &mut dyn ReplySink,
    ) -> Result<(), Status> {
        // Whatever it means: the number of its bytes.
        assert!(self.methods.len() > usize::from(method.0));
        reply.send(&Message(&(request.len() as u64)))
    }

    fn style(&self, method: MethodIndex) -> Style {
        match &self.methods[usize::from(method.0)] {
            Code::Plain(_) => Style::Plain,
            Code::Task(_) => Style::Task,
            Code::Thread(_) => Style::Thread,
        }
    }

    fn start(self: Arc<Self>, call: Box<dyn ServerCall>) -> CallFuture {
        match &self.methods[usize::from(call.method().0)] {
            Code::Plain(_) => unreachable!("it is called"),
            Code::Task(code) | Code::Thread(code) => code(call),
        }
    }
}

/// The number that a call brings.
pub fn number(call: &dyn ServerCall) -> u64 {
    access::<(u64,)>(call.request()).expect("the client sends a number").0.to_native()
}

/// Answers with a number.
pub fn answer(call: Box<dyn ServerCall>, number: u64) {
    call.reply(&Message(&number));
}

/// Waits, as a task does.
pub struct Sleep<'a> {
    pub call: &'a dyn ServerCall,
    pub until_ns: u64,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Wakers<'_>) -> Poll<()> {
        if monotonic_ns() >= self.until_ns {
            return Poll::Ready(());
        }
        self.call.wake_at(self.until_ns, cx.waker());
        Poll::Pending
    }
}

/// Waits for so many milliseconds.
pub fn sleep(call: &dyn ServerCall, ms: u64) -> Sleep<'_> {
    Sleep { call, until_ns: monotonic_ns() + ms * 1_000_000 }
}

/// A client of a [`Desk`].
#[derive(Clone)]
pub struct Client {
    channel: Arc<Channel>,
    names: &'static ServiceDescriptor,
}

impl Client {
    pub fn call(&self, method: &str, number: u64) -> Result<u64, Status> {
        self.call_within(method, number, None)
    }

    fn index(&self, method: &str) -> MethodIndex {
        let index = self.names.methods.iter().position(|known| known.name == method).expect("a method of the desk");
        MethodIndex(index as u16)
    }

    /// As a task calls.
    pub async fn call_async(&self, method: &str, number: u64) -> Result<u64, Status> {
        let arguments = (number,);
        self.channel.call_async(CallRequest::new(self.index(method), None, &Message(&arguments))).await
    }

    pub fn call_within(&self, method: &str, number: u64, timeout: Option<Duration>) -> Result<u64, Status> {
        let mut reply = Reply::<u64>::new();
        let message = Message(&(number,));
        self.channel.call(&CallRequest::new(self.index(method), timeout, &message), &mut reply)?;
        reply.into_value()
    }
}

/// A host of its own, in a directory that goes with it.
pub struct Host {
    pub runtime: LocalRuntime,
    dir: PathBuf,
    is_ours: bool,
}

impl Host {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("switchboard-later-{}-{count}", std::process::id()));
        std::fs::create_dir(&dir).expect("the name is unique");
        Self::in_directory(&dir, true)
    }

    /// Another process's.
    pub fn at(dir: &Path) -> Self {
        Self::in_directory(dir, false)
    }

    fn in_directory(dir: &Path, is_ours: bool) -> Self {
        let runtime = LocalRuntime::builder().runtime_dir(dir).in_process(false).open().expect("the directory is ours");
        Self { runtime, dir: dir.to_owned(), is_ours }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn prepare(&self, name: &str, desk: Desk) -> Serve {
        self.runtime.serve(name.parse().expect("a name"), Arc::new(desk))
    }

    /// Serves with one worker.
    pub fn serve(&self, name: &str, desk: Desk) -> RunningService {
        self.prepare(name, desk).workers(1).start().expect("nobody else has the name")
    }

    /// A client of some methods, connected anew.
    pub fn client(&self, name: &str, methods: &[&str]) -> Client {
        let methods = methods.iter().map(|method| MethodDescriptor::of::<(u64,), u64>(method)).collect();
        let names = ServiceDescriptor { trait_name: "Desk".into(), version: String::new(), methods };
        let names: &'static _ = Box::leak(Box::new(names));
        let registry = Arc::new(self.runtime.clone()) as Arc<dyn Registry>;
        let channel = Channel::connect(registry, name.parse().expect("a name"), names).expect("it is served");
        Client { channel: Arc::new(channel), names }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.is_ours {
            std::fs::remove_dir_all(&self.dir).expect("the directory is ours");
        }
    }
}
