//! Call slots: one call in flight each, from the request's publication to the reply.
//!
//! ```text
//! byte 0   state word: generation (upper half), state (lower half, the futex)   both sides, by the rules below
//!      8   cancel: the generation that is cancelled                             client
//!     16   reply: length (32) | tag (24) | place (8)                            server, before DONE
//!     24.. reply payload, or the reference of an arena block                    server, before DONE
//! ```
//!
//! States: PENDING, PARKED, TASK, ABANDONED, DONE, DEAD; zero, never written, is a slot that was never used. Only the
//! client writes PENDING, PARKED (a thread sleeps), TASK (a task does, see `slot/task.rs`), ABANDONED and DEAD; only the server
//! writes DONE, by compare-exchange over a state of its own generation. Both sides change a slot
//! in flight by read-modify-write only, so a caller that falls asleep and a server that answers cannot miss each
//! other, and no fence pair is needed. A slot is used again only after DONE was read: until then the server may write
//! into it. DONE is therefore also how a free slot rests.

mod finished;
mod task;

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use crossbeam_utils::CachePadded;

use self::finished::FinishedSet;
pub(crate) use self::finished::section_bytes;

use crate::error::Error;
use crate::futex::Woken;
use crate::peer::PeerWord;
use crate::raw::{LINE, LINE_PAIR};
use crate::ready::Ringer;
use crate::segment::Memory;
use crate::sync::{AtomicBool, AtomicU32, Mutex, Ordering, fence};
use crate::wait::SpinBudget;

/// Bytes of one slot.
pub const SLOT_BYTES: usize = LINE_PAIR;

/// Words of reply payload in one slot.
pub const REPLY_WORDS: usize = (SLOT_BYTES - PAYLOAD_AT) / 8;

/// Words of payload that share the state's line.
const FIRST_LINE_WORDS: usize = (LINE - PAYLOAD_AT) / 8;

const CANCEL_AT: usize = 8;
const REPLY_AT: usize = 16;
const PAYLOAD_AT: usize = 24;
const _: () = assert!(SLOT_BYTES == 128 && REPLY_WORDS == 13 && FIRST_LINE_WORDS == 5);

pub(crate) const PENDING: u32 = 1;
pub(crate) const PARKED: u32 = 2;
pub(crate) const ABANDONED: u32 = 3;
const DONE: u32 = 4;
const DEAD: u32 = 5;
pub(crate) const TASK: u32 = 6;

/// How long a caller sleeps before it looks again whether its request was taken, at first and at last.
const PATIENCE_FIRST_NS: u64 = 100_000_000;
const PATIENCE_LAST_NS: u64 = 1_000_000_000;

// ORDERING: Release, pairs with the Acquire load in `Call::look_at`; see `ServerSlots::finish`.
const FINISH: Ordering = if cfg!(weaken = "done_relaxed") { Ordering::Relaxed } else { Ordering::Release };

fn word(generation: u32, state: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(state)
}

/// How a reply lies in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The server's word for what the reply is; 24 bits.
    pub tag: u32,
    /// Bytes of the payload, wherever it lies.
    pub len: u32,
    /// Where the payload lies: zero, in the slot; else the server's word for where, the first payload word included.
    pub place: u8,
}

impl ReplyHeader {
    const TAG_MAX: u32 = (1 << 24) - 1;

    fn to_word(self) -> u64 {
        u64::from(self.len) << 32 | u64::from(self.tag & Self::TAG_MAX) << 8 | u64::from(self.place)
    }

    fn from_word(word: u64) -> Self {
        Self { len: (word >> 32) as u32, tag: (word >> 8) as u32 & Self::TAG_MAX, place: word as u8 }
    }
}

#[derive(Debug, Clone)]
struct Slots {
    segment: Arc<Memory>,
    offset: usize,
    count: u32,
}

impl Slots {
    #[inline]
    fn at(&self, index: u32) -> usize {
        debug_assert!(index < self.count);
        self.offset + index as usize * SLOT_BYTES
    }

