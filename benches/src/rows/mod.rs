//! The rows: what is measured, beside which floor and rivals, and which bars it must pass.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::chunks::{Class, ENOUGH_CHUNKS, Plan};
use crate::report::Figures;
use crate::subject::Failure;
use crate::unloaded::cores::TwoCores;

mod bars;
mod calls;
mod rings;

pub use calls::UNLOADED_COMMAND;

/// A row of the table, by the number it has in the performance page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum RowId {
    /// Typed call, 64 B, both awake.
    #[value(name = "P1", alias = "p1")]
    P1,
    /// Typed call, 64 B, both asleep.
    #[value(name = "P2", alias = "p2")]
    P2,
    /// Ring round trip, 64 B, both spinning.
    #[value(name = "P3", alias = "p3")]
    P3,
    /// One way, one producer.
    #[value(name = "P4", alias = "p4")]
    P4,
    /// One way, many producers.
    #[value(name = "P5", alias = "p5")]
    P5,
    /// Calls of one thread, 64 in flight.
    #[value(name = "P6", alias = "p6")]
    P6,
    /// Calls of tasks.
    #[value(name = "P11", alias = "p11")]
    P11,
    /// Allocations and system calls per unloaded call.
    #[value(name = "P18", alias = "p18")]
    P18,
}

impl RowId {
    /// All rows, in the order in which they are measured.
    pub const ALL: [Self; 8] = [Self::P1, Self::P2, Self::P3, Self::P4, Self::P5, Self::P6, Self::P11, Self::P18];

    /// What the row measures.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::P1 => "typed call to another process, 64 B, both awake, all of the service layer on",
            Self::P2 => "typed call to another process, 64 B, both asleep",
            Self::P3 => "ring round trip, 64 B, one producer and one consumer each way, spinning",
            Self::P4 => "one way, one producer and one consumer, spinning",
            Self::P5 => "one way, 64 B, many producers on one core, their consumer on the other",
            Self::P6 => "typed calls of one thread, 64 B, 64 in flight, one worker",
            Self::P11 => "typed calls of tasks, 64 B, tokio on both sides, 1 and 10,000 in flight",
            Self::P18 => "heap allocations and system calls per unloaded call",
        }
    }
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
    fn new(id: RowId, figures: Vec<Figures>, bars: Vec<Bar>, notes: Vec<String>) -> Self {
        let verdict = Verdict::all(bars.iter().map(|bar| bar.verdict));
        Self { id: format!("{id:?}"), what: id.what(), placement: "two cores", figures, bars, notes, verdict }
    }

    fn not_measurable(id: RowId, why: &str) -> Self {
        let bar = Bar { what: why.to_owned(), class: None, value: None, verdict: Verdict::NotMeasurable };
        Self::new(id, Vec::new(), vec![bar], Vec::new())
    }
}

/// How much time a run may take.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// For each row that measures time; rows with very many subjects take two.
    pub budget: Duration,
    /// Kept chunks of the wanted class after which a row is done.
    pub wanted_chunks: usize,
}

impl Effort {
    /// Figures to quote: a minute for a row at most, or two.
    pub const FULL: Self = Self { budget: Duration::from_secs(60), wanted_chunks: 3 * ENOUGH_CHUNKS };
    /// Just enough to judge: twelve seconds for a row at most, or twice that.
    pub const QUICK: Self = Self { budget: Duration::from_secs(12), wanted_chunks: ENOUGH_CHUNKS };

    /// For a row with so many subjects that one budget gives too few chunks of each.
    fn doubled(self) -> Self {
        Self { budget: self.budget * 2, ..self }
    }

    fn plan(self, chunk: Duration, wanted_classes: &'static [Class]) -> Plan {
        Plan { chunk, budget: self.budget, wanted_chunks: self.wanted_chunks, wanted_classes }
    }
}

/// Measures one row. Sockets and other files are made in `directory`.
///
/// # Errors
/// A subject or its peer failed: the row says nothing, and neither does the run.
pub fn measure(id: RowId, effort: Effort, directory: &Path) -> Result<Row, Failure> {
    let Some(cores) = TwoCores::find()? else {
        return Ok(Row::not_measurable(id, "needs two processors, this process may use one"));
    };
    match id {
        RowId::P1 => calls::awake(effort, directory, cores),
        RowId::P2 => calls::asleep(effort, directory, cores),
        RowId::P3 => rings::round_trip(effort, cores),
        RowId::P4 => rings::one_way(effort, cores),
        RowId::P5 => rings::many_to_one(effort, directory, cores),
        RowId::P6 => calls::pipelined(effort, directory, cores),
        RowId::P11 => calls::of_tasks(effort, directory, cores),
        RowId::P18 => calls::unloaded(directory),
    }
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
}
