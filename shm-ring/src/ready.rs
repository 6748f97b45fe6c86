//! The doorbell of a consumer with many lanes: which lanes have work, and how to wake the consumer.
//!
//! All of it is a hint: the truth is in the lanes' own cells. A segment of its own, shared by the consumer and all its
//! producers, holds
//!
//! | byte | word | written by |
//! |---|---|---|
//! | 128 | `mode`: awake, asleep on the bell, or asleep on an eventfd | consumer |
//! | 256 | `bell`: count of rings; its low half is the futex | whoever rings |
//! | 384 | the account of a queue's consumer: see `account.rs` | consumer |
//! | 512.. | ready bits, one per lane | producers set, consumer clears |
//!
//! and each lane has a word `watch` (HOT: the consumer polls this lane; COLD: tell it), written by the consumer.
//!
//! A frame is announced by store, fence, look at `watch`; the consumer parks by store to `watch`, fence, look at the
//! cells. Either the producer sees COLD or the consumer sees the frame; the same between the ready bit and `mode`. Whose
//! fence the first one is, the maker of the set decides (see `barrier.rs`).

mod relay;

use std::sync::Arc;

pub use relay::{Listener, Pulled, Relay, Ringer};

use crate::account::ACCOUNT_BYTES;
#[cfg(not(loom))]
use crate::account::Account;
use crate::barrier::Fencing;
use crate::error::Error;
use crate::event::EventFd;
use crate::futex::Woken;
use crate::peer::PeerWord;
use crate::raw::LINE_PAIR;
use crate::segment::{HEADER_BYTES, Layout, Memory, Segment};
use crate::sync::{Ordering, fence};

/// Most lanes of one consumer.
pub const MAX_LANES: u32 = 16_384;

pub(crate) const MODE_AT: usize = HEADER_BYTES;
pub(crate) const BELL_AT: usize = MODE_AT + LINE_PAIR;
pub(crate) const ACCOUNT_AT: usize = BELL_AT + LINE_PAIR;
pub(crate) const BITS_AT: usize = ACCOUNT_AT + ACCOUNT_BYTES;
const _: () = assert!(MODE_AT == 128 && BELL_AT == 256 && ACCOUNT_AT == 384 && BITS_AT == 512);

pub(crate) const AWAKE: u64 = 0;
pub(crate) const ASLEEP: u64 = 1;
pub(crate) const ASLEEP_ON_EVENT: u64 = 2;

const COLD: u64 = 0;
pub(crate) const HOT: u64 = 1;

/// Shape of a ready set's segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyLayout {
    lanes: u32,
    fencing: Fencing,
}

impl ReadyLayout {
    /// Room for `lanes` lanes, at least one and at most [`MAX_LANES`].
    pub fn new(lanes: u32) -> Self {
        Self { lanes: lanes.clamp(1, MAX_LANES), fencing: Fencing::Both }
    }

    /// For lanes whose producers send streams: they do without a fence for each frame where the system lets the consumer
    /// fence for them when it stops polling, which then costs it some 0.5 µs.
    #[must_use]
    pub fn for_streams(self) -> Self {
        Self { fencing: Fencing::best(), ..self }
    }
}

#[cfg(not(loom))]
impl ReadyLayout {
    /// From a header's parameters, for whoever only looks and takes no part in the way of fencing.
    pub(crate) fn for_onlooker(params: &[u64; 8]) -> Result<Self, Error> {
        let mut params = *params;
        params[1] = Fencing::Both.to_param();
        Self::from_params(&params)
    }

    pub(crate) fn lanes(&self) -> u32 {
        self.lanes
    }
}

impl Layout for ReadyLayout {
    const KIND: u64 = 0x0072_6561_6479; // "ready"

    fn params(&self) -> [u64; 8] {
        [self.lanes.into(), self.fencing.to_param(), 0, 0, 0, 0, 0, 0]
    }

    fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
        let fencing = Fencing::from_param(params[1]).ok_or(Error::BadSegment {
            what: "way of fencing",
            found: params[1],
            expected: Fencing::best().to_param(),
        })?;
        match u32::try_from(params[0]) {
            Ok(lanes) if (1..=MAX_LANES).contains(&lanes) => Ok(Self { lanes, fencing }),
            _ => Err(Error::BadSegment { what: "number of lanes", found: params[0], expected: MAX_LANES.into() }),
        }
    }

    fn bytes(&self) -> usize {
        (BITS_AT + self.lanes.div_ceil(64) as usize * 8).next_multiple_of(LINE_PAIR)
    }
}

/// A lane's word by which the consumer says whether it polls the lane.
#[derive(Debug, Clone, Copy)]
pub struct Watch<'a>(pub(crate) PeerWord<'a>);

impl Watch<'_> {
    /// Consumer: "I poll this lane." To be followed by a look at its cells.
    pub fn heat(self) {
        // ORDERING: Relaxed: a producer that still reads COLD rings once too often, which is harmless.
        self.0.store(HOT, Ordering::Relaxed);
    }

    /// Consumer: "Tell me." Worth something only with the fence and the scan of [`ReadySet::park`] or
    /// [`ReadySet::cool`] after it.
    pub fn cool(self) {
        // ORDERING: Relaxed: ordered by the fence that follows in `park` and `cool`.
        self.0.store(COLD, Ordering::Relaxed);
    }
}

/// What came of an attempt to park.
#[derive(Debug)]
pub enum Park<T> {
    /// The scan found this; the consumer is awake.
    Found(T),
    /// A ready bit is set; the consumer is awake.
    Ready,
    /// Nothing anywhere: sleep with this ticket.
    Sleep(Bell),
}

/// The bell's count at a moment before the last look: a sleep with it ends at once if it rang since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bell(u32);

/// Whether an announcement woke somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rang {
    /// The consumer was told: ready bit, bell and wake.
    Yes,
    /// It is awake and will see the frame by itself.
    No,
}

/// The set, as consumer and producers hold it.
#[derive(Debug, Clone)]
pub struct ReadySet {
    segment: Arc<Memory>,
    layout: ReadyLayout,
    event: Option<EventFd>,
}

impl ReadySet {
    /// The set in a segment of its own.
    pub fn new(segment: &Segment<ReadyLayout>) -> Self {
        Self { segment: segment.memory(), layout: *segment.layout(), event: None }
    }

    /// With the descriptor that a consumer may sleep on instead of the bell. Consumer and producers have the same.
    #[must_use]
    pub fn with_event(self, event: EventFd) -> Self {
        Self { event: Some(event), ..self }
    }

    /// Lanes that fit.
    pub fn lanes(&self) -> u32 {
        self.layout.lanes
    }

    /// Where the consumer of a queue tells of itself.
    #[cfg(not(loom))]
    pub(crate) fn account(&self) -> Account {
        Account::new(Arc::clone(&self.segment), ACCOUNT_AT)
    }

