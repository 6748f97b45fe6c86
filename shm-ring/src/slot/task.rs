//! Calls that a task waits for.
//!
//! A thread sleeps on its slot. A task leaves its waker with the slot, in private memory, and says TASK in the state; the
//! server that replaces TASK by DONE sets the slot's bit in the finished set and, if the client wants to be told, pulls
//! the lane's rope. Whoever of the client looks at the set, a watcher thread that heard the rope or any task that is
//! polled, wakes the tasks whose bits it takes ([`ClientSlots::wake_finished`]).
//!
//! Between polls a call is in nobody's hand: its task knows its name and [takes it up again](ClientSlots::take_up).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use super::{Call, CallId, ClientSlots, DETACHED, FREE, HELD, PENDING, Seen, TASK, Waited, word};
use crate::sync::{MutexGuard, Ordering};
use crate::wait::SpinBudget;

impl ClientSlots {
    /// As [`acquire`](Self::acquire), for a call that its caller does not wait for at once: looks first behind the slot
    /// that was taken last in this way, so that many calls in flight find free slots soon.
    #[inline]
    pub fn acquire_next(&self) -> Option<Call<'_>> {
        let call = self.acquire_from(self.next.load(Ordering::Relaxed) % self.slots.count)?;
        self.next.store(call.id.slot + 1, Ordering::Relaxed);
        Some(call)
    }

    /// Whether a slot is free at this moment. Looks at each one if none is.
    pub fn has_room(&self) -> bool {
        self.private.iter().any(|private| private.hold.load(Ordering::Relaxed) == FREE)
    }

    /// Takes a call up that was [detached](Call::detach). `None` if it is over, or in somebody's hand.
    #[inline]
    pub fn take_up(&self, id: CallId) -> Option<Call<'_>> {
        let private = self.private.get(id.slot as usize)?;
        // ORDERING: Acquire, pairs with the Release in `detach`: what the last hand noted about the call is seen.
        private.hold.compare_exchange(DETACHED, HELD, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let call = Call { slots: self, id, armed: true };
        if private.generation.load(Ordering::Relaxed) == id.generation {
            return Some(call);
        }
        // A name of an earlier life: the call of this one goes on.
        let generation = private.generation.load(Ordering::Relaxed);
        Call { id: CallId { generation, ..id }, ..call }.detach();
        None
    }

    /// Whether the slot's call is in flight and in nobody's hand.
    pub fn is_detached(&self, slot: u32) -> bool {
        self.private.get(slot as usize).is_some_and(|private| private.hold.load(Ordering::Relaxed) == DETACHED)
    }

    /// Says that the rope is to be pulled when the next call of a task ends, and wakes the tasks of those that have ended
    /// before; says how many.
    pub fn arm(&self) -> usize {
        self.finished.arm();
        if cfg!(weaken = "armed_without_look") { 0 } else { self.wake_finished() }
    }

    /// Wakes the tasks whose calls have ended since somebody last did; says how many calls that were. A load per 64 slots
    /// if there are none.
    #[inline]
    pub fn wake_finished(&self) -> usize {
        let mut count = 0;
        self.finished.take(|slot| {
            count += 1;
            self.wake(slot);
        });
        count
    }

    fn waker(&self, slot: u32) -> Option<MutexGuard<'_, Option<Waker>>> {
        let private = self.private.get(slot as usize)?;
        Some(private.waker.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes the task that waits for the slot, if there is one.
    pub fn wake(&self, slot: u32) {
        let waker = self.waker(slot).and_then(|mut waker| waker.take());
        if let Some(waker) = waker {
            let wake = AssertUnwindSafe(|| waker.wake());
            if cfg!(loom) {
                wake(); // a model that fails does so by a panic
            } else {
                // One that panics is its own task's affair: the others are still to be woken.
                let _ = catch_unwind(wake);
            }
        }
    }
}

