//! What a run says: a header, a table for each row, verdicts; the same as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::chunks::{Class, ENOUGH_CHUNKS, Kept, Series, median};
use crate::rows::{Row, Verdict};
use crate::subject::{Failure, Samples, Unit};

/// Where and how a run was made: without it, no figure means anything.
#[derive(Debug, Serialize)]
pub struct Header {
    /// Model of the processor.
    pub machine: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// The commit that was built, with `+` if files differ from it.
    pub commit: String,
    /// The command that repeats the run.
    pub command: String,
    /// What one look at the clock costs; already taken off every figure.
    pub clock_ns: u32,
}

impl Header {
    /// Asks the machine. What it does not tell is called `unknown`.
    #[must_use]
    pub fn gather() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Self {
            machine: processor_model(),
            processors,
            kernel: read_word("/proc/sys/kernel/osrelease"),
            commit: commit(),
            command: format!("cargo xtask bench {}", arguments.join(" ")).trim_end().to_owned(),
            clock_ns: Samples::new().clock_ns(),
        }
    }
}

/// One subject in one class.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// The subject.
    pub name: String,
    /// What its figures are times of.
    pub unit: Unit,
    /// The class of the kept chunks.
    pub class: Option<Class>,
    /// Kept chunks of this class.
    pub kept: usize,
    /// Chunks of this subject dropped, whatever the class, because the floors around them disagreed.
    pub dropped_floors_disagreed: usize,
    /// Chunks of this subject dropped because their class was unclear.
    pub dropped_class_unclear: usize,
    /// Single round trips in the kept chunks.
    pub count: u64,
    /// Percentiles of the single round trips, in nanoseconds.
    pub percentiles: Option<Percentiles>,
    /// How many messages and bytes pass, for what is one way.
    pub rate: Option<Rate>,
    /// Median over the kept chunks of (figure of the chunk / floor beside it); none with too few chunks.
    pub times_floor: Option<f64>,
    /// Median of the floors beside the kept chunks, in nanoseconds.
    pub floor_ns: Option<f64>,
    /// Each kept chunk.
    pub chunks: Vec<Kept>,
}

/// Percentiles of single round trips, in nanoseconds, to three digits.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Percentiles {
    /// Half are faster.
    pub p50: u64,
    /// Nine in ten are faster.
    pub p90: u64,
    /// All but one in a hundred are faster.
    pub p99: u64,
    /// All but one in a thousand are faster.
    pub p99_9: u64,
    /// The slowest.
    pub max: u64,
}

/// How many messages pass, over the kept chunks.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rate {
    /// Nine chunks in ten are faster, in millions of messages a second.
    pub p10: f64,
    /// Half of the chunks are faster.
    pub p50: f64,
    /// One chunk in ten is faster.
    pub p90: f64,
    /// Gigabytes of payload a second at the median.
    pub gigabytes: f64,
}

impl Rate {
    fn of(chunks: &[Kept], bytes: usize) -> Option<Self> {
        let mut millions: Vec<f64> = chunks.iter().map(|chunk| 1e3 / chunk.figure_ns).collect();
        millions.sort_by(f64::total_cmp);
        let at = |tenths: usize| millions.get((millions.len() * tenths / 10).min(millions.len().saturating_sub(1)));
        let p50 = *at(5)?;
        Some(Self { p10: *at(1)?, p50, p90: *at(9)?, gigabytes: p50 * bytes as f64 / 1e3 })
    }
}

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where and how.
    pub header: Header,
    /// The measured rows.
    pub rows: Vec<Row>,
    /// What the run came to.
    pub verdict: Verdict,
}

/// The figures of all series, class by class; a series without a kept chunk appears once, with what was dropped.
#[must_use]
pub fn figures_of(series: &[Series]) -> Vec<Figures> {
    let mut figures = Vec::new();
    for class in [Class::Near, Class::Far, Class::Asleep] {
        figures.extend(series.iter().filter(|one| one.kept_of(class) > 0).map(|one| of_class(one, Some(class))));
    }
    figures.extend(series.iter().filter(|one| one.kept.is_empty()).map(|one| of_class(one, None)));
    figures
}

