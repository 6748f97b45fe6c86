//! A connection to one instance: the lane, the call path, and the end.

mod large;
mod opening;
mod tasks;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context as Wakers, Poll};
use std::time::{Duration, Instant};

use service_core::envelope::{Envelope, Enveloped, Sealed};
use service_core::{
    Assurance, CallRequest, CallTimes, Code, Deadline, Decode, Encode, Encoded, Form, MAX_DETAILS_LEN, MethodIndex,
    Opened, Outcome, Place, ServiceDescriptor, Shape, Status, Ticket, Transport, encode_block, encode_small,
};
use shm_ring::arena::{ArenaOwner, ArenaReader, Block, BlockRef};
use shm_ring::cells::{Claim, Refused};
use shm_ring::lane::ClientLane;
use shm_ring::ready::{Listener, Rang, ReadySet, Ringer};
use shm_ring::rendezvous::{Connection, Event, Next, Received, RuntimeDir, Watch, Watched, own_uid, watch};
use shm_ring::slot::{Call, ReplyHeader, Waited};
use shm_ring::wait::SpinBudget;
use shm_ring::{Home, ReadOnly, Segment, Trust, clock};

use self::large::Large;
use self::tasks::News;
use super::nested::{self, Over};
use super::reading::Reading;
use super::slots::{GivenUp, LOOK_AGAIN, Waiting};
use super::streams::Streams;
use super::tasks::Tasks;
use crate::copy::with_callers_room;
use crate::errors;
use crate::frame::{Cell, Ending, KIND_CALL, Meta, Payload, Reply};
use crate::growth::{Added, MAX_BYTES, Owners, Readers, block_for, index_of};
use crate::handshake::{FromClient, FromServer};
use crate::server::BlockSink;
use crate::stream::Peer;
use crate::trust;

/// How long connecting and the handshake may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long after the hang-up the process's death may take to show: the kernel closes sockets first, and on a machine with
/// much to do the last of its threads ends a tenth of a second later. Only callers of a service that hangs up and lives on
/// wait so long.
const DEATH_NS: u64 = 250_000_000;

/// Longest failure that is taken from a peer: a sentence, and the details that may come with it.
const MAX_STATUS_BYTES: usize = MAX_DETAILS_LEN + (64 << 10);

/// How long one thread reads the socket before others may.
const TURN: Duration = Duration::from_millis(2);

/// How a connection is made and used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) spin: Option<Duration>,
    pub(crate) trust: Trust,
}

/// A connection from this process to one instance; shared by all threads.
#[derive(Debug)]
pub(crate) struct LocalConnection {
    /// `service@instance`, for texts.
    name: String,
    descriptor: ServiceDescriptor,
    /// The lane is not mapped in a child of this process.
    home: Home,
    lane: ClientLane,
    /// Where the service tells tasks of replies.
    listener: Listener,
    /// How far the service is trusted.
    trust: Trust,
    /// On what its replies are read.
    assurance: Option<Assurance>,
    /// It takes requests as sealed memory of ours.
    accepts_sealed: bool,
    spin: SpinBudget,
    given_up: GivenUp,
    waiting: Waiting,
    tasks: Tasks,
    added_requests: Added<ArenaOwner>,
    added_replies: Added<ArenaReader>,
    socket: Arc<Connection>,
    /// The rings of calls with streams.
    streams: Arc<Streams>,
    /// Whoever holds it reads the socket.
    reading: Mutex<Reading>,
    /// The server's process is known to be dead; set before callers are told of the end.
    server_died: AtomicBool,
    watches: OnceLock<[Watch; 3]>,
}

