//! Deadlines of calls that tasks wait for, wherever they wait.

use std::time::{Duration, Instant};

use switchboard::prelude::*;

use crate::desk::{block_on, poll_once, serve, until};

const TIMEOUT: Duration = Duration::from_millis(50);

/// Long enough for any machine.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_task_whose_time_is_up_is_woken_though_no_reply_comes() {
    let served = serve(1, 16);
    let before = Instant::now();
    let status = block_on(served.caller.hold(Some(TIMEOUT))).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::DeadlineExceeded, Outcome::MayHaveRun));
    assert!((TIMEOUT..SOON).contains(&before.elapsed()), "{:?}", before.elapsed());
    until("the handler learns of it", || served.desk.cancelled() == 1);
    assert_eq!(block_on(served.caller.add(1, 2)), Ok(3), "its slot, or another one, is free");
}

#[test]
fn a_task_whose_time_is_up_in_the_line_is_told_that_nothing_ran() {
    let served = serve(1, 1);
    let mut holds = Box::pin(served.caller.hold(None));
    assert!(poll_once(&mut holds).is_pending());
    until("the only slot is in use", || served.desk.held() == 1);
    let before = Instant::now();
    let status = block_on(served.caller.hold(Some(TIMEOUT))).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::DeadlineExceeded, Outcome::NotRun), "{status}");
    assert!((TIMEOUT..SOON).contains(&before.elapsed()), "{:?}", before.elapsed());
    served.desk.open();
    assert_eq!(block_on(holds), Ok(1));
    assert_eq!(served.desk.held(), 1);
}

#[test]
fn of_many_tasks_each_is_woken_at_its_own_time() {
    let served = serve(1, 64);
    let mut waits: Vec<_> = (0..40).map(|i| Box::pin(served.caller.hold(Some(TIMEOUT * (40 - i) / 20)))).collect();
    let before = Instant::now();
    for wait in &mut waits {
        assert!(poll_once(wait).is_pending());
    }
    // The last one in the list is due first.
    for (i, wait) in waits.into_iter().enumerate().rev() {
        let status = block_on(wait).unwrap_err();
        let least = TIMEOUT * (40 - i as u32) / 20;
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!((least..least + SOON).contains(&before.elapsed()), "{least:?}: {:?}", before.elapsed());
    }
}
