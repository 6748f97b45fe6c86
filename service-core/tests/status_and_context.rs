//! Codes, outcomes, statuses, deadlines and contexts, seen from outside.

use std::cell::Cell;
use std::time::Duration;

use service_core::{Caller, CancelProbe, Code, Context, Deadline, NeverCancelled, Outcome, Status, monotonic_ns};

const CALLER: Caller = Caller { uid: 1, gid: 2, pid: 3 };

#[test]
fn codes_have_grpcs_numbers_and_names() {
    for (number, code) in Code::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(code.as_u8()), number);
        assert_eq!(Code::from_u8(code.as_u8()), Some(code));
        let words: String = code.to_string().split('_').map(capitalised).collect();
        assert_eq!(words, format!("{code:?}"));
    }
    assert_eq!(Code::from_u8(17), None);
    assert_eq!((Code::Cancelled.as_u8(), Code::Unavailable.as_u8(), Code::Unauthenticated.as_u8()), (1, 14, 16));
}

fn capitalised(word: &str) -> String {
    word[..1].to_owned() + &word[1..].to_lowercase()
}

#[test]
fn outcomes_survive_the_wire() {
    for outcome in [Outcome::NotRun, Outcome::MayHaveRun, Outcome::Ran] {
        assert_eq!(Outcome::from_u8(outcome.as_u8()), Some(outcome));
    }
    assert_eq!(Outcome::from_u8(3), None);
}

#[test]
fn a_result_without_a_value_is_one_pointer_wide() {
    assert_eq!(size_of::<Result<(), Status>>(), size_of::<usize>());
}

#[test]
fn a_failure_cannot_be_ok() {
    assert_eq!(Status::new(Code::Ok, Outcome::Ran, "").code(), Code::Unknown);
}

#[test]
fn a_status_shows_its_three_parts() {
    let status = Status::unavailable("the service has gone").with_outcome(Outcome::MayHaveRun);
    assert_eq!(status.to_string(), "UNAVAILABLE (may have run): the service has gone");
    assert_eq!(status, Status::new(Code::Unavailable, Outcome::MayHaveRun, "the service has gone"));
}

#[test]
fn a_deadline_passes() {
    let passed = Deadline::from_monotonic_ns(monotonic_ns());
    assert!(passed.has_passed());
    assert_eq!(passed.remaining(), None);
    let far = Deadline::after(Duration::from_secs(3600));
    assert!(!far.has_passed());
    assert!(far.remaining().is_some_and(|left| left <= Duration::from_secs(3600)));
}

#[test]
fn a_timeout_beyond_the_clock_becomes_its_end() {
    assert_eq!(Deadline::after(Duration::MAX).as_monotonic_ns(), u64::MAX);
    assert_eq!(Deadline::starting_at(5, Duration::from_nanos(7)).as_monotonic_ns(), 12);
}

/// Cancelled from the second question on.
struct Second(std::sync::Mutex<Cell<bool>>);

impl CancelProbe for Second {
    fn is_cancelled(&self) -> bool {
        self.0.lock().unwrap().replace(true)
    }
}

#[test]
fn a_context_is_cancelled_by_the_caller_or_by_its_deadline() {
    let probe = Second(Default::default());
    let context = Context::new(None, CALLER, &probe);
    assert!(!context.is_cancelled());
    assert!(context.is_cancelled());

    let context = Context::new(Some(Deadline::from_monotonic_ns(1)), CALLER, &NeverCancelled);
    assert!(context.is_cancelled());
    assert_eq!(context.remaining(), Some(Duration::ZERO));
}

#[test]
fn a_context_without_a_deadline_lasts_for_ever() {
    let context = Context::new(None, CALLER, &NeverCancelled);
    assert_eq!((context.deadline(), context.remaining(), context.is_cancelled()), (None, None, false));
    assert_eq!(context.caller(), CALLER);
}
