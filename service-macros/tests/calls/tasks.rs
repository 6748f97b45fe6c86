//! `async fn` handlers, and clients that are tasks.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use rkyv::Archived;
use service_core::{CallOptions, Code, Context, Handler, MethodIndex, Outcome, Priority, Status, Style};
use service_macros::service;

use crate::serve;
use crate::support::block_on;

#[service(crate = service_core::__private)]
trait Clock {
    /// A worker runs it.
    fn now(&self, ctx: &Context<'_>) -> Result<u64, Status>;
    /// A task runs it.
    async fn joined(
        &self,
        ctx: &Context<'_>,
        text: &str,
        bytes: &[u8],
        rest: &Archived<Vec<u16>>,
        end: String,
    ) -> Result<String, Status>;
    async fn refuse(&self, ctx: &Context<'_>, why: &str) -> Result<(), Status>;
    async fn panics(&self, ctx: &Context<'_>) -> Result<(), Status>;
    async fn until_given_up(&self, ctx: &Context<'_>) -> Result<(), Status>;
    #[timeout("5s")]
    #[priority(high)]
    fn terms(&self, ctx: &Context<'_>) -> Result<(Option<u64>, u8, Vec<String>), Status>;
}

#[derive(Default)]
struct Gate {
    is_given_up: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

#[derive(Default)]
struct Wall(Arc<Gate>);

/// Pending once.
async fn later() {
    let mut was_polled = false;
    poll_fn(|cx| match std::mem::replace(&mut was_polled, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

impl Clock for Wall {
    fn now(&self, _: &Context<'_>) -> Result<u64, Status> {
        Ok(12)
    }

    async fn joined(
        &self,
        ctx: &Context<'_>,
        text: &str,
        bytes: &[u8],
        rest: &Archived<Vec<u16>>,
        end: String,
    ) -> Result<String, Status> {
        later().await;
        assert_eq!(ctx.caller(), crate::support::CALLER);
        Ok(format!("{text} {bytes:?} {rest:?} {end}"))
    }

    async fn refuse(&self, _: &Context<'_>, why: &str) -> Result<(), Status> {
        later().await;
        Err(Status::new(Code::Aborted, Outcome::NotRun, why))
    }

    async fn panics(&self, _: &Context<'_>) -> Result<(), Status> {
        later().await;
        panic!("on purpose");
    }

    async fn until_given_up(&self, ctx: &Context<'_>) -> Result<(), Status> {
        ctx.cancelled().await;
        let _lock = self.0.lock.lock().unwrap();
        self.0.is_given_up.store(true, Ordering::Relaxed);
        self.0.changed.notify_all();
        Ok(())
    }

    fn terms(&self, ctx: &Context<'_>) -> Result<(Option<u64>, u8, Vec<String>), Status> {
        let remaining = ctx.remaining().map(|left| left.as_nanos() as u64);
        let metadata = ctx.metadata().cloned().unwrap_or_default();
        let names = metadata.baggage.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok((remaining, metadata.priority as u8, names))
    }
}

fn clock() -> ClockClient {
    ClockClient::connect(&serve(ClockServer::new(Wall::default())).0, "service").unwrap()
}

#[test]
fn threads_call_handlers_that_are_tasks() {
    let client = clock();
    let joined = client.joined("a", &[1, 2], &vec![3, 4], "end".into());
    assert_eq!(joined.unwrap(), "a [1, 2] [3, 4] end");
    let len = client.joined_with("a", &[], &vec![], String::new(), |text| text.len());
    assert_eq!(len.unwrap(), "a [] [] ".len());
}

#[test]
fn tasks_call_handlers_of_either_kind() {
    let client = clock();
    block_on(async {
        assert_eq!(client.now_async().await.unwrap(), 12);
        let joined = client.joined_async("a", &[1, 2], &vec![3, 4], "end".into()).await;
        assert_eq!(joined.unwrap(), "a [1, 2] [3, 4] end");
    });
    let stats = client.stats().snapshot();
    assert_eq!((stats[0].calls(), stats[1].calls()), (1, 1));
    assert!(stats[1].latency.max() > 0, "the time of a task's call is counted");
}

#[test]
fn a_handler_that_is_a_task_says_so() {
    let server = ClockServer::new(Wall::default());
    assert_eq!(server.style(MethodIndex(0)), Style::Plain);
    assert_eq!(server.style(MethodIndex(1)), Style::Task);
}

#[test]
fn a_tasks_status_arrives_and_says_that_it_ran() {
    let client = clock();
    for status in [client.refuse("no").unwrap_err(), block_on(client.refuse_async("no")).unwrap_err()] {
        assert_eq!((status.code(), status.message(), status.outcome()), (Code::Aborted, "no", Outcome::Ran));
    }
    assert_eq!(client.stats().snapshot()[2].errors(Code::Aborted), 2);
}

#[test]
fn a_task_that_panics_fails_its_own_call() {
    let client = clock();
    assert_eq!(client.panics().unwrap_err().code(), Code::Internal);
    assert_eq!(client.now().unwrap(), 12);
}

#[test]
fn a_call_that_is_dropped_tells_its_handler_and_leaves_nothing() {
    let gate = Arc::new(Gate::default());
    let (boarded, board) = serve(ClockServer::new(Wall(Arc::clone(&gate))));
    let client = ClockClient::connect(&boarded, "service").unwrap();
    block_on(async {
        let mut call = pin!(client.until_given_up_async());
        poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(board.transport("service").in_flight(), 1);
    });
    assert_eq!(board.transport("service").in_flight(), 0);
    let lock = gate.lock.lock().unwrap();
    let is_told = |_: &mut ()| !gate.is_given_up.load(Ordering::Relaxed);
    let (_lock, waited) = gate.changed.wait_timeout_while(lock, Duration::from_secs(20), is_told).unwrap();
    assert!(!waited.timed_out(), "the handler was not told");
    assert_eq!(client.stats().snapshot()[4].errors(Code::Cancelled), 1);
}

#[test]
fn a_call_that_is_never_polled_is_never_made() {
    let (boarded, board) = serve(ClockServer::new(Wall::default()));
    let client = ClockClient::connect(&boarded, "service").unwrap();
    drop(client.until_given_up_async());
    assert_eq!(board.transport("service").in_flight(), 0);
    assert_eq!(client.stats().snapshot()[4].calls(), 0);
}

#[test]
fn futures_of_a_client_go_to_other_threads() {
    let client = clock();
    let call = async move { client.joined_async("a", &[], &vec![], "b".into()).await };
    let joined = std::thread::spawn(move || block_on(call)).join().unwrap();
    assert_eq!(joined.unwrap(), "a [] [] b");
}

#[test]
fn the_methods_terms_hold_where_the_caller_says_nothing() {
    let client = clock();
    let (left, priority, names) = client.terms().unwrap();
    assert!(left.is_some_and(|left| left > 0 && left <= 5_000_000_000), "{left:?}");
    assert_eq!((priority, names.len()), (Priority::High as u8, 0));
}

#[test]
fn the_callers_options_go_before_the_methods_terms() {
    let client = clock();
    let options = CallOptions::new().timeout(Duration::from_secs(60)).baggage("user", "ada");
    let (left, priority, names) = client.with(options.clone()).terms().unwrap();
    assert!(left.is_some_and(|left| left > 5_000_000_000), "{left:?}");
    assert_eq!((priority, names), (Priority::High as u8, vec!["user=ada".to_owned()]));
    let urgent = client.with(options.priority(Priority::Low));
    assert_eq!(urgent.terms().unwrap().1, Priority::Low as u8);
    assert_eq!(block_on(urgent.terms_async()).unwrap().1, Priority::Low as u8);
}
