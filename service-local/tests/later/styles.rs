//! Handlers as tasks and on threads of their own.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use service_core::{Address, CallFuture, CallRequest, CallTimes, Code, Form, Message, Metadata, MethodIndex, Outcome};
use service_core::{Registry, Reply, Status};
use test_support::child::{Child, Line, Role};

use crate::desk::{Desk, Host, answer, number, sleep};

fn told(result: Result<u64, Status>) -> (Code, Outcome, String) {
    let status = result.expect_err("it fails");
    (status.code(), status.outcome(), status.message().to_owned())
}

#[test]
fn futures_that_wait_for_a_time_keep_no_worker() {
    let host = Host::new();
    let desk = Desk::new().task("sleep", |call| async move {
        let ms = number(&*call);
        sleep(&*call, ms).await;
        answer(call, ms);
    });
    let _running = host.serve("desk", desk);
    let client = host.client("desk", &["sleep"]);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_eq!(client.call("sleep", 200), Ok(200)));
        }
    });
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(5), "{took:?}");
}

/// Futures that only another thread can wake.
#[derive(Default)]
struct Post {
    wakers: Mutex<Vec<(Arc<AtomicBool>, Waker)>>,
    more: Condvar,
}

impl Post {
    async fn wait(&self) {
        let is_told = Arc::new(AtomicBool::new(false));
        std::future::poll_fn(|cx| {
            if is_told.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            self.wakers.lock().unwrap().push((Arc::clone(&is_told), cx.waker().clone()));
            self.more.notify_one();
            Poll::Pending
        })
        .await;
    }

    /// Wakes one after the other, for ever.
    fn deliver(&self) {
        loop {
            let mut wakers = self.wakers.lock().unwrap();
            let (is_told, waker) = loop {
                match wakers.pop() {
                    Some(found) => break found,
                    None => wakers = self.more.wait(wakers).unwrap(),
                }
            };
            drop(wakers);
            is_told.store(true, Ordering::Release);
            waker.wake();
        }
    }
}

#[test]
fn no_wake_up_from_another_thread_is_lost() {
    for workers in [1, 2, 3] {
        let host = Host::new();
        let post = Arc::new(Post::default());
        let delivers = Arc::clone(&post);
        std::thread::spawn(move || delivers.deliver());
        let desk = Desk::new()
            .task("wait", move |call| {
                let post = Arc::clone(&post);
                async move {
                    let times = number(&*call);
                    for _ in 0..times {
                        post.wait().await;
                    }
                    answer(call, times);
                }
            })
            .plain("echo", |_, number| Ok(number));
        let _running = host.prepare("desk.post", desk).workers(workers).start().unwrap();
        let client = host.client("desk.post", &["wait", "echo"]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..300 {
                        assert_eq!(client.call("wait", i % 4), Ok(i % 4));
                        assert_eq!(client.call("echo", i), Ok(i));
                    }
                });
            }
        });
    }
}

#[test]
fn a_call_that_is_dropped_unanswered_is_internal() {
    let host = Host::new();
    let desk = Desk::new()
        .task("at_once", |call| {
            drop(call);
            async {}
        })
        .task("later", |call| async move {
            sleep(&*call, 1).await;
        })
        .thread("on_a_thread", |call| async move {
            drop(call);
        })
        .task("elsewhere", |call| async move {
            std::thread::spawn(move || drop(call)).join().unwrap();
        });
    let _running = host.serve("desk", desk);
    let methods = ["at_once", "later", "on_a_thread", "elsewhere"];
    let client = host.client("desk", &methods);
    for method in methods {
        let (code, outcome, text) = told(client.call(method, 0));
        assert_eq!((code, outcome), (Code::Internal, Outcome::Ran), "{text}");
        assert!(text.contains(method) && text.contains("dropped"), "{text}");
    }
}

#[test]
fn a_panic_in_a_future_is_internal_with_its_text_and_the_worker_lives() {
    let host = Host::new();
    let desk = Desk::new()
        .task("at_once", |call| async move {
            assert_eq!(number(&*call), 1, "asked to");
        })
        .task("later", |call| async move {
            sleep(&*call, 1).await;
            panic!("asked to {}", 7);
        })
        .thread("on_a_thread", |call| async move {
            assert_eq!(number(&*call), 1, "asked to");
        })
        .task("before", |call| {
            assert_eq!(number(&*call), 1, "asked to");
            async {}
        })
        .plain("echo", |_, number| Ok(number));
    let _running = host.serve("desk", desk);
    let methods = ["at_once", "later", "on_a_thread", "before"];
    let client = host.client("desk", &["at_once", "later", "on_a_thread", "before", "echo"]);
    for _ in 0..3 {
        for method in methods {
            let (code, outcome, text) = told(client.call(method, 0));
            assert_eq!((code, outcome), (Code::Internal, Outcome::Ran), "{text}");
            assert!(text.contains(method) && text.contains("panicked") && text.contains("asked to"), "{text}");
            assert_eq!(client.call("echo", 5), Ok(5));
        }
    }
}