    #[inline]
    fn word(&self, index: u32, at: usize) -> PeerWord<'_> {
        PeerWord::at(self.segment.region(), self.at(index) + at)
    }

    #[inline]
    fn state(&self, index: u32) -> PeerWord<'_> {
        self.word(index, 0)
    }
}

/// What names a call towards the server: a slot and which of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId {
    /// Index of the slot.
    pub slot: u32,
    /// The slot's life.
    pub generation: u32,
}

impl CallId {
    /// Both halves in one word.
    pub fn to_word(self) -> u64 {
        word(self.generation, self.slot)
    }

    /// From a peer's word; [`ServerSlots`] checks the index at use.
    pub fn from_word(word: u64) -> Self {
        Self { slot: word as u32, generation: (word >> 32) as u32 }
    }
}

/// How a wait for a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The reply is in the slot.
    Done(ReplyHeader),
    /// The deadline passed first. The call is still in flight.
    TimedOut,
    /// The connection ended without a reply.
    Ended,
}

/// What the client process keeps about a slot, out of the server's reach.
#[derive(Debug, Default)]
struct Private {
    hold: AtomicU32,
    /// The slot's life; written by its holder only.
    generation: AtomicU32,
    /// The task that waits for the reply.
    waker: Mutex<Option<Waker>>,
}

/// Nobody has the slot.
const FREE: u32 = 0;
/// A [`Call`] has it.
const HELD: u32 = 1;
/// Its call is in flight and nobody has it in hand: whoever knows the name takes it up again.
const DETACHED: u32 = 2;

/// The calling side.
pub struct ClientSlots {
    slots: Slots,
    private: Box<[CachePadded<Private>]>,
    /// Set once the connection is over.
    ended: AtomicBool,
    /// Calls of tasks that ended.
    finished: FinishedSet,
    /// Where the next look for a free slot begins that is not a waiting thread's.
    next: CachePadded<AtomicU32>,
}

impl fmt::Debug for ClientSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSlots").field("count", &self.slots.count).finish_non_exhaustive()
    }
}

/// Where this thread begins to look for a free slot: each thread has a slot of its own as long as there are enough,
/// so that its lines are near and nobody contends for it.
fn first_choice() -> u32 {
    #[cfg(not(loom))]
    {
        static THREADS: AtomicU32 = AtomicU32::new(0);
        thread_local!(static CHOICE: u32 = THREADS.fetch_add(1, Ordering::Relaxed));
        CHOICE.with(|choice| *choice)
    }
    #[cfg(loom)]
    0
}

impl ClientSlots {
    /// Over `count` slots from `offset` on and the finished set behind them.
    pub(crate) fn new(segment: Arc<Memory>, offset: usize, count: u32) -> Self {
        Self {
            finished: FinishedSet::behind(Arc::clone(&segment), offset, count),
            slots: Slots { segment, offset, count },
            private: (0..count).map(|_| CachePadded::default()).collect(),
            ended: AtomicBool::new(false),
            next: CachePadded::default(),
        }
    }

    /// Slots in the table.
    pub fn count(&self) -> usize {
        self.private.len()
    }

