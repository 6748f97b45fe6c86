//! Calls through the facade, both ends in this process but joined by the socket and the shared memory all the same.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use switchboard::prelude::*;

use support::{Demo, DemoClient, DemoServer, Point, Polygon, board};

struct Plain;

impl Demo for Plain {
    fn echo(&self, _ctx: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status> {
        Ok(body)
    }
    fn sum(&self, _ctx: &Context<'_>, values: &Archived<Vec<f32>>, scale: f32) -> Result<f32, Status> {
        Ok(values.iter().map(|value| value.to_native()).sum::<f32>() * scale)
    }
    fn repeat(&self, _ctx: &Context<'_>, text: &str, times: u32) -> Result<String, Status> {
        Ok(text.repeat(times as usize))
    }
    fn bytes(&self, _ctx: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status> {
        Ok(bytes.iter().rev().copied().collect())
    }
    fn perimeter(&self, _ctx: &Context<'_>, polygon: &Archived<Polygon>) -> Result<Point, Status> {
        let count = polygon.points.len() as f64;
        Ok(Point { x: count, y: polygon.name.len() as f64 })
    }
    fn fail(&self, _ctx: &Context<'_>, code: u8) -> Result<(), Status> {
        match code {
            0 => panic!("asked to"),
            _ => Err(Status::not_found("no such thing")),
        }
    }
    fn late(&self, _ctx: &Context<'_>, ms: u64, len: u32) -> Result<Vec<u8>, Status> {
        let until = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        Ok(vec![1; len as usize])
    }
    fn work(&self, ctx: &Context<'_>, ms: u64) -> Result<bool, Status> {
        let until = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < until && !ctx.is_cancelled() {
            std::thread::yield_now();
        }
        let cancelled = ctx.is_cancelled();
        // A deadline is seen here as soon as by the caller: answer too late on purpose.
        let late = Instant::now() + Duration::from_millis(if cancelled { 10 } else { 0 });
        while Instant::now() < late {
            std::thread::yield_now();
        }
        Ok(cancelled)
    }
}

#[test]
fn strings_vectors_and_nested_structs_go_both_ways() {
    let (board, _dir) = board();
    let _running = board.serve("demo.plain", DemoServer::new(Plain)).start().unwrap();
    let client = DemoClient::connect(&board, "demo.plain").unwrap();
    assert_eq!(client.echo([7; 8]).unwrap(), [7; 8]);
    assert_eq!(client.sum(&vec![1.0, 2.0, 3.5], 2.0).unwrap(), 13.0);
    assert_eq!(client.repeat("ab", 3).unwrap(), "ababab");
    assert_eq!(client.bytes(b"abc").unwrap(), b"cba");
    let polygon = Polygon { name: "flag".into(), points: vec![Point { x: 1.0, y: 2.0 }; 5] };
    assert_eq!(client.perimeter(&polygon).unwrap(), Point { x: 5.0, y: 4.0 });
}

#[test]
fn payloads_of_every_size_arrive_whole() {
    let (board, _dir) = board();
    let _running = board.serve("demo.sizes", DemoServer::new(Plain)).start().unwrap();
    let client = DemoClient::connect(&board, "demo.sizes").unwrap();
    let sizes = (0..300).chain([1000, 4095, 4096, 4097, 16_383, 16_384, 16_385, 70_000, 1 << 20, (16 << 20) + 3]);
    for size in sizes {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let reply = client.bytes(&bytes).unwrap_or_else(|status| panic!("{size} bytes: {status}"));
        assert!(reply.iter().rev().eq(bytes.iter()), "{size} bytes");
    }
}

#[test]
fn blocks_come_back_after_each_call() {
    let (board, _dir) = board();
    let _running = board.serve("demo.blocks", DemoServer::new(Plain)).start().unwrap();
    let client = DemoClient::connect(&board, "demo.blocks").unwrap();
    for size in [900, 15_000, 200_000] {
        let bytes = vec![5; size];
        for _ in 0..2_000 / (size / 1000 + 1) {
            assert_eq!(client.bytes(&bytes).unwrap().len(), size);
        }
    }
}

#[test]
fn a_reply_is_read_in_place_by_the_with_form() {
    let (board, _dir) = board();
    let _running = board.serve("demo.place", DemoServer::new(Plain)).start().unwrap();
    let client = DemoClient::connect(&board, "demo.place").unwrap();
    let len = client.repeat_with("xyz", 10_000, |text: &Archived<String>| text.len()).unwrap();
    assert_eq!(len, 30_000);
}

#[test]
fn a_panic_in_a_handler_is_internal_and_the_worker_lives() {
    let (board, _dir) = board();
    let _running = board.serve("demo.panic", DemoServer::new(Plain)).workers(1).start().unwrap();
    let client = DemoClient::connect(&board, "demo.panic").unwrap();
    for _ in 0..5 {
        let status = client.fail(0).unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Internal, Outcome::Ran));
        assert!(status.message().contains("asked to") && status.message().contains("fail"), "{status}");
        assert_eq!(client.echo([1; 8]).unwrap(), [1; 8]);
    }
}

