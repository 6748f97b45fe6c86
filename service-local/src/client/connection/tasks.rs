//! Calls that their caller does not wait for at once: sent off, polled by tasks or waited for later, given up.
//!
//! A task that finds no slot stands in a line. One that waits for its reply says so in its slot, and is woken by whoever
//! looks at the lane's finished set: any other task that is polled, or the watcher thread, which hears the service's rope.
//! The watcher thread also wakes tasks whose time is up, and looks around now and then for what may have gone past it.

use std::task::{Context as Wakers, Poll, ready};

use service_core::{Place, Ticket};
use shm_ring::ready::Pulled;
use shm_ring::slot::CallId;

use super::*;

/// After so long the watcher thread looks whether the requests of waiting tasks were taken: the worker that was to take them
/// may have been called away. Then ever more seldom.
const PATIENCE_FIRST_NS: u64 = 1_000_000;
const PATIENCE_LAST_NS: u64 = 1_000_000_000;

/// How often the line is looked after: a slot may come free without a notice.
const LINE_NS: u64 = 10_000_000;

/// How soon a task looks again that waits for a cell, or for a segment that the service makes.
const ROOM_NS: u64 = 1_000_000;

/// How often in a row the rope may be pulled for nothing before it is not listened to for a while.
const VAIN: u32 = 64;
const DEAF_NS: u64 = 1_000_000;

/// How long a task's thread waits for a segment, before the task waits.
const GROWING: Duration = Duration::from_millis(2);

/// Whether a caller can be held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    Thread,
    Task,
}