#[test]
fn a_future_goes_on_after_its_answer() {
    let host = Host::new();
    let (tells, told) = mpsc::channel();
    let desk = Desk::new().task("answer", move |call| {
        let tells = tells.clone();
        async move {
            answer(call, 1);
            tells.send("went on").unwrap();
        }
    });
    let _running = host.serve("desk", desk);
    assert_eq!(host.client("desk", &["answer"]).call("answer", 0), Ok(1));
    assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok("went on"));
}

#[test]
fn a_failure_of_a_task_keeps_code_and_text() {
    let host = Host::new();
    let desk = Desk::new().task("fail", |call| async move { call.fail(Status::not_found("no such thing")) });
    let _running = host.serve("desk", desk);
    let status = host.client("desk", &["fail"]).call("fail", 0).unwrap_err();
    assert_eq!(status, Status::not_found("no such thing"));
}

#[test]
fn handlers_with_threads_of_their_own_run_at_once_beside_one_worker() {
    let host = Host::new();
    let barrier = Arc::new(Barrier::new(8));
    let desk = Desk::new()
        .thread("meet", move |call| {
            let barrier = Arc::clone(&barrier);
            async move {
                barrier.wait();
                answer(call, 0);
            }
        })
        .plain("echo", |_, number| Ok(number));
    let _running = host.serve("desk", desk);
    let client = host.client("desk", &["meet", "echo"]);
    std::thread::scope(|scope| {
        for _ in 0..7 {
            scope.spawn(|| assert_eq!(client.call("meet", 0), Ok(0)));
        }
        assert_eq!(client.call("echo", 3), Ok(3));
        assert_eq!(client.call("meet", 0), Ok(0));
    });
}

#[test]
fn one_thread_more_than_there_may_be_is_refused_and_the_others_are_used_again() {
    const MOST: u64 = 256;
    let host = Host::new();
    let (is_open, begun) = (Arc::new((Mutex::new(false), Condvar::new())), Arc::new(AtomicU64::new(0)));
    let (gate, count) = (Arc::clone(&is_open), Arc::clone(&begun));
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let seen = Arc::clone(&threads);
    let desk = Desk::new().thread("hold", move |call| {
        let (gate, count, seen) = (Arc::clone(&gate), Arc::clone(&count), Arc::clone(&seen));
        async move {
            count.fetch_add(1, Ordering::Relaxed);
            seen.lock().unwrap().insert(std::thread::current().id());
            drop(gate.1.wait_while(gate.0.lock().unwrap(), |is_open| !*is_open).unwrap());
            answer(call, 0);
        }
    });
    let _running = host.prepare("desk", desk).workers(1).max_calls(512).start().unwrap();
    let client = host.client("desk", &["hold"]);
    let hold_all = || {
        std::thread::scope(|scope| {
            let before = begun.load(Ordering::Relaxed);
            for _ in 0..MOST {
                scope.spawn(|| assert_eq!(client.call("hold", 0), Ok(0)));
            }
            while begun.load(Ordering::Relaxed) < before + MOST {
                std::thread::yield_now();
            }
            let (code, outcome, text) = told(client.call("hold", 0));
            assert_eq!((code, outcome), (Code::ResourceExhausted, Outcome::NotRun), "{text}");
            *is_open.0.lock().unwrap() = true;
            is_open.1.notify_all();
        });
        *is_open.0.lock().unwrap() = false;
    };
    hold_all();
    hold_all();
    assert!(threads.lock().unwrap().len() <= MOST as usize + 8, "threads are used again");
}