impl LocalConnection {
    /// Connects, says hello, maps what comes back.
    ///
    /// # Errors
    /// `DeadlineExceeded` if the service did not answer by the deadline, `Unavailable` if not within five seconds.
    pub(super) fn open(
        dir: &RuntimeDir,
        name: String,
        settings: Settings,
        deadline: Option<Deadline>,
    ) -> Result<Arc<Self>, Status> {
        let until_ns = deadline.map(Deadline::as_monotonic_ns);
        let failed = |error: shm_ring::Error| {
            let status = errors::not_run(&error);
            if deadline.is_some_and(Deadline::has_passed) {
                let text = format!("`{name}` could not be connected before the deadline: {}", status.message());
                return Status::new(Code::DeadlineExceeded, Outcome::NotRun, text);
            }
            status
        };
        let socket = Connection::connect(dir, &name, left(until_ns)).map_err(failed)?;
        let peer = socket.peer();
        if !dir.vouches_for(peer.uid) {
            let text = format!("`{name}` is served by user {}, this process runs as {}", peer.uid, own_uid());
            return Err(Status::new(Code::PermissionDenied, Outcome::NotRun, text));
        }
        let wanted = match settings.trust {
            trust if peer.uid == own_uid() => trust,
            trust => trust.max(Trust::towards(peer.uid)),
        };
        let shake = || {
            let hello = FromClient::Hello {
                instance: name.clone(),
                trust: trust::to_byte(wanted),
                build: if wanted.is_trusted() { trust::own_build() } else { Default::default() },
            };
            match socket.send(&hello.to_bytes(), &[]) {
                // Who is refused at the door hears why, although nobody hears it.
                Ok(()) | Err(shm_ring::Error::Closed { .. }) => {}
                Err(error) => return Err(error),
            }
            let source = std::io::ErrorKind::TimedOut.into();
            let received = match socket.receive_within(left(until_ns)) {
                // The kernel tells first that what we said was not read, and only then what was said to us.
                Err(closed @ shm_ring::Error::Closed { .. }) => {
                    socket.try_receive().ok().flatten().map(Some).ok_or(closed)
                }
                received => received,
            };
            received?.ok_or(shm_ring::Error::System { what: "waiting for the welcome", source })
        };
        let received = shake().map_err(failed)?;
        let Welcome { index, granted, accepts_sealed, descriptor } = read_welcome(&name, &received)?;
        let trust = trust::accept(wanted, granted).ok_or_else(|| {
            let text = format!("`{name}` granted less protection than was asked for ({wanted})");
            Status::new(Code::FailedPrecondition, Outcome::NotRun, text)
        })?;
        let (lane, listener) = open_lane(received, index, trust).map_err(|error| errors::not_run(&error))?;
        let (socket, peer) = (Arc::new(socket), Peer::new(&*name));
        let assurance = trust::assurance(trust);
        let connection = Arc::new(Self {
            streams: Streams::new(Arc::clone(&socket), (trust, assurance), settings.spin, peer),
            name,
            descriptor,
            home: Home::here().map_err(|error| errors::not_run(&error))?,
            tasks: Tasks::new(lane.slots.count(), settings.spin),
            lane,
            listener,
            trust,
            assurance,
            accepts_sealed,
            spin: SpinBudget::new(settings.spin),
            given_up: GivenUp::default(),
            waiting: Waiting::default(),
            added_requests: Added::up_to(MAX_BYTES),
            added_replies: Added::up_to(MAX_BYTES),
            socket,
            reading: Mutex::default(),
            server_died: AtomicBool::new(false),
            watches: OnceLock::new(),
        });
        connection.start_watching().map_err(|error| errors::not_run(&error))?;
        Ok(connection)
    }

    fn start_watching(self: &Arc<Self>) -> Result<(), shm_ring::Error> {
        let pidfd = Arc::new(self.socket.peer().pidfd()?);
        let hang_up = watch(self.socket.fd(), false, None, Arc::new(HangUp(Arc::downgrade(self))))?;
        let death = watch(pidfd, true, None, Arc::new(Death(Arc::downgrade(self))))?;
        let news = watch(self.listener.fd(), true, None, Arc::new(News::of(self)))?;
        // Set once, here.
        let _ = self.watches.set([hang_up, death, news]);
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        !self.lane.slots.has_ended()
    }