    /// Takes a free slot. `None` if all are in flight. One exchange of an uncontended word as long as there are more
    /// slots than threads; at worst a look at each slot.
    #[inline]
    pub fn acquire(&self) -> Option<Call<'_>> {
        self.acquire_from(first_choice() % self.slots.count)
    }

    #[inline]
    fn acquire_from(&self, first: u32) -> Option<Call<'_>> {
        let slot = (first..self.slots.count).chain(0..first).find(|slot| self.try_acquire(*slot))?;
        let private = &self.private[slot as usize];
        let generation = private.generation.load(Ordering::Relaxed).wrapping_add(1);
        private.generation.store(generation, Ordering::Relaxed);
        Some(Call { slots: self, id: CallId { slot, generation }, armed: false })
    }

    fn try_acquire(&self, slot: u32) -> bool {
        let hold = &self.private[slot as usize].hold;
        // ORDERING: Acquire, pairs with the Release in `release`: the last holder is done with slot and generation.
        hold.load(Ordering::Relaxed) == FREE
            && hold.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn release(&self, slot: u32) {
        // ORDERING: Release, pairs with the Acquire in `try_acquire`.
        self.private[slot as usize].hold.store(FREE, Ordering::Release);
    }

    /// Ends the connection: callers in flight are told, replies that were committed before stay theirs.
    ///
    /// To be called by whoever learnt of the end, any number of times.
    pub fn end(&self) {
        // ORDERING: Relaxed store, ordered before the exchanges by the fence.
        self.ended.store(true, Ordering::Relaxed);
        if cfg!(not(weaken = "end_without_fence")) {
            // ORDERING: SeqCst fence between `ended` and the look at the slots, pairs with the fence in `park` between
            // PARKED and the look at `ended`: a caller that we do not see in flight sees that we came. Without it a
            // caller sleeps for ever (`end_without_fence`).
            fence(Ordering::SeqCst);
        }
        for (slot, private) in (0..).zip(&self.private) {
            self.kill(CallId { slot, generation: private.generation.load(Ordering::Relaxed) });
            if cfg!(not(weaken = "end_without_wake")) && private.hold.load(Ordering::Relaxed) != FREE {
                // Whatever the state: a server that was killed between DONE and its wake-up leaves a caller asleep
                // over a finished call (`end_without_wake`).
                self.slots.segment.region().futex_wake(self.slots.at(slot), i32::MAX as u32);
            }
            if cfg!(not(weaken = "end_without_waker")) {
                // The same of a task (`end_without_waker`).
                self.wake(slot);
            }
        }
    }

    /// Whether [`end`](Self::end) was called. One relaxed load.
    #[inline]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// PENDING, PARKED or TASK becomes DEAD; a committed DONE wins.
    fn kill(&self, id: CallId) {
        let state = self.slots.state(id.slot);
        // The caller may go from PENDING to one of the others in between, and a slot that was not armed yet to PENDING.
        for from in [PENDING, PARKED, TASK, PENDING] {
            let (old, new) = (word(id.generation, from), word(id.generation, DEAD));
            // ORDERING: Relaxed: DEAD carries no data. A DONE that wins is read with Acquire by the caller.
            if state.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}

/// A slot in our hands. Dropped, it is given back once the server can no longer write into it, else left lent.
pub struct Call<'a> {
    slots: &'a ClientSlots,
    id: CallId,
    armed: bool,
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("id", &self.id).finish_non_exhaustive()
    }
}

enum Seen {
    InFlight,
    Done(ReplyHeader),
    Dead,
}