fn of_class(series: &Series, class: Option<Class>) -> Figures {
    let chunks = class.and_then(|class| series.kept.get(&class)).cloned().unwrap_or_default();
    let spread = class.and_then(|class| series.spread.get(&class));
    Figures {
        name: series.name.clone(),
        unit: series.unit,
        class,
        kept: chunks.len(),
        dropped_floors_disagreed: series.floors_disagreed,
        dropped_class_unclear: series.class_unclear,
        count: spread.map_or(0, hdrhistogram::Histogram::len),
        rate: match series.unit {
            Unit::RoundTrip => None,
            Unit::Message { bytes } => Rate::of(&chunks, bytes),
        },
        percentiles: spread.filter(|spread| !spread.is_empty()).map(|spread| Percentiles {
            p50: spread.value_at_quantile(0.5),
            p90: spread.value_at_quantile(0.9),
            p99: spread.value_at_quantile(0.99),
            p99_9: spread.value_at_quantile(0.999),
            max: spread.max(),
        }),
        times_floor: class.and_then(|class| series.ratio_to_floor(class)),
        floor_ns: (!chunks.is_empty()).then(|| median(chunks.iter().map(|chunk| chunk.floor_ns).collect())),
        chunks,
    }
}

impl Report {
    /// Prints the header's lines; before the rows, which take a while.
    pub fn print_header(header: &Header) {
        println!("machine  {}, {} processors usable", header.machine, header.processors);
        println!("kernel   {}", header.kernel);
        println!("commit   {}", header.commit);
        println!("command  {}", header.command);
        println!("times in ns, single round trips; {} ns for reading the clock taken off each", header.clock_ns);
    }

    /// Writes the report as one JSON object.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_json(&self, file: &Path) -> Result<(), Failure> {
        fs::write(file, serde_json::to_string_pretty(self)? + "\n").map_err(|error| naming(file, &error))
    }
}

/// One row as a table with its bars and notes.
#[must_use]
pub fn table(row: &Row) -> String {
    // Writing to a String cannot fail, so the results of `write!` here and in `line` say nothing.
    let mut text = format!("\n{}  {} ({})\n", row.id, row.what, row.placement);
    let (one_way, round_trips): (Vec<_>, Vec<_>) =
        row.figures.iter().partition(|figures| matches!(figures.unit, Unit::Message { .. }));
    if !one_way.is_empty() {
        let head = ["class", "M/s p10", "p50", "p90", "GB/s", "x floor", "kept", "dropped"];
        let _ = writeln!(text, "  {:<44}{}", "", columns(head));
    }
    for figures in one_way {
        let rate = figures.rate.map_or(["-".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()], |rate| {
            [rate.p10, rate.p50, rate.p90, rate.gigabytes].map(|value| format!("{value:.2}"))
        });
        line(&mut text, figures, 44, &columns(rate));
    }
    if !round_trips.is_empty() {
        let head = ["class", "p50", "p90", "p99", "p99.9", "max", "x floor", "kept", "dropped"];
        let _ = writeln!(text, "  {:<30}{}", "", columns(head));
    }
    for figures in round_trips {
        let cells = match figures.percentiles {
            Some(p) => columns([p.p50, p.p90, p.p99, p.p99_9, p.max]),
            None => columns(["-"; 5]),
        };
        line(&mut text, figures, 30, &cells);
    }
    for bar in &row.bars {
        let class = bar.class.map_or(String::new(), |class| format!(" ({class:?})"));
        let value = bar.value.map_or("no value".to_owned(), |value| format!("{value:.2}"));
        let _ = writeln!(text, "  {:<15} {}{class}: {value}", word(bar.verdict), bar.what);
    }
    for note in &row.notes {
        let _ = writeln!(text, "  {note}");
    }
    text
}

/// A verdict in words.
#[must_use]
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::NotMeasurable => "not measurable",
    }
}

fn columns<const N: usize>(cells: [impl std::fmt::Display; N]) -> String {
    cells.iter().map(|cell| format!("{cell:>9}")).collect()
}

fn line(text: &mut String, figures: &Figures, width: usize, cells: &str) {
    let class = figures.class.map_or("-".to_owned(), |class| format!("{class:?}").to_lowercase());
    let times = figures.times_floor.map_or("-".to_owned(), |times| format!("{times:.2}"));
    let dropped = figures.dropped_floors_disagreed + figures.dropped_class_unclear;
    let few = if figures.kept < ENOUGH_CHUNKS { "  too few" } else { "" };
    let _ = writeln!(text, "  {:<width$}{class:>9}{cells}{times:>9}{:>9}{dropped:>9}{few}", figures.name, figures.kept);
}

pub(crate) fn naming(file: &Path, error: &std::io::Error) -> Failure {
    format!("{}: {error}", file.display()).into()
}

fn processor_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or("unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

fn read_word(path: &str) -> String {
    fs::read_to_string(path).map_or("unknown".to_owned(), |text| text.trim().to_owned())
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain"]).is_none_or(|files| !files.is_empty());
    if changed { commit + "+" } else { commit }
}