    fn end(&self, server_died: bool) {
        if server_died {
            // ORDERING: Release, pairs with the Acquire in `unanswered`: who is told of the end sees whether it was
            // a death.
            self.server_died.store(true, Ordering::Release);
        }
        self.lane.slots.end();
        self.tasks.line.call_all();
        self.streams.end();
    }

    fn requests(&self) -> Owners<'_> {
        Owners { own: &self.lane.request_blocks, added: &self.added_requests }
    }

    fn replies(&self) -> Readers<'_, ArenaReader> {
        Readers { own: &self.lane.reply_blocks, added: &self.added_replies }
    }

    /// Takes back what calls that were given up have left. One load if there are none.
    #[inline]
    fn sweep(&self) {
        if self.given_up.count() == 0 {
            return;
        }
        for left in self.given_up.take_finished(&self.lane.slots, |id| self.tell_cancelled(id)) {
            if let Some((place, block)) = left.request
                && let Some(arena) = self.requests().at(place)
            {
                arena.reclaim(block);
            }
            // A reply that nobody waited for: the message that brings its place may still be on the socket.
            if let Some((place, block)) = left.reply
                && let Ok(arena) = self.reply_arena(place)
            {
                arena.discard(block);
            }
            self.tasks.line.call_first();
        }
    }

    #[inline]
    fn acquire(&self, until_ns: Option<u64>) -> Result<Call<'_>, Status> {
        self.sweep();
        let slots = &self.lane.slots;
        match slots.acquire() {
            Some(call) => Ok(call),
            None => {
                self.waiting.acquire(slots, until_ns, || self.sweep(), &self.given_up).ok_or_else(|| self.no_slot())
            }
        }
    }

    #[cold]
    fn no_slot(&self) -> Status {
        if !self.is_open() {
            return self.unavailable(Outcome::NotRun, "ended before the call was sent");
        }
        let abandoned = self.given_up.count();
        let (code, why) = if abandoned > 0 {
            (Code::ResourceExhausted, format!("{abandoned} of them were given up and are still with the service"))
        } else {
            (Code::DeadlineExceeded, "all were in flight until the deadline".into())
        };
        Status::new(code, Outcome::NotRun, format!("no free call slot towards `{}`: {why}", self.name))
    }

    /// A cell for the request. There is one for each slot, so only cells that were taken back or are held by stopped
    /// threads can make this wait.
    #[inline]
    fn claim(&self, until_ns: Option<u64>) -> Result<Claim<'_>, Status> {
        loop {
            match self.lane.requests.try_claim() {
                Ok(claim) => return Ok(claim),
                Err(Refused::Full) => self.wait_for_a_cell(until_ns)?,
                Err(_) => return Err(self.broken("a request cell")),
            }
        }
    }

    #[cold]
    fn wait_for_a_cell(&self, until_ns: Option<u64>) -> Result<(), Status> {
        if !self.is_open() {
            return Err(self.unavailable(Outcome::NotRun, "ended before the call was sent"));
        }
        if until_ns.is_some_and(|until| clock::kernel_ns() >= until) {
            let text = format!("no free request cell towards `{}` until the deadline", self.name);
            return Err(Status::new(Code::DeadlineExceeded, Outcome::NotRun, text));
        }
        // What fills the ring are frames to be stepped over: the server does so when it looks. It needs a moment for that,
        // and may be stopped: whoever rings without a pause takes the processor from it, and rings for nothing.
        self.lane.ring();
        std::thread::sleep(LOOK_AGAIN);
        Ok(())
    }

    /// A block for a request that is too large for a cell, filled.
    #[cold]
    fn fill_block(&self, request: &dyn Encode, len: usize, until_ns: Option<u64>) -> Result<(u8, Block<'_>), Status> {
        let (place, mut block) = match self.requests().allocate(len) {
            Some(found) => found,
            None => self.grow_requests(len, until_ns)?,
        };
        encode_block(request, &mut BlockSink(&mut block)).map_err(|error| error.into_status(Outcome::NotRun))?;
        Ok((place, block))
    }

    /// Asks the server for a segment with room for `len` bytes. Some system calls; for the first requests of a size.
    fn grow_requests(&self, len: usize, until_ns: Option<u64>) -> Result<(u8, Block<'_>), Status> {
        let not_run = |error: shm_ring::Error| errors::not_run(&error);
        let no_room = |why: &str| {
            let text = format!("no room for a request of {len} bytes towards `{}`: {why}", self.name);
            Status::new(Code::ResourceExhausted, Outcome::NotRun, text)
        };
        let block = block_for(len).ok_or_else(|| no_room("larger than any segment"))? as u64;
        let until = Instant::now() + left(until_ns);
        loop {
            // In short turns: other threads wait for messages too, and whoever reads takes them in for all.
            let mut socket = self.lock_socket();
            if let Some(found) = self.requests().allocate(len) {
                return Ok(found);
            }
            if let Some(at) = socket.refused.iter().position(|(refused, _)| *refused == block) {
                return Err(no_room(&socket.refused.swap_remove(at).1));
            }
            let patience = until.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                // The answer may still come, and is of use to whoever asks next.
                let text = format!("no room for a request of {len} bytes towards `{}` until the deadline", self.name);
                return Err(Status::new(Code::DeadlineExceeded, Outcome::NotRun, text));
            }
            if !socket.asked.contains(&block) {
                self.socket.send(&FromClient::Grow { len: block }.to_bytes(), &[]).map_err(not_run)?;
                socket.asked.push(block);
            }
            let received = self.socket.receive_within(patience.min(TURN));
            if let Some(received) = received.map_err(|error| self.lost(&error, Outcome::NotRun))? {
                self.install(&mut socket, &received).map_err(|error| self.lost(&error, Outcome::NotRun))?;
            }
        }
    }

    fn lock_socket(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a message that came beside the calls.
    fn install(&self, socket: &mut Reading, received: &Received) -> Result<(), shm_ring::Error> {
        let bad = |what: String| shm_ring::Error::BadMessage { during: "growing", what };
        let message = FromServer::read(&received.bytes).map_err(|error| bad(error.to_string()))?;
        let descriptor = || match &received.fds[..] {
            [fd] => Ok(fd.as_fd()),
            fds => Err(bad(format!("{} descriptors instead of one", fds.len()))),
        };
        match message {
            FromServer::RequestSegment { len, place } => {
                socket.is_answered(len)?;
                let opened = Segment::open(descriptor()?).and_then(|segment| ArenaOwner::over(&segment));
                match opened {
                    Ok(arena) => {
                        if !self.added_requests.put(place, arena) {
                            return Err(bad(format!("place {place} is taken")));
                        }
                    }
                    // Nobody but us would use it.
                    Err(error @ shm_ring::Error::ResourceExhausted { .. }) => {
                        socket.refused.push((len, error.to_string()));
                    }
                    Err(error) => return Err(error),
                }
            }
            FromServer::NoRequestSegment { len, message } => {
                socket.is_answered(len)?;
                // For one of those who wait; the others ask again.
                socket.refused.retain(|(refused, _)| *refused != len);
                socket.refused.push((len, message));
            }
            FromServer::Kept { number } => socket.answer(number, Ok(())),
            FromServer::NotKept { number, message } => socket.answer(number, Err(message)),
            FromServer::ReplySegment { place } => {
                let reader = match self.lane.returned(index_of(place)) {
                    Some(returned) => ArenaReader::over_read_only(&ReadOnly::open(descriptor()?)?, returned)?,
                    None => ArenaReader::over(&Segment::open(descriptor()?)?)?,
                };
                if !self.added_replies.put(place, reader) {
                    return Err(bad(format!("place {place} is taken")));
                }
            }
            other => return Err(bad(format!("{other:?}"))),
        }
        Ok(())
    }

    /// The arena a reply lies in. If it is not known yet, the message that brings it is on the socket.
    fn reply_arena(&self, place: u8) -> Result<&ArenaReader, Status> {
        if let Some(arena) = self.replies().at(place) {
            return Ok(arena);
        }
        let mut reading = self.lock_socket();
        while self.replies().at(place).is_none() {
            let installed = self.socket.try_receive().and_then(|received| match received {
                // Sent before the reply was finished, so it would be here.
                None => Err(shm_ring::Error::Corrupt { what: "reply's place", found: place.into(), at: 0 }),
                Some(received) => self.install(&mut reading, &received),
            });
            installed.map_err(|error| self.lost(&error, Outcome::Ran))?;
        }
        drop(reading);
        self.replies().at(place).ok_or_else(|| self.broken("the place of a reply"))
    }

    /// Hands the reply to its reader and gives its memory back.
    #[inline]
    fn deliver(&self, call: &Call<'_>, header: ReplyHeader, reply: &mut dyn Decode) -> Result<(), Status> {
        let len = header.len as usize;
        let mut inline = Reply::new();
        if header.place == 0 {
            if len > inline.bytes().len() {
                return Err(self.broken("the length of a reply"));
            }
            call.read(&mut inline.words[..len.div_ceil(8)]);
            return self.read_reply(header, &inline.bytes()[..len], reply);
        }
        call.read(&mut inline.words[..1]);
        let at = BlockRef::from_word(inline.words[0]);
        let arena = self.reply_arena(header.place)?;
        if self.trust.is_isolated() {
            return self.deliver_a_copy(arena, at, header, reply);
        }
        // The block goes back when this is dropped, even by a reader that panics.
        let bytes = trust::reply_in_place(arena, at, len).map_err(|error| self.broken(&error.to_string()))?;
        self.read_reply(header, &bytes, reply)
    }

    /// As [`deliver`](Self::deliver), of what is in a block and may be written by anybody.
    #[cold]
    fn deliver_a_copy(
        &self,
        arena: &ArenaReader,
        at: BlockRef,
        header: ReplyHeader,
        reply: &mut dyn Decode,
    ) -> Result<(), Status> {
        let len = header.len as usize;
        // A length that no block has makes no room.
        arena.admit(at, len).map_err(|error| self.broken(&error.to_string()))?;
        with_callers_room(|copy| {
            let room = copy.room(len);
            let copied = room.map(|room| (arena.copy_out(at, room), room));
            arena.discard(at);
            let (copied, room) = copied.map_err(|error| errors::no_memory(len, &error, Outcome::Ran))?;
            copied.map_err(|error| self.broken(&error.to_string()))?;
            self.read_reply(header, room, reply)
        })
    }

    #[inline]
    fn read_reply(&self, header: ReplyHeader, bytes: &[u8], reply: &mut dyn Decode) -> Result<(), Status> {
        match Ending::from_tag(header.tag) {
            Some(Ending { code: Code::Ok, .. }) => match self.assurance {
                None => reply.decode(bytes),
                Some(assurance) => reply.decode_assured(bytes, assurance),
            }
            .map_err(|status| status.with_outcome(Outcome::Ran)),
            Some(Ending { code, outcome, is_detailed }) => {
                let payload = &bytes[..bytes.len().min(MAX_STATUS_BYTES)];
                Err(Status::from_failure(code, outcome, is_detailed, payload))
            }
            None => Err(self.broken("the tag of a reply")),
        }
    }

    /// A message, or what came with it, could not be taken in: what it would have told is not known from now on. The next
    /// call connects anew.
    #[cold]
    fn lost(&self, error: &shm_ring::Error, outcome: Outcome) -> Status {
        match error {
            // The watcher has the same news, and gives a death a moment to show: to end here by the hang-up alone would
            // tell the other callers less than can be known.
            shm_ring::Error::Closed { .. } => {
                if self.socket.peer().is_dead() {
                    self.end(true);
                }
            }
            shm_ring::Error::ResourceExhausted { .. } => self.end(false),
            _ => return self.broken(&error.to_string()).with_outcome(outcome),
        }
        let text = format!("connection to `{}` (process {}) is given up: {error}", self.name, self.socket.peer().pid);
        Status::new(errors::not_run(error).code(), outcome, text)
    }

    /// The peer broke the protocol: nothing more can be believed.
    #[cold]
    fn broken(&self, what: &str) -> Status {
        self.end(false);
        let text = format!("`{}` (process {}) broke the protocol: {what}", self.name, self.socket.peer().pid);
        Status::new(Code::Internal, Outcome::MayHaveRun, text)
    }

    /// The connection is the parent's, who goes on with it.
    #[cold]
    fn forked(&self) -> Status {
        let text = format!(
            "the connection to `{}` belongs to the process that forked this one (process {}): connect again in the child",
            self.name,
            std::process::id()
        );
        Status::new(Code::FailedPrecondition, Outcome::NotRun, text)
    }

    #[cold]
    fn unavailable(&self, outcome: Outcome, what: &str) -> Status {
        let text = format!("connection to `{}` (process {}) {what}", self.name, self.socket.peer().pid);
        Status::new(Code::Unavailable, outcome, text)
    }

    /// What a caller is told whose call got no reply before the end.
    #[cold]
    fn unanswered(&self, position: u64) -> Status {
        // ORDERING: Acquire, pairs with the Release in `end`.
        let died = self.server_died.load(Ordering::Acquire);
        // "Closed" is read before the own cell: whatever was taken before the server closed is seen as taken.
        let takes_no_more = died || self.lane.server_has_closed();
        let outcome = if takes_no_more && self.lane.requests.is_untaken(position) {
            Outcome::NotRun
        } else {
            Outcome::MayHaveRun
        };
        self.unavailable(outcome, if died { "ended: the process died" } else { "ended" })
    }

    /// What a caller is told that did not wait for the end.
    #[cold]
    fn not_awaited(&self, over: Over, method: MethodIndex, started_ns: u64) -> Status {
        let method = self.descriptor.method(method).map_or("?", |method| &method.name);
        let waited = Duration::from_nanos(clock::now_ns().saturating_sub(started_ns));
        let (code, why) = match over {
            Over::TimedOut => (Code::DeadlineExceeded, ""),
            Over::Cancelled => (Code::Cancelled, ": nobody waits any more for the call that made it"),
            Over::NoWorkerLeft => {
                (Code::ResourceExhausted, ": no worker was left that could have answered calls which come back")
            }
        };
        let text = format!("no reply to `{method}` from `{}` after {waited:?}{why}", self.name);
        Status::new(code, Outcome::MayHaveRun, text)
    }
}