impl Call<'_> {
    /// The name that goes into the request.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// Makes the slot PENDING: to be done right before the request is committed. From here on the server may write
    /// into the slot.
    ///
    /// Not done by `acquire`, so that no read-modify-write of the caller comes between this store and the request's:
    /// it would wait until the slot's line has come over from the server.
    #[inline]
    pub fn arm(&mut self) {
        // ORDERING: Relaxed: the server learns of the slot from a frame that is committed (Release) after this.
        self.state().store(word(self.id.generation, PENDING), Ordering::Relaxed);
        self.armed = true;
    }

    fn state(&self) -> PeerWord<'_> {
        self.slots.slots.state(self.id.slot)
    }

    #[inline]
    fn look(&self) -> Seen {
        self.look_at(self.state())
    }

    #[inline]
    fn look_at(&self, state: PeerWord<'_>) -> Seen {
        // ORDERING: Acquire, pairs with the Release exchange in `ServerSlots::finish`: whoever sees DONE sees the reply.
        let done = word(self.id.generation, DONE);
        let ours = |seen: u64| (seen >> 32) as u32 == self.id.generation;
        state.load(Ordering::Acquire).decode(|seen| {
            if seen == done {
                Seen::Done(self.header())
            } else if ours(seen) && matches!(seen as u32, PENDING | PARKED | TASK | ABANDONED) {
                Seen::InFlight
            } else {
                // DEAD, or a word that nobody writes who keeps the protocol: no reply will come.
                Seen::Dead
            }
        })
    }

    fn header(&self) -> ReplyHeader {
        self.slots.slots.word(self.id.slot, REPLY_AT).load(Ordering::Relaxed).decode(ReplyHeader::from_word)
    }

    /// Waits for the reply: polls for the budget, then calls `before_park` and sleeps.
    ///
    /// `before_park` is for looking whether the request was taken at all, and ringing if not. It is called again after
    /// 100 ms of sleep, then ever more seldom, down to once a second: a peer of both sides may have taken the first ring
    /// away.
    #[inline]
    pub fn wait(&self, until_ns: Option<u64>, spin: &SpinBudget, before_park: impl FnMut()) -> Waited {
        let state = self.state();
        let second_line = self.slots.slots.at(self.id.slot) + LINE;
        let polled = spin.poll(until_ns, || match self.look_at(state) {
            Seen::InFlight => {
                // Whoever polls the first line will want the second one together with it, not after it.
                self.slots.slots.segment.region().prefetch_for_read(second_line);
                None
            }
            Seen::Done(header) => Some(Waited::Done(header)),
            Seen::Dead => Some(Waited::Ended),
        });
        match polled {
            Some(waited) => waited,
            None => self.park(until_ns, before_park),
        }
    }

    #[cold]
    fn park(&self, until_ns: Option<u64>, mut before_park: impl FnMut()) -> Waited {
        before_park();
        let parked = word(self.id.generation, PARKED);
        for from in [PENDING, TASK] {
            let from = word(self.id.generation, from);
            // ORDERING: Relaxed: PARKED carries no data; the reply is read after `look`. If both exchanges fail the
            // reply or the end came first, and the loop finds it.
            if self.state().compare_exchange(from, parked, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                break;
            }
        }
        // ORDERING: SeqCst fence between PARKED and the look at `ended`, pairs with the fence in `ClientSlots::end`.
        fence(Ordering::SeqCst);
        if self.slots.has_ended() {
            self.slots.kill(self.id);
        }
        let mut patience_ns = PATIENCE_FIRST_NS;
        let mut ring_at_ns = crate::clock::kernel_ns().saturating_add(patience_ns);
        loop {
            match self.look() {
                Seen::Done(header) => return Waited::Done(header),
                Seen::Dead => return Waited::Ended,
                Seen::InFlight => {}
            }
            let now_ns = crate::clock::kernel_ns();
            if until_ns.is_some_and(|until| now_ns >= until) {
                return Waited::TimedOut;
            }
            if now_ns >= ring_at_ns {
                before_park();
                patience_ns = (patience_ns * 2).min(PATIENCE_LAST_NS);
                ring_at_ns = now_ns.saturating_add(patience_ns);
            }
            let slots = &self.slots.slots;
            let sleep_until_ns = until_ns.map_or(ring_at_ns, |until| until.min(ring_at_ns));
            // Whatever ends the sleep, the next round looks again.
            let _: Woken = slots.segment.region().futex_wait(slots.at(self.id.slot), PARKED, Some(sleep_until_ns));
        }
    }

    /// Gives up: sets the cancel flag and leaves the slot to the server. If the reply came first, that is the result.
    ///
    /// The slot stays lent until the server is done with it; [`ClientSlots`] takes it back by [`Abandoned::reclaim`].
    ///
    /// # Errors
    /// The call itself, with what had come before: the reply, or the end.
    pub fn abandon(self) -> Result<Abandoned, (Self, Waited)> {
        let cancel = self.slots.slots.word(self.id.slot, CANCEL_AT);
        cancel.store(self.id.generation.into(), Ordering::Relaxed);
        let abandoned = word(self.id.generation, ABANDONED);
        for from in [PENDING, PARKED, TASK] {
            let old = word(self.id.generation, from);
            // ORDERING: Relaxed: ABANDONED carries no data.
            if self.state().compare_exchange(old, abandoned, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                let id = self.id;
                std::mem::forget(self);
                return Ok(Abandoned { id });
            }
        }
        let waited = match self.look() {
            Seen::Done(header) => Waited::Done(header),
            _ => Waited::Ended,
        };
        Err((self, waited))
    }

    /// Copies reply payload words out of the slot, after [`Waited::Done`].
    ///
    /// # Panics
    /// If `words` is longer than [`REPLY_WORDS`].
    #[inline]
    pub fn read(&self, words: &mut [u64]) {
        assert!(words.len() <= REPLY_WORDS, "{} words of {REPLY_WORDS}", words.len());
        let slots = &self.slots.slots;
        slots.segment.region().load_words(slots.at(self.id.slot) + PAYLOAD_AT, words);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.armed {
            self.slots.release(self.id.slot);
            return;
        }
        match self.look() {
            Seen::Done(_) => self.slots.release(self.id.slot),
            // The connection is over; its slots end with it.
            Seen::Dead => {}
            // Dropped in the middle, by a panic say: the server may still write, so the slot stays lent.
            Seen::InFlight => {
                let cancel = self.slots.slots.word(self.id.slot, CANCEL_AT);
                cancel.store(self.id.generation.into(), Ordering::Relaxed);
            }
        }
    }
}

