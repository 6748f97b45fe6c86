//! The rows: what is measured, beside which floor and rivals, and which bars it must pass.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::chunks::{self, Class, ENOUGH_CHUNKS, Plan, Series};
use crate::floor::{FutexFloor, LineFloor};
use crate::iceoryx2_rr::Iceoryx2;
use crate::ours::{Ours, Waiting};
use crate::placement::Pinned;
use crate::report::{Figures, figures_of};
use crate::subject::Failure;
use crate::uds::UnixSocket;
use crate::unloaded::cores::TwoCores;
use crate::unloaded::{Argument, Cost, Experiment, Roles};

/// The hidden sub-command that runs a role of the unloaded-call experiment.
pub const UNLOADED_COMMAND: &str = "unloaded";

/// A row of the table, by the number it has in the performance page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum RowId {
    /// Typed call, 64 B, both awake.
    #[value(name = "P1", alias = "p1")]
    P1,
    /// Typed call, 64 B, both asleep.
    #[value(name = "P2", alias = "p2")]
    P2,
    /// Allocations and system calls per unloaded call.
    #[value(name = "P18", alias = "p18")]
    P18,
}

impl RowId {
    /// All rows, in the order in which they are measured.
    pub const ALL: [Self; 3] = [Self::P1, Self::P2, Self::P18];
}

/// What a bar or a row came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every bar was judged and held.
    Pass,
    /// A bar was judged and did not hold.
    Fail,
    /// A bar could not be judged here and now: neither passed nor failed.
    NotMeasurable,
}

impl Verdict {
    fn of(holds: Option<bool>) -> Self {
        match holds {
            Some(true) => Self::Pass,
            Some(false) => Self::Fail,
            None => Self::NotMeasurable,
        }
    }

    /// One failure fails the whole; one open question leaves it open.
    #[must_use]
    pub fn all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        verdicts.into_iter().fold(Self::Pass, |whole, one| match (whole, one) {
            (Self::Fail, _) | (_, Self::Fail) => Self::Fail,
            (Self::NotMeasurable, _) | (_, Self::NotMeasurable) => Self::NotMeasurable,
            _ => Self::Pass,
        })
    }
}

/// One bar of a row, judged.
#[derive(Debug, Clone, Serialize)]
pub struct Bar {
    /// What must hold.
    pub what: String,
    /// In which class it was judged; none for bars that know no class.
    pub class: Option<Class>,
    /// What was measured, in the unit of `what`.
    pub value: Option<f64>,
    /// What it came to.
    pub verdict: Verdict,
}

/// One measured row.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its number.
    pub id: String,
    /// What was measured.
    pub what: &'static str,
    /// Where the two processes ran.
    pub placement: &'static str,
    /// Subjects, rivals and the floor (last), for each class.
    pub figures: Vec<Figures>,
    /// The bars.
    pub bars: Vec<Bar>,
    /// What cannot be said in figures.
    pub notes: Vec<String>,
    /// What the row came to.
    pub verdict: Verdict,
}

impl Row {
    fn new(id: RowId, what: &'static str, figures: Vec<Figures>, bars: Vec<Bar>, notes: Vec<String>) -> Self {
        let verdict = Verdict::all(bars.iter().map(|bar| bar.verdict));
        Self { id: format!("{id:?}"), what, placement: "two cores", figures, bars, notes, verdict }
    }

    fn not_measurable(id: RowId, what: &'static str, why: String) -> Self {
        let bar = Bar { what: why, class: None, value: None, verdict: Verdict::NotMeasurable };
        Self::new(id, what, Vec::new(), vec![bar], Vec::new())
    }
}

/// How much time a run may take.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// For each row that measures time.
    pub budget: Duration,
    /// Kept chunks of the wanted class after which a row is done.
    pub wanted_chunks: usize,
}

impl Effort {
    /// Figures to quote: at most a minute for a row.
    pub const FULL: Self = Self { budget: Duration::from_secs(60), wanted_chunks: 3 * ENOUGH_CHUNKS };
    /// Just enough to judge: at most twelve seconds for a row.
    pub const QUICK: Self = Self { budget: Duration::from_secs(12), wanted_chunks: ENOUGH_CHUNKS };
}