    fn mode(&self) -> PeerWord<'_> {
        PeerWord::at(self.segment.region(), MODE_AT)
    }

    fn bits(&self, lane: u32) -> (PeerWord<'_>, u64) {
        let at = BITS_AT + (lane / 64) as usize * 8;
        (PeerWord::at(self.segment.region(), at), 1 << (lane % 64))
    }

    /// Producer: tells the consumer of a frame that was just committed to `lane`. While the consumer polls: a fence
    /// and a load, no system call.
    ///
    /// # Panics
    /// If `lane` is not below [`lanes`](Self::lanes).
    #[inline]
    pub fn announce(&self, lane: u32, watch: Watch<'_>) -> Rang {
        if cfg!(not(weaken = "announce_without_fence")) {
            // ORDERING: a fence between the commit and the load of `watch`, pairs with the one in `park` and `cool`
            // between the store of COLD and the scan. Without either, the load can miss COLD while the scan misses the
            // frame: a lost wake-up (`announce_without_fence`).
            self.layout.fencing.publisher();
        }
        if watch.0.load(Ordering::Relaxed).decode(|word| word == HOT) {
            return Rang::No;
        }
        self.set_bit(lane);
        if cfg!(not(weaken = "bit_without_fence")) {
            // ORDERING: SeqCst fence between the bit and the load of `mode`, pairs with the same fence in `park`
            // between the store of ASLEEP and the look at the bits.
            fence(Ordering::SeqCst);
        }
        match self.mode().load(Ordering::Relaxed).decode(|word| word) {
            ASLEEP => {
                self.bump();
                self.wake_one();
            }
            ASLEEP_ON_EVENT => {
                self.bump();
                self.signal();
            }
            _ => return Rang::No,
        }
        Rang::Yes
    }

    fn signal(&self) {
        if let Some(event) = &self.event {
            event.signal();
        }
    }

    /// Rings for a lane whatever `watch` and `mode` say: for a frame that is still untaken when its sender, or a
    /// worker that saw it, has reason to think that the polling worker is busy. One system call.
    pub fn ring(&self, lane: u32) {
        self.set_bit(lane);
        self.bump();
        self.wake_one();
        self.signal();
    }

    fn set_bit(&self, lane: u32) {
        assert!(lane < self.layout.lanes, "lane {lane} of {}", self.layout.lanes);
        let (word, bit) = self.bits(lane);
        // ORDERING: Release, pairs with the AcqRel swap in `take_ready`: whoever takes the bit sees the frame.
        word.fetch_or(bit, Ordering::Release);
    }

    /// Counts a ring without waking anybody: a consumer that has read the bell before will not fall asleep.
    pub fn bump(&self) {
        // ORDERING: Release, pairs with the Acquire load in `bell`: whoever read the new count sees the bit. The bit
        // comes before the bell, or a consumer could look at the bits, then sleep on the new count.
        PeerWord::at(self.segment.region(), BELL_AT).fetch_add(1, Ordering::Release);
    }

    /// Wakes one sleeper, after [`bump`](Self::bump). One system call.
    pub fn wake_one(&self) {
        self.segment.region().futex_wake(BELL_AT, 1);
    }

    /// Wakes all sleepers.
    pub fn ring_all(&self) {
        self.bump();
        self.segment.region().futex_wake(BELL_AT, i32::MAX as u32);
        self.signal();
    }

    /// Consumer: the bell's count, to be read before the last look that precedes a sleep.
    pub fn bell(&self) -> Bell {
        // ORDERING: Acquire, pairs with the Release in `bump`.
        PeerWord::at(self.segment.region(), BELL_AT).load(Ordering::Acquire).decode(|count| Bell(count as u32))
    }

    /// Consumer: clears the ready bits of lanes below `used` (rounded up to 64) and calls `f` with each lane whose bit
    /// was set. Lanes are heated and looked at after this, never before. A load per 64 lanes if there is nothing.
    #[inline]
    pub fn take_ready(&self, used: u32, mut f: impl FnMut(u32)) {
        for base in (0..used.min(self.layout.lanes)).step_by(64) {
            let (word, _) = self.bits(base);
            // Most looks find nothing, and a load leaves the line where it is.
            if word.load(Ordering::Relaxed).decode(|bits| bits == 0) {
                continue;
            }
            // ORDERING: AcqRel: Acquire pairs with the Release in `set_bit`; Release keeps the clearing before the
            // looks that follow, so that a frame committed after them sets the bit anew.
            let mut bits = word.swap(0, Ordering::AcqRel).decode(|bits| bits);
            while bits != 0 {
                let lane = base + bits.trailing_zeros();
                bits &= bits - 1;
                if lane < self.layout.lanes {
                    f(lane);
                }
            }
        }
    }

    /// Consumer: whether any ready bit of lanes below `used` is set.
    #[inline]
    pub fn any_ready(&self, used: u32) -> bool {
        (0..used.min(self.layout.lanes))
            .step_by(64)
            .any(|base| self.bits(base).0.load(Ordering::Relaxed).decode(|bits| bits != 0))
    }

    /// Consumer: says that it sleeps, and looks once more at everything. The order of its steps is the whole point.
    ///
    /// `cool` stores COLD in every lane that was hot ([`Watch::cool`]); `scan` looks at every cell of those lanes, past
    /// held claims, and gives what it found.
    pub fn park<T>(&self, cool: impl FnOnce(), scan: impl FnOnce() -> Option<T>) -> Park<T> {
        self.park_as(ASLEEP, cool, scan)
    }

    /// As [`park`](Self::park), for a consumer that then waits until its eventfd is readable. To be followed by
    /// [`awake`](Self::awake) when it is.
    pub(crate) fn park_on_event<T>(&self, cool: impl FnOnce(), scan: impl FnOnce() -> Option<T>) -> Park<T> {
        self.park_as(ASLEEP_ON_EVENT, cool, scan)
    }

    fn park_as<T>(&self, mode: u64, cool: impl FnOnce(), scan: impl FnOnce() -> Option<T>) -> Park<T> {
        cool();
        let bell = self.bell();
        self.mode().store(mode, Ordering::Relaxed);
        if cfg!(not(weaken = "park_without_fence")) {
            // ORDERING: SeqCst fence between the stores of COLD and ASLEEP and the looks that follow, pairs with both
            // fences in `announce`. Without it a frame is committed that nobody sees (`park_without_fence`).
            self.layout.fencing.sleeper();
        }
        if let Some(found) = scan() {
            self.awake();
            return Park::Found(found);
        }
        if self.any_ready(self.layout.lanes) {
            self.awake();
            return Park::Ready;
        }
        Park::Sleep(bell)
    }

    /// Consumer: takes back what [`park`](Self::park) said. To be followed by a look at the ready bits.
    pub fn awake(&self) {
        self.mode().store(AWAKE, Ordering::Relaxed);
        if cfg!(not(weaken = "awake_without_fence")) {
            // ORDERING: SeqCst fence between AWAKE and the looks at the bits that follow, pairs with the second fence
            // in `announce`. Without it a producer reads ASLEEP, rings, and relies on it, while we miss its bit and
            // run a handler with nobody else awake (`awake_without_fence`).
            fence(Ordering::SeqCst);
        }
    }

    /// Consumer: stops polling one lane while it goes on with others. If `scan` finds something the lane stays hot.
    pub fn cool<T>(&self, watch: Watch<'_>, scan: impl FnOnce() -> Option<T>) -> Option<T> {
        watch.cool();
        // ORDERING: SeqCst fence, pairs with the first fence in `announce`, as in `park`.
        self.layout.fencing.sleeper();
        let found = scan();
        if found.is_some() {
            watch.heat();
        }
        found
    }

    /// Sleeps until the bell rings after `bell` was read, or until `until_ns` on the monotonic clock.
    pub fn sleep(&self, bell: Bell, until_ns: Option<u64>) -> Woken {
        self.segment.region().futex_wait(BELL_AT, bell.0, until_ns)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn set() -> ReadySet {
        ReadySet::new(&Segment::heap(ReadyLayout::new(130), 1))
    }

    /// The last word of the set's own segment, which no bit of 130 lanes reaches.
    fn watch(set: &ReadySet) -> Watch<'_> {
        Watch(PeerWord::at(set.segment.region(), BITS_AT + LINE_PAIR - 8))
    }

    fn ready(set: &ReadySet) -> Vec<u32> {
        let mut lanes = Vec::new();
        set.take_ready(set.lanes(), |lane| lanes.push(lane));
        lanes
    }

    /// A bell that rings past 2^32, of which the consumer compares the low half only, lets it fall asleep over no ring.
    #[test]
    fn bell_wrap_u32() {
        let set = set();
        let bell = || PeerWord::at(set.segment.region(), BELL_AT);
        bell().store(u64::from(u32::MAX) - 7, Ordering::Relaxed);
        for _ in 0..64 {
            let before = set.bell();
            set.ring(3);
            assert_ne!(set.bell(), before);
            assert_eq!(set.sleep(before, None), Woken::Look);
        }
        assert!(bell().load(Ordering::Relaxed).decode(|count| count) > u64::from(u32::MAX));
    }

    #[test]
    fn a_header_gives_the_shape_it_was_made_of_and_absurd_ones_are_refused() {
        for (lanes, bytes) in [(1, 640), (130, 640), (MAX_LANES, 2560)] {
            let layout = ReadyLayout::new(lanes).for_streams();
            assert_eq!((layout.lanes(), layout.bytes()), (lanes, bytes));
            assert_eq!(layout.params()[..2], [lanes.into(), Fencing::best().to_param()]);
            assert_eq!(ReadyLayout::from_params(&layout.params()).unwrap(), layout);
        }
        for lanes in [0, u64::from(MAX_LANES) + 1, 1 << 32] {
            let refused = ReadyLayout::from_params(&[lanes, Fencing::Both.to_param(), 0, 0, 0, 0, 0, 0]);
            assert!(matches!(refused, Err(Error::BadSegment { found, .. }) if found == lanes), "{refused:?}");
        }
    }

    #[test]
    fn a_bit_of_a_lane_that_is_not_there_is_nobodys() {
        let set = set();
        let (word, _) = set.bits(128);
        word.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(ready(&set), [128, 129]);
    }

    #[test]
    fn a_consumer_that_sleeps_on_an_eventfd_is_told_by_it_until_it_wakes() {
        let event = EventFd::new().unwrap();
        let set = set().with_event(event.clone());
        assert_eq!(set.announce(7, watch(&set)), Rang::No);
        assert!(!event.drain(), "it was awake");
        assert_eq!(ready(&set), [7]);
        assert!(matches!(set.park_on_event(|| (), || None::<()>), Park::Sleep(_)));
        assert_eq!(set.announce(7, watch(&set)), Rang::Yes);
        assert!(event.drain());
        set.awake();
        assert_eq!(set.announce(8, watch(&set)), Rang::No);
        assert_eq!(ready(&set), [7, 8]);
        for ring in [|set: &ReadySet| set.ring(9), ReadySet::ring_all] {
            let before = set.bell();
            ring(&set);
            assert_ne!(set.bell(), before);
            assert!(event.drain(), "a ring reaches it whatever it said");
        }
    }

    #[test]
    fn a_polled_lane_is_not_announced() {
        let set = set();
        watch(&set).heat();
        assert_eq!(set.announce(3, watch(&set)), Rang::No);
        assert!(ready(&set).is_empty());
    }

    #[test]
    fn a_cold_lane_sets_its_bit_and_rings_only_for_a_sleeper() {
        let set = set();
        assert_eq!(set.announce(129, watch(&set)), Rang::No);
        assert_eq!(ready(&set), [129]);
        let Park::Sleep(bell) = set.park(|| (), || None::<()>) else { panic!("nothing was there") };
        assert_eq!(set.announce(64, watch(&set)), Rang::Yes);
        assert_eq!(set.sleep(bell, None), Woken::Look);
        set.awake();
        assert_eq!(ready(&set), [64]);
    }

    #[test]
    fn a_bit_that_is_set_keeps_the_consumer_awake() {
        let set = set();
        set.announce(5, watch(&set));
        assert!(matches!(set.park(|| (), || None::<()>), Park::Ready));
    }

    #[test]
    fn a_frame_found_while_cooling_keeps_the_lane_hot() {
        let set = set();
        assert_eq!(set.cool(watch(&set), || Some(1)), Some(1));
        assert_eq!(set.announce(5, watch(&set)), Rang::No);
        assert_eq!(set.cool(watch(&set), || None::<u32>), None);
        set.announce(5, watch(&set));
        assert_eq!(ready(&set), [5]);
    }

    #[test]
    fn a_sleep_ends_at_its_deadline() {
        let set = set();
        let until = crate::clock::kernel_ns() + 2_000_000;
        assert_eq!(set.sleep(set.bell(), Some(until)), Woken::TimedOut);
        assert!(crate::clock::kernel_ns() >= until);
    }
}
