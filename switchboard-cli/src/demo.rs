//! `switchboard demo`: a real service in its own process, measured beside the machine's limits and a plain socket,
//! killed in the middle of calls and started again.

pub mod bare;
pub mod census;
pub mod floors;
pub mod guard;
pub mod kill;
pub mod ours;
pub mod progress;
pub mod sockets;
pub mod stage;
pub mod work;

use std::time::Instant;

use self::bare::Effort;
use self::census::Census;
use self::floors::Floors;
use self::ours::{Digits, Echo, WORKERS};
use self::progress::Progress;
use self::sockets::Socket;
use self::stage::Stage;
use crate::cores::{self, Pair, Pinned};
use crate::data;
use crate::failure::Result;
use crate::report::Findings;
use crate::serve::Service;
use crate::signals::Ends;

/// Plays all of it, clears up, and looks at what is left. Takes 4 to 10 s; nothing needs to be set up before.
///
/// # Errors
/// When a step cannot be done at all. What was done and went wrong is in [`Findings::problems`].
pub fn run() -> Result<Findings> {
    let started = Instant::now();
    let ends = Ends::hold_back()?;
    let stage = Stage::build()?;
    guard::watch(ends, stage.sweeper());
    let before = Census::take()?;
    let played = play(&stage);
    if played.is_err() && stage.is_cleared() {
        // Our calls failed because the guard has ended their services. It says why, and ends this process.
        loop {
            std::thread::park();
        }
    }
    let mut findings = played?;
    let dir = stage.dir().to_path_buf();
    drop(stage);
    findings.left = before.left_since(&dir)?;
    findings.took = started.elapsed();
    Ok(findings)
}

fn play(stage: &Stage) -> Result<Findings> {
    let mut progress = Progress::new();
    let tests = data::testing();
    let pair = cores::pair()?;

    progress.step("starting the service in its own process");
    let mut digits = Digits::start(stage)?;
    let mut found =
        Findings { service_pid: digits.pid(), workers: WORKERS, two_processors: pair.is_some(), ..Findings::default() };

    progress.step("recognising handwritten digits");
    let mut socket = Socket::start(stage, Service::Digits, None)?;
    found.work = work::run(&tests, |image| digits.recognise(image), |image| socket.recognise(image), &mut progress)?;
    drop(socket);

    progress.step("calling an echo beside the machine's limits");
    found.bare = measure_bare(stage, pair, &mut progress)?;

    progress.step("killing the service amid calls");
    found.killed = kill::run(digits.callers(), || digits.kill(stage))?;

    progress.step("starting it again");
    found.recovery = digits.restart(stage, &tests)?;
    Ok(found)
}

fn measure_bare(stage: &Stage, pair: Option<Pair>, progress: &mut Progress) -> Result<bare::Bare> {
    let service_cpu = pair.map(|pair| pair.service);
    let mut floors = Floors::start(stage, service_cpu)?;
    let mut socket = Socket::start(stage, Service::Echo, service_cpu)?;
    let awake = Echo::awake(stage, service_cpu)?;
    let asleep = Echo::asleep(stage, service_cpu)?;
    // From here on only this thread: those that were started above run where the scheduler wants them.
    let _pinned = pair.map(|pair| Pinned::to(pair.caller)).transpose()?;
    bare::run(
        Effort::for_processors(pair.is_some()),
        |body| awake.echo(body),
        |body| asleep.echo(body),
        |body| socket.echo(body),
        &mut floors,
        progress,
    )
}
