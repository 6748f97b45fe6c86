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