impl Transport for LocalConnection {
    fn descriptor(&self) -> &ServiceDescriptor {
        &self.descriptor
    }

    #[inline]
    fn is_alive(&self) -> bool {
        self.is_open()
    }

    fn call(&self, call: &CallRequest<'_>, reply: &mut dyn Decode, times: &mut CallTimes) -> Result<(), Status> {
        let CallRequest { method, timeout, .. } = *call;
        if !self.home.is_here() {
            return Err(self.forked());
        }
        times.started_ns = clock::now_ns();
        times.ended_ns = times.started_ns;
        let until_ns = until(timeout, times.started_ns);
        let envelope = envelope_of(call, None)?;
        let enveloped = envelope.as_ref().map(|envelope| Enveloped::new(call.message, envelope));
        let request: &dyn Encode = match &enveloped {
            None => call.message,
            Some(enveloped) => enveloped,
        };
        let mut cell = Cell::new();
        let not_run = |error: service_core::EncodeError| error.into_status(Outcome::NotRun);
        let (payload, mut large) = match encode_small(request, cell.payload_mut()).map_err(not_run)? {
            Encoded::Inline(len) => (Payload::Inline(len), None),
            Encoded::Large(len) => {
                let large = self.place_large(request, len, until_ns)?;
                (large.payload(), Some(large))
            }
        };
        let mut call = self.acquire(until_ns)?;
        let mut claim = self.claim(until_ns)?;
        let body = cell.seal(
            Meta { call: call.id(), deadline_ns: until_ns, method, enveloped: envelope.is_some(), cancels: false },
            payload,
        );
        call.arm();
        let position = claim.commit(KIND_CALL, (body.len() * 8) as u16, body);
        if let Some(large) = &mut large {
            large.sent();
        }
        let rang = self.lane.announce();
        let mut rang = rang == Rang::Yes;
        let waited = nested::wait(&call, until_ns, &self.spin, || {
            // The polling worker may be in a handler that takes long: then another one must be woken. Later, what was rung
            // may have been taken away by another client, which can write the ready set.
            if !rang && self.lane.requests.is_untaken(position) {
                self.lane.ring();
            }
            rang = false;
        });
        let waited = match waited {
            Ok(waited) => waited,
            Err(over) => match call.abandon() {
                Ok(abandoned) => {
                    // The server knows the deadline.
                    let is_told = over == Over::TimedOut || self.tell_cancelled(abandoned.id());
                    self.given_up.add(abandoned, large.and_then(Large::lend), is_told);
                    times.ended_ns = clock::now_ns();
                    return Err(self.not_awaited(over, method, times.started_ns));
                }
                Err((back, came_first)) => {
                    call = back;
                    came_first
                }
            },
        };
        times.ended_ns = clock::now_ns();
        let result = match waited {
            Waited::Done(header) => self.deliver(&call, header, reply),
            Waited::Ended | Waited::TimedOut => {
                // A living service may still read the block; it ends with the connection.
                let _lent = large.and_then(Large::lend);
                Err(self.unanswered(position))
            }
        };
        drop(call);
        self.waiting.tell();
        if !self.tasks.line.is_empty() {
            self.tasks.line.call_first();
        }
        result
    }