#[test]
fn a_handlers_error_keeps_its_code_and_message() {
    let (board, _dir) = board();
    let _running = board.serve("demo.error", DemoServer::new(Plain)).start().unwrap();
    let client = DemoClient::connect(&board, "demo.error").unwrap();
    assert_eq!(client.fail(1).unwrap_err(), Status::not_found("no such thing"));
}

#[test]
fn an_unknown_service_is_told_at_once_with_name_and_directory() {
    let (board, dir) = board();
    let started = Instant::now();
    let status = DemoClient::connect(&board, "demo.nobody").unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::NotFound, Outcome::NotRun));
    assert!(status.message().contains("demo.nobody"), "{status}");
    assert!(status.message().contains(dir.path().to_str().unwrap()), "{status}");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_bad_name_is_refused_for_either_side() {
    let (board, _dir) = board();
    for name in ["", "a/b", "a..b", &"x".repeat(10_000), "a\0b"] {
        let status = DemoClient::connect(&board, name).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name}");
        let status = board.serve(name, DemoServer::new(Plain)).start().unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name}");
    }
}

#[test]
fn the_longest_legal_name_can_be_served_and_called() {
    let (board, _dir) = board();
    let name = format!("{}.{}@{}", "a".repeat(32), "b".repeat(31), "c".repeat(16));
    let _running = board.serve(&name, DemoServer::new(Plain)).start().unwrap();
    assert_eq!(DemoClient::connect(&board, &name).unwrap().echo([1; 8]).unwrap(), [1; 8]);
}

#[test]
fn a_deadline_during_growth_harms_no_other_call() {
    let (board, _dir) = board();
    let _running = board.serve("demo.grow", DemoServer::new(Plain)).start().unwrap();
    let client = DemoClient::connect(&board, "demo.grow").unwrap();
    let hasty = client.clone().with_timeout(Duration::from_micros(500));
    // Half a gigabyte cannot be made ready in half a millisecond.
    let status = hasty.bytes(&vec![0; 1 << 29]).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::DeadlineExceeded, Outcome::NotRun), "{status}");
    assert_eq!(client.bytes(b"abc").unwrap(), b"cba");
}

#[test]
fn replies_that_nobody_waited_for_give_their_blocks_back() {
    let (board, _dir) = board();
    let _running = board.serve("demo.unread", DemoServer::new(Plain)).workers(1).start().unwrap();
    let client = DemoClient::connect(&board, "demo.unread").unwrap();
    let hasty = client.clone().with_timeout(Duration::from_millis(5));
    for _ in 0..80 {
        // A late reply of a megabyte each; more of them than a connection may have segments.
        let _ = hasty.late(10, 1_100_000);
    }
    assert_eq!(client.late(0, 1_100_000).unwrap().len(), 1_100_000);
}

