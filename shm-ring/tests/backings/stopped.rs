//! A process that is stopped at each of its system calls while others go on with the same segment, and goes on then.

use std::sync::mpsc;

use nix::libc;
use shm_ring::Segment;
use shm_ring::ready::ReadyLayout;

use crate::traced::{Traced, system_call_of};
use crate::{OPTIONS, Own, lanes};

const BEFORE: u64 = 1;
const OURS: u64 = 9;

/// The epoch of what stands there now.
fn now_at(place: &Own) -> u64 {
    place.open::<ReadyLayout>(&OPTIONS).unwrap().epoch()
}

#[test]
fn an_opener_that_was_overtaken_by_a_replacer_has_what_the_name_leads_to() {
    if !Traced::may_be() {
        return;
    }
    for of_both in [0, 1] {
        let (mut replaced, mut refused) = (0, 0);
        for number in 0.. {
            let [named, file] = Own::both();
            let place = if of_both == 0 { named } else { file };
            drop(place.create(lanes(70), BEFORE, &OPTIONS).unwrap());
            let child = Traced::start("open", &place);
            let stop = child.run_to(number);
            // Refused if the child has it open by now.
            let ours = place.create(lanes(70), OURS, &OPTIONS);
            let (got, _keeps_it) = child.go_on();
            assert_eq!(got, now_at(&place).to_string(), "stopped at {stop:?}");
            if ours.is_ok() {
                replaced += 1
            } else {
                refused += 1
            }
            if stop.is_none() {
                break;
            }
        }
        assert!(replaced > 0 && refused > 0, "{replaced} replaced, {refused} refused");
    }
}

/// Removes what stands at the place and makes it anew, in a thread. Returns when that is done, or waits for the child.
fn remove_and_make(place: &Own) -> std::thread::JoinHandle<Segment<ReadyLayout>> {
    let (tell, told) = mpsc::channel();
    let place = shm_ring::Place::clone(place);
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
        place.remove().unwrap();
        place.open_or_create(lanes(70), OURS, &OPTIONS).unwrap().0
    });
    let id = format!("/proc/self/task/{}", told.recv().unwrap());
    // It sleeps between its tries while the child has a lock.
    while !thread.is_finished() && system_call_of(&id) != libc::SYS_clock_nanosleep {
        std::thread::yield_now();
    }
    thread
}

#[test]
fn a_replacer_that_was_overtaken_replaces_nothing_that_is_open() {
    if !Traced::may_be() {
        return;
    }
    for of_both in [0, 1] {
        let mut waited = 0;
        for number in 0.. {
            let [named, file] = Own::both();
            let place = if of_both == 0 { named } else { file };
            drop(place.create(lanes(70), BEFORE, &OPTIONS).unwrap());
            let child = Traced::start("replace", &place);
            let stop = child.run_to(number);
            let thread = remove_and_make(&place);
            waited += usize::from(!thread.is_finished());
            let (got, _keeps_it) = child.go_on();
            let ours = thread.join().unwrap();
            assert_eq!(ours.epoch(), now_at(&place), "the child, stopped at {stop:?}, says {got}");
            if stop.is_none() {
                break;
            }
        }
        assert!(waited > 0, "no stop where the child had the name in its hand");
    }
}
