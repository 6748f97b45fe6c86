//! The service is killed with calls in flight: what its callers are told, and how soon.
//!
//! More callers than workers call without pause, so that at any moment some calls run and some wait. Nobody has a
//! timeout: a caller that is told nothing hangs, and is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::failure::{Explain, Failure, Result};

/// Callers that are told nothing for so long count as hung.
const HUNG: Duration = Duration::from_secs(2);

/// How long the service may take for the calls before the kill.
const WARM_UP: Duration = Duration::from_secs(10);

/// What a failed call may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The handler certainly did not begin.
    NotRun,
    /// The handler had the request when the service died.
    MayHaveRun,
    /// The handler certainly ended.
    Ran,
}

/// What a caller is told when its call fails.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// What the call may have done.
    pub fate: Fate,
    /// The code's name.
    pub code: String,
    /// In words.
    pub message: String,
}

/// How a call went.
#[derive(Debug)]
struct Call {
    began: Instant,
    ended: Instant,
    answer: std::result::Result<(), Told>,
    /// It was its caller's last one.
    last: bool,
}

impl Call {
    fn failed_before_the_kill(&self) -> Option<Failure> {
        let told = self.answer.as_ref().err()?;
        Some(Failure::new(format!("a call failed before the kill: {}: {}", told.code, told.message)))
    }
}

/// What the calls that were in flight at the kill came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Killed {
    /// Told that nothing was done.
    pub not_run: usize,
    /// Told that it may have been done.
    pub may_have_run: usize,
    /// Got their reply, or were told that it was done.
    pub ran: usize,
    /// Told nothing.
    pub hung: usize,
    /// The words, and to how many they were said.
    pub told: BTreeMap<Told, usize>,
    /// From just before the kill to the last answer.
    pub notice: Duration,
}

impl Killed {
    /// How many calls were in flight at the kill.
    pub fn in_flight(&self) -> usize {
        self.not_run + self.may_have_run + self.ran + self.hung
    }
}

/// Lets every caller call without pause, kills the service amid their calls and gathers what they are told.
///
/// `kill` gives the moment just before the kill. A caller stops at its first failure, or after its first reply once
/// the service was killed. A caller that hangs keeps its thread: it must not keep the process from ending.
///
/// # Errors
/// When a call fails before the kill, the service does not answer, or it cannot be killed.
pub fn run<C>(callers: Vec<C>, kill: impl FnOnce() -> Result<Instant>) -> Result<Killed>
where
    C: FnMut() -> std::result::Result<(), Told> + Send + 'static,
{
    let count = callers.len();
    let killed = Arc::new(AtomicBool::new(false));
    let (sender, calls) = mpsc::channel();
    for caller in callers {
        let (killed, sender) = (killed.clone(), sender.clone());
        std::thread::Builder::new()
            .name("caller".into())
            .spawn(move || call_until_killed(caller, &killed, &sender))
            .explain(|| "cannot start a caller".into())?;
    }
    drop(sender);
    wait_until_all_is_well(&calls, count)?;
    let kill_began = kill()?;
    // ORDERING: Release, pairs with the Acquire load in `call_until_killed`: a caller that stops for it stops after
    // the kill, so its last call was in flight or began later.
    killed.store(true, Ordering::Release);
    gather(&calls, count, kill_began)
}

fn call_until_killed<C>(mut caller: C, killed: &AtomicBool, calls: &mpsc::Sender<Call>)
where
    C: FnMut() -> std::result::Result<(), Told>,
{
    loop {
        let began = Instant::now();
        let answer = caller();
        let ended = Instant::now();
        // ORDERING: Acquire, pairs with the Release store in `run`.
        let last = answer.is_err() || killed.load(Ordering::Acquire);
        // The demo listens no longer when it has given us up as hung.
        if calls.send(Call { began, ended, answer, last }).is_err() || last {
            return;
        }
    }
}

/// Waits until the callers together got as many replies as there are callers: all are under way then.
fn wait_until_all_is_well(calls: &mpsc::Receiver<Call>, callers: usize) -> Result<()> {
    let end = Instant::now() + WARM_UP;
    for answered in 0..callers {
        match calls.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(call) => call.failed_before_the_kill().map_or(Ok(()), Err)?,
            Err(_) => {
                let waited = WARM_UP.as_secs();
                return Err(Failure::new(format!("{answered} of {callers} calls were answered in {waited} s")));
            }
        }
    }
    Ok(())
}

