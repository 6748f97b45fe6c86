//! SIGKILL of a service while tasks wait for it, in flight and in the line.

use std::time::{Duration, Instant};

use switchboard::prelude::*;
use test_support::child::{Child, Line};

use crate::desk::{Caller, DeskServer, Plain, block_on, until};
use crate::support::TempDir;

const SLOTS: u32 = 64;
const TASKS: usize = 200;

/// Every task is told within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

fn board(dir: &std::ffi::OsStr) -> Switchboard {
    Switchboard::builder().in_process(false).runtime_dir(dir).open().expect("the directory is ours")
}

/// Role: serves a desk and says when calls are held.
pub fn serve(mut parent: Line) {
    let board = board(&std::env::var_os("SWITCHBOARD_RUNTIME_DIR").expect("the parent names it"));
    let desk = Plain::default();
    let serve = board.serve("test.desk", DeskServer::new(desk.clone())).workers(2).max_calls(SLOTS);
    let _running = serve.start().expect("nobody else serves here");
    parent.say("serving");
    while let Some(question) = parent.hear() {
        assert_eq!(question, "held?");
        until("two calls are held", || desk.held() >= 2);
        parent.say("held");
    }
}

fn start(dir: &TempDir) -> Child {
    let mut service = Child::start("service", &[("SWITCHBOARD_RUNTIME_DIR", dir.path())]);
    service.expect("serving");
    service
}

#[test]
fn a_service_killed_while_tasks_wait_leaves_none_of_them_waiting() {
    let dir = TempDir::new();
    let board = board(dir.path().as_os_str());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut service = start(&dir);
    for _ in 0..5 {
        let caller = Caller::connect(&board).unwrap();
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let caller = caller.clone();
                runtime.spawn(async move { caller.hold(None).await })
            })
            .collect();
        assert_eq!(service.ask("held?"), "held");
        service.kill();
        let killed = Instant::now();
        let mut outcomes = [0; 2];
        for task in tasks {
            let status = runtime.block_on(task).unwrap().unwrap_err();
            assert!(killed.elapsed() < TOLD_WITHIN);
            match (status.code(), status.outcome()) {
                (Code::Unavailable, Outcome::NotRun) => outcomes[0] += 1,
                (Code::Unavailable, Outcome::MayHaveRun) => outcomes[1] += 1,
                // It came to the line after the death, and had to connect.
                (Code::NotFound, Outcome::NotRun) => outcomes[0] += 1,
                _ => panic!("{status}"),
            }
        }
        // Two handlers had a call each; nobody has seen more than they could take.
        assert!(outcomes[0] >= TASKS - SLOTS as usize && outcomes[1] >= 2, "{outcomes:?}");
        service = start(&dir);
        // The same caller finds the next life.
        assert_eq!(block_on(caller.add(1, 2)), Ok(3));
    }
}