#[test]
fn a_handler_that_passes_on_a_call_that_did_not_run_has_run_itself() {
    struct Passing(Switchboard);
    impl support::Gate for Passing {
        fn hold(&self, _: &Context<'_>) -> Result<(), Status> {
            DemoClient::connect(&self.0, "demo.nobody").map(drop)
        }
        fn count(&self, _: &Context<'_>) -> Result<(), Status> {
            Ok(())
        }
    }
    let (board, _dir) = board();
    let _running = board.serve("demo.passing", support::GateServer::new(Passing(board.clone()))).start().unwrap();
    let status = support::GateClient::connect(&board, "demo.passing").unwrap().hold().unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::NotFound, Outcome::Ran), "{status}");
}

#[test]
fn threads_that_need_room_at_once_all_get_it() {
    let (board, _dir) = board();
    let _running = board.serve("demo.rush", DemoServer::new(Plain)).workers(2).start().unwrap();
    let client = DemoClient::connect(&board, "demo.rush").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..20 {
                    let bytes = vec![thread as u8; 70_000 + round * 1_000];
                    assert_eq!(client.bytes(&bytes).unwrap(), bytes);
                }
            });
        }
    });
    let large = vec![1; 3 << 20];
    assert_eq!(client.bytes(&large).unwrap(), large, "places for other sizes are left");
}

#[test]
fn a_deadline_covers_the_reconnection_to_a_service_that_does_not_answer() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

    let (board, dir) = board();
    let running = board.serve("demo.mute", DemoServer::new(Plain)).start().unwrap();
    let client = DemoClient::connect(&board, "demo.mute").unwrap();
    assert_eq!(client.echo([1; 8]).unwrap(), [1; 8]);
    running.stop();
    // Listens under the same name, and never says a word.
    let flags = SocketFlags::CLOEXEC;
    let mute = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let path = dir.path().join("default/demo.mute@1.sock");
    rustix::net::bind(&mute, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&mute, 16).unwrap();
    let hasty = client.with_timeout(Duration::from_millis(50));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Until the news of the end has come, a call may still go into the old connection and end with it.
                let status = loop {
                    let status = hasty.echo([2; 8]).unwrap_err();
                    assert_eq!(status.outcome(), Outcome::NotRun, "{status}");
                    if status.code() != Code::Unavailable {
                        break status;
                    }
                };
                assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
            });
        }
    });
    assert!(started.elapsed() < Duration::from_secs(3), "far below the five seconds that connecting may take");
}

#[test]
fn two_services_cannot_have_one_instance() {
    let (board, _dir) = board();
    let running = board.serve("demo.twice@a", DemoServer::new(Plain)).start().unwrap();
    let status = board.serve("demo.twice@a", DemoServer::new(Plain)).start().unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains(&std::process::id().to_string()), "{status}");
    let _other = board.serve("demo.twice@b", DemoServer::new(Plain)).start().unwrap();
    running.stop();
    let _again = board.serve("demo.twice@a", DemoServer::new(Plain)).start().unwrap();
}

/// Other programs' views of the service; only their clients are used.
#[allow(dead_code)]
mod changed {
    use switchboard::prelude::*;

    /// The same service in a later version: one method with another type, one more.
    #[service]
    pub trait Demo {
        fn echo(&self, ctx: &Context<'_>, body: [u64; 9]) -> Result<[u64; 8], Status>;
    }

    pub mod added {
        use switchboard::prelude::*;