fn gather(calls: &mpsc::Receiver<Call>, callers: usize, kill_began: Instant) -> Result<Killed> {
    let end = Instant::now() + HUNG;
    let mut killed = Killed::default();
    let mut stopped = 0;
    while stopped < callers {
        let Ok(call) = calls.recv_timeout(end.saturating_duration_since(Instant::now())) else { break };
        stopped += usize::from(call.last);
        if call.ended < kill_began {
            call.failed_before_the_kill().map_or(Ok(()), Err)?;
            continue;
        }
        // What began later met a dead service and was told so at once: not in flight at the kill.
        if call.began >= kill_began {
            continue;
        }
        killed.notice = killed.notice.max(call.ended - kill_began);
        match call.answer.as_ref().map_err(|told| told.fate) {
            Err(Fate::NotRun) => killed.not_run += 1,
            Err(Fate::MayHaveRun) => killed.may_have_run += 1,
            Err(Fate::Ran) | Ok(()) => killed.ran += 1,
        }
        if let Err(told) = call.answer {
            *killed.told.entry(told).or_default() += 1;
        }
    }
    killed.hung = callers - stopped;
    if killed.hung > 0 {
        killed.notice = kill_began.elapsed();
    }
    Ok(killed)
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    fn told(fate: Fate) -> Told {
        Told { fate, code: "UNAVAILABLE".into(), message: "the service has ended".into() }
    }

    /// Stands for a service: answers the first call of each caller, then holds its calls until it is killed.
    #[derive(Clone, Default)]
    struct Service(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        held: usize,
        dead: bool,
    }

    impl Service {
        fn caller(&self, last: std::result::Result<(), Told>) -> impl FnMut() -> std::result::Result<(), Told> + use<> {
            let (service, mut calls) = (self.clone(), 0);
            move || {
                calls += 1;
                if calls == 1 {
                    return Ok(());
                }
                let (state, changed) = &*service.0;
                let mut held = state.lock().expect("no panic under the lock");
                held.held += 1;
                changed.notify_all();
                drop(changed.wait_while(held, |state| !state.dead).expect("no panic under the lock"));
                last.clone()
            }
        }

        /// Waits until `callers` calls are held, then lets them all go.
        fn kill(&self, callers: usize) -> Result<Instant> {
            let (state, changed) = &*self.0;
            let held = state.lock().expect("no panic under the lock");
            let mut held = changed.wait_while(held, |state| state.held < callers).expect("no panic under the lock");
            let before = Instant::now();
            held.dead = true;
            changed.notify_all();
            Ok(before)
        }
    }

    #[test]
    fn each_call_in_flight_is_counted_by_what_its_caller_was_told() {
        let service = Service::default();
        let answers = [Err(told(Fate::NotRun)), Err(told(Fate::NotRun)), Err(told(Fate::MayHaveRun)), Ok(())];
        let callers = answers.map(|answer| service.caller(answer)).into();
        let killed = run(callers, || service.kill(4)).expect("all were answered");
        assert_eq!((killed.not_run, killed.may_have_run, killed.ran, killed.hung), (2, 1, 1, 0));
        assert_eq!(killed.told[&told(Fate::NotRun)], 2);
        assert!(killed.notice < HUNG);
    }

    #[test]
    fn a_call_that_fails_before_the_kill_is_a_failure_of_the_demo() {
        let fails = || Err(told(Fate::NotRun));
        let error = run(vec![fails], || unreachable!("it is not killed")).expect_err("the call failed");
        assert_eq!(error.to_string(), "a call failed before the kill: UNAVAILABLE: the service has ended");
    }

    #[test]
    fn a_caller_that_is_told_nothing_is_hung() {
        let service = Service::default();
        let killed = run(vec![service.caller(Ok(()))], || Ok(Instant::now())).expect("its first call was answered");
        assert_eq!((killed.hung, killed.in_flight()), (1, 1));
    }
}
