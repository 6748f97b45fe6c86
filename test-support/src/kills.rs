//! Kills at each instruction of what a child does, or at a sample of the instructions.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::child::Line;
use crate::stepped::{Victim, always_at_the_same_addresses};

/// Named in the environment with the value `all`: kill at every instruction, not at a sample.
const WHICH: &str = "SWITCHBOARD_KILLS";

/// Kills of a sample that are spread over the whole way.
const SPREAD: u64 = 12;

/// How far from the instruction that makes the difference a sample kills at each, on both sides.
const NEAR: u64 = 4;

/// Of a loop in what is long, a complete run kills in so many first rounds.
const ROUNDS: u32 = 2;

/// Between two words of a complete run on how far it is.
const WORD_AFTER: Duration = Duration::from_secs(20);

/// What the survivors see of what the victim did: more of it, the later it was killed.
#[derive(Debug, Clone)]
pub enum Seen {
    /// From the first to the second, never falling: the victim and its survivors do not act at the same time.
    Rises(RangeInclusive<u64>),
    /// One of these; which one depends on more than the instruction.
    OneOf(RangeInclusive<u64>),
}

/// Enumerates kills and counts them, for one process that survives them all.
#[derive(Debug)]
pub struct Kills<'a> {
    line: &'a Line,
    subject: &'a str,
    is_complete: bool,
    points: u64,
    since: Instant,
}

impl<'a> Kills<'a> {
    /// Of this subject; what there is to say is said on the line.
    pub fn of(subject: &'a str, line: &'a Line) -> Self {
        always_at_the_same_addresses();
        let is_complete = std::env::var_os(WHICH).is_some_and(|which| which == "all");
        Self { line, subject, is_complete, points: 0, since: Instant::now() }
    }

    /// Kills at each instruction of `what`, or at a sample.
    ///
    /// `begin` starts a victim, waits until it is ready, and gives it with what surrounds it. When the victim is gone,
    /// `look` checks everything and says how much is seen of what it did. The first kill comes before the first
    /// instruction, the last one behind the last.
    pub fn at_each_instruction<S>(
        &mut self,
        what: &str,
        seen: &Seen,
        begin: impl FnMut() -> (Victim, S),
        look: impl FnMut(S) -> u64,
    ) {
        self.along_a_path(what, seen, u32::MAX, begin, look);
    }

    fn along_a_path<S>(
        &mut self,
        what: &str,
        seen: &Seen,
        rounds: u32,
        mut begin: impl FnMut() -> (Victim, S),
        mut look: impl FnMut(S) -> u64,
    ) {
        let path = {
            let (victim, scene) = begin();
            let path = victim.explore();
            victim.kill();
            look(scene);
            path
        };
        let mut kills = BTreeMap::new();
        let mut strayed = 0;
        let mut kill_once = |step: u64, walked: u64| {
            let _place = Place { what, step, of: "instructions" };
            let (victim, scene) = begin();
            let is_there = victim.go(&path, step, walked);
            victim.kill();
            let found = look(scene);
            assert!(seen.range().contains(&found), "{what}: {found} is seen");
            (found, is_there || matches!(seen, Seen::OneOf(_)))
        };
        let mut kill_at = |kills: &mut BTreeMap<u64, u64>, step: u64| {
            if let Some(found) = kills.get(&step) {
                return *found;
            }
            let mut found = 0;
            // A victim may go another way than the first one did, if it reads the clock for example. That is a kill as
            // good as others, but says nothing about the order.
            for walked in [0, 100, 1000] {
                let is_there;
                (found, is_there) = kill_once(step, walked);
                if is_there {
                    kills.insert(step, found);
                    return found;
                }
            }
            strayed += 1;
            found
        };
        if self.is_complete {
            let mut last_word = Instant::now();
            for step in path.first_rounds(rounds) {
                kill_at(&mut kills, step);
                if last_word.elapsed() > WORD_AFTER {
                    self.line.say(format!("{what}: {step} of {} instructions", path.steps()));
                    last_word = Instant::now();
                }
            }
            kill_at(&mut kills, path.steps());
        } else {
            sample(path.steps(), |step| kill_at(&mut kills, step));
        }
        if let Seen::Rises(_) = seen {
            // A landmark may have been met on another way, at another time. Who walks all the way is where it should be.
            for step in out_of_order(&kills) {
                match (0..3).find_map(|_| Some(kill_once(step, u64::MAX)).filter(|(_, is_there)| *is_there)) {
                    Some((found, _)) => drop(kills.insert(step, found)),
                    None => {
                        kills.remove(&step);
                        strayed += 1;
                    }
                }
            }
        }
        seen.is_kept(what, &kills);
        // The marks' own instructions are no part of what was to be killed.
        let of_marks = if self.is_complete { path.of_marks } else { 0 };
        let (points, all) = ((kills.len() as u64 + strayed) - of_marks, path.steps() + 1 - path.of_marks);
        let of = if points == all { String::new() } else { format!(" of {all}") };
        self.count(what, points, format!("instructions{of}"));
        if strayed > 0 {
            self.line.say(format!("figure: kills of {what} on another way than the first victim's = {strayed} kills"));
        }
    }

