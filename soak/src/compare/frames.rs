//! Frames: what was committed, against what was received.

use std::collections::HashMap;

use super::{Kills, Life, Round};
use crate::gang::THREAD_SHIFT;
use crate::log::Event;
use crate::tally::{Fault, Tally};

/// The frames that one thread sent to one consumer: they arrive in order, without a gap.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    hub: u64,
    first: u64,
    /// One past the last frame that was begun, and that was committed.
    sent: u64,
    committed: u64,
    /// One past the last frame that was received.
    received: u64,
}

/// Compares a round.
pub fn compare(round: &Round, tally: &mut Tally) {
    let mut kills = Kills::of(round);
    let mut threads: HashMap<u64, Vec<Stretch>> = HashMap::new();
    for producer in &round.rim {
        sort_out(producer, &mut kills, &mut threads, tally);
    }
    tally.in_flight += kills.met();
    for hub in &round.hubs {
        receive(hub, &mut threads, tally);
    }
    let survivor = round.hubs.last().map(|hub| hub.serial);
    for stretch in threads.into_values().flatten() {
        if Some(stretch.hub) == survivor && stretch.received < stretch.committed {
            tally.fault(Fault::Lost, || format!("committed and not received: {stretch:x?}"));
        }
    }
}

/// Puts what a producer noted into stretches.
fn sort_out(producer: &Life, kills: &mut Kills, threads: &mut HashMap<u64, Vec<Stretch>>, tally: &mut Tally) {
    let mut open_sends: HashMap<u64, u64> = HashMap::new();
    for record in &producer.log {
        let (number, thread) = (record.number, record.number >> THREAD_SHIFT);
        let stretches = threads.entry(thread).or_default();
        let stretch = stretches.last_mut();
        match (record.event, stretch) {
            (Event::Opened, _) => {
                let hub = record.value;
                stretches.push(Stretch { hub, first: number, sent: number, committed: number, received: number });
            }
            (Event::Sent, Some(stretch)) => {
                stretch.sent = number + 1;
                open_sends.insert(thread, record.value);
            }
            (Event::Committed, Some(stretch)) => {
                stretch.committed = number + 1;
                open_sends.remove(&thread);
                tally.frames += 1;
            }
            (Event::Refused, Some(_)) => {
                let sent_ns = open_sends.remove(&thread);
                tally.recoveries_ns.extend(sent_ns.and_then(|sent_ns| kills.meet(sent_ns, record.value)));
            }
            (event, _) => {
                tally.fault(Fault::Lost, || format!("producer {} noted {event:?} of {number:#x}", producer.serial));
            }
        }
    }
    tally.in_flight += u64::from(!open_sends.is_empty());
    if !open_sends.is_empty() && producer.killed_ns.is_none() {
        tally.fault(Fault::Hung, || format!("frames of producer {} have no end: {open_sends:?}", producer.serial));
    }
}

/// Holds what a consumer noted against the stretches.
fn receive(hub: &Life, threads: &mut HashMap<u64, Vec<Stretch>>, tally: &mut Tally) {
    for record in &hub.log {
        let number = record.number;
        match record.event {
            Event::Received => {}
            Event::Serving => continue,
            Event::Rescued => {
                tally.rescues += 1;
                continue;
            }
            Event::Failed => {
                tally.fault(Fault::Lost, || format!("consumer {} gave up", hub.serial));
                continue;
            }
            event => {
                tally.fault(Fault::Torn, || format!("consumer {} noted {event:?} of {number:#x}", hub.serial));
                continue;
            }
        }
        let stretches = threads.get_mut(&(number >> THREAD_SHIFT)).map_or(&mut [][..], Vec::as_mut_slice);
        let index = stretches.partition_point(|stretch| stretch.first <= number);
        match index.checked_sub(1).map(|index| &mut stretches[index]) {
            Some(stretch) if number < stretch.sent && stretch.hub == hub.serial => {
                if number > stretch.received {
                    tally.fault(Fault::Lost, || format!("{number:#x} came next in {stretch:x?}"));
                } else if number < stretch.received {
                    tally.fault(Fault::Twice, || format!("{number:#x} came again in {stretch:x?}"));
                }
                stretch.received = stretch.received.max(number + 1);
            }
            other => tally.fault(Fault::Torn, || format!("{number:#x} came to {}, of {other:x?}", hub.serial)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Record;

    const HUB: u64 = 9;

    fn life(serial: u64, killed_ns: Option<u64>, notes: &[(u64, Event)]) -> Life {
        let value = |event: Event| if event == Event::Opened { HUB } else { 50 };
        let record = |(number, event): &(u64, Event)| Record { number: *number, event: *event, value: value(*event) };
        Life { serial, killed_ns, log: notes.iter().map(record).collect() }
    }

    /// Whether it is clean that these frames are received of two that were committed and one that was begun.
    fn is_clean(received: &[u64], hub_killed_ns: Option<u64>) -> bool {
        let sends = [
            (0, Event::Opened),
            (0, Event::Sent),
            (0, Event::Committed),
            (1, Event::Sent),
            (1, Event::Committed),
            (2, Event::Sent),
        ];
        let received: Vec<_> = received.iter().map(|number| (*number, Event::Received)).collect();
        let mut round = Round { hubs: vec![life(HUB, hub_killed_ns, &received)], rim: vec![life(3, Some(60), &sends)] };
        if hub_killed_ns.is_some() {
            round.hubs.push(life(HUB + 1, None, &[]));
        }
        let mut tally = Tally::default();
        compare(&round, &mut tally);
        tally.is_clean()
    }

    #[test]
    fn what_was_committed_arrives_and_what_was_begun_may() {
        assert!(is_clean(&[0, 1], None));
        assert!(is_clean(&[0, 1, 2], None));
        assert!(is_clean(&[0], Some(60)), "the consumer was killed");
    }

    #[test]
    fn each_fault_is_found() {
        assert!(!is_clean(&[0], None), "lost at the end");
        assert!(!is_clean(&[1], Some(60)), "lost at the beginning");
        assert!(!is_clean(&[0, 0, 1], None), "came twice");
        assert!(!is_clean(&[1, 0], None), "out of order");
        assert!(!is_clean(&[0, 1, 2, 3], None), "never sent");
    }
}