    fn poll_start(
        &self,
        cx: &mut Wakers<'_>,
        call: &CallRequest<'_>,
        place: &mut Place,
    ) -> Poll<Result<Ticket, Status>> {
        self.poll_start_call(cx, call, place)
    }

    fn start_all(&self, calls: &[CallRequest<'_>], tickets: &mut Vec<Ticket>) -> Result<(), Status> {
        self.start_calls(calls, tickets)
    }

    fn poll(&self, cx: &mut Wakers<'_>, ticket: &Ticket, reply: &mut (dyn Decode + Send)) -> Poll<Result<(), Status>> {
        self.poll_call(cx, ticket, reply)
    }

    fn wait(&self, ticket: Ticket, reply: &mut dyn Decode) -> Result<(), Status> {
        self.wait_for_call(&ticket, reply)
    }

    fn open(&self, call: &CallRequest<'_>, shape: Shape) -> Result<Opened, Status> {
        self.open_call(call, shape)
    }

    fn cancel(&self, ticket: Ticket) {
        self.cancel_call(&ticket);
    }
}

/// When a call's time is up that began at `started_ns`. Never zero, the frame's word for "none".
#[inline]
fn until(timeout: Option<Duration>, started_ns: u64) -> Option<u64> {
    timeout.map(|timeout| started_ns.saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)).max(1))
}

