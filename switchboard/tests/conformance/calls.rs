//! Calls that succeed.

use std::thread;

use crate::Fixture;
use crate::services::bench;

pub(crate) fn a_call_goes_over_the_transport_that_is_tested(fixture: &Fixture) {
    let (running, client) = bench(fixture);
    assert_eq!(client.double(21), Ok(42));
    assert!(fixture.carries(running.connections()), "{} connections", running.connections());
}

pub(crate) fn messages_of_every_length_arrive_as_they_were_sent(fixture: &Fixture) {
    let (_running, client) = bench(fixture);
    for len in [0, 1, 15, 16, 17, 31, 32, 33, 95, 96, 97, 104, 105, 511, 4096, 65_537, 1 << 20, (8 << 20) + 3] {
        let sent: Vec<u8> = (0..len).map(|at: usize| (at * 31 + at / 251) as u8).collect();
        let mut back = client.bytes(&sent).expect("it arrives");
        back.reverse();
        assert!(back == sent, "{len} bytes");
    }
}

pub(crate) fn replies_reach_the_caller_that_asked(fixture: &Fixture) {
    let (_running, client) = bench(fixture);
    thread::scope(|scope| {
        for caller in 0..4_u64 {
            let client = client.clone();
            scope.spawn(move || {
                for number in 0..2_000 {
                    let value = caller << 32 | number;
                    assert_eq!(client.double(value), Ok(value * 2));
                }
            });
        }
    });
}

pub(crate) fn a_reply_is_read_in_place(fixture: &Fixture) {
    let (_running, client) = bench(fixture);
    assert_eq!(client.bytes_with(b"abc", |bytes| bytes.first().copied()), Ok(Some(b'c')));
}

pub(crate) fn the_handler_knows_its_caller(fixture: &Fixture) {
    let (_running, client) = bench(fixture);
    let (_, pid) = client.caller().expect("it answers");
    assert_eq!(pid, std::process::id());
}

pub(crate) fn calls_are_counted_on_both_sides(fixture: &Fixture) {
    let (running, client) = bench(fixture);
    for _ in 0..3 {
        client.double(1).expect("it answers");
    }
    client.fail(5, "no").expect_err("it fails");
    let count = |stats: &switchboard::ServiceStats, name: &str| {
        let snapshot = stats.snapshot();
        let method = snapshot.iter().find(|method| method.name == name).expect("there is such a method").clone();
        (method.calls(), method.failed())
    };
    assert_eq!(count(client.stats(), "double"), (3, 0));
    assert_eq!(count(client.stats(), "fail"), (1, 1));
    // A service counts behind its reply.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while count(running.stats(), "fail") != (1, 1) {
        assert!(std::time::Instant::now() < end, "{:?}", count(running.stats(), "fail"));
        thread::yield_now();
    }
    assert_eq!(count(running.stats(), "double"), (3, 0));
}
