//! Waits of threads that answer a call themselves: they end with that call, and the service finds somebody else meanwhile.

use service_core::scope::{self, Scope};
use shm_ring::clock;
use shm_ring::slot::{Call, Waited};
use shm_ring::wait::SpinBudget;

/// How often it is asked whether anybody still waits for the outer call.
const ASK_NS: u64 = 10_000_000;

/// Why nobody waits any more for a call that is still in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Its deadline has passed.
    TimedOut,
    /// The outer call is given up.
    Cancelled,
    /// No worker of the service that makes the call would be left.
    NoWorkerLeft,
}

/// As [`Call::wait`], and inside a scope only as long as its call is waited for.
///
/// # Errors
/// Why the wait is over while the call is still in flight.
#[inline]
pub(super) fn wait(
    call: &Call<'_>,
    until_ns: Option<u64>,
    spin: &SpinBudget,
    before_park: impl FnMut(),
) -> Result<Waited, Over> {
    match scope::current() {
        None => match call.wait(until_ns, spin, before_park) {
            Waited::TimedOut => Err(Over::TimedOut),
            waited => Ok(waited),
        },
        Some(scope) => wait_inside(&*scope, call, until_ns, spin, before_park),
    }
}

#[cold]
fn wait_inside(
    scope: &dyn Scope,
    call: &Call<'_>,
    until_ns: Option<u64>,
    spin: &SpinBudget,
    mut before_park: impl FnMut(),
) -> Result<Waited, Over> {
    let mut leave = None;
    let mut spin = Some(spin);
    let none = SpinBudget::new(Some(std::time::Duration::ZERO));
    loop {
        let ask_ns = clock::kernel_ns().saturating_add(ASK_NS);
        let until_next_ns = until_ns.map_or(ask_ns, |until| until.min(ask_ns));
        let waited = call.wait(Some(until_next_ns), spin.take().unwrap_or(&none), || {
            if leave.is_none() {
                leave = Some(Leave::ask(scope));
            }
            before_park();
        });
        if waited != Waited::TimedOut {
            return Ok(waited);
        }
        if leave.as_ref().is_some_and(|leave| !leave.is_granted) {
            return Err(Over::NoWorkerLeft);
        }
        if until_ns.is_some_and(|until| clock::kernel_ns() >= until) {
            return Err(Over::TimedOut);
        }
        if scope.is_cancelled() {
            return Err(Over::Cancelled);
        }
    }
}

/// The service's leave for its thread to wait, given back when it is dropped.
struct Leave<'a> {
    scope: &'a dyn Scope,
    is_granted: bool,
}

impl<'a> Leave<'a> {
    fn ask(scope: &'a dyn Scope) -> Self {
        Self { scope, is_granted: scope.about_to_wait() }
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.is_granted {
            self.scope.resumed();
        }
    }
}