/// What goes beside the arguments; usually nothing.
#[inline]
fn envelope_of(call: &CallRequest<'_>, streams: Option<u64>) -> Result<Option<Sealed>, Status> {
    if call.metadata.is_none() && call.form == Form::Typed && streams.is_none() {
        return Ok(None);
    }
    let metadata = call.metadata.cloned().unwrap_or_default();
    let envelope = Envelope { metadata, form: call.form, streams };
    if envelope.is_empty() { Ok(None) } else { envelope.seal().map(Some) }
}

fn left(until_ns: Option<u64>) -> Duration {
    until_ns.map_or(CONNECT, |until| Duration::from_nanos(until.saturating_sub(clock::kernel_ns())).min(CONNECT))
}

/// What the service says to a client that it lets in.
struct Welcome {
    index: u32,
    granted: u8,
    accepts_sealed: bool,
    descriptor: ServiceDescriptor,
}

fn read_welcome(name: &str, received: &Received) -> Result<Welcome, Status> {
    match FromServer::read(&received.bytes) {
        Ok(FromServer::Welcome { lane, trust, accepts_sealed, descriptor }) => {
            Ok(Welcome { index: lane, granted: trust, accepts_sealed, descriptor })
        }
        Ok(FromServer::Refused { code, message }) => {
            let code = Code::from_u8(code).unwrap_or(Code::Unknown);
            Err(Status::new(code, Outcome::NotRun, message))
        }
        Ok(other) => {
            let text = format!("`{name}` answered the handshake with {other:?}");
            Err(Status::new(Code::Internal, Outcome::NotRun, text))
        }
        Err(error) => {
            let text = format!("`{name}` cannot be understood: {error}");
            Err(Status::new(Code::FailedPrecondition, Outcome::NotRun, text))
        }
    }
}

