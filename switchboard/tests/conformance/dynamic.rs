//! Calls by names and values, of a service that is otherwise called by its types.

use switchboard::{Code, DynamicClient, Outcome, RunningService, Value};

use crate::Fixture;
use crate::services::{BenchClient, NAME, bench};

/// A service and a client that knows its name only.
fn named(fixture: &Fixture) -> (RunningService, DynamicClient) {
    let (running, _) = bench(fixture);
    (running, DynamicClient::connect(&fixture.board(), NAME).expect("it is served"))
}

pub(crate) fn a_caller_that_knows_the_name_only_calls_by_values(fixture: &Fixture) {
    let (running, client) = named(fixture);
    assert_eq!(client.call("double", &[21.into()], &[]), Ok(42.into()));
    assert_eq!(client.call("double", &[], &[("value", 21.into())]), Ok(42.into()));
    let connections = running.connections();
    assert!(fixture.carries(connections), "{connections} connections");
    let status = client.call("fail", &[10.into(), "no luck".into()], &[]).expect_err("it fails");
    assert_eq!((status.code().as_u8(), status.message(), status.outcome()), (10, "no luck", Outcome::Ran));
}

pub(crate) fn large_values_arrive_as_they_were_sent(fixture: &Fixture) {
    let (_running, client) = named(fixture);
    for len in [0, 1, 255, 256, 4096, 65_537, (8 << 20) + 3] {
        let sent: Vec<u8> = (0..len).map(|at: usize| (at * 31 + at / 251) as u8).collect();
        let is_reversed = client.call_with("bytes", &[Value::from(&sent[..])], &[], |answer| {
            let Value::Bytes(back) = answer else { return false };
            back.iter().rev().eq(&sent)
        });
        assert_eq!(is_reversed, Ok(true), "{len} bytes");
    }
}

pub(crate) fn values_that_do_not_fit_are_refused_and_nothing_ran(fixture: &Fixture) {
    let (_running, client) = named(fixture);
    let refusal = |method: &str, args: &[Value<'_>]| {
        let status = client.call(method, args, &[]).expect_err("they do not fit");
        (status.code(), status.outcome())
    };
    assert_eq!(refusal("double", &[]), (Code::InvalidArgument, Outcome::NotRun));
    assert_eq!(refusal("double", &["a text".into()]), (Code::InvalidArgument, Outcome::NotRun));
    assert_eq!(refusal("double", &[(-1).into()]), (Code::InvalidArgument, Outcome::NotRun));
    assert_eq!(refusal("double", &[1.into(), 2.into()]), (Code::InvalidArgument, Outcome::NotRun));
    assert_eq!(refusal("triple", &[1.into()]), (Code::Unimplemented, Outcome::NotRun));
}

pub(crate) fn a_service_describes_itself(fixture: &Fixture) {
    let (_running, client) = named(fixture);
    assert_eq!(client.descriptor().as_ref(), Ok(BenchClient::descriptor()));
}
