//! The rows of calls: both awake, both asleep, and what an unloaded call costs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::bars::{a_second, as_fast_as, bars_over_floor, times_faster, wins_of_rivals};
use super::{Bar, Effort, Row, RowId, Verdict};
use crate::chunks::{self, Class};
use crate::flight::{Batches, InTasks, Tarpc};
use crate::floor::{FutexFloor, LineFloor};
use crate::iceoryx2_rr::Iceoryx2;
use crate::ours::{Ours, Waiting};
use crate::placement::Pinned;
use crate::report::figures_of;
use crate::subject::{Failure, Subject};
use crate::uds::UnixSocket;
use crate::unloaded::cores::TwoCores;
use crate::unloaded::{Argument, Cost, Experiment, Roles};

/// The hidden sub-command that runs a role of the unloaded-call experiment.
pub const UNLOADED_COMMAND: &str = "unloaded";

pub(super) fn awake(effort: Effort, directory: &Path, cores: TwoCores) -> Result<Row, Failure> {
    let mut floor = LineFloor::start(cores.peer)?;
    let mut ours = Ours::start(directory, cores.peer, Waiting::Awake)?;
    let mut iceoryx2 = Iceoryx2::start(cores.peer)?;
    let mut uds = UnixSocket::start(directory, cores.peer)?;
    let _pinned = Pinned::to(cores.caller)?;
    let plan = effort.plan(Duration::from_millis(10), &[Class::Near]);
    let subjects: &mut [&mut dyn Subject] = &mut [&mut ours, &mut iceoryx2, &mut uds];
    let series = chunks::collect(&plan, chunks::by_line_floor, &mut floor, subjects)?;
    let [ours, iceoryx2, ..] = &series[..] else { return Err("a subject gave no series".into()) };
    let mut bars = bars_over_floor(ours, 2.0, "a line each way", &[Class::Near, Class::Far]);
    bars.push(times_faster(ours, iceoryx2, 5.0, Class::Near));
    Ok(Row::new(RowId::P1, figures_of(&series), bars, wins_of_rivals(&series)))
}

pub(super) fn asleep(effort: Effort, directory: &Path, cores: TwoCores) -> Result<Row, Failure> {
    let mut floor = FutexFloor::start(cores.peer)?;
    let mut ours = Ours::start(directory, cores.peer, Waiting::Asleep)?;
    let mut uds = UnixSocket::start(directory, cores.peer)?;
    let _pinned = Pinned::to(cores.caller)?;
    let plan = effort.plan(Duration::from_millis(50), &[Class::Asleep]);
    let subjects: &mut [&mut dyn Subject] = &mut [&mut ours, &mut uds];
    let series = chunks::collect(&plan, chunks::by_futex_floor, &mut floor, subjects)?;
    let [ours, uds, ..] = &series[..] else { return Err("a subject gave no series".into()) };
    let mut bars = bars_over_floor(ours, 1.25, "a bare futex wake each way", &[Class::Asleep]);
    bars.push(times_faster(ours, uds, 1.0, Class::Asleep));
    Ok(Row::new(RowId::P2, figures_of(&series), bars, wins_of_rivals(&series)))
}

/// Both classes tell about many calls in flight, of which each moves its lines while others are worked on.
const BOTH: &[Class] = &[Class::Near, Class::Far];

pub(super) fn pipelined(effort: Effort, directory: &Path, cores: TwoCores) -> Result<Row, Failure> {
    let mut floor = LineFloor::start(cores.peer)?;
    let mut ours = Batches::start(directory, cores.peer)?;
    let mut tarpc = Tarpc::start(directory, cores.peer)?;
    let _pinned = Pinned::to(cores.caller)?;
    let plan = effort.plan(Duration::from_millis(20), BOTH);
    let subjects: &mut [&mut dyn Subject] = &mut [&mut ours, &mut tarpc];
    let series = chunks::collect(&plan, chunks::by_line_floor, &mut floor, subjects)?;
    let [ours, tarpc, ..] = &series[..] else { return Err("a subject gave no series".into()) };
    let mut bars = a_second(ours, 2.0, BOTH);
    bars.extend(as_fast_as(ours, tarpc, 10.0, BOTH));
    Ok(Row::new(RowId::P6, figures_of(&series), bars, wins_of_rivals(&series)))
}

pub(super) fn of_tasks(effort: Effort, directory: &Path, cores: TwoCores) -> Result<Row, Failure> {
    let mut floor = LineFloor::start(cores.peer)?;
    let mut many = InTasks::start(directory, cores.peer, 10_000)?;
    let mut one = InTasks::start(directory, cores.peer, 1)?;
    let _pinned = Pinned::to(cores.caller)?;
    let plan = effort.plan(Duration::from_millis(200), BOTH);
    let subjects: &mut [&mut dyn Subject] = &mut [&mut many, &mut one];
    let series = chunks::collect(&plan, chunks::by_line_floor, &mut floor, subjects)?;
    let [many, ..] = &series[..] else { return Err("a subject gave no series".into()) };
    Ok(Row::new(RowId::P11, figures_of(&series), a_second(many, 0.5, BOTH), Vec::new()))
}

pub(super) fn unloaded(directory: &Path) -> Result<Row, Failure> {
    let executable = std::env::current_exe()?;
    let role = |name: &str| {
        let mut command = Command::new(&executable);
        command.args([UNLOADED_COMMAND, name]).arg(directory);
        command
    };
    let roles = Roles { service: role("service"), caller: role("caller") };
    let Ok(mut experiment) = Experiment::start(roles)? else {
        return Ok(Row::not_measurable(RowId::P18, "needs two processors, this process may use one"));
    };
    let mut bars = Vec::new();
    let mut notes = Vec::new();
    for (argument, shown) in [(Argument::Words, "64 B"), (Argument::Slice, "a slice of 1,000 f32")] {
        let cost = experiment.count(argument)?;
        notes.push(format!("{shown}: {cost}"));
        bars.extend(nothing_spent(shown, &cost));
    }
    Ok(Row::new(RowId::P18, Vec::new(), bars, notes))
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

#[cfg(test)]
mod tests {
    use super::*;

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
