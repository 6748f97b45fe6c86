//! The test of docs/guide/08-testing.md: a service is killed, and its client goes on.

use std::sync::atomic::{AtomicU64, Ordering};

use switchboard::prelude::*;
use switchboard::testing::{TestBoard, serve_if_asked};

#[service]
trait Ledger {
    /// Gives the number of entries.
    fn enter(&self, ctx: &Context<'_>, text: &str) -> Result<u64, Status>;
    /// Does not answer while somebody waits.
    fn audit(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn audits(&self, ctx: &Context<'_>) -> Result<u64, Status>;
}

#[derive(Debug, Default)]
struct Book {
    entries: AtomicU64,
    audits: AtomicU64,
}

impl Ledger for Book {
    fn enter(&self, _: &Context<'_>, _text: &str) -> Result<u64, Status> {
        Ok(self.entries.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn audit(&self, ctx: &Context<'_>) -> Result<(), Status> {
        self.audits.fetch_add(1, Ordering::Relaxed);
        while !ctx.is_cancelled() {
            std::thread::yield_now();
        }
        Err(Status::cancelled("nobody waits"))
    }

    fn audits(&self, _: &Context<'_>) -> Result<u64, Status> {
        Ok(self.audits.load(Ordering::Relaxed))
    }
}

#[test]
fn a_client_goes_on_when_its_service_was_killed_and_started_again() -> Result<(), Status> {
    // In the process that this test starts, this line serves and does not return.
    serve_if_asked(|board| board.serve("test.ledger", LedgerServer::new(Book::default())).workers(2).start());

    let this_test = "a_client_goes_on_when_its_service_was_killed_and_started_again";
    let board = TestBoard::new()?;
    let process = board.process(this_test)?;
    let ledger = LedgerClient::connect(&*board, "test.ledger")?;
    assert_eq!(ledger.enter("one")?, 1);

    // Killed in the middle of a call: the caller is told at once, and what may have become of it.
    std::thread::scope(|scope| -> Result<(), Status> {
        let audit = scope.spawn(|| ledger.audit());
        while ledger.audits()? == 0 {
            std::thread::yield_now();
        }
        process.kill();
        let status = audit.join().expect("it does not panic").expect_err("nobody answers it");
        assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::MayHaveRun));
        Ok(())
    })?;

    // Nobody is there: nothing runs.
    assert_eq!(ledger.enter("lost").expect_err("nobody serves").outcome(), Outcome::NotRun);

    // Started again: the same client finds it. What the service kept in its memory is gone.
    let _process = board.process(this_test)?;
    assert_eq!(ledger.enter("two")?, 1);
    Ok(())
}