impl LocalConnection {
    /// A slot, in turn.
    fn poll_slot(
        &self,
        wakers: &Wakers<'_>,
        place: &mut Place,
        until_ns: Option<u64>,
    ) -> Poll<Result<Call<'_>, Status>> {
        self.sweep();
        let (slots, line) = (&self.lane.slots, &self.tasks.line);
        let is_its_turn = if place.is_taken() { place.is_called() } else { line.is_empty() };
        if is_its_turn && let Some(slot) = slots.acquire_next() {
            return Poll::Ready(Ok(slot));
        }
        if line.stand(place, wakers.waker(), until_ns)
            && let Some(slot) = slots.acquire_next()
        {
            return Poll::Ready(Ok(slot));
        }
        let now_ns = clock::kernel_ns();
        if !self.is_open() || until_ns.is_some_and(|until| now_ns >= until) {
            return Poll::Ready(Err(self.no_slot()));
        }
        self.look_around_by(now_ns.saturating_add(LINE_NS).min(until_ns.unwrap_or(u64::MAX)));
        Poll::Pending
    }

    /// Sends a call off in a slot, unannounced; `streams` is the number of its rings, if it has any. `None` if a task has to wait for a cell or a segment.
    pub(super) fn send_off(
        &self,
        mut slot: Call<'_>,
        call: &CallRequest<'_>,
        streams: Option<u64>,
        caller: Caller,
        started_ns: u64,
    ) -> Result<Option<Ticket>, Status> {
        let until_ns = until(call.timeout, started_ns);
        let envelope = envelope_of(call, streams)?;
        let enveloped = envelope.as_ref().map(|envelope| Enveloped::new(call.message, envelope));
        let request: &dyn Encode = match &enveloped {
            None => call.message,
            Some(enveloped) => enveloped,
        };
        let mut cell = Cell::new();
        let not_run = |error: service_core::EncodeError| error.into_status(Outcome::NotRun);
        let (payload, large) = match encode_small(request, cell.payload_mut()).map_err(not_run)? {
            Encoded::Inline(len) => (Payload::Inline(len), None),
            Encoded::Large(len) => match self.place_large_for(caller, request, len, until_ns)? {
                None => return Ok(None),
                Some(large) => (large.payload(), Some(large)),
            },
        };
        let mut claim = match self.lane.requests.try_claim() {
            Ok(claim) => claim,
            Err(Refused::Full) if caller == Caller::Task => {
                // What fills the ring are frames to be stepped over: the server does so when it looks.
                self.lane.ring();
                return Ok(None);
            }
            Err(_) => self.claim(until_ns)?,
        };
        let id = slot.id();
        let meta = Meta {
            call: id,
            deadline_ns: until_ns,
            method: call.method,
            enveloped: envelope.is_some(),
            cancels: false,
        };
        let body = cell.seal(meta, payload);
        slot.arm();
        let position = claim.commit(KIND_CALL, (body.len() * 8) as u16, body);
        let lent = large.and_then(|mut large| {
            large.sent();
            large.lend()
        });
        self.tasks.note(id.slot).write(call.method, position, until_ns, lent);
        self.tasks.began();
        slot.detach();
        Ok(Some(Ticket { words: [id.to_word(), position, until_ns.unwrap_or(0)], started_ns }))
    }

    /// As [`place_large`](Self::place_large); `None` if a task is not to be held up for as long as that would take.
    fn place_large_for(
        &self,
        caller: Caller,
        request: &dyn Encode,
        len: usize,
        until_ns: Option<u64>,
    ) -> Result<Option<Large<'_>>, Status> {
        if caller == Caller::Thread || self.accepts_sealed {
            return self.place_large(request, len, until_ns).map(Some);
        }
        let soon_ns = clock::kernel_ns().saturating_add(GROWING.as_nanos() as u64);
        let is_early = until_ns.is_none_or(|until| soon_ns < until);
        match self.place_large(request, len, Some(until_ns.map_or(soon_ns, |until| until.min(soon_ns)))) {
            Ok(large) => Ok(Some(large)),
            // The segment was asked for, and comes to whoever asks next.
            Err(status) if is_early && status.code() == Code::DeadlineExceeded => Ok(None),
            Err(status) => Err(status),
        }
    }

    pub(super) fn poll_start_call(
        &self,
        wakers: &Wakers<'_>,
        call: &CallRequest<'_>,
        place: &mut Place,
    ) -> Poll<Result<Ticket, Status>> {
        if !self.home.is_here() {
            return Poll::Ready(Err(self.forked()));
        }
        let started_ns = clock::now_ns();
        let until_ns = until(call.timeout, started_ns);
        if self.tasks.is_to_be_armed() {
            self.lane.slots.arm();
        }
        let slot = ready!(self.poll_slot(wakers, place, until_ns))?;
        match self.send_off(slot, call, None, Caller::Task, started_ns) {
            Ok(Some(ticket)) => {
                self.lane.announce();
                place.leave();
                Poll::Ready(Ok(ticket))
            }
            Ok(None) => {
                self.tasks.line.stand(place, wakers.waker(), until_ns);
                self.look_around_by(started_ns.saturating_add(ROOM_NS));
                Poll::Pending
            }
            Err(status) => {
                // The slot is free again.
                self.tell_freed();
                Poll::Ready(Err(status))
            }
        }
    }

    pub(super) fn start_calls(&self, calls: &[CallRequest<'_>], tickets: &mut Vec<Ticket>) -> Result<(), Status> {
        if !self.home.is_here() {
            return Err(self.forked());
        }
        self.sweep();
        let before = tickets.len();
        let started_ns = clock::now_ns();
        let mut start = || {
            for call in calls {
                let (slot, caller) = match self.lane.slots.acquire_next() {
                    Some(slot) if tickets.len() > before => (slot, Caller::Task),
                    Some(slot) => (slot, Caller::Thread),
                    None if tickets.len() > before => break,
                    None => (self.acquire(until(call.timeout, started_ns))?, Caller::Thread),
                };
                let Some(ticket) = self.send_off(slot, call, None, caller, started_ns)? else { break };
                tickets.push(ticket);
            }
            Ok(())
        };
        let result = start();
        if tickets.len() > before {
            self.lane.announce();
        }
        result
    }

    pub(super) fn poll_call(
        &self,
        wakers: &Wakers<'_>,
        ticket: &Ticket,
        reply: &mut dyn Decode,
    ) -> Poll<Result<(), Status>> {
        if !self.home.is_here() {
            return Poll::Ready(Err(self.forked()));
        }
        let slots = &self.lane.slots;
        slots.wake_finished();
        let Some(call) = slots.take_up(CallId::from_word(ticket.words[0])) else {
            return Poll::Ready(Err(is_over()));
        };
        let is_alone = self.tasks.in_flight() == 1;
        if let Poll::Ready(waited) = call.poll(wakers, is_alone.then_some(&self.tasks.spin)) {
            return Poll::Ready(self.conclude(call, waited, ticket, reply));
        }
        let now_ns = clock::now_ns();
        let until_ns = self.tasks.note(call.id().slot).until_ns();
        if now_ns >= until_ns {
            return Poll::Ready(self.not_awaited_any_more(Over::TimedOut, call, ticket, reply));
        }
        self.look_around_by(now_ns.saturating_add(PATIENCE_FIRST_NS).min(until_ns));
        call.detach();
        Poll::Pending
    }

    pub(super) fn wait_for_call(&self, ticket: &Ticket, reply: &mut dyn Decode) -> Result<(), Status> {
        if !self.home.is_here() {
            return Err(self.forked());
        }
        let Some(call) = self.lane.slots.take_up(CallId::from_word(ticket.words[0])) else { return Err(is_over()) };
        let note = self.tasks.note(call.id().slot);
        let (position, until_ns) = (note.position(), Some(note.until_ns()).filter(|until| *until != u64::MAX));
        let waited = nested::wait(&call, until_ns, &self.spin, || {
            // As in `call`.
            if self.lane.requests.is_untaken(position) {
                self.lane.ring();
            }
        });
        match waited {
            Err(over) => self.not_awaited_any_more(over, call, ticket, reply),
            Ok(waited) => self.conclude(call, waited, ticket, reply),
        }
    }

    /// The end of a call that is in hand: its reply, or what can be said without one.
    fn conclude(&self, call: Call<'_>, waited: Waited, ticket: &Ticket, reply: &mut dyn Decode) -> Result<(), Status> {
        self.tasks.ended();
        let result = match waited {
            Waited::Done(header) => {
                self.take_back(self.tasks.note(call.id().slot).lent());
                self.deliver(&call, header, reply)
            }
            // A living service may still read the request's block; it ends with the connection.
            Waited::Ended | Waited::TimedOut => Err(self.unanswered(ticket.words[1])),
        };
        drop(call);
        self.tell_freed();
        result
    }

    fn not_awaited_any_more(
        &self,
        over: Over,
        call: Call<'_>,
        ticket: &Ticket,
        reply: &mut dyn Decode,
    ) -> Result<(), Status> {
        let note = self.tasks.note(call.id().slot);
        let (method, lent) = (note.method(), note.lent());
        match call.abandon() {
            Ok(abandoned) => {
                self.tasks.ended();
                // The server knows the deadline.
                let is_told = over == Over::TimedOut || self.tell_cancelled(abandoned.id());
                self.given_up.add(abandoned, lent, is_told);
                Err(self.not_awaited(over, method, ticket.started_ns))
            }
            Err((call, came_first)) => self.conclude(call, came_first, ticket, reply),
        }
    }

    pub(super) fn cancel_call(&self, ticket: &Ticket) {
        if !self.home.is_here() {
            return;
        }
        let Some(call) = self.lane.slots.take_up(CallId::from_word(ticket.words[0])) else { return };
        self.tasks.ended();
        let lent = self.tasks.note(call.id().slot).lent();
        match call.abandon() {
            Ok(abandoned) => {
                let is_told = self.tell_cancelled(abandoned.id());
                self.given_up.add(abandoned, lent, is_told);
            }
            Err((call, Waited::Done(header))) => {
                self.take_back(lent);
                if header.place != 0 {
                    let mut block = [0];
                    call.read(&mut block);
                    if let Ok(arena) = self.reply_arena(header.place) {
                        arena.discard(BlockRef::from_word(block[0]));
                    }
                }
                drop(call);
                self.tell_freed();
            }
            // The end of the connection: the slot ends with it.
            Err(_) => {}
        }
    }

    /// Tells the server that a call was given up, for a handler that sleeps; false if there is no cell for it now.
    pub(super) fn tell_cancelled(&self, id: CallId) -> bool {
        let Ok(mut claim) = self.lane.requests.try_claim() else { return false };
        let mut cell = Cell::new();
        let body = cell.seal(Meta::cancelling(id), Payload::Inline(0));
        claim.commit(KIND_CALL, (body.len() * 8) as u16, body);
        self.lane.announce();
        true
    }

    fn take_back(&self, lent: Option<(u8, BlockRef)>) {
        if let Some((place, block)) = lent
            && let Some(arena) = self.requests().at(place)
        {
            arena.reclaim(block);
        }
    }

    /// To be called after a slot of a task came free.
    fn tell_freed(&self) {
        self.waiting.tell();
        if self.tasks.line.is_waited_for() {
            self.tasks.line.call_first();
        }
    }

    /// Has the watcher thread look around at that time at the latest. One load if it will anyway.
    #[inline]
    fn look_around_by(&self, at_ns: u64) {
        if self.tasks.is_due_by(at_ns)
            && let Some([.., news]) = self.watches.get()
        {
            news.expire_within(at_ns);
        }
    }

    /// What no event tells: whose time is up, and what may have gone past everybody.
    fn look_around(&self, now_ns: u64, patience_ns: u64) {
        let (tasks, slots) = (&self.tasks, &self.lane.slots);
        tasks.take_due();
        let mut next_ns = tasks.line.call_late(now_ns).unwrap_or(u64::MAX);
        if !tasks.line.is_empty() {
            next_ns = next_ns.min(now_ns.saturating_add(LINE_NS));
            // A slot that came free without a notice, or that was given up and is done with.
            if slots.has_room() || self.given_up.count() > 0 {
                tasks.line.call_first();
            }
        }
        let (mut somebody_waits, mut is_untaken) = (false, false);
        for (slot, note) in tasks.notes().filter(|(slot, _)| slots.is_detached(*slot)) {
            somebody_waits = true;
            is_untaken |= self.lane.requests.is_untaken(note.position());
            match note.until_ns() {
                until_ns if until_ns <= now_ns => slots.wake(slot),
                until_ns => next_ns = next_ns.min(until_ns),
            }
        }
        if is_untaken {
            // The polling worker may be in a handler that takes long, or what was rung was taken away by another client.
            self.lane.ring();
        }
        if somebody_waits {
            next_ns = next_ns.min(now_ns.saturating_add(patience_ns));
        }
        tasks.is_due_by(next_ns);
    }
}

