//! Calls that fail, and what is known of them then.

use std::time::{Duration, Instant};

use switchboard::{Code, Outcome};

use crate::Fixture;
use crate::services::{BenchClient, NAME, Wrong, bench, newer, other};

pub(crate) fn a_status_of_each_code_arrives_with_its_text(fixture: &Fixture) {
    let (_running, client) = bench(fixture);
    for code in Code::ALL.into_iter().skip(1) {
        for text in ["", "a short one", &"a sentence that no slot can hold. ".repeat(20)] {
            let status = client.fail(code.as_u8(), text).expect_err("it fails");
            assert_eq!((status.code(), status.outcome(), status.message()), (code, Outcome::Ran, text));
        }
    }
}

pub(crate) fn details_a_hint_and_the_kind_of_an_error_arrive(fixture: &Fixture) {
    let (_running, client) = bench(fixture);
    let status = client.fail_with_details().expect_err("it fails");
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such key"));
    assert_eq!(status.details::<Wrong>(), Some(Wrong { key: "k".into(), at: 7 }));
    assert_eq!(status.retry_after(), Some(Duration::from_millis(20)));
    assert_eq!(status.kind(), Some("KeyError"));
}

pub(crate) fn a_panic_is_internal_and_the_service_goes_on(fixture: &Fixture) {
    let (_running, client) = bench(fixture);
    for _ in 0..3 {
        let status = client.panic("on purpose").expect_err("it panics");
        assert_eq!((status.code(), status.outcome()), (Code::Internal, Outcome::Ran));
        assert!(status.message().contains("`panic`") && status.message().contains("on purpose"), "{status}");
        assert_eq!(client.double(4), Ok(8));
    }
}

pub(crate) fn an_unknown_name_is_not_found_and_nothing_ran(fixture: &Fixture) {
    let (_running, _client) = bench(fixture);
    let status = BenchClient::connect(&fixture.board(), "conformance.nobody").expect_err("nobody serves it");
    assert_eq!((status.code(), status.outcome()), (Code::NotFound, Outcome::NotRun));
    assert!(status.message().contains("conformance.nobody"), "{status}");
}

pub(crate) fn an_unknown_method_is_unimplemented_and_nothing_ran(fixture: &Fixture) {
    let (_running, _client) = bench(fixture);
    let client = newer::BenchClient::connect(&fixture.board(), NAME).expect("what both know has the same types");
    assert_eq!(client.double(2), Ok(4));
    let status = client.triple(2).expect_err("the service is older");
    assert_eq!((status.code(), status.outcome()), (Code::Unimplemented, Outcome::NotRun));
    assert!(status.message().contains("triple"), "{status}");
}

pub(crate) fn other_types_are_refused_with_both_named(fixture: &Fixture) {
    let (_running, _client) = bench(fixture);
    let status = other::BenchClient::connect(&fixture.board(), NAME).expect_err("the types differ");
    assert_eq!((status.code(), status.outcome()), (Code::FailedPrecondition, Outcome::NotRun));
    assert!(status.message().contains("u32") && status.message().contains("u64"), "{status}");
}

pub(crate) fn a_deadline_that_passes_ends_the_call(fixture: &Fixture) {
    let (_running, client) = bench(fixture);
    let begun = Instant::now();
    let status = client.clone().with_timeout(Duration::from_millis(30)).until_cancelled().expect_err("it takes longer");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(begun.elapsed() >= Duration::from_millis(30) && begun.elapsed() < Duration::from_secs(9));
    let status = client.clone().with_timeout(Duration::ZERO).double(1).expect_err("there is no time at all");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(client.double(1), Ok(2), "others go on");
}

pub(crate) fn the_handler_knows_the_deadline(fixture: &Fixture) {
    let (_running, client) = bench(fixture);
    let left = client.clone().with_timeout(Duration::from_secs(8)).remaining_ms().expect("it answers");
    assert!(left.is_some_and(|ms| ms > 1_000 && ms <= 8_000), "{left:?}");
    let forever = BenchClient::connect(&fixture.board(), NAME).expect("it is served");
    assert_eq!(forever.remaining_ms(), Ok(None));
}
