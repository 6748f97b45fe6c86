//! Calls: what callers were told, against what ran.

use std::collections::HashMap;

use super::{Kills, Life, Round};
use crate::log::Event;
use crate::tally::{Fault, Tally};

/// A service that has been there for so long, in nanoseconds, is found by everybody: a refusal is a fault then.
const KNOWN_AFTER_NS: u64 = 1_000_000_000;

/// What ran for one number.
#[derive(Debug, Default, Clone, Copy)]
struct Runs {
    began: u32,
    finished: u32,
    /// By the service that nobody killed.
    by_the_last: bool,
}

/// What became of one call, as its caller noted it.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u64,
    sent_ns: u64,
    /// Not there if the caller was killed first.
    end: Option<(Event, u64)>,
}

/// Compares a round.
pub fn compare(round: &Round, tally: &mut Tally) {
    let mut runs = runs_of(round);
    let mut kills = Kills::of(round);
    for client in &round.rim {
        let mut unanswered = 0;
        for call in calls_of(client, tally) {
            let ran = runs.remove(&call.number).unwrap_or_default();
            tally.calls += 1;
            unanswered += u64::from(call.end.is_none());
            judge(call, ran, round, tally);
            if let Some((event, told_ns)) = call.end {
                let since_ns = kills.meet(call.sent_ns, told_ns);
                let refusals = [Event::NotRun, Event::Doubtful];
                if let Some(index) = refusals.iter().position(|refusal| *refusal == event) {
                    tally.refused[index] += 1;
                    tally.recoveries_ns.extend(since_ns);
                }
            }
        }
        tally.in_flight += u64::from(unanswered > 0);
        if unanswered > 0 && client.killed_ns.is_none() {
            tally.fault(Fault::Hung, || format!("{unanswered} calls of client {} have no end", client.serial));
        }
    }
    tally.in_flight += kills.met();
    for (number, ran) in runs {
        tally.fault(Fault::Torn, || format!("call {number:#x} was never sent, and {ran:?}"));
    }
}

fn runs_of(round: &Round) -> HashMap<u64, Runs> {
    let mut runs: HashMap<u64, Runs> = HashMap::new();
    for service in &round.hubs {
        for record in &service.log {
            let (began, finished) = match record.event {
                Event::Began => (1, 0),
                Event::Finished => (0, 1),
                _ => continue,
            };
            let ran = runs.entry(record.number).or_default();
            ran.began += began;
            ran.finished += finished;
            ran.by_the_last |= service.killed_ns.is_none();
        }
    }
    runs
}

/// The calls of a client, in no order.
fn calls_of(client: &Life, tally: &mut Tally) -> Vec<Call> {
    let mut calls: HashMap<u64, Call> = HashMap::new();
    for record in &client.log {
        let number = record.number;
        match (record.event, calls.get_mut(&number)) {
            (Event::Sent, None) => {
                calls.insert(number, Call { number, sent_ns: record.value, end: None });
            }
            (event, Some(call)) if event != Event::Sent && call.end.is_none() => call.end = Some((event, record.value)),
            (event, _) => {
                tally.fault(Fault::Torn, || format!("client {} noted {event:?} of {number:#x}", client.serial))
            }
        }
    }
    calls.into_values().collect()
}

fn judge(call: Call, ran: Runs, round: &Round, tally: &mut Tally) {
    let Runs { began, finished, by_the_last } = ran;
    let text = || format!("{call:x?} {ran:?}");
    if began > 1 || finished > 1 {
        tally.fault(Fault::Twice, text);
    }
    match call.end {
        // A caller that was killed knows nothing.
        None => {}
        Some((Event::Answered, _)) if finished == 0 => tally.fault(Fault::Torn, text),
        Some((Event::Answered, _)) => {}
        Some((Event::NotRun, _)) if began > 0 => tally.fault(Fault::Lost, text),
        // Nobody killed who ran it, or who should have: the answer was due.
        Some((Event::NotRun | Event::Doubtful, told_ns))
            if by_the_last || was_served_throughout(round, call.sent_ns, told_ns) =>
        {
            tally.fault(Fault::Lost, text);
        }
        Some((Event::NotRun | Event::Doubtful, _)) => {}
        Some((Event::Wrong, _)) => tally.fault(Fault::Torn, text),
        Some((Event::Late, _)) => tally.fault(Fault::Hung, text),
        Some(_) => tally.fault(Fault::Lost, text),
    }
}

/// Whether one service was there all the time, and known.
fn was_served_throughout(round: &Round, sent_ns: u64, told_ns: u64) -> bool {
    round.hubs.iter().any(|hub| {
        let serving = hub.log.iter().find(|record| record.event == Event::Serving);
        serving.is_some_and(|record| record.value + KNOWN_AFTER_NS <= sent_ns)
            && hub.killed_ns.is_none_or(|killed_ns| told_ns < killed_ns)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Record;

    fn life(serial: u64, killed_ns: Option<u64>, notes: &[(u64, Event, u64)]) -> Life {
        let log = notes.iter().map(|(number, event, value)| Record { number: *number, event: *event, value: *value });
        Life { serial, killed_ns, log: log.collect() }
    }

    /// Whether a round is clean in which a service is killed at 100 and followed by another.
    fn is_clean(first: &[(u64, Event, u64)], second: &[(u64, Event, u64)], client: &[(u64, Event, u64)]) -> bool {
        let hubs = vec![life(1, Some(100), first), life(2, None, second)];
        let mut tally = Tally::default();
        compare(&Round { hubs, rim: vec![life(3, None, client)] }, &mut tally);
        tally.is_clean()
    }

    const RAN: [(u64, Event, u64); 2] = [(7, Event::Began, 20), (7, Event::Finished, 21)];
    const ANSWERED: [(u64, Event, u64); 2] = [(7, Event::Sent, 10), (7, Event::Answered, 30)];
    const DOUBTFUL: [(u64, Event, u64); 2] = [(7, Event::Sent, 10), (7, Event::Doubtful, 130)];
    const NOT_RUN: [(u64, Event, u64); 2] = [(7, Event::Sent, 10), (7, Event::NotRun, 130)];

    #[test]
    fn what_may_happen_is_clean() {
        assert!(is_clean(&RAN, &[], &ANSWERED));
        assert!(is_clean(&RAN, &[], &DOUBTFUL));
        assert!(is_clean(&RAN[..1], &[], &DOUBTFUL));
        assert!(is_clean(&[], &[], &NOT_RUN));
    }

    #[test]
    fn each_broken_promise_is_found() {
        assert!(!is_clean(&RAN, &[], &NOT_RUN), "ran though it was said not to have");
        assert!(!is_clean(&[], &RAN, &DOUBTFUL), "ran where nobody was killed, and was not answered");
        assert!(!is_clean(&RAN, &RAN, &DOUBTFUL), "ran twice");
        assert!(!is_clean(&[], &[], &ANSWERED), "answered without having run");
        assert!(!is_clean(&RAN, &[], &[]), "ran without having been sent");
        assert!(!is_clean(&RAN, &[], &ANSWERED[..1]), "has no end");
    }

    #[test]
    fn a_refusal_by_a_service_that_was_there_all_the_time_is_found() {
        let served = [(2, Event::Serving, 200)];
        let refused = |sent| [(7, Event::Sent, sent), (7, Event::NotRun, sent + 1)];
        assert!(is_clean(&[], &served, &refused(300)), "not everybody has found it yet");
        assert!(!is_clean(&[], &served, &refused(300 + KNOWN_AFTER_NS)));
    }
}
