//! The screen of text: what is ours, what is the machine's limit, what is the socket, and how they compare.

use std::fmt::{self, Write};
use std::time::Duration;

use super::{Findings, Recovery, ms};
use crate::data::LEARNT;
use crate::demo::kill::Fate;
use crate::samples::Series;

/// Writes the findings for a reader. About 30 lines of at most 100 columns.
pub fn text(found: &Findings) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_all(&mut out, found);
    out
}

fn write_all(out: &mut String, found: &Findings) -> fmt::Result {
    head(out, found)?;
    work(out, found)?;
    bare(out, found)?;
    killed(out, found)?;
    end(out, found)
}

fn head(out: &mut String, found: &Findings) -> fmt::Result {
    let (caller, service) = (std::process::id(), found.service_pid);
    writeln!(out, "A service in a process of its own, called by name")?;
    writeln!(out, "  caller    pid {caller:<8} this program")?;
    writeln!(out, "  service   pid {service:<8} `digits`, {} workers", found.workers)
}

fn work(out: &mut String, found: &Findings) -> fmt::Result {
    let work = &found.work;
    let (learnt, images) = (thousands(LEARNT as f64), work.images);
    writeln!(out, "\nHandwritten digits: {learnt} learnt, {images} to recognise, a call for each")?;
    writeln!(out, "  accuracy  {:.4}        {} of {images} right", found.accuracy(), work.right)?;
    writeln!(out, "  {:<14}{:>11}{:>11}{:>11}{:>11}", "", "calls/s", "p50", "p99", "p99.9")?;
    let row = |out: &mut String, name: &str, series: &Series, note: &str| {
        let [p50, p99, p999] = [series.p50(), series.percentile(99.0), series.percentile(99.9)].map(time);
        let rate = thousands(series.per_second());
        writeln!(out, "{}", format!("  {name:<14}{rate:>11}{p50:>11}{p99:>11}{p999:>11}   {note}").trim_end())
    };
    row(out, "switchboard", &work.ours, "")?;
    row(out, "Unix socket", &work.socket, &format!("{} x ours", ratio(work.socket.ratio_to(&work.ours))))
}

fn bare(out: &mut String, found: &Findings) -> fmt::Result {
    let bare = &found.bare;
    let place = if found.two_processors { "on two processors" } else { "on the one processor there is" };
    writeln!(out, "\nAn echo of 64 bytes, caller and service {place}: medians")?;
    let mut row = |state: &str, name: &str, series: &Series, compared: String| {
        writeln!(out, "  {state:<14}{name:<18}{:>11}   {compared}", time(series.p50()))
    };
    let limit = |ours: &Series, floor: &Series| format!("{} x the machine's limit", ratio(ours.ratio_to(floor)));
    let mut socket = format!("{} x ours asleep", ratio(bare.socket.ratio_to(&bare.asleep)));
    // On one processor nobody can be awake while the other side works.
    if found.two_processors {
        row("both awake", "machine's limit", &bare.two_lines, "a cache line each way between two processes".into())?;
        row("", "switchboard", &bare.awake, limit(&bare.awake, &bare.two_lines))?;
        write!(socket, ", {} x ours awake", ratio(bare.socket.ratio_to(&bare.awake)))?;
    }
    row("both asleep", "machine's limit", &bare.futex, "a futex wake each way between two processes".into())?;
    row("", "switchboard", &bare.asleep, limit(&bare.asleep, &bare.futex))?;
    row("", "Unix socket", &bare.socket, socket)
}

fn killed(out: &mut String, found: &Findings) -> fmt::Result {
    let killed = &found.killed;
    writeln!(out, "\nThe service is killed (SIGKILL) with {} calls in flight", killed.in_flight())?;
    for (told, count) in &killed.told {
        let fate = match told.fate {
            Fate::NotRun => "not run",
            Fate::MayHaveRun => "may have run",
            Fate::Ran => "ran",
        };
        writeln!(out, "  {count:>3} told  {fate:<14}{}: {}", told.code, told.message)?;
    }
    let (replied, hung) = (killed.in_flight() - killed.hung - killed.told.values().sum::<usize>(), killed.hung);
    if replied > 0 {
        writeln!(out, "  {replied:>3} got their reply all the same")?;
    }
    writeln!(out, "  {hung:>3} hung; the last answer came {:.2} ms after the kill", ms(killed.notice))?;
    match found.recovery {
        Some(Recovery { pid, tries, took, right }) => {
            let which = if tries == 1 { "next call".into() } else { format!("call number {tries}") };
            writeln!(
                out,
                "  started again as pid {pid}: the same client's {which} succeeded, after {:.2} ms,",
                ms(took)
            )?;
            writeln!(out, "  and a call for each image again: {right} of {} right", found.work.images)
        }
        None => writeln!(out, "  started again: no call of the same client succeeded"),
    }
}

fn end(out: &mut String, found: &Findings) -> fmt::Result {
    let left = if found.left.is_empty() { "nothing".into() } else { found.left.join(", ") };
    writeln!(out, "\nLeft behind: {left}. Took {:.1} s.", Duration::as_secs_f64(&found.took))
}

/// A time with three digits and its unit.
fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => return format!("{ns:.0} ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns => (ns / 1e6, "ms"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// Two decimals where they tell something.
fn ratio(value: f64) -> String {
    let decimals = if value < 10.0 { 2 } else { 0 };
    format!("{value:.decimals$}")
}

/// A whole number, grouped for the eye.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::super::tests::all_well;
    use super::*;
    use crate::demo::kill::Told;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let shown = [98.4, 1_234.0, 45_678.0, 456_789.0, 1_500_000.0].map(time);
        assert_eq!(shown, ["98 ns", "1.23 µs", "45.7 µs", "457 µs", "1.50 ms"]);
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!([7.0, 999.0, 1_000.0, 1_234_567.4].map(thousands), ["7", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_text_fits_on_one_screen() {
        let mut found = Findings { two_processors: true, ..all_well() };
        for fate in [Fate::NotRun, Fate::MayHaveRun] {
            let told = Told { fate, code: "UNAVAILABLE".into(), message: "the service has ended".into() };
            found.killed.told.insert(told, 3);
        }
        let text = text(&found);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(text.lines().count() <= 30 && widest <= 100, "{} lines, {widest} columns", text.lines().count());
    }

    #[test]
    fn nobody_is_shown_awake_on_one_processor() {
        let awake_rows = |two_processors| {
            let text = text(&Findings { two_processors, ..all_well() });
            text.lines().filter(|line| line.contains("awake")).count()
        };
        assert_eq!([true, false].map(awake_rows), [2, 0]);
    }

    #[test]
    fn the_reader_is_told_what_is_left_behind() {
        let mut found = all_well();
        assert!(text(&found).contains("Left behind: nothing."));
        found.left = vec!["a child process".into(), "descriptors (6 instead of 5)".into()];
        assert!(text(&found).contains("Left behind: a child process, descriptors (6 instead of 5)."));
    }
}
