//! What the demo found, as JSON, as a screen of text, and as a list of what went wrong.

mod text;

use std::time::Duration;

use serde::Serialize;

use crate::demo::bare::Bare;
use crate::demo::kill::Killed;
use crate::demo::work::Work;

pub use text::text;

/// Fewer than this part of the images recognised is a failure.
const LEAST_ACCURACY: f64 = 0.95;

/// Callers told later than this after the kill is a failure.
const LATEST_NOTICE: Duration = Duration::from_millis(100);

/// How the service came back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The new process.
    pub pid: u32,
    /// How many calls the same client made until one succeeded.
    pub tries: u32,
    /// From the moment that the new process was ready to that reply.
    pub took: Duration,
    /// How many of the images were recognised then.
    pub right: usize,
}

/// Everything that the demo found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// The service's first process.
    pub service_pid: u32,
    /// How many of its calls run at the same time.
    pub workers: u16,
    /// Whether there were two processors for the pair.
    pub two_processors: bool,
    /// The images.
    pub work: Work,
    /// The echoes.
    pub bare: Bare,
    /// The kill.
    pub killed: Killed,
    /// `None` if no call succeeded after the restart.
    pub recovery: Option<Recovery>,
    /// What was not given back at the end, in words.
    pub left: Vec<String>,
    /// All of it.
    pub took: Duration,
}

impl Findings {
    /// The part of the images that was recognised; 0 without images.
    pub fn accuracy(&self) -> f64 {
        self.work.right as f64 / self.work.images.max(1) as f64
    }

    /// Whether the same client gets the same answers from the service that was started again.
    pub fn has_recovered(&self) -> bool {
        self.recovery.is_some_and(|recovery| recovery.right == self.work.right)
    }

    /// What went wrong, a sentence each; empty if all is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |is_well: bool, problem: String| {
            if !is_well {
                problems.push(problem);
            }
        };
        let Killed { hung, notice, .. } = self.killed;
        let in_flight = self.killed.in_flight();
        check(
            self.accuracy() >= LEAST_ACCURACY,
            format!("{} of {} images were recognised, less than {LEAST_ACCURACY}", self.work.right, self.work.images),
        );
        check(in_flight > 0, "no call was in flight when the service was killed".into());
        check(hung == 0, format!("{hung} of {in_flight} calls in flight at the kill were told nothing"));
        check(
            notice <= LATEST_NOTICE,
            format!("the last caller was told {:.1} ms after the kill, more than {LATEST_NOTICE:?}", ms(notice)),
        );
        match self.recovery {
            None => check(false, "no call succeeded after the service was started again".into()),
            Some(Recovery { right, .. }) => check(
                self.has_recovered(),
                format!("{right} images were recognised after the restart, {} before", self.work.right),
            ),
        }
        problems.extend(self.left.iter().map(|what| format!("left behind: {what}")));
        problems
    }

    /// One object on one line.
    ///
    /// # Errors
    /// When a figure is not a number.
    pub fn json(&self) -> serde_json::Result<String> {
        let Killed { not_run, may_have_run, ran, hung, notice, .. } = self.killed;
        serde_json::to_string(&Json {
            accuracy: (self.accuracy() * 1e4).round() / 1e4,
            calls_per_s: whole(self.work.ours.per_second()),
            p50_ns: whole(self.work.ours.p50()),
            p99_ns: whole(self.work.ours.percentile(99.0)),
            uds_p50_ns: whole(self.work.socket.p50()),
            echo_spin_p50_ns: whole(self.bare.awake.p50()),
            floor_two_lines_ns: whole(self.bare.two_lines.p50()),
            echo_park_p50_ns: whole(self.bare.asleep.p50()),
            futex_rtt_ns: whole(self.bare.futex.p50()),
            uds_echo_p50_ns: whole(self.bare.socket.p50()),
            killed_calls: KilledCalls { not_run, may_have_run, ran, hung },
            kill_notice_ms: (ms(notice) * 1e3).round() / 1e3,
            recovered: self.has_recovered(),
        })
    }
}

/// The object; its keys are a promise to programs.
#[derive(Serialize)]
struct Json {
    accuracy: f64,
    calls_per_s: u64,
    p50_ns: u64,
    p99_ns: u64,
    uds_p50_ns: u64,
    echo_spin_p50_ns: u64,
    floor_two_lines_ns: u64,
    echo_park_p50_ns: u64,
    futex_rtt_ns: u64,
    uds_echo_p50_ns: u64,
    killed_calls: KilledCalls,
    kill_notice_ms: f64,
    recovered: bool,
}

#[derive(Serialize)]
struct KilledCalls {
    not_run: usize,
    may_have_run: usize,
    ran: usize,
    hung: usize,
}

fn whole(value: f64) -> u64 {
    value.round() as u64
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn all_well() -> Findings {
        Findings {
            work: Work { images: 450, right: 434, ..Work::default() },
            killed: Killed { not_run: 6, may_have_run: 2, notice: Duration::from_micros(1_250), ..Killed::default() },
            recovery: Some(Recovery { right: 434, ..Recovery::default() }),
            ..Findings::default()
        }
    }

    fn problem_of(change: impl FnOnce(&mut Findings)) -> String {
        let mut findings = all_well();
        change(&mut findings);
        findings.problems().join("; ")
    }

    #[test]
    fn nothing_wrong_is_no_problem() {
        assert_eq!(all_well().problems(), [""; 0]);
    }

    #[test]
    fn each_thing_that_can_go_wrong_is_a_sentence() {
        let few = |found: &mut Findings| {
            found.work.right = 427;
            found.recovery = Some(Recovery { right: 427, ..Recovery::default() });
        };
        let wrong = "427 of 450 images were recognised, less than 0.95";
        assert_eq!(problem_of(few), wrong);
        let wrong = "no call was in flight when the service was killed";
        assert_eq!(problem_of(|found| (found.killed.not_run, found.killed.may_have_run) = (0, 0)), wrong);
        let wrong = "1 of 9 calls in flight at the kill were told nothing";
        assert_eq!(problem_of(|found| found.killed.hung = 1), wrong);
        let wrong = "the last caller was told 100.5 ms after the kill, more than 100ms";
        assert_eq!(problem_of(|found| found.killed.notice = Duration::from_micros(100_500)), wrong);
        let wrong = "no call succeeded after the service was started again";
        assert_eq!(problem_of(|found| found.recovery = None), wrong);
        let wrong = "433 images were recognised after the restart, 434 before";
        assert_eq!(problem_of(|found| found.recovery = Some(Recovery { right: 433, ..Recovery::default() })), wrong);
        let wrong = "left behind: a child process";
        assert_eq!(problem_of(|found| found.left = vec!["a child process".into()]), wrong);
    }

    #[test]
    fn json_has_exactly_the_promised_keys_in_order() {
        let json = all_well().json().expect("all figures are numbers");
        let expected = concat!(
            r#"{"accuracy":0.9644,"calls_per_s":0,"p50_ns":0,"p99_ns":0,"uds_p50_ns":0,"echo_spin_p50_ns":0,"#,
            r#""floor_two_lines_ns":0,"echo_park_p50_ns":0,"futex_rtt_ns":0,"uds_echo_p50_ns":0,"#,
            r#""killed_calls":{"not_run":6,"may_have_run":2,"ran":0,"hung":0},"kill_notice_ms":1.25,"recovered":true}"#,
        );
        assert_eq!(json, expected);
    }
}