const P1_WHAT: &str = "typed call to another process, 64 B, both awake, all of the service layer on";
const P2_WHAT: &str = "typed call to another process, 64 B, both asleep";
const P18_WHAT: &str = "heap allocations and system calls per unloaded call";

/// Measures one row. Sockets and other files are made in `directory`.
///
/// # Errors
/// A subject or its peer failed: the row says nothing, and neither does the run.
pub fn measure(id: RowId, effort: Effort, directory: &Path) -> Result<Row, Failure> {
    match (id, TwoCores::find()?) {
        (RowId::P1, Some(cores)) => awake(effort, directory, cores),
        (RowId::P2, Some(cores)) => asleep(effort, directory, cores),
        (RowId::P18, Some(_)) => unloaded(directory),
        (RowId::P1, None) => Ok(Row::not_measurable(id, P1_WHAT, needs_two())),
        (RowId::P2, None) => Ok(Row::not_measurable(id, P2_WHAT, needs_two())),
        (RowId::P18, None) => Ok(Row::not_measurable(id, P18_WHAT, needs_two())),
    }
}

fn needs_two() -> String {
    "needs two processors, this process may use one".to_owned()
}

fn awake(effort: Effort, directory: &Path, cores: TwoCores) -> Result<Row, Failure> {
    let mut floor = LineFloor::start(cores.peer)?;
    let mut ours = Ours::start(directory, cores.peer, Waiting::Awake)?;
    let mut iceoryx2 = Iceoryx2::start(cores.peer)?;
    let mut uds = UnixSocket::start(directory, cores.peer)?;
    let _pinned = Pinned::to(cores.caller)?;
    let plan = Plan {
        chunk: Duration::from_millis(10),
        budget: effort.budget,
        wanted_chunks: effort.wanted_chunks,
        wanted_class: Class::Near,
    };
    let subjects: &mut [&mut dyn crate::subject::Subject] = &mut [&mut ours, &mut iceoryx2, &mut uds];
    let series = chunks::collect(&plan, chunks::by_line_floor, &mut floor, subjects)?;
    let [ours, iceoryx2, ..] = &series[..] else { return Err("a subject gave no series".into()) };
    let mut bars = bars_over_floor(ours, 2.0, "a line each way", &[Class::Near, Class::Far]);
    bars.push(times_faster(ours, iceoryx2, 5.0, Class::Near));
    Ok(Row::new(RowId::P1, P1_WHAT, figures_of(&series), bars, wins_of_rivals(&series)))
}

fn asleep(effort: Effort, directory: &Path, cores: TwoCores) -> Result<Row, Failure> {
    let mut floor = FutexFloor::start(cores.peer)?;
    let mut ours = Ours::start(directory, cores.peer, Waiting::Asleep)?;
    let mut uds = UnixSocket::start(directory, cores.peer)?;
    let _pinned = Pinned::to(cores.caller)?;
    let plan = Plan {
        chunk: Duration::from_millis(50),
        budget: effort.budget,
        wanted_chunks: effort.wanted_chunks,
        wanted_class: Class::Asleep,
    };
    let subjects: &mut [&mut dyn crate::subject::Subject] = &mut [&mut ours, &mut uds];
    let series = chunks::collect(&plan, chunks::by_futex_floor, &mut floor, subjects)?;
    let [ours, uds, ..] = &series[..] else { return Err("a subject gave no series".into()) };
    let mut bars = bars_over_floor(ours, 1.25, "a bare futex wake each way", &[Class::Asleep]);
    bars.push(times_faster(ours, uds, 1.0, Class::Asleep));
    Ok(Row::new(RowId::P2, P2_WHAT, figures_of(&series), bars, wins_of_rivals(&series)))
}

fn unloaded(directory: &Path) -> Result<Row, Failure> {
    let executable = std::env::current_exe()?;
    let role = |name: &str| {
        let mut command = Command::new(&executable);
        command.args([UNLOADED_COMMAND, name]).arg(directory);
        command
    };
    let roles = Roles { service: role("service"), caller: role("caller") };
    let Ok(mut experiment) = Experiment::start(roles)? else {
        return Ok(Row::not_measurable(RowId::P18, P18_WHAT, needs_two()));
    };
    let mut bars = Vec::new();
    let mut notes = Vec::new();
    for (argument, shown) in [(Argument::Words, "64 B"), (Argument::Slice, "a slice of 1,000 f32")] {
        let cost = experiment.count(argument)?;
        notes.push(format!("{shown}: {cost}"));
        bars.extend(nothing_spent(shown, &cost));
    }
    Ok(Row::new(RowId::P18, P18_WHAT, Vec::new(), bars, notes))
}