    /// The same for what is long: a sample is each way into a system call and each way back, and a complete run leaves
    /// out the later rounds of loops.
    pub fn at_each_system_call<S>(
        &mut self,
        what: &str,
        seen: &Seen,
        mut begin: impl FnMut() -> (Victim, S),
        mut look: impl FnMut(S) -> u64,
    ) {
        if self.is_complete {
            return self.along_a_path(what, seen, ROUNDS, begin, look);
        }
        let mut kills = BTreeMap::new();
        let mut is_in_between = true;
        for step in 0.. {
            let _place = Place { what, step, of: "ways into system calls and back" };
            let (victim, scene) = begin();
            is_in_between &= victim.go_by_calls(step);
            victim.kill();
            kills.insert(step, look(scene));
            if !is_in_between {
                break;
            }
        }
        seen.is_kept(what, &kills);
        self.count(what, kills.len() as u64, "ways into system calls and back".to_owned());
    }

    fn count(&mut self, what: &str, points: u64, unit: String) {
        self.line.say(format!("figure: kill points of {what} = {points} {unit}"));
        self.points += points;
    }

    /// Says how many kills there were, and how long they took.
    pub fn end(self) {
        let Self { line, subject, points, since, .. } = self;
        line.say(format!("figure: kill points of {subject} in all = {points} kills"));
        line.say(format!("figure: time of kills of {subject} = {:.1} s", since.elapsed().as_secs_f64()));
    }
}

/// Kills all over the way, and at every instruction around those that make a difference.
fn sample(steps: u64, mut kill_at: impl FnMut(u64) -> u64) {
    let spread: Vec<(u64, u64)> = (0..=SPREAD).map(|i| i * steps / SPREAD).map(|step| (step, kill_at(step))).collect();
    for pair in spread.windows(2) {
        let [(mut before, less), (mut after, more)] = *pair else { continue };
        if less == more {
            continue;
        }
        while after - before > 1 {
            let middle = before.midpoint(after);
            if kill_at(middle) == less { before = middle } else { after = middle }
        }
        (after.saturating_sub(NEAR)..(after + NEAR).min(steps)).for_each(|step| {
            kill_at(step);
        });
    }
}

/// Kills behind which more is seen than behind a later one.
fn out_of_order(kills: &BTreeMap<u64, u64>) -> Vec<u64> {
    let mut least = u64::MAX;
    let mut steps = Vec::new();
    for (step, found) in kills.iter().rev() {
        if *found > least {
            steps.push(*step);
        }
        least = least.min(*found);
    }
    steps
}

impl Seen {
    fn range(&self) -> &RangeInclusive<u64> {
        let (Self::Rises(range) | Self::OneOf(range)) = self;
        range
    }

    fn is_kept(&self, what: &str, kills: &BTreeMap<u64, u64>) {
        let Self::Rises(range) = self else { return };
        let mut changes: Vec<_> = kills.iter().collect();
        changes.dedup_by_key(|(_, seen)| **seen);
        let listed = format!("{what}: what is seen, from which kill on: {changes:?}");
        assert!(kills.values().is_sorted(), "{listed}");
        let ends = (kills.values().next(), kills.values().next_back());
        assert_eq!(ends, (Some(range.start()), Some(range.end())), "{listed}");
    }
}

/// Says where the kill was, if what follows from it fails.
struct Place<'a> {
    what: &'a str,
    step: u64,
    of: &'a str,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: killed after {} {}", self.what, self.step, self.of);
        }
    }
}