#[test]
fn asynchronous_handlers_run_where_the_service_is_told() {
    let host = Host::new();
    let (sends, takes) = mpsc::channel::<CallFuture>();
    let runs = std::thread::spawn(move || {
        for future in takes {
            poll_to_the_end(future);
        }
    });
    let here = runs.thread().id();
    let desk = Desk::new().task("where", move |call| async move {
        answer(call, u64::from(std::thread::current().id() == here));
    });
    let spawn = move |future: CallFuture| sends.send(future).expect("the thread lives");
    let running = host.prepare("desk", desk).runtime(spawn).start().unwrap();
    assert_eq!(host.client("desk", &["where"]).call("where", 0), Ok(1));
    running.stop();
    runs.join().unwrap();
}

/// Polls on this thread; enough for futures that never wait.
fn poll_to_the_end(mut future: CallFuture) {
    let mut cx = std::task::Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut cx).is_pending() {
        std::thread::yield_now();
    }
}

#[test]
fn cancelled_is_awaited_until_the_deadline() {
    let host = Host::new();
    let (tells, told) = mpsc::channel();
    let on_thread = tells.clone();
    let desk = Desk::new()
        .task("task", move |call| {
            let tells = tells.clone();
            async move {
                call.context().cancelled().await;
                tells.send(call.context().is_cancelled()).unwrap();
            }
        })
        .thread("thread", move |call| {
            let tells = on_thread.clone();
            async move {
                call.context().cancelled().await;
                tells.send(call.context().is_cancelled()).unwrap();
            }
        });
    let _running = host.serve("desk", desk);
    let client = host.client("desk", &["task", "thread"]);
    for method in ["task", "thread"] {
        // By whichever side is the first to tell: ours, or the handler that drops the call.
        client.call_within(method, 0, Some(Duration::from_millis(50))).unwrap_err();
        assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(true), "{method}");
    }
}

#[test]
fn metadata_and_the_form_of_a_message_arrive() {
    let host = Host::new();
    let user = |ctx: &service_core::Context<'_>| ctx.metadata().map_or(0, |found| found.baggage[0].1.len() as u64);
    let desk = Desk::new().plain("plain", move |ctx, _| Ok(user(ctx))).task("task", move |call| async move {
        let found = user(&call.context());
        let form = u64::from(call.form() == Form::Dynamic) * 100;
        assert!(form > 0 || number(&*call) == 9);
        answer(call, found + form);
    });
    let _running = host.serve("desk", desk);
    let address: Address = "desk".parse().unwrap();
    let transport = host.runtime.connect(&address, None).unwrap();
    let metadata = Metadata { baggage: vec![("user".into(), "ada".into())], ..Metadata::default() };
    let call = |index, form| {
        let message = Message(&(9_u64,));
        let request = CallRequest::new(MethodIndex(index), None, &message);
        let request = CallRequest { metadata: Some(&metadata), form, ..request };
        let mut reply = Reply::<u64>::new();
        transport.call(&request, &mut reply, &mut CallTimes::default()).and_then(|()| reply.into_value())
    };
    assert_eq!(call(0, Form::Typed), Ok(3));
    assert_eq!(call(1, Form::Typed), Ok(3));
    assert_eq!(call(0, Form::Dynamic), Ok(8), "the bytes of the number");
    assert_eq!(call(1, Form::Dynamic), Ok(103));
}

#[test]
fn a_large_request_is_there_as_long_as_its_task() {
    for trust in [service_local::Trust::CHECKED, service_local::Trust::ISOLATED] {
        let host = Host::new();
        let descriptor = || service_core::ServiceDescriptor {
            trait_name: "Lengths".into(),
            version: String::new(),
            methods: vec![service_core::MethodDescriptor::of::<(Vec<u8>,), u64>("sum")],
        };
        let running = host.runtime.serve("lengths".parse().unwrap(), Arc::new(Lengths(descriptor())));
        let _running = running.workers(1).trust(trust).accept_sealed(true).start().unwrap();
        let transport = host.runtime.connect(&"lengths".parse().unwrap(), None).unwrap();
        for len in [0, 10, 1000, 100_000, 20 << 20] {
            let message = Message(&(vec![3_u8; len],));
            let mut reply = Reply::<u64>::new();
            let request = CallRequest::new(MethodIndex(0), None, &message);
            transport.call(&request, &mut reply, &mut CallTimes::default()).unwrap();
            assert_eq!(reply.into_value().unwrap(), 3 * len as u64, "{trust}");
        }
    }
}

/// Sums bytes after a while.
struct Lengths(service_core::ServiceDescriptor);

impl service_core::Handler for Lengths {
    fn descriptor(&self) -> &service_core::ServiceDescriptor {
        &self.0
    }

