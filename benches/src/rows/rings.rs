//! The rows of rings: round trips, one way with one producer, one way with many.

use std::path::Path;
use std::time::Duration;

use super::bars::{
    as_fast_as, as_fast_as_in, as_fast_in_every_case, bars_over_floor, cases, wins_in_cases, wins_of_rivals,
};
use super::{Effort, Row, RowId};
use crate::chunks::{self, Class};
use crate::floor::LineFloor;
use crate::funnel::{self, Producers};
use crate::message::{Bytes1K, Bytes8, Bytes64, Bytes64K};
use crate::placement::Pinned;
use crate::report::figures_of;
use crate::subject::{Failure, Subject};
use crate::unloaded::cores::TwoCores;
use crate::{duplex, stream};

/// Both classes tell about a ring: near how many instructions it spends, far how many lines it moves.
const BOTH: &[Class] = &[Class::Near, Class::Far];

/// The bar of a round trip, 1.1 times the bare ring's time at most, as a part of its speed.
const ROUND_TRIP_OF_BARE: f64 = 0.91;
/// The bar of one way, as a part of the bare ring's speed.
const ONE_WAY_OF_BARE: f64 = 0.9;

pub(super) fn round_trip(effort: Effort, cores: TwoCores) -> Result<Row, Failure> {
    let mut floor = LineFloor::start(cores.peer)?;
    let mut ours = duplex::ours(cores.peer)?;
    let mut bare = duplex::bare(cores.peer)?;
    let mut shaq = duplex::shaq(cores.peer)?;
    let mut iceoryx2 = duplex::iceoryx2(cores.peer)?;
    let _pinned = Pinned::to(cores.caller)?;
    let plan = effort.plan(Duration::from_millis(5), BOTH);
    let subjects: &mut [&mut dyn Subject] = &mut [&mut ours, &mut bare, &mut shaq, &mut iceoryx2];
    let series = chunks::collect(&plan, chunks::by_line_floor, &mut floor, subjects)?;
    let [ours, rivals @ .., _floor] = &series[..] else { return Err("a subject gave no series".into()) };
    let mut bars = bars_over_floor(ours, 1.6, "a line each way", BOTH);
    for rival in rivals {
        let limit = if rival.name == duplex::BARE { ROUND_TRIP_OF_BARE } else { 1.0 };
        bars.extend(as_fast_as(ours, rival, limit, BOTH));
    }
    Ok(Row::new(RowId::P3, figures_of(&series), bars, wins_of_rivals(&series)))
}

pub(super) fn one_way(effort: Effort, cores: TwoCores) -> Result<Row, Failure> {
    let mut floor = LineFloor::start(cores.peer)?;
    let mut owned = Vec::new();
    for batch in [1, 64] {
        owned.extend(stream::subjects::<Bytes8>(cores.peer, batch)?);
        owned.extend(stream::subjects::<Bytes64>(cores.peer, batch)?);
    }
    for batch in [1, 16] {
        owned.extend(stream::subjects::<Bytes1K>(cores.peer, batch)?);
    }
    for batch in [1, 4] {
        owned.extend(stream::subjects::<Bytes64K>(cores.peer, batch)?);
    }
    let _pinned = Pinned::to(cores.caller)?;
    let mut subjects: Vec<&mut dyn Subject> = owned.iter_mut().map(|one| &mut **one as &mut dyn Subject).collect();
    let plan = effort.doubled().plan(Duration::from_millis(4), BOTH);
    let series = chunks::collect(&plan, chunks::by_line_floor, &mut floor, &mut subjects)?;
    let cases = cases(&series);
    // A batch of the bare ring is frames; those of the rivals are records of one length, as ours in one frame.
    let (frames, records): (&[&str], &[&str]) = (&[stream::OURS], &[stream::OURS, stream::RECORDS]);
    let bars = [(frames, stream::BARE, ONE_WAY_OF_BARE), (records, stream::SHAQ, 1.0), (records, stream::RTRB, 1.0)]
        .into_iter()
        .flat_map(|(ours, rival, limit)| as_fast_in_every_case(&cases, ours, rival, limit, BOTH))
        .collect();
    Ok(Row::new(RowId::P4, figures_of(&series), bars, wins_in_cases(&cases, records, BOTH)))
}

pub(super) fn many_to_one(effort: Effort, directory: &Path, cores: TwoCores) -> Result<Row, Failure> {
    let mut floor = LineFloor::start(cores.peer)?;
    let mut owned = Vec::new();
    for count in [1, 2, 4, 16] {
        owned.extend(funnel::subjects(Producers::Threads(count), directory, cores.peer)?);
        owned.extend(funnel::subjects(Producers::Processes(count), directory, cores.peer)?);
    }
    let _pinned = Pinned::to(cores.caller)?;
    let mut subjects: Vec<&mut dyn Subject> = owned.iter_mut().map(|one| &mut **one as &mut dyn Subject).collect();
    let plan = effort.doubled().plan(Duration::from_millis(10), BOTH);
    let series = chunks::collect(&plan, chunks::by_line_floor, &mut floor, &mut subjects)?;
    let cases = cases(&series);
    let mut bars = Vec::new();
    for rival in [funnel::CROSSBEAM, funnel::IPC, funnel::AGRONA, funnel::ICEORYX2] {
        bars.extend(as_fast_in_every_case(&cases, &[funnel::OURS], rival, 1.0, BOTH));
    }
    for many_and_few in [("16 threads", "2 threads"), ("16 processes", "2 processes")] {
        bars.extend(as_fast_as_in(&cases, funnel::OURS, many_and_few, 0.7, BOTH));
    }
    Ok(Row::new(RowId::P5, figures_of(&series), bars, wins_in_cases(&cases, &[funnel::OURS], BOTH)))
}