/// A call that was given up and whose slot the server may still write.
#[derive(Debug)]
#[must_use = "the slot comes back by reclaim only"]
pub struct Abandoned {
    id: CallId,
}

impl Abandoned {
    /// Gives the slot back to the table it came from, if the server is done with it. The reply, if there is one, is
    /// handed to `discard` first.
    ///
    /// # Errors
    /// The call itself, if the server is not done with it.
    pub fn reclaim(self, slots: &ClientSlots, discard: impl FnOnce(ReplyHeader, u64)) -> Result<(), Self> {
        let call = Call { slots, id: self.id, armed: true };
        match call.look() {
            Seen::Done(header) => {
                let mut first = [0];
                call.read(&mut first);
                discard(header, first[0]);
                Ok(()) // dropping the call gives the slot back
            }
            _ => {
                std::mem::forget(call);
                Err(self)
            }
        }
    }

    /// The call's name.
    pub fn id(&self) -> CallId {
        self.id
    }
}

/// What happened to a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// The caller has it, or will.
    Delivered,
    /// The caller had given up; the slot is its own again.
    Abandoned,
    /// The slot is in another life or dead: the reply is nobody's.
    Stale,
}

/// The answering side.
#[derive(Debug)]
pub struct ServerSlots {
    slots: Slots,
    finished: FinishedSet,
    /// By which the client is told that calls of its tasks have ended.
    rope: Option<Ringer>,
}

impl ServerSlots {
    /// Over `count` slots from `offset` on and the finished set behind them.
    pub(crate) fn new(segment: Arc<Memory>, offset: usize, count: u32) -> Self {
        let finished = FinishedSet::behind(Arc::clone(&segment), offset, count);
        Self { slots: Slots { segment, offset, count }, finished, rope: None }
    }

    /// The client's tasks are told by this rope. Without one they learn of replies only by looking.
    #[must_use]
    pub fn telling_by(self, rope: Ringer) -> Self {
        Self { rope: Some(rope), ..self }
    }

    /// Checks a peer's call name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no such slot.
    #[inline]
    pub fn check(&self, id: CallId) -> Result<CallId, Error> {
        if id.slot < self.slots.count {
            Ok(id)
        } else {
            Err(Error::Corrupt { what: "slot index", found: id.slot.into(), at: 0 })
        }
    }

