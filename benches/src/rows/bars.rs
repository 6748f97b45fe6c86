//! Judging series against the floor, against rivals and against each other.

use super::{Bar, Verdict};
use crate::chunks::{Class, Series};

/// The bar `at most limit times the floor`, in each of these classes that has enough chunks; open if none has.
pub(super) fn bars_over_floor(ours: &Series, limit: f64, floor: &str, classes: &[Class]) -> Vec<Bar> {
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
pub(super) fn times_faster(ours: &Series, rival: &Series, limit: f64, class: Class) -> Bar {
    let times = rival.ratio_to_floor(class).zip(ours.ratio_to_floor(class)).map(|(rival, ours)| rival / ours);
    let name = &rival.name;
    let what =
        if limit == 1.0 { format!("faster than {name}") } else { format!("at least {limit} x faster than {name}") };
    Bar { what, class: Some(class), value: times, verdict: Verdict::of(times.map(|times| times >= limit)) }
}

/// Where a rival is ahead of the first series, in words. The last series is the floor, which is no rival.
pub(super) fn wins_of_rivals(series: &[Series]) -> Vec<String> {
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

/// The bar `at least so many million a second`, by the clock alone.
pub(super) fn a_second(ours: &Series, millions: f64, classes: &[Class]) -> Vec<Bar> {
    least_of(&format!("at least {millions} million a second"), millions, classes, |class| {
        Some(vec![(ours.name.as_str(), 1e3 / ours.median_ns(class)?)])
    })
}

/// The bar `at least so many times as fast as the rival`.
pub(super) fn as_fast_as(ours: &Series, rival: &Series, limit: f64, classes: &[Class]) -> Vec<Bar> {
    least_of(&format!("at least {limit} x as fast as {}", rival.name), limit, classes, |class| {
        Some(vec![(ours.name.as_str(), ours.times_as_fast_as(rival, class)?)])
    })
}

/// One case of a row with many: series that are compared with each other, and nothing else.
pub(super) struct Case<'a> {
    label: &'a str,
    series: &'a [Series],
}

impl<'a> Case<'a> {
    fn of_kind(&self, kind: &str) -> Option<&'a Series> {
        self.series.iter().find(|one| parts(one).1 == kind)
    }

    /// The last of these kinds that the case has.
    fn last_of(&self, kinds: &[&str]) -> Option<&'a Series> {
        kinds.iter().rev().find_map(|kind| self.of_kind(kind))
    }
}

/// The cases of a row whose series are named `case: kind`, and end with the floor.
pub(super) fn cases(series: &[Series]) -> Vec<Case<'_>> {
    let Some((_floor, subjects)) = series.split_last() else { return Vec::new() };
    subjects
        .chunk_by(|one, next| parts(one).0 == parts(next).0)
        .map(|series| Case { label: parts(&series[0]).0, series })
        .collect()
}

/// The bar `at least so many times as fast as the rival in every case that has it`, in each of these classes that is
/// complete; open if none is. Of ours the last of the given kinds counts that a case has. Says where it comes out least.
pub(super) fn as_fast_in_every_case(
    cases: &[Case<'_>],
    ours: &[&str],
    rival: &str,
    limit: f64,
    classes: &[Class],
) -> Vec<Bar> {
    let against: Vec<(&str, &Series, &Series)> =
        cases.iter().filter_map(|case| Some((case.label, case.last_of(ours)?, case.of_kind(rival)?))).collect();
    least_of(&format!("at least {limit} x as fast as {rival}"), limit, classes, |class| {
        against.iter().map(|(label, ours, rival)| Some((*label, ours.times_as_fast_as(rival, class)?))).collect()
    })
}

/// The bar `in this case at least so many times as fast as in that one`, for ours.
pub(super) fn as_fast_as_in(
    cases: &[Case<'_>],
    ours: &str,
    (this, that): (&str, &str),
    limit: f64,
    classes: &[Class],
) -> Vec<Bar> {
    let find = |label: &str| cases.iter().find(|case| case.label == label)?.of_kind(ours);
    let what = format!("{ours}: {this} at least {limit} x as fast as {that}");
    least_of(&what, limit, classes, |class| Some(vec![(this, find(this)?.times_as_fast_as(find(that)?, class)?)]))
}

fn least_of<'a>(
    what: &str,
    limit: f64,
    classes: &[Class],
    values: impl Fn(Class) -> Option<Vec<(&'a str, f64)>>,
) -> Vec<Bar> {
    let judged: Vec<Bar> = classes
        .iter()
        .filter_map(|&class| {
            let (label, least) = values(class)?.into_iter().min_by(|one, other| one.1.total_cmp(&other.1))?;
            let what = format!("{what}; least: {label}");
            Some(Bar { what, class: Some(class), value: Some(least), verdict: Verdict::of(Some(least >= limit)) })
        })
        .collect();
    let open = || Bar { what: what.to_owned(), class: None, value: None, verdict: Verdict::NotMeasurable };
    if judged.is_empty() { vec![open()] } else { judged }
}

/// Where a rival is ahead of ours, in words: one line for each case and class.
pub(super) fn wins_in_cases(cases: &[Case<'_>], ours: &[&str], classes: &[Class]) -> Vec<String> {
    let mut notes = Vec::new();
    for &class in classes {
        for case in cases {
            let Some(own) = case.last_of(ours) else { continue };
            let wins: Vec<String> = case
                .series
                .iter()
                .filter(|one| !ours.contains(&parts(one).1))
                .filter_map(|rival| Some((rival, own.times_as_fast_as(rival, class)?)))
                .filter(|&(_, times)| times < 1.0)
                .map(|(rival, times)| format!("{} ({times:.2})", parts(rival).1))
                .collect();
            if !wins.is_empty() {
                notes.push(format!("{}, {class:?}: {} is behind {}", case.label, parts(own).1, wins.join(", ")));
            }
        }
    }
    if notes.is_empty() {
        notes.push("no rival of this run wins".to_owned());
    }
    notes
}

/// The case and the kind in a series' name.
fn parts(series: &Series) -> (&str, &str) {
    series.name.split_once(": ").unwrap_or(("", &series.name))
}
