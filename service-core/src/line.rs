//! Tasks that wait for room at a transport, in the order in which they came.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// A line of tasks, shared by whoever waits and whoever makes room.
///
/// Who makes room calls the first ([`call_first`](Self::call_first)); that one leaves the line, and looks. If it finds room
/// it is done; if somebody was faster it [stands](Self::stand) where it stood before. A task that goes away with a call in
/// hand passes it on.
#[derive(Clone, Default)]
pub struct Line(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// Read by whoever makes room, so that the lock is not taken when nobody waits.
    len: AtomicUsize,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<u64, Waiter>,
    issued: u64,
    /// No time of those who wait is up before this; so that most looks need not ask each of them.
    earliest_ns: Option<u64>,
}

/// The earlier of two times, of which none is later than all.
fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

struct Waiter {
    waker: Waker,
    until_ns: Option<u64>,
}

/// One task's place in a line; empty until the task has to wait. Dropped, the place is given up.
#[derive(Default)]
pub struct Place(Option<(Line, u64)>);

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether nobody stands in the line. Costs one relaxed load.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.len.load(Ordering::Relaxed) == 0
    }

    /// Says whether somebody stands in the line, surely if he stood there before room was made: for whoever has just made
    /// it. A fence and a load.
    pub fn is_waited_for(&self) -> bool {
        // ORDERING: SeqCst fence between the room and the look at the line, pairs with the one in `stand` between the
        // place and the look for room: either the task finds the room or is found here.
        fence(Ordering::SeqCst);
        !self.is_empty()
    }

    /// Puts a task in its place, a new one at the end if it has none; says whether it is the first, who looks for room
    /// once more. `until_ns` says when it gives up, on the monotonic clock.
    pub fn stand(&self, place: &mut Place, waker: &Waker, until_ns: Option<u64>) -> bool {
        let waiter = Waiter { waker: waker.clone(), until_ns };
        let mut state = self.state();
        let (_, number) = place.0.get_or_insert_with(|| {
            state.issued += 1;
            (self.clone(), state.issued)
        });
        state.earliest_ns = earlier(state.earliest_ns, until_ns);
        let before = state.waiting.insert(*number, waiter);
        self.0.len.store(state.waiting.len(), Ordering::Relaxed);
        let is_first = state.waiting.first_key_value().is_some_and(|(first, _)| first == number);
        drop(state);
        // Outside of the lock: a waker's end may run anything.
        drop(before);
        // ORDERING: SeqCst fence, see `is_waited_for`.
        fence(Ordering::SeqCst);
        is_first
    }

    fn take(&self, which: impl FnOnce(&mut State) -> Option<Waiter>) -> Option<Waiter> {
        let mut state = self.state();
        let taken = which(&mut state);
        self.0.len.store(state.waiting.len(), Ordering::Relaxed);
        taken
    }

    /// Calls whoever has waited longest; false if nobody waits.
    pub fn call_first(&self) -> bool {
        let first = self.take(|state| state.waiting.pop_first().map(|(_, waiter)| waiter));
        first.map(|waiter| waiter.waker.wake()).is_some()
    }

    /// Calls everybody: there will be no room any more.
    pub fn call_all(&self) {
        while self.call_first() {}
    }

    /// Calls those whose time is up at `now_ns`; gives a time before which that of none of the others is. Looks at each one
    /// if the time may be up of any.
    pub fn call_late(&self, now_ns: u64) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let mut state = self.state();
        if state.earliest_ns.is_none_or(|earliest| now_ns < earliest) {
            return state.earliest_ns;
        }
        let is_late = |waiter: &Waiter| waiter.until_ns.is_some_and(|until| until <= now_ns);
        let late: Vec<u64> =
            state.waiting.iter().filter(|(_, waiter)| is_late(waiter)).map(|(number, _)| *number).collect();
        let late: Vec<Waiter> = late.iter().filter_map(|number| state.waiting.remove(number)).collect();
        self.0.len.store(state.waiting.len(), Ordering::Relaxed);
        let earliest_ns = state.waiting.values().filter_map(|waiter| waiter.until_ns).min();
        state.earliest_ns = earliest_ns;
        drop(state);
        late.into_iter().for_each(|waiter| waiter.waker.wake());
        earliest_ns
    }
}

impl Place {
    /// Says whether the task has waited before: it then may have been called.
    pub fn is_taken(&self) -> bool {
        self.0.is_some()
    }

    /// Says whether the task was called since it last stood in its place.
    pub fn is_called(&self) -> bool {
        self.0.as_ref().is_some_and(|(line, number)| !line.state().waiting.contains_key(number))
    }

    /// Gives the place up: the task has found what it waited for. A call that it had in hand is used up.
    pub fn leave(&mut self) {
        if let Some((line, number)) = self.0.take() {
            drop(line.take(|state| state.waiting.remove(&number)));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((line, number)) = self.0.take()
            && line.take(|state| state.waiting.remove(&number)).is_none()
        {
            line.call_first();
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("len", &self.0.len).finish_non_exhaustive()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.0.as_ref().map(|(_, number)| number)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A line, its tasks in their places, and how often each was called.
    fn line(untils: &[Option<u64>]) -> (Line, Vec<Place>, impl Fn() -> Vec<usize> + use<>) {
        let line = Line::default();
        let calls: Vec<_> = untils.iter().map(|_| Arc::<Calls>::default()).collect();
        let places = calls.iter().zip(untils).enumerate().map(|(i, (calls, until))| {
            let mut place = Place::default();
            assert_eq!(line.stand(&mut place, &Waker::from(Arc::clone(calls)), *until), i == 0);
            place
        });
        let places = places.collect();
        (line, places, move || calls.iter().map(|calls| calls.0.load(Ordering::Relaxed)).collect())
    }

    #[test]
    fn the_first_is_called_first_and_a_call_in_vain_costs_no_place() {
        let (line, mut places, calls) = line(&[None, None]);
        assert!(line.is_waited_for() && line.call_first());
        assert_eq!((calls(), places[0].is_called(), places[1].is_called()), (vec![1, 0], true, false));
        assert!(line.stand(&mut places[0], Waker::noop(), None), "its old place");
        assert!(line.call_first() && places[0].is_called() && !places[1].is_called());
        places[0].leave();
        assert!(line.call_first() && !line.call_first() && line.is_empty());
        assert_eq!(calls(), [1, 1]);
    }

    #[test]
    fn a_task_that_goes_away_with_a_call_in_hand_passes_it_on() {
        let (line, mut places, calls) = line(&[None, None, None]);
        line.call_first();
        drop(places.remove(0));
        assert_eq!(calls(), [1, 1, 0]);
        places.remove(0).leave();
        assert_eq!(calls(), [1, 1, 0], "it found room");
        drop(places);
        assert!(line.is_empty());
    }

    #[test]
    fn those_whose_time_is_up_are_called_and_the_next_time_is_told() {
        let (line, places, calls) = line(&[Some(5), None, Some(9), Some(4)]);
        assert_eq!(line.call_late(3), Some(4));
        assert_eq!(calls(), [0; 4]);
        assert_eq!(line.call_late(5), Some(9));
        assert_eq!(calls(), [1, 0, 0, 1]);
        line.call_all();
        assert_eq!((calls(), line.call_late(9)), (vec![1, 1, 1, 1], None));
        drop(places);
    }
}
