//! Calls that handlers make while they answer one.

use std::path::Path;
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context as Wakers, Waker};
use std::time::{Duration, Instant};

use service_core::{Code, Outcome};
use test_support::child::{Child, Line, Role};

use crate::desk::{Client, Desk, Host, answer, number};

/// A client that is there once its service is.
type Later = Arc<OnceLock<Client>>;

/// Services that call each other in turn come to an end with one worker each.
#[test]
fn reentrant_call() {
    let host = Host::new();
    let (a, b) = (Later::default(), Later::default());
    let to_b = Arc::clone(&b);
    let desk_a = Desk::new().plain("count", move |_, left| match left {
        0 => Ok(0),
        left => Ok(1 + to_b.get().unwrap().call("count", left - 1)?),
    });
    let to_a = Arc::clone(&a);
    let desk_b = Desk::new().plain("count", move |_, left| match left {
        0 => Ok(0),
        left => Ok(1 + to_a.get().unwrap().call("count", left - 1)?),
    });
    let _running = (host.serve("desk.a", desk_a), host.serve("desk.b", desk_b));
    let _ = a.set(host.client("desk.a", &["count"]));
    let _ = b.set(host.client("desk.b", &["count"]));
    let client = a.get().unwrap();
    for left in [0, 1, 2, 3, 10, 31] {
        assert_eq!(client.call("count", left), Ok(left));
    }
    // Several at once, each as deep as may be.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(client.call("count", 20), Ok(20)));
        }
    });
}

#[test]
fn a_service_that_calls_itself_is_answered_until_the_chain_is_too_deep() {
    let host = Host::new();
    let own = Later::default();
    let to_self = Arc::clone(&own);
    let desk = Desk::new().plain("count", move |_, left| match left {
        0 => Ok(0),
        left => Ok(1 + to_self.get().unwrap().call("count", left - 1)?),
    });
    let _running = host.serve("desk", desk);
    let _ = own.set(host.client("desk", &["count"]));
    let client = own.get().unwrap();
    assert_eq!(client.call("count", 32), Ok(32));
    let status = client.call("count", 33).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("too deep"), "{status}");
    assert_eq!(client.call("count", 3), Ok(3));
}

#[test]
fn more_chains_than_there_can_be_workers_end_with_a_status() {
    let host = Host::new();
    let own = Later::default();
    let to_self = Arc::clone(&own);
    let desk = Desk::new().plain("count", move |_, left| match left {
        0 => Ok(0),
        left => Ok(1 + to_self.get().unwrap().call("count", left - 1)?),
    });
    let _running = host.serve("desk", desk);
    let _ = own.set(host.client("desk", &["count"]));
    let client = own.get().unwrap();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..12).map(|_| scope.spawn(|| client.call("count", 30))).collect();
        for call in calls {
            match call.join().unwrap() {
                Ok(count) => assert_eq!(count, 30),
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
            }
        }
    });
    assert_eq!(client.call("count", 30), Ok(30));
}

#[test]
fn calls_of_tasks_and_threads_come_back_too() {
    let host = Host::new();
    let own = Later::default();
    let (of_task, of_thread) = (Arc::clone(&own), Arc::clone(&own));
    let desk = Desk::new()
        .task("task", move |call| {
            let to_self = Arc::clone(&of_task);
            async move {
                let left = number(&*call);
                // A task that blocks its worker, as it should not.
                let below = if left == 0 { Ok(0) } else { to_self.get().unwrap().call("thread", left - 1) };
                match below {
                    Ok(below) => answer(call, below + 1),
                    Err(status) => call.fail(status),
                }
            }
        })
        .thread("thread", move |call| {
            let to_self = Arc::clone(&of_thread);
            async move {
                let left = number(&*call);
                let below = if left == 0 { Ok(0) } else { to_self.get().unwrap().call("task", left - 1) };
                match below {
                    Ok(below) => answer(call, below + 1),
                    Err(status) => call.fail(status),
                }
            }
        });
    let _running = host.serve("desk", desk);
    let _ = own.set(host.client("desk", &["task", "thread"]));
    assert_eq!(own.get().unwrap().call("task", 20), Ok(21));
    assert_eq!(own.get().unwrap().call("task", 40).unwrap_err().code(), Code::FailedPrecondition);
}

#[test]
fn a_worker_that_waits_is_stood_in_for() {
    let host = Host::new();
    let (holds, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let slow = Desk::new().plain("hold", move |_, number| {
        held.lock().unwrap().recv().unwrap();
        Ok(number)
    });
    let _slow = host.serve("desk.slow", slow);
    let to_slow = host.client("desk.slow", &["hold"]);
    let desk = Desk::new()
        .plain("pass_on", move |_, number| to_slow.call("hold", number))
        .plain("echo", |_, number| Ok(number));
    let _running = host.serve("desk", desk);
    let client = host.client("desk", &["pass_on", "echo"]);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| client.call("pass_on", 5));
        // The one worker is kept by the other service, which is kept by us.
        for i in 0..10 {
            assert_eq!(client.call("echo", i), Ok(i));
        }
        holds.send(()).unwrap();
        assert_eq!(waits.join().unwrap(), Ok(5));
    });
}