impl Call<'_> {
    /// Lets go of a call in flight, to be [taken up](ClientSlots::take_up) by its name.
    ///
    /// # Panics
    /// If the call was not sent.
    pub fn detach(self) -> CallId {
        assert!(self.armed, "only a call in flight is detached");
        let id = self.id;
        // ORDERING: Release, pairs with the Acquire in `take_up`.
        self.slots.private[id.slot as usize].hold.store(DETACHED, Ordering::Release);
        std::mem::forget(self);
        id
    }

    /// Looks for the reply. While it is pending the task is woken when the slot's bit was found in the finished set, or at
    /// the connection's end. At its first look, before anything is said to the server, it polls for the budget, if it is
    /// given one.
    pub fn poll(&self, cx: &Context<'_>, spin: Option<&SpinBudget>) -> Poll<Waited> {
        if let Some(waited) = self.glance() {
            return Poll::Ready(waited);
        }
        let (pending, task) = (word(self.id.generation, PENDING), word(self.id.generation, TASK));
        let stands = self.state().load(Ordering::Relaxed).decode(|state| state == task);
        if !stands
            && let Some(spin) = spin
            && let Some(waited) = spin.poll(None, || self.glance())
        {
            return Poll::Ready(waited);
        }
        if let Some(mut waker) = self.slots.waker(self.id.slot) {
            match &mut *waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        // ORDERING: Relaxed: TASK carries no data. If the exchange fails it is TASK already, or the reply or the end came
        // first, which the look below finds.
        let _ = self.state().compare_exchange(pending, task, Ordering::Relaxed, Ordering::Relaxed);
        if cfg!(weaken = "task_without_look") {
            return Poll::Pending;
        }
        // The look comes behind the waker's lock. Whoever took the waker out that stood there before, because he had
        // found the slot's bit or because it is the end, held the lock earlier: then the look finds that reply, or that
        // end (`task_without_look`). Whoever comes later finds the new waker.
        if self.slots.has_ended() {
            self.slots.kill(self.id);
        }
        self.glance().map_or(Poll::Pending, Poll::Ready)
    }

    fn glance(&self) -> Option<Waited> {
        match self.look() {
            Seen::InFlight => None,
            Seen::Done(header) => Some(Waited::Done(header)),
            Seen::Dead => Some(Waited::Ended),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::super::tests::{REPLY, publish, table};
    use super::*;
    use crate::slot::Finished;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn task() -> (Arc<Count>, Waker) {
        let count = Arc::<Count>::default();
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn a_task_is_woken_once_its_call_is_found_among_the_finished() {
        let (client, server) = table(70);
        let (woken, waker) = task();
        let calls: Vec<_> = (0..70).map(|_| publish(&client)).collect();
        let call = &calls[69];
        assert!(call.poll(&Context::from_waker(&waker), None).is_pending());
        assert_eq!((client.wake_finished(), woken.get()), (0, 0));
        assert_eq!(server.finish(call.id(), REPLY, &[]), Finished::Delivered);
        assert_eq!((client.wake_finished(), woken.get()), (1, 1));
        assert_eq!(call.poll(&Context::from_waker(&waker), None), Poll::Ready(Waited::Done(REPLY)));
        assert_eq!(client.wake_finished(), 0);
        for call in &calls[..69] {
            server.finish(call.id(), REPLY, &[]);
        }
        assert_eq!(client.wake_finished(), 0, "no task waited for those");
    }

    #[test]
    fn the_task_that_asked_last_is_woken() {
        let (client, server) = table(1);
        let ((first_woken, first), (last_woken, last)) = (task(), task());
        let call = publish(&client);
        for waker in [&first, &last] {
            assert!(call.poll(&Context::from_waker(waker), None).is_pending());
        }
        server.finish(call.id(), REPLY, &[]);
        assert_eq!((client.wake_finished(), first_woken.get(), last_woken.get()), (1, 0, 1));
    }

    #[test]
    fn a_detached_call_is_in_one_hand_at_a_time_and_only_by_its_own_name() {
        let (client, server) = table(1);
        let id = publish(&client).detach();
        assert!(client.acquire().is_none() && client.is_detached(0));
        for wrong in [CallId { generation: id.generation + 1, ..id }, CallId { slot: 1, ..id }] {
            assert!(client.take_up(wrong).is_none());
        }
        let call = client.take_up(id).unwrap();
        assert!(client.take_up(id).is_none());
        server.finish(call.detach(), REPLY, &[]);
        drop(client.take_up(id).unwrap());
        assert!(client.take_up(id).is_none() && client.acquire_next().is_some());
    }

    #[test]
    fn the_end_wakes_tasks_and_they_are_told() {
        let (client, _server) = table(2);
        let (woken, waker) = task();
        let call = publish(&client);
        assert!(call.poll(&Context::from_waker(&waker), None).is_pending());
        client.end();
        assert_eq!(woken.get(), 1);
        assert_eq!(call.poll(&Context::from_waker(&waker), None), Poll::Ready(Waited::Ended));
        let late = publish(&client);
        assert_eq!(late.poll(&Context::from_waker(&waker), None), Poll::Ready(Waited::Ended));
    }

    #[test]
    fn a_task_that_gave_up_hears_of_its_slot_and_a_waker_that_panics_hurts_no_other() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("a task's own affair");
            }
        }
        let (client, server) = table(2);
        let (woken, waker) = task();
        let bad = Waker::from(Arc::new(Panics));
        let calls = [publish(&client), publish(&client)];
        for (call, waker) in calls.iter().zip([&bad, &waker]) {
            assert!(call.poll(&Context::from_waker(waker), None).is_pending());
            server.finish(call.id(), REPLY, &[]);
        }
        assert_eq!((client.wake_finished(), woken.get()), (2, 1));
        let [_, call] = calls;
        drop(call);
        let call = publish(&client);
        assert!(call.poll(&Context::from_waker(&waker), None).is_pending());
        let id = call.id();
        let abandoned = call.abandon().unwrap();
        assert_eq!(server.finish(id, REPLY, &[]), Finished::Abandoned);
        assert_eq!(client.wake_finished(), 1);
        abandoned.reclaim(&client, |_, _| ()).unwrap();
    }

    #[test]
    fn a_thread_may_wait_for_a_call_that_a_task_began_to_wait_for() {
        let (client, server) = table(1);
        let call = publish(&client);
        assert!(call.poll(&Context::from_waker(Waker::noop()), None).is_pending());
        let id = call.id();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while server.slots.state(0).load(Ordering::Relaxed).decode(|state| state as u32 != super::super::PARKED)
                {
                    std::thread::yield_now();
                }
                server.finish(id, REPLY, &[]);
            });
            assert_eq!(call.wait(None, &SpinBudget::none(), || ()), Waited::Done(REPLY));
        });
    }
}