        #[service]
        pub trait Demo {
            fn echo(&self, ctx: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status>;
            fn later(&self, ctx: &Context<'_>) -> Result<u8, Status>;
        }
    }
}

/// Another type under the same name is refused when a client connects, with both types' names.
#[test]
fn schema_changed_same_name() {
    let (board, _dir) = board();
    let _running = board.serve("demo.types", DemoServer::new(Plain)).start().unwrap();
    let status = changed::DemoClient::connect(&board, "demo.types").unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::FailedPrecondition, Outcome::NotRun));
    assert!(status.message().contains("[u64; 8]") && status.message().contains("[u64; 9]"), "{status}");
}

#[test]
fn a_method_the_server_lacks_is_unimplemented_and_the_others_work() {
    let (board, _dir) = board();
    let _running = board.serve("demo.older", DemoServer::new(Plain)).start().unwrap();
    let client = changed::added::DemoClient::connect(&board, "demo.older").unwrap();
    assert_eq!(client.echo([3; 8]).unwrap(), [3; 8]);
    let status = client.later().unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Unimplemented, Outcome::NotRun));
    assert!(status.message().contains("later"), "{status}");
}

#[test]
fn a_deadline_ends_a_call_on_time_and_the_handler_learns_of_it() {
    let (board, _dir) = board();
    let _running = board.serve("demo.late", DemoServer::new(Plain)).workers(1).start().unwrap();
    let client = DemoClient::connect(&board, "demo.late").unwrap();
    let hasty = client.clone().with_timeout(Duration::from_millis(20));
    let started = Instant::now();
    let status = hasty.work(10_000).unwrap_err();
    let waited = started.elapsed();
    assert_eq!((status.code(), status.outcome()), (Code::DeadlineExceeded, Outcome::MayHaveRun));
    assert!(waited >= Duration::from_millis(20), "{waited:?}");
    // The only worker answers again long before the ten seconds: the handler saw that nobody waits.
    assert_eq!(client.echo([1; 8]).unwrap(), [1; 8]);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn timed_out_calls_give_their_slots_back() {
    let (board, _dir) = board();
    let _running = board.serve("demo.slots", DemoServer::new(Plain)).workers(1).start().unwrap();
    let client = DemoClient::connect(&board, "demo.slots").unwrap();
    let hasty = client.clone().with_timeout(Duration::from_micros(300));
    for _ in 0..400 {
        // More than there are slots; each ends with its deadline, with or without a reply.
        let _ = hasty.work(1);
    }
    assert_eq!(client.echo([1; 8]).unwrap(), [1; 8]);
}

/// Counts how often a handler really ran.
struct Counting {
    ran: Arc<AtomicU32>,
    gate: Arc<Barrier>,
}

impl support::Gate for Counting {
    fn hold(&self, _ctx: &Context<'_>) -> Result<(), Status> {
        self.gate.wait();
        self.gate.wait();
        Ok(())
    }
    fn count(&self, _ctx: &Context<'_>) -> Result<(), Status> {
        self.ran.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn an_expired_request_is_dropped_before_its_handler() {
    let (board, _dir) = board();
    let (ran, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Barrier::new(2)));
    let handler = Counting { ran: Arc::clone(&ran), gate: Arc::clone(&gate) };
    let _running = board.serve("demo.gate", support::GateServer::new(handler)).workers(1).start().unwrap();
    let client = support::GateClient::connect(&board, "demo.gate").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| client.hold().unwrap());
        gate.wait(); // the only worker is in `hold`
        let hasty = client.clone().with_timeout(Duration::from_millis(5));
        for _ in 0..10 {
            assert_eq!(hasty.count().unwrap_err().code(), Code::DeadlineExceeded);
        }
        gate.wait();
    });
    client.count().unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 1, "only the last one ran");
}

#[test]
fn a_slow_method_does_not_delay_a_fast_one_while_a_worker_is_free() {
    let (board, _dir) = board();
    let (ran, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Barrier::new(2)));
    let handler = Counting { ran, gate: Arc::clone(&gate) };
    let _running = board.serve("demo.fair", support::GateServer::new(handler)).workers(2).start().unwrap();
    let client = support::GateClient::connect(&board, "demo.fair").unwrap();
    for _ in 0..20 {
        client.count().unwrap(); // known as short from now on
    }
    std::thread::scope(|scope| {
        scope.spawn(|| client.hold().unwrap());
        gate.wait();
        // One worker is held for as long as we like; these can only be answered by the other.
        for _ in 0..100 {
            client.count().unwrap();
        }
        gate.wait();
    });
}