#[test]
fn the_time_that_is_left_goes_along() {
    let host = Host::new();
    let left = Desk::new().plain("left", |ctx, _| Ok(ctx.remaining().map_or(0, |left| left.as_millis() as u64)));
    let _left = host.serve("desk.left", left);
    let of_plain = host.client("desk.left", &["left"]);
    let of_task = of_plain.clone();
    let desk = Desk::new()
        .plain("plain", move |_, ms| of_plain.call_within("left", 0, Some(Duration::from_millis(ms))))
        .task("task", move |call| {
            let client = of_task.clone();
            async move {
                let found = client.call_within("left", 0, Some(Duration::from_millis(number(&*call))));
                answer(call, found.unwrap());
            }
        });
    let _running = host.serve("desk", desk);
    let client = host.client("desk", &["plain", "task"]);
    for method in ["plain", "task"] {
        let left = client.call_within(method, 1_000_000, Some(Duration::from_secs(50))).unwrap();
        assert!((30_000..=50_000).contains(&left), "{method}: {left} ms of fifty seconds");
        let left = client.call_within(method, 20_000, Some(Duration::from_secs(50))).unwrap();
        assert!((10_000..=20_000).contains(&left), "{method}: {left} ms of the handler's own twenty seconds");
        let left = client.call(method, 1_000_000).unwrap();
        assert!(left > 900_000, "{method}: {left} ms without a limit");
    }
}

const DIRECTORY: &str = "LATER_NESTED_DIRECTORY";

/// Calls, and is killed in the middle of it.
pub const CALLER: Role = ("a caller", |line: Line| {
    let dir = std::env::var_os(DIRECTORY).unwrap();
    let host = Host::at(Path::new(&dir));
    let client = host.client("desk.first", &["plain"]);
    line.say("connected");
    let _ = client.call("plain", 0);
});

#[test]
fn the_death_of_a_caller_is_told_over_two_hops() {
    let host = Host::new();
    let (tells, told) = mpsc::channel();
    let last = Desk::new().plain("hold", move |ctx, _| {
        tells.send("begun").unwrap();
        let started = Instant::now();
        while !ctx.is_cancelled() {
            assert!(started.elapsed() < Duration::from_secs(60), "nobody told");
            std::thread::yield_now();
        }
        tells.send("cancelled").unwrap();
        Ok(0)
    });
    let _last = host.serve("desk.last", last);
    let to_last = host.client("desk.last", &["hold"]);
    let (tells_of_first, told_of_first) = mpsc::channel();
    let first = Desk::new().plain("plain", move |_, number| {
        let result = to_last.call("hold", number);
        tells_of_first.send(result.clone()).unwrap();
        result
    });
    let _first = host.serve("desk.first", first);
    let mut caller = Child::start(CALLER.0, &[(DIRECTORY, host.dir())]);
    caller.expect("connected");
    assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok("begun"));
    caller.kill();
    assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok("cancelled"));
    let status = told_of_first.recv_timeout(Duration::from_secs(30)).unwrap().unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Cancelled, Outcome::MayHaveRun), "{status}");
}

#[test]
fn a_future_that_is_dropped_is_told_over_two_hops() {
    let host = Host::new();
    let (tells, told) = mpsc::channel();
    let last = Desk::new().task("hold", move |call| {
        let tells = tells.clone();
        async move {
            tells.send("begun").unwrap();
            call.context().cancelled().await;
            tells.send("cancelled").unwrap();
        }
    });
    let _last = host.serve("desk.last", last);
    let to_last = host.client("desk.last", &["hold"]);
    let (tells, told_of_first) = mpsc::channel();
    let (of_task, of_thread, tells_of_task, tells_of_thread) =
        (to_last.clone(), to_last.clone(), tells.clone(), tells.clone());
    let first = Desk::new()
        .plain("plain", move |_, number| {
            let result = to_last.call("hold", number);
            tells.send(result.clone()).unwrap();
            result
        })
        .task("task", move |call| {
            let (client, tells) = (of_task.clone(), tells_of_task.clone());
            async move {
                let result = client.call_async("hold", number(&*call)).await;
                tells.send(result).unwrap();
            }
        })
        .thread("thread", move |call| {
            let (client, tells) = (of_thread.clone(), tells_of_thread.clone());
            async move {
                let result = client.call("hold", number(&*call));
                tells.send(result).unwrap();
            }
        });
    let _first = host.serve("desk.first", first);
    let client = host.client("desk.first", &["plain", "task", "thread"]);
    for method in ["plain", "task", "thread"] {
        for _ in 0..3 {
            let mut call = Box::pin(client.call_async(method, 0));
            assert!(call.as_mut().poll(&mut Wakers::from_waker(Waker::noop())).is_pending());
            assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok("begun"), "{method}");
            drop(call);
            assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok("cancelled"), "{method}");
            let status = told_of_first.recv_timeout(Duration::from_secs(30)).unwrap().unwrap_err();
            assert_eq!((status.code(), status.outcome()), (Code::Cancelled, Outcome::MayHaveRun), "{method}: {status}");
        }
    }
}

#[test]
fn asynchronous_chains_come_back_and_keep_nobody() {
    let host = Host::new();
    let (a, b) = (Later::default(), Later::default());
    let desk = |other: &Later| {
        let other = Arc::clone(other);
        Desk::new().task("count", move |call| {
            let other = other.get().cloned();
            async move {
                let left = number(&*call);
                let below = match other {
                    Some(other) if left > 0 => other.call_async("count", left - 1).await.map(|below| below + 1),
                    _ => Ok(0),
                };
                match below {
                    Ok(count) => answer(call, count),
                    Err(status) => call.fail(status),
                }
            }
        })
    };
    let _running = (host.serve("desk.a", desk(&b)), host.serve("desk.b", desk(&a)));
    let _ = a.set(host.client("desk.a", &["count"]));
    let _ = b.set(host.client("desk.b", &["count"]));
    let client = a.get().unwrap();
    std::thread::scope(|scope| {
        for left in [0, 1, 2, 7, 32, 32, 32, 32] {
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(client.call("count", left), Ok(left));
                }
            });
        }
    });
    assert_eq!(client.call("count", 33).unwrap_err().code(), Code::FailedPrecondition);
}
