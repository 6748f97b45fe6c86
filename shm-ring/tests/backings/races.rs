//! Processes that make, open, replace and remove the same segment at once.

use std::fs;
use std::os::unix::fs::MetadataExt;

use shm_ring::ready::{ReadyLayout, ReadySet};
use shm_ring::{Error, Segment};

use crate::support::role::{Child, line};
use crate::{OPTIONS, Own, lanes, tell, told};

#[test]
fn of_processes_that_race_one_makes_it_and_all_get_the_same_memory() {
    const RACERS: u32 = 8;
    const ROUNDS: usize = 25;
    let mut racers: Vec<Child> = (0..RACERS).map(|_| Child::start("races::role_of_a_racer")).collect();
    for (number, racer) in racers.iter_mut().enumerate() {
        assert_eq!(racer.hear(), "ready");
        racer.say(number);
    }
    for _ in 0..ROUNDS {
        for place in Own::both() {
            racers.iter().for_each(|racer| racer.say(tell(&place)));
            let origins: Vec<String> = racers.iter_mut().map(Child::hear).collect();
            assert_eq!(origins.iter().filter(|origin| *origin == "Created").count(), 1, "{origins:?}");
            let opened: Segment<ReadyLayout> = place.open(&OPTIONS).unwrap();
            let mut rang = Vec::new();
            ReadySet::new(&opened).take_ready(RACERS, |racer| rang.push(racer));
            assert_eq!(rang, (0..RACERS).collect::<Vec<u32>>());
            assert_eq!(place.files().len(), 1, "the drafts of the losers are gone");
        }
    }
}

#[test]
#[ignore = "a role of a child process"]
fn role_of_a_racer() {
    let Some(mut line) = line() else { return };
    line.say("ready");
    let Some(number) = line.hear() else { return };
    let mut last = None;
    while let Some(place) = line.hear() {
        let (segment, origin) = told(&place).open_or_create(lanes(64), 1, &OPTIONS).unwrap();
        ReadySet::new(&segment).ring(number.parse().unwrap());
        line.say(format!("{origin:?}"));
        last = Some(segment);
    }
    drop(last);
}

#[test]
fn opening_making_replacing_and_removing_at_once_gives_complete_segments_or_clear_answers() {
    for place in Own::both() {
        let roles = ["make and remove", "make and remove", "make and remove", "open", "open", "create"];
        let mut children: Vec<Child> = roles.iter().map(|_| Child::start("races::role_of_a_busybody")).collect();
        for (child, role) in children.iter_mut().zip(roles) {
            assert_eq!(child.hear(), "ready");
            child.say(tell(&place));
            child.say(role);
        }
        children.iter().for_each(|child| child.say("go"));
        for (child, role) in children.iter_mut().zip(roles) {
            let answer = child.hear();
            assert!(answer.starts_with("done"), "{role}: {answer}");
            println!("{}, {role}: {answer}", *place);
        }
        drop(children);
        drop(place.open_or_create(lanes(64), 1, &OPTIONS).unwrap());
        assert_eq!(place.files().len(), 1);
    }
}

#[test]
#[ignore = "a role of a child process"]
fn role_of_a_busybody() {
    const ROUNDS: usize = 300;
    let Some(mut line) = line() else { return };
    line.say("ready");
    let (place, role) = (told(&line.hear().unwrap()), line.hear().unwrap());
    line.hear();
    let (mut yes, mut no) = (0, 0);
    // Finding nothing is done quickly.
    for _ in 0..if role == "open" { 10 * ROUNDS } else { ROUNDS } {
        let answer = match role.as_str() {
            "make and remove" => place.open_or_create(lanes(64), 1, &OPTIONS).and_then(|(segment, _)| {
                assert_eq!((segment.epoch(), *segment.layout()), (1, lanes(64)));
                place.remove()
            }),
            "open" => place.open::<ReadyLayout>(&OPTIONS).map(|segment| segment.epoch() == 1),
            _ => place.create(lanes(64), 1, &OPTIONS).map(|segment| segment.epoch() == 1),
        };
        match (role.as_str(), answer) {
            (_, Ok(true)) => yes += 1,
            // Somebody else removed it first.
            ("make and remove", Ok(false)) => no += 1,
            ("open", Err(Error::NoSegment { .. })) | ("create", Err(Error::Taken { .. })) => no += 1,
            (_, answer) => {
                line.say(format!("after {yes} yes, {no} no: {answer:?}"));
                return;
            }
        }
    }
    line.say(format!("done: {yes} yes, {no} no"));
}

#[test]
fn memory_of_a_removed_segment_goes_when_its_last_user_is_killed() {
    for place in Own::both() {
        let mut child = Child::start("races::role_of_a_racer");
        assert_eq!(child.hear(), "ready");
        child.say(0);
        child.say(tell(&place));
        assert_eq!(child.hear(), "Created");
        // Two links to look at it by: the name, and one that the test holds.
        let watched = fs::File::open(place.path()).unwrap();
        assert!(matches!(place.create(lanes(64), 2, &OPTIONS), Err(Error::Taken { .. })), "the child has it open");
        child.kill();
        assert_eq!(place.create(lanes(64), 2, &OPTIONS).unwrap().epoch(), 2);
        assert_eq!(watched.metadata().unwrap().nlink(), 0, "no name leads to the former one");
    }
}
