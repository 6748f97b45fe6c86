//! Each shape of a call, in each mode of trust, by threads and by tasks.

use std::time::Instant;

use service_core::{Code, Outcome};
use test_support::child::Child;
use test_support::level::Level;

use crate::tape::{BREAKS, COUNT, Client, DIR, FIRST, Host, SUM, Tape, WAYS, Way, block_on};

#[test]
fn all_items_come_in_order_and_then_the_reply() {
    let host = Host::new();
    let _running = host.serve(Tape::new().0);
    for way in WAYS {
        let client = Client::of(&host.runtime(way));
        let mut count = client.receives(COUNT, 5000, None).unwrap();
        for expected in 0..5000 {
            assert_eq!(count.recv().unwrap().unwrap(), expected, "{way:?}");
        }
        assert!(count.recv().is_none());
        assert_eq!(count.finish().unwrap(), 5000);
        let mut sum = client.sends(SUM, None).unwrap();
        (0..5000).for_each(|item| sum.send(&item).unwrap());
        assert_eq!(sum.finish().unwrap(), 5000 * 4999 / 2);
    }
}

#[test]
fn both_ways_go_at_once_and_one_of_them_may_end_before_the_other() {
    let host = Host::new();
    let _running = host.serve(Tape::new().0);
    for way in WAYS {
        let client = Client::of(&host.runtime(way));
        // More than both rings hold.
        let (mut out, mut back) = client.echo().unwrap().split();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                (0..20_000).for_each(|item| out.send(&item).unwrap());
                out.finish().unwrap();
            });
            (0..20_000).for_each(|item| assert_eq!(back.recv().unwrap().unwrap(), item, "{way:?}"));
        });
        assert_eq!(back.finish().unwrap(), 20_000);
    }
}

#[test]
fn tasks_use_streams_as_threads_do() {
    let host = Host::new();
    let _running = host.serve(Tape::new().0);
    for way in WAYS {
        let client = Client::of(&host.runtime(way));
        block_on(async {
            let mut echo = client.echo().unwrap();
            for item in 0..200 {
                echo.send_async(&item).await.unwrap();
                assert_eq!(echo.recv_async().await.unwrap().unwrap(), item, "{way:?}");
            }
            assert_eq!(echo.finish_async().await.unwrap(), 200);
        });
    }
}

#[test]
fn a_handler_that_fails_says_so_behind_its_items() {
    let host = Host::new();
    let _running = host.serve(Tape::new().0);
    let client = Client::of(&host.runtime(Way::Checked));
    let mut breaks = client.receives(BREAKS, 3, None).unwrap();
    (0..3).for_each(|item| assert_eq!(breaks.recv().unwrap().unwrap(), item));
    let failure = breaks.recv().unwrap().unwrap_err();
    assert_eq!((failure.code(), failure.outcome()), (Code::Aborted, Outcome::Ran), "{failure}");
    assert!(breaks.recv().is_none());
}

#[test]
fn a_handler_may_answer_before_the_client_has_sent_all() {
    let host = Host::new();
    let _running = host.serve(Tape::new().0);
    let client = Client::of(&host.runtime(Way::Checked));
    for _ in 0..20 {
        let mut first = client.sends(FIRST, None).unwrap();
        let refused = (7..).find_map(|item| first.send(&item).err()).unwrap();
        assert_eq!(refused.code(), Code::Cancelled, "{refused}");
        assert_eq!(first.finish().unwrap(), 7);
    }
}

/// Memory and descriptors of the first calls serve all that follow.
#[test]
fn streams_that_ended_well_leave_their_rings_to_the_next() {
    let host = Host::new();
    let _running = host.serve(Tape::new().0);
    let client = Client::of(&host.runtime(Way::Checked));
    let one_of_each = || {
        assert_eq!(client.receives(COUNT, 3, None).unwrap().finish().unwrap(), 3);
        let mut sum = client.sends(SUM, None).unwrap();
        sum.send(&4).unwrap();
        assert_eq!(sum.finish().unwrap(), 4);
    };
    // The service may still have the last one's rings in hand when the next one is opened.
    (0..20).for_each(|_| one_of_each());
    let before = Level::settled();
    (0..200).for_each(|_| one_of_each());
    let after = Level::settled();
    let grown: Vec<_> =
        after.counts().iter().zip(before.counts()).map(|(now, then)| now.saturating_sub(then)).collect();
    assert!(grown.iter().all(|more| *more <= 40), "{grown:?} more descriptors, mappings, threads after 400 streams");
}

#[test]
fn a_million_items_between_two_processes() {
    const ITEMS: u64 = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
    let host = Host::new();
    let mut service = Child::start("service", &[(DIR, host.dir())]);
    service.expect("serves");
    let client = Client::of(&host.runtime(Way::Checked));
    let started = Instant::now();
    let mut count = client.receives(COUNT, ITEMS, None).unwrap();
    (0..ITEMS).for_each(|item| assert_eq!(count.recv().unwrap().unwrap(), item));
    assert_eq!(count.finish().unwrap(), ITEMS);
    let rate = ITEMS as f64 / started.elapsed().as_secs_f64();
    println!("figure: items of a call with a stream = {rate:.0} items/s");
}