fn is_over() -> Status {
    Status::internal("a call that is over, or in another hand, was asked for")
}

/// The service's rope, and the time.
pub(super) struct News {
    connection: Weak<LocalConnection>,
    state: Mutex<Hearing>,
}

#[derive(Debug)]
struct Hearing {
    /// How long until the next look around, if nobody asks for an earlier one.
    patience_ns: u64,
    /// How often in a row the rope was pulled for nothing.
    vain: u32,
    /// The rope has ended: by then the connection has.
    end_at_ns: Option<u64>,
}

impl News {
    pub(super) fn of(connection: &Arc<LocalConnection>) -> Self {
        let state = Hearing { patience_ns: PATIENCE_FIRST_NS, vain: 0, end_at_ns: None };
        Self { connection: Arc::downgrade(connection), state: Mutex::new(state) }
    }
}

impl Watched for News {
    fn on_event(&self, event: Event) -> Next {
        let Some(connection) = self.connection.upgrade() else { return Next::Stop };
        if !connection.is_open() {
            // Everybody was told.
            return Next::Stop;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ns = clock::kernel_ns();
        let has_ended = match event {
            Event::Readable => connection.listener.take() == Pulled::Ended,
            Event::Ended => true,
            Event::Expired => false,
        };
        let (tasks, slots) = (&connection.tasks, &connection.lane.slots);
        let found = slots.wake_finished();
        if has_ended || state.end_at_ns.is_some() {
            // The socket's end follows, and tells more. If it does not, tasks would never be told of replies.
            let end_at_ns = *state.end_at_ns.get_or_insert(now_ns.saturating_add(2 * DEATH_NS));
            if now_ns < end_at_ns {
                return Next::ExpireAt(end_at_ns);
            }
            connection.end(connection.socket.peer().is_dead());
            return Next::Stop;
        }
        if found > 0 && connection.given_up.count() > 0 {
            // A slot that was given up may be done with. To take it back may mean to read the socket, which is not for
            // this thread.
            tasks.line.call_first();
        }
        if now_ns >= tasks.due_ns() {
            let patience_ns = state.patience_ns;
            state.patience_ns =
                if event == Event::Expired { (patience_ns * 2).min(PATIENCE_LAST_NS) } else { patience_ns };
            connection.look_around(now_ns, patience_ns);
        }
        if event == Event::Readable {
            state.patience_ns = PATIENCE_FIRST_NS;
            state.vain = if found == 0 { state.vain + 1 } else { 0 };
        }
        slots.arm();
        if state.vain >= VAIN {
            // Whoever pulls for nothing is heard a thousand times a second.
            state.vain = 0;
            return Next::ExpireAt(now_ns.saturating_add(DEAF_NS));
        }
        match tasks.due_ns() {
            u64::MAX => Next::Keep,
            due_ns => Next::KeepWithin(due_ns),
        }
    }
}