#[test]
fn stopping_tells_waiting_callers_that_their_calls_did_not_run() {
    let (board, _dir) = board();
    let (ran, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Barrier::new(2)));
    let handler = Counting { ran: Arc::clone(&ran), gate: Arc::clone(&gate) };
    let running = board.serve("demo.stop", support::GateServer::new(handler)).workers(1).start().unwrap();
    let client = support::GateClient::connect(&board, "demo.stop").unwrap();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| client.hold());
        gate.wait();
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| client.count())).collect();
        let stopping = scope.spawn(move || running.stop());
        // The stop must be under way before the worker is let go; its first visible effect is the closed door.
        while board.list().unwrap().iter().any(|info| info.address.service.as_str() == "demo.stop") {
            std::thread::yield_now();
        }
        gate.wait();
        held.join().unwrap().unwrap();
        let mut not_run = 0;
        for call in waiting {
            match call.join().unwrap() {
                // A call may have slipped in before the stop, or connected too late.
                Ok(()) => {}
                Err(status) => {
                    assert_eq!(status.outcome(), Outcome::NotRun, "{status}");
                    not_run += 1;
                }
            }
        }
        stopping.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 4 - not_run);
    });
}

#[test]
fn a_client_survives_the_restart_of_its_service() {
    let (board, _dir) = board();
    let running = board.serve("demo.again", DemoServer::new(Plain)).start().unwrap();
    let client = DemoClient::connect(&board, "demo.again").unwrap();
    assert_eq!(client.echo([1; 8]).unwrap(), [1; 8]);
    running.stop();
    let status = client.echo([2; 8]).unwrap_err();
    assert_eq!(status.outcome(), Outcome::NotRun, "{status}");
    let _running = board.serve("demo.again", DemoServer::new(Plain)).start().unwrap();
    assert_eq!(client.echo([3; 8]).unwrap(), [3; 8]);
}

#[test]
fn threads_share_one_connection_and_get_their_own_replies() {
    let (board, _dir) = board();
    let running = board.serve("demo.shared", DemoServer::new(Plain)).workers(2).start().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let board = &board;
            scope.spawn(move || {
                let client = DemoClient::connect(board, "demo.shared").unwrap();
                for i in 0..2_000 {
                    let body = [thread, i, thread ^ i, 3, 4, 5, 6, thread * i];
                    assert_eq!(client.echo(body).unwrap(), body);
                }
            });
        }
    });
    assert_eq!(running.connections(), 1);
}

#[test]
fn the_number_of_threads_does_not_grow_with_connections() {
    // A thread names itself when it begins to run, so right after the start the name of one may be missing.
    let ours = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name =
            |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
        tasks.filter_map(name).filter(|name| name.starts_with("demo.many") || name.starts_with("switchboard-w")).count()
    };
    let (server_board, dir) = board();
    let running = server_board.serve("demo.many", DemoServer::new(Plain)).workers(2).start().unwrap();
    let mut clients = Vec::new();
    for _ in 0..100 {
        // A switchboard of its own has a connection cache of its own.
        let board = Switchboard::builder().in_process(false).runtime_dir(dir.path()).open().unwrap();
        let client = DemoClient::connect(&board, "demo.many").unwrap();
        assert_eq!(client.echo([1; 8]).unwrap(), [1; 8]);
        clients.push((client, board));
        if clients.len() == 1 {
            while ours() < 3 {
                std::thread::yield_now();
            }
            assert_eq!(ours(), 3, "two workers and the watcher");
        }
    }
    assert_eq!(running.connections(), 100);
    assert_eq!(ours(), 3);
}