/// The bar `at most limit times the floor`, in each of these classes that has enough chunks; open if none has.
fn bars_over_floor(ours: &Series, limit: f64, floor: &str, classes: &[Class]) -> Vec<Bar> {
    let bar = |class, ratio: Option<f64>| Bar {
        what: format!("at most {limit} x the floor of {floor}"),
        class,
        value: ratio,
        verdict: Verdict::of(ratio.map(|ratio| ratio <= limit)),
    };
    let judged: Vec<Bar> =
        classes.iter().filter_map(|&class| Some(bar(Some(class), Some(ours.ratio_to_floor(class)?)))).collect();
    if judged.is_empty() { vec![bar(None, None)] } else { judged }
}

/// The bar `at least so many times faster than the rival`, both as multiples of the floor beside them.
fn times_faster(ours: &Series, rival: &Series, limit: f64, class: Class) -> Bar {
    let times = rival.ratio_to_floor(class).zip(ours.ratio_to_floor(class)).map(|(rival, ours)| rival / ours);
    let name = rival.name;
    let what =
        if limit == 1.0 { format!("faster than {name}") } else { format!("at least {limit} x faster than {name}") };
    Bar { what, class: Some(class), value: times, verdict: Verdict::of(times.map(|times| times >= limit)) }
}

fn nothing_spent(argument: &str, cost: &Cost) -> [Bar; 2] {
    let bar = |what: &str, count: u64, holds: bool| Bar {
        what: format!("0 {what} per call, {argument}"),
        class: None,
        value: (cost.calls > 0).then(|| count as f64 / f64::from(cost.calls)),
        verdict: Verdict::of(cost.is_measured().then_some(holds)),
    };
    let allocations = cost.caller_allocations + cost.service_allocations;
    let system_calls = cost.system_calls.len() as u64;
    [
        bar("heap allocations", allocations, allocations == 0),
        bar("system calls", system_calls, cost.is_free_of_system_calls()),
    ]
}

/// Where a rival is ahead of the first series, in words. The last series is the floor, which is no rival.
fn wins_of_rivals(series: &[Series]) -> Vec<String> {
    let Some((ours, [rivals @ .., _floor])) = series.split_first() else { return Vec::new() };
    let mut notes = Vec::new();
    for class in [Class::Near, Class::Far, Class::Asleep] {
        for rival in rivals {
            let ratios = ours.ratio_to_floor(class).zip(rival.ratio_to_floor(class));
            if let Some((ours, theirs)) = ratios.filter(|(ours, theirs)| theirs < ours) {
                notes.push(format!("{} wins ({class:?}): {theirs:.2} x the floor, ours {ours:.2} x", rival.name));
            }
        }
    }
    if notes.is_empty() {
        notes.push("no rival of this run wins".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_outweighs_open_questions() {
        assert_eq!(Verdict::all([Verdict::NotMeasurable, Verdict::Fail, Verdict::Pass]), Verdict::Fail);
        assert_eq!(Verdict::all([Verdict::Pass, Verdict::NotMeasurable]), Verdict::NotMeasurable);
        assert_eq!(Verdict::all([]), Verdict::Pass);
    }

    #[test]
    fn a_busy_machine_neither_passes_nor_fails_the_cost_of_a_call() {
        let cost = Cost {
            calls: 500,
            dropped_windows: 400,
            caller_allocations: 0,
            service_allocations: 0,
            system_calls: vec![202],
        };
        assert!(nothing_spent("64 B", &cost).iter().all(|bar| bar.verdict == Verdict::NotMeasurable));
    }

    #[test]
    fn system_calls_in_every_window_fail_the_cost_of_a_call() {
        let cost = Cost {
            calls: 0,
            dropped_windows: 400,
            caller_allocations: 0,
            service_allocations: 0,
            system_calls: Vec::new(),
        };
        assert_eq!(nothing_spent("64 B", &cost).map(|bar| bar.verdict), [Verdict::Pass, Verdict::Fail]);
    }
}
