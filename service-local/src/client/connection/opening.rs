//! Calls with streams: rings first, then the call that names them.

use super::tasks::Caller;
use super::*;
use crate::client::streams::Opening;

/// How long a thread waits for a slot, which a task should not be made to do: then the call is refused.
const SLOT_NS: u64 = 20_000_000;

impl LocalConnection {
    pub(super) fn open_call(&self, call: &CallRequest<'_>, shape: Shape) -> Result<Opened, Status> {
        if !self.home.is_here() {
            return Err(self.forked());
        }
        let started_ns = clock::now_ns();
        let until_ns = until(call.timeout, started_ns);
        // Dropped before the call is sent, the rings are given up.
        let Opening { number, sender, receiver } =
            self.streams.open(shape, until_ns.map(Deadline::from_monotonic_ns))?;
        let slot = self.slot_for_streams(until_ns, started_ns)?;
        let ticket =
            self.send_off(slot, call, Some(number), Caller::Thread, started_ns)?.ok_or_else(|| self.no_slot())?;
        self.lane.announce();
        Ok(Opened { ticket, sender, receiver })
    }

    fn slot_for_streams(&self, until_ns: Option<u64>, started_ns: u64) -> Result<Call<'_>, Status> {
        if let Some(slot) = self.lane.slots.acquire_next() {
            return Ok(slot);
        }
        let soon_ns = started_ns.saturating_add(SLOT_NS);
        self.acquire(Some(until_ns.map_or(soon_ns, |until| until.min(soon_ns)))).map_err(|status| {
            if status.code() != Code::DeadlineExceeded || until_ns.is_some_and(|until| until <= soon_ns) {
                return status;
            }
            let text = format!("no free call slot towards `{}`: all are in flight", self.name);
            Status::new(Code::ResourceExhausted, Outcome::NotRun, text)
        })
    }
}
