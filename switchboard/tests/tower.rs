//! Stacks of tower's layers around clients and around handlers.

use std::error::Error;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context as Wakers, Poll, Waker};
use std::time::Duration;

use switchboard::prelude::*;
use switchboard::testing::TestBoard;
use switchboard::tower::{Call, ClientService, HandlerService, Layered};
use switchboard::{Handler, Outgoing, RunningService};
use tokio::sync::Semaphore;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

const PATIENCE: Duration = Duration::from_secs(20);

#[service]
trait Desk {
    fn double(&self, ctx: &Context<'_>, number: u64) -> Result<u64, Status>;
    async fn half(&self, ctx: &Context<'_>, number: u64) -> Result<u64, Status>;
    fn count(&self, ctx: &Context<'_>, to: u64, out: Outgoing<u64>) -> Result<u64, Status>;
    #[batch(max = 8, delay = "1ms")]
    fn squares(&self, calls: &[Context<'_>], numbers: Vec<u64>) -> Vec<Result<u64, Status>>;
    fn panics(&self, ctx: &Context<'_>) -> Result<(), Status>;
    /// Says that it has begun; answers when the gate is open, or nobody waits any more.
    async fn hold(&self, ctx: &Context<'_>) -> Result<(), Status>;
}

struct Plain {
    begun: SyncSender<&'static str>,
    gate: Arc<Semaphore>,
    halves: Arc<AtomicUsize>,
}

impl Desk for Plain {
    fn double(&self, _: &Context<'_>, number: u64) -> Result<u64, Status> {
        number.checked_mul(2).ok_or_else(|| Status::out_of_range("too much"))
    }

    async fn half(&self, _: &Context<'_>, number: u64) -> Result<u64, Status> {
        self.halves.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(2) { Ok(number / 2) } else { Err(Status::invalid_argument("odd")) }
    }

    fn count(&self, _: &Context<'_>, to: u64, mut out: Outgoing<u64>) -> Result<u64, Status> {
        (0..to).try_for_each(|item| out.send(&item))?;
        Ok(to)
    }

    fn squares(&self, _: &[Context<'_>], numbers: Vec<u64>) -> Vec<Result<u64, Status>> {
        numbers.into_iter().map(|number| number.checked_pow(2).ok_or_else(|| Status::out_of_range("large"))).collect()
    }

    fn panics(&self, _: &Context<'_>) -> Result<(), Status> {
        panic!("on purpose");
    }

    async fn hold(&self, ctx: &Context<'_>) -> Result<(), Status> {
        let _ = self.begun.try_send("begun");
        tokio::select! {
            _ = self.gate.acquire() => Ok(()),
            () = ctx.cancelled() => {
                let _ = self.begun.try_send("given up");
                Err(Status::cancelled("nobody waits"))
            }
        }
    }
}

struct Served {
    client: DeskClient,
    begun: Receiver<&'static str>,
    gate: Arc<Semaphore>,
    halves: Arc<AtomicUsize>,
    _running: RunningService,
    _board: TestBoard,
}

fn serve<H: Handler>(board: TestBoard, layered: impl FnOnce(DeskServer<Plain>) -> H) -> Served {
    let (sender, begun) = sync_channel(16);
    let (gate, halves) = (Arc::new(Semaphore::new(0)), Arc::default());
    let plain = Plain { begun: sender, gate: Arc::clone(&gate), halves: Arc::clone(&halves) };
    let running = board.serve("test.desk", layered(DeskServer::new(plain))).workers(2).start().unwrap();
    let client = DeskClient::connect(&*board, "test.desk").unwrap();
    Served { client, begun, gate, halves, _running: running, _board: board }
}

fn boards() -> [TestBoard; 2] {
    [TestBoard::new().unwrap(), TestBoard::through_shared_memory().unwrap()]
}

impl Served {
    fn wait_for(&self, what: &str) {
        assert_eq!(self.begun.recv_timeout(PATIENCE).expect(what), what);
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn a_limit_around_a_client_is_one_limit_for_all_its_methods() {
    let served = serve(TestBoard::through_shared_memory().unwrap(), |server| server);
    let stack = ServiceBuilder::new().concurrency_limit(1).service(ClientService::new(served.client.clone()));
    type Half = fn(DeskClient) -> std::future::Ready<Result<u64, Status>>;
    run(async {
        let hold = stack.clone().oneshot(async |desk: DeskClient| desk.hold_async().await);
        let hold = tokio::spawn(hold);
        tokio::task::yield_now().await;
        let mut second = stack.clone();
        let is_ready = Service::<Half>::poll_ready(&mut second, &mut Wakers::from_waker(Waker::noop())).is_ready();
        assert!(!is_ready, "one call is in flight");
        served.gate.add_permits(1);
        hold.await.unwrap().unwrap();
        poll_fn(|cx| Service::<Half>::poll_ready(&mut second, cx)).await.unwrap();
        assert_eq!(second.call(async |desk: DeskClient| desk.half_async(8).await).await.unwrap(), 4);
    });
}

#[test]
fn a_timeout_around_a_client_gives_the_call_up_and_its_handler_is_told() {
    let served = serve(TestBoard::through_shared_memory().unwrap(), |server| server);
    let stack =
        ServiceBuilder::new().timeout(Duration::from_millis(20)).service(ClientService::new(served.client.clone()));
    let error = run(stack.oneshot(async |desk: DeskClient| desk.hold_async().await)).unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error}");
    served.wait_for("begun");
    served.wait_for("given up");
}

#[test]
fn handlers_of_every_kind_answer_through_a_stack() {
    for board in boards() {
        let Served { client, _running, .. } =
            &serve(board, |server| Layered::new(server, ServiceBuilder::new().concurrency_limit(3)));
        assert_eq!(client.double(4).unwrap(), 8);
        assert_eq!(client.half(8).unwrap(), 4);
        assert_eq!(run(client.double_async(4)).unwrap(), 8);
        let mut items = client.count(500).unwrap();
        assert!((&mut items).into_iter().map(Result::unwrap).eq(0..500));
        assert_eq!(items.finish().unwrap(), 500);
        let mut batch = client.batch();
        let squares: Vec<_> = (0..20).map(|number| batch.squares(number)).collect();
        let large = batch.squares(u64::MAX);
        let mut sent = batch.send_batch();
        for (number, square) in squares.into_iter().enumerate() {
            assert_eq!(sent.take(square).unwrap(), (number * number) as u64);
        }
        assert_eq!(sent.take(large).unwrap_err().code(), Code::OutOfRange);
        let status = client.panics().unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Internal, Outcome::Ran), "{status}");
        assert_eq!(client.double(4).unwrap(), 8);
    }
}

#[test]
fn a_handlers_failure_goes_through_its_stack() {
    for board in boards() {
        let seen = |status: Status| Status::new(status.code(), status.outcome(), format!("seen: {}", status.message()));
        let served = serve(board, |server| Layered::new(server, ServiceBuilder::new().map_err(seen)));
        let odd = served.client.half(3).unwrap_err();
        assert_eq!((odd.code(), odd.outcome(), odd.message()), (Code::InvalidArgument, Outcome::Ran, "seen: odd"));
        let much = served.client.double(u64::MAX).unwrap_err();
        assert_eq!((much.code(), much.message()), (Code::OutOfRange, "seen: too much"));
    }
}

#[test]
fn what_a_stack_refuses_is_not_run() {
    for board in boards() {
        let layers = ServiceBuilder::new().load_shed().concurrency_limit(1);
        let served = serve(board, |server| Layered::new(server, layers));
        std::thread::scope(|scope| {
            let hold = scope.spawn(|| served.client.hold());
            served.wait_for("begun");
            let status = served.client.half(8).unwrap_err();
            assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::NotRun), "{status}");
            served.gate.add_permits(1);
            hold.join().unwrap().unwrap();
        });
        assert_eq!(served.halves.load(Ordering::Relaxed), 0);
        // The permit of the call before comes back a moment after its reply.
        let end = std::time::Instant::now() + PATIENCE;
        while served.client.half(8).is_err() {
            assert!(std::time::Instant::now() < end, "the stack stays full");
        }
    }
}

/// Ends a call whose handler takes too long, and says so by a status of its own.
fn in_time(service: HandlerService) -> BoxCloneSyncService<Call, (), Status> {
    let late = |error: Box<dyn Error + Send + Sync>| match error.downcast::<Status>() {
        Ok(status) => *status,
        Err(error) => Status::new(Code::DeadlineExceeded, Outcome::MayHaveRun, error.to_string()),
    };
    let layers = ServiceBuilder::new().map_err(late).timeout(Duration::from_millis(20));
    BoxCloneSyncService::new(layers.service(service))
}

#[test]
fn a_timeout_around_a_handler_drops_it_and_answers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let (sender, begun) = sync_channel(16);
    let gate = Arc::new(Semaphore::new(0));
    let plain = Plain { begun: sender, gate: Arc::clone(&gate), halves: Arc::default() };
    let board = TestBoard::through_shared_memory().unwrap();
    let layered = Layered::new(DeskServer::new(plain), tower::layer::layer_fn(in_time));
    let handle = runtime.handle().clone();
    let serve = board.serve("test.desk", layered).runtime(move |call| drop(handle.spawn(call)));
    let _running = serve.start().unwrap();
    let client = DeskClient::connect(&*board, "test.desk").unwrap();
    let status = client.hold().unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::DeadlineExceeded, Outcome::MayHaveRun), "{status}");
    assert_eq!(begun.recv_timeout(PATIENCE), Ok("begun"));
    assert_eq!(client.half(3).unwrap_err().code(), Code::InvalidArgument);
    gate.add_permits(1);
    assert_eq!(client.hold(), Ok(()));
}

#[test]
fn a_call_that_was_given_up_while_the_stack_was_full_is_not_run() {
    let layers = ServiceBuilder::new().concurrency_limit(1);
    let served = serve(TestBoard::through_shared_memory().unwrap(), |server| Layered::new(server, layers));
    std::thread::scope(|scope| {
        let hold = scope.spawn(|| served.client.hold());
        served.wait_for("begun");
        let hasty = served.client.clone().with_timeout(Duration::from_millis(20));
        assert_eq!(hasty.half(8).unwrap_err().code(), Code::DeadlineExceeded);
        served.gate.add_permits(1);
        hold.join().unwrap().unwrap();
    });
    // It stood in line before this one.
    assert_eq!(served.client.half(8).unwrap(), 4);
    assert_eq!(served.halves.load(Ordering::Relaxed), 1);
}

/// Lets nothing through, and keeps what it got until the next call comes.
#[derive(Clone, Default)]
struct Hoard(Arc<std::sync::Mutex<Option<Call>>>);

impl<S> Layer<S> for Hoard {
    type Service = Self;

    fn layer(&self, _: S) -> Self {
        self.clone()
    }
}

impl Service<Call> for Hoard {
    type Response = ();
    type Error = Status;
    type Future = std::future::Ready<Result<(), Status>>;

    fn poll_ready(&mut self, _: &mut Wakers<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let before = self.0.lock().unwrap().replace(call);
        drop(before);
        std::future::ready(Err(Status::new(Code::Aborted, Outcome::NotRun, "kept")))
    }
}

#[test]
fn a_call_that_a_layer_keeps_is_answered_when_the_layer_lets_go() {
    for board in boards() {
        let served = serve(board, |server| Layered::new(server, Hoard::default()));
        std::thread::scope(|scope| {
            let kept = scope.spawn(|| served.client.half(8));
            let hasty = served.client.clone().with_timeout(Duration::from_millis(20));
            let end = std::time::Instant::now() + PATIENCE;
            while !kept.is_finished() {
                assert!(std::time::Instant::now() < end, "the call is lost");
                let _ = hasty.half(8);
            }
            let status = kept.join().unwrap().unwrap_err();
            assert_eq!((status.code(), status.outcome(), status.message()), (Code::Aborted, Outcome::NotRun, "kept"));
        });
    }
}
