//! What users test their own services with.

use switchboard::prelude::*;
use switchboard::testing::{TestBoard, serve_if_asked};

#[service]
trait Clerk {
    fn pid(&self, ctx: &Context<'_>) -> Result<u32, Status>;
}

struct Desk;

impl Clerk for Desk {
    fn pid(&self, _: &Context<'_>) -> Result<u32, Status> {
        Ok(std::process::id())
    }
}

fn serve(board: &Switchboard) -> Result<switchboard::RunningService, Status> {
    board.serve("test.clerk", ClerkServer::new(Desk)).start()
}

#[test]
fn a_board_for_tests_is_seen_by_nobody_else_and_leaves_nothing() {
    let (one, other) = (TestBoard::new().unwrap(), TestBoard::through_shared_memory().unwrap());
    let _running = serve(&one).unwrap();
    assert_eq!(ClerkClient::connect(&*one, "test.clerk").unwrap().pid(), Ok(std::process::id()));
    assert_eq!(ClerkClient::connect(&*other, "test.clerk").unwrap_err().code(), Code::NotFound);
    let dir = one.runtime_dir().to_owned();
    assert!(dir.exists());
    drop(one);
    assert!(!dir.exists());
}

#[test]
fn a_service_in_a_process_of_its_own_can_be_killed_and_stopped() {
    serve_if_asked(serve);
    let board = TestBoard::new().unwrap();
    for is_killed in [true, false] {
        let process = board.process("a_service_in_a_process_of_its_own_can_be_killed_and_stopped").unwrap();
        let client = ClerkClient::connect(&*board, "test.clerk").unwrap();
        assert_eq!(client.pid(), Ok(process.id()));
        if is_killed {
            process.kill();
        } else {
            assert!(process.stop());
        }
        let status = client.pid().unwrap_err();
        assert_eq!(status.outcome(), Outcome::NotRun, "{status}");
    }
}

#[test]
fn a_process_that_does_not_serve_is_told_at_once() {
    let status = TestBoard::new().unwrap().process("no_test_has_this_name").unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}