/// The lane that came with a welcome, and the rope of its tasks.
pub(crate) fn open_lane(
    received: Received,
    index: u32,
    trust: Trust,
) -> Result<(ClientLane, Listener), shm_ring::Error> {
    let wrong = |fds: Vec<OwnedFd>| {
        let what = format!("{} descriptors with a lane in the mode `{trust}`", fds.len());
        shm_ring::Error::BadMessage { during: "the handshake", what }
    };
    if trust.is_isolated() {
        let [up, down, rope, news] = <[OwnedFd; 4]>::try_from(received.fds).map_err(wrong)?;
        let (up, down) = (Segment::open(up.as_fd())?, ReadOnly::open(down.as_fd())?);
        return Ok((ClientLane::apart(&up, &down, Ringer::from_fd(rope)?)?, Listener::from_fd(news)?));
    }
    let [lane, ready, news] = <[OwnedFd; 3]>::try_from(received.fds).map_err(wrong)?;
    let ready = ReadySet::new(&Segment::open(ready.as_fd())?);
    Ok((ClientLane::new(&Segment::open(lane.as_fd())?, ready, index)?, Listener::from_fd(news)?))
}

/// The socket's end: the connection is over, and perhaps the process.
struct HangUp(Weak<LocalConnection>);

impl Watched for HangUp {
    fn on_event(&self, event: Event) -> Next {
        let Some(connection) = self.0.upgrade() else { return Next::Stop };
        let died = connection.socket.peer().is_dead();
        // A server that said that it takes no more has nothing to add. Otherwise its death may be about to show, and
        // callers are told more exactly a moment later.
        let sure = died || event == Event::Expired || connection.lane.server_has_closed() || !connection.is_open();
        if !sure {
            return Next::ExpireAt(clock::kernel_ns().saturating_add(DEATH_NS));
        }
        connection.end(died);
        Next::Stop
    }
}

/// The process's end, by the kernel's word.
struct Death(Weak<LocalConnection>);

impl Watched for Death {
    fn on_event(&self, _event: Event) -> Next {
        if let Some(connection) = self.0.upgrade() {
            connection.end(true);
        }
        Next::Stop
    }
}