    /// Whether the caller cancelled the call. One load; the line is the caller's.
    pub fn is_cancelled(&self, id: CallId) -> bool {
        self.slots.word(id.slot, CANCEL_AT).load(Ordering::Relaxed).decode(|g| g == u64::from(id.generation))
    }

    /// Writes the reply and makes the slot DONE; wakes the caller if it sleeps, and has it told if it is a task. Once per
    /// call. Wait-free.
    ///
    /// # Panics
    /// If `payload` is longer than [`REPLY_WORDS`] or the slot was not checked.
    #[inline]
    pub fn finish(&self, id: CallId, header: ReplyHeader, payload: &[u64]) -> Finished {
        match self.publish(id, header, payload) {
            Some(PARKED) => {
                self.slots.segment.region().futex_wake(self.slots.at(id.slot), 1);
                Finished::Delivered
            }
            Some(TASK) => {
                self.tell(id.slot);
                Finished::Delivered
            }
            Some(ABANDONED) => {
                // Tasks may wait for the slot itself.
                self.tell(id.slot);
                Finished::Abandoned
            }
            Some(_) => Finished::Delivered,
            None => Finished::Stale,
        }
    }

    #[cold]
    fn tell(&self, slot: u32) {
        if self.finished.add(slot)
            && let Some(rope) = &self.rope
        {
            rope.ring();
        }
    }

    /// The first half of [`finish`](Self::finish), after which a server may be killed: for models.
    #[cfg(loom)]
    pub fn finish_and_die(&self, id: CallId, header: ReplyHeader, payload: &[u64]) {
        let _ = self.publish(id, header, payload);
    }

    /// The state that DONE replaced, if it could.
    #[inline]
    fn publish(&self, id: CallId, header: ReplyHeader, payload: &[u64]) -> Option<u32> {
        assert!(id.slot < self.slots.count && payload.len() <= REPLY_WORDS, "reply does not fit its slot");
        let at = self.slots.at(id.slot);
        let region = self.slots.segment.region();
        region.prefetch_for_write(at);
        // The line behind first, as for a cell: the caller polls the first line.
        let (first, behind) = payload.split_at(payload.len().min(FIRST_LINE_WORDS));
        region.store_words(at + LINE, behind);
        region.store_words(at + PAYLOAD_AT, first);
        self.slots.word(id.slot, REPLY_AT).store(header.to_word(), Ordering::Relaxed);
        let done = word(id.generation, DONE);
        let mut old = word(id.generation, PENDING);
        // An honest client moves the state at most three times: PENDING, TASK, PARKED, ABANDONED.
        for _ in 0..4 {
            // ORDERING: Release, pairs with the Acquire load in `Call::look_at`: whoever sees DONE sees the reply.
            // Weakened to Relaxed (`done_relaxed`), an old reply is read.
            match self.slots.state(id.slot).compare_exchange(old, done, FINISH, Ordering::Relaxed) {
                Ok(()) => return Some(old as u32),
                Err(found) => {
                    let found = found.decode(|found| found);
                    let open = [PENDING, PARKED, TASK, ABANDONED].map(|state| word(id.generation, state));
                    if !open.contains(&found) {
                        return None;
                    }
                    old = found;
                }
            }
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::segment::{HEADER_BYTES, Layout, Segment};

    #[derive(Debug, Clone)]
    struct Table(u32);

    impl Layout for Table {
        const KIND: u64 = 2;
        fn params(&self) -> [u64; 8] {
            [self.0.into(), 0, 0, 0, 0, 0, 0, 0]
        }
        fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
            Ok(Self(params[0] as u32))
        }
        fn bytes(&self) -> usize {
            HEADER_BYTES + self.0 as usize * SLOT_BYTES + section_bytes(self.0)
        }
    }

    pub(super) fn table(count: u32) -> (ClientSlots, ServerSlots) {
        let segment = Segment::heap(Table(count), 1).memory();
        let client = ClientSlots::new(Arc::clone(&segment), HEADER_BYTES, count);
        (client, ServerSlots::new(segment, HEADER_BYTES, count))
    }

    pub(super) const REPLY: ReplyHeader = ReplyHeader { tag: 0xabcdef, len: 9, place: 0 };

    pub(super) fn publish(client: &ClientSlots) -> Call<'_> {
        let mut call = client.acquire().unwrap();
        call.arm();
        call
    }