    fn call(
        &self,
        _: &service_core::Context<'_>,
        method: MethodIndex,
        _: &[u8],
        _: &mut dyn service_core::ReplySink,
    ) -> Result<(), Status> {
        Err(self.0.unknown_method(method))
    }

    fn style(&self, _: MethodIndex) -> service_core::Style {
        service_core::Style::Task
    }

    fn start(self: Arc<Self>, call: Box<dyn service_core::ServerCall>) -> CallFuture {
        Box::pin(async move {
            sleep(&*call, 1).await;
            let bytes = service_core::access::<(Vec<u8>,)>(call.request()).unwrap();
            let sum: u64 = bytes.0.iter().map(|byte| u64::from(*byte)).sum();
            answer(call, sum);
        })
    }
}

#[test]
fn a_service_that_stops_waits_for_tasks_and_their_callers_are_answered() {
    let host = Host::new();
    let (tells, told) = mpsc::channel();
    let desk = Desk::new().task("sleep", move |call| {
        let tells = tells.clone();
        async move {
            tells.send(()).unwrap();
            let ms = number(&*call);
            sleep(&*call, ms).await;
            answer(call, ms);
        }
    });
    let running = host.serve("desk", desk);
    let client = host.client("desk", &["sleep"]);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..5).map(|_| scope.spawn(|| client.call("sleep", 300))).collect();
        for _ in 0..5 {
            told.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        running.stop();
        for call in calls {
            assert_eq!(call.join().unwrap(), Ok(300));
        }
    });
}

struct TellsWhenDropped(mpsc::Sender<&'static str>);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

#[test]
fn tasks_that_never_end_are_dropped_at_the_stop_and_their_callers_told() {
    let host = Host::new();
    let (tells, told) = mpsc::channel();
    let desk = Desk::new().task("for_ever", move |call| {
        let tells = TellsWhenDropped(tells.clone());
        async move {
            tells.0.send("begun").unwrap();
            std::future::pending::<()>().await;
            drop((call, tells));
        }
    });
    let running = host.serve("desk", desk);
    let client = host.client("desk", &["for_ever"]);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.call("for_ever", 0));
        assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok("begun"));
        let started = Instant::now();
        running.stop();
        assert!(started.elapsed() < Duration::from_secs(20));
        let status = call.join().unwrap().unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::MayHaveRun), "{status}");
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok("dropped"));
}

#[test]
fn a_task_can_stop_its_own_service() {
    let host = Host::new();
    let holds: Arc<Mutex<Option<service_local::RunningService>>> = Arc::default();
    let stops = Arc::clone(&holds);
    let desk = Desk::new().task("stop", move |call| {
        let running = stops.lock().unwrap().take();
        async move {
            answer(call, 1);
            drop(running);
        }
    });
    *holds.lock().unwrap() = Some(host.serve("desk", desk));
    let client = host.client("desk", &["stop"]);
    assert_eq!(client.call("stop", 0), Ok(1));
    while host.runtime.connect(&"desk".parse().unwrap(), None).is_ok_and(|transport| transport.is_alive()) {
        std::thread::yield_now();
    }
}

const DIRECTORY: &str = "LATER_DIRECTORY";

/// Serves until it is killed.
pub const SERVICE: Role = ("a service with tasks", |mut line: Line| {
    let dir = std::env::var_os(DIRECTORY).unwrap();
    let host = Host::at(Path::new(&dir));
    let begun = line.voice();
    let begun = Arc::new(Mutex::new(begun));
    let desk = Desk::new().task("hold", move |call| {
        let begun = Arc::clone(&begun);
        async move {
            begun.lock().unwrap().say("begun");
            sleep(&*call, 60_000).await;
            answer(call, 0);
        }
    });
    let _running = host.serve("desk", desk);
    line.say("serving");
    line.hear();
});

#[test]
fn callers_of_tasks_learn_of_the_death_of_the_service() {
    let host = Host::new();
    let mut service = Child::start(SERVICE.0, &[(DIRECTORY, host.dir())]);
    service.expect("serving");
    let client = host.client("desk", &["hold"]);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3).map(|_| scope.spawn(|| client.call("hold", 0))).collect();
        for _ in 0..3 {
            service.expect("begun");
        }
        service.kill();
        for call in calls {
            let status = call.join().unwrap().unwrap_err();
            assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::MayHaveRun), "{status}");
        }
    });
}