    fn at_once() -> SpinBudget {
        SpinBudget::new(Some(Duration::ZERO))
    }

    #[test]
    fn the_reply_header_survives_its_word() {
        for header in [REPLY, ReplyHeader { tag: 0, len: u32::MAX, place: 255 }] {
            assert_eq!(ReplyHeader::from_word(header.to_word()), header);
        }
    }

    #[test]
    fn a_calls_name_survives_its_word() {
        let id = CallId { slot: 3, generation: u32::MAX - 1 };
        assert_eq!(CallId::from_word(id.to_word()), id);
    }

    #[test]
    fn a_reply_as_long_as_a_slot_arrives_word_for_word_beside_its_neighbours() {
        let (client, server) = table(3);
        assert_eq!(client.count(), 3);
        let calls = [0, 1, 2].map(|_| publish(&client));
        let payload = |call: &Call<'_>| -> [u64; REPLY_WORDS] {
            std::array::from_fn(|i| u64::from(call.id().slot) << 8 | i as u64)
        };
        for call in &calls {
            assert_eq!(server.finish(call.id(), REPLY, &payload(call)), Finished::Delivered);
        }
        for call in &calls {
            assert_eq!(call.wait(None, &at_once(), || ()), Waited::Done(REPLY));
            let mut words = [0; REPLY_WORDS];
            call.read(&mut words);
            assert_eq!(words, payload(call));
        }
    }

    #[test]
    fn a_call_that_is_dropped_in_flight_is_cancelled_and_keeps_its_slot_from_others() {
        let (client, server) = table(1);
        let call = publish(&client);
        let id = call.id();
        drop(call);
        assert!(server.is_cancelled(id));
        assert!(client.acquire().is_none(), "the server may still write into it");
    }

    /// The first rings come before the sleep, after 100 ms and after 200 ms more; a slow machine leaves some out.
    #[test]
    fn a_caller_that_sleeps_rings_again_and_ever_more_seldom() {
        let (client, _server) = table(1);
        let call = publish(&client);
        let until = crate::clock::kernel_ns() + 350_000_000;
        let mut rings = 0;
        assert_eq!(call.wait(Some(until), &at_once(), || rings += 1), Waited::TimedOut);
        assert!((2..=3).contains(&rings), "{rings} rings in 350 ms");
    }

    #[test]
    fn a_reply_reaches_its_caller_and_the_slot_comes_back() {
        let (client, server) = table(1);
        for i in 0..10 {
            let call = publish(&client);
            assert!(client.acquire().is_none());
            assert_eq!(server.finish(call.id(), REPLY, &[i, 2]), Finished::Delivered);
            assert_eq!(call.wait(None, &at_once(), || ()), Waited::Done(REPLY));
            let mut words = [0; 2];
            call.read(&mut words);
            assert_eq!(words, [i, 2]);
        }
    }

    #[test]
    fn a_slot_whose_request_was_never_published_comes_back_at_once() {
        let (client, _server) = table(1);
        drop(client.acquire().unwrap());
        assert!(client.acquire().is_some());
    }

    #[test]
    fn a_parked_caller_is_woken_by_the_reply() {
        let (client, server) = table(1);
        let call = publish(&client);
        let id = call.id();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while server.slots.state(0).load(Ordering::Relaxed).decode(|w| w as u32 != PARKED) {
                    std::thread::yield_now();
                }
                server.finish(id, REPLY, &[]);
            });
            assert_eq!(call.wait(None, &at_once(), || ()), Waited::Done(REPLY));
        });
    }

    /// A reply that names an earlier life of a slot is dropped and reaches nobody.
    #[test]
    fn wrong_request_id_in_reply() {
        let (client, server) = table(1);
        let first = publish(&client);
        let old = first.id();
        server.finish(old, REPLY, &[]);
        drop(first);
        let second = publish(&client);
        assert_eq!(server.finish(old, REPLY, &[]), Finished::Stale);
        assert_eq!(second.wait(Some(1), &at_once(), || ()), Waited::TimedOut);
    }

    /// Lives of a slot go on behind the last number that a word has, and an old one is still told from a new one.
    #[test]
    fn seq_wrap_u64() {
        let (client, server) = table(1);
        client.private[0].generation.store(u32::MAX - 1, Ordering::Relaxed);
        let mut before = None;
        for _ in 0..4 {
            let call = publish(&client);
            let id = call.id();
            assert!(before.is_none_or(|before| server.finish(before, REPLY, &[]) == Finished::Stale), "{before:?}");
            assert_ne!(server.finish(id, REPLY, &[]), Finished::Stale, "{id:?}");
            assert_eq!(call.wait(None, &at_once(), || ()), Waited::Done(REPLY));
            before = Some(id);
        }
        assert_eq!(before.map(|id| id.generation), Some(2));
    }

    #[test]
    fn an_abandoned_slot_is_lent_until_the_server_is_done() {
        let (client, server) = table(1);
        let call = publish(&client);
        let id = call.id();
        assert!(!server.is_cancelled(id));
        let abandoned = call.abandon().unwrap();
        assert!(server.is_cancelled(id));
        let abandoned = abandoned.reclaim(&client, |_, _| ()).unwrap_err();
        assert!(client.acquire().is_none());
        assert_eq!(server.finish(id, REPLY, &[4]), Finished::Abandoned);
        let mut discarded = None;
        abandoned.reclaim(&client, |header, first| discarded = Some((header, first))).unwrap();
        assert_eq!(discarded, Some((REPLY, 4)));
        assert!(client.acquire().is_some());
    }

    #[test]
    fn a_cancel_that_comes_too_late_does_not_hit_the_next_call() {
        let (client, server) = table(1);
        let call = publish(&client);
        server.finish(call.id(), REPLY, &[]);
        let Err((call, Waited::Done(_))) = call.abandon() else { panic!("the reply came first") };
        drop(call);
        let next = publish(&client);
        assert!(!server.is_cancelled(next.id()));
    }

    #[test]
    fn the_end_reaches_callers_that_wait_and_spares_replies_that_came() {
        let (client, server) = table(3);
        let (answered, pending) = (publish(&client), publish(&client));
        server.finish(answered.id(), REPLY, &[]);
        client.end();
        assert_eq!(answered.wait(None, &at_once(), || ()), Waited::Done(REPLY));
        assert_eq!(pending.wait(None, &at_once(), || ()), Waited::Ended);
        let late = publish(&client);
        assert_eq!(late.wait(None, &at_once(), || ()), Waited::Ended);
        assert_eq!(server.finish(pending.id(), REPLY, &[]), Finished::Stale);
    }

    #[test]
    fn a_state_that_nobody_writes_ends_the_wait() {
        let (client, server) = table(1);
        for garbage in [0, 99, word(7, PENDING), word(1, 0), u64::MAX] {
            let call = publish(&client);
            server.slots.state(0).store(garbage, Ordering::Relaxed);
            assert_eq!(call.wait(None, &at_once(), || ()), Waited::Ended, "{garbage:#x}");
            std::mem::forget(call);
            client.release(0);
        }
    }

    #[test]
    fn a_slot_index_beyond_the_table_is_corrupt() {
        let (_, server) = table(3);
        assert!(server.check(CallId { slot: 2, generation: 0 }).is_ok());
        assert!(matches!(server.check(CallId { slot: 3, generation: 0 }), Err(Error::Corrupt { found: 3, .. })));
    }
}
