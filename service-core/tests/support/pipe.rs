//! One direction of a call's items inside one process, with room for a few.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context as Wakers, Poll, Waker};
use std::time::Duration;

use service_core::{Code, Deadline, Decode, Encode, Outcome, Status, StreamReceiver, StreamSender};

use super::Memory;

/// Items that a direction has room for.
pub const ROOM: usize = 4;

#[derive(Default)]
struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    items: VecDeque<Memory>,
    end: Option<End>,
    receiver_is_gone: bool,
    wakers: Vec<Waker>,
}

#[derive(Clone, Copy)]
enum End {
    Finished,
    BrokenOff,
}

impl Pipe {
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap();
        let made = change(&mut state);
        state.wakers.drain(..).for_each(Waker::wake);
        self.changed.notify_all();
        made
    }

    fn wait_until<R>(&self, deadline: Option<Deadline>, look: impl Fn(&mut State) -> Option<R>) -> Result<R, Status> {
        let mut state: MutexGuard<'_, State> = self.state.lock().unwrap();
        loop {
            if let Some(seen) = look(&mut state) {
                state.wakers.drain(..).for_each(Waker::wake);
                self.changed.notify_all();
                return Ok(seen);
            }
            let left = match deadline {
                Some(deadline) => deadline.remaining().ok_or_else(|| status(Code::DeadlineExceeded))?,
                None => Duration::from_secs(60),
            };
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn poll_until<R>(&self, cx: &mut Wakers<'_>, look: impl Fn(&mut State) -> Option<R>) -> Poll<R> {
        let mut state = self.state.lock().unwrap();
        match look(&mut state) {
            Some(seen) => {
                state.wakers.drain(..).for_each(Waker::wake);
                self.changed.notify_all();
                Poll::Ready(seen)
            }
            None => {
                state.wakers.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn status(code: Code) -> Status {
    Status::new(code, Outcome::MayHaveRun, "the stream stands still or is over")
}

/// Says whether there is room, or that nobody takes more.
fn room(state: &mut State) -> Option<Result<(), Status>> {
    match state.receiver_is_gone {
        true => Some(Err(status(Code::Cancelled))),
        false => (state.items.len() < ROOM).then_some(Ok(())),
    }
}

fn next(state: &mut State) -> Option<Result<Option<Memory>, Status>> {
    match (state.items.pop_front(), state.end) {
        (Some(item), _) => Some(Ok(Some(item))),
        (None, Some(End::Finished)) => Some(Ok(None)),
        (None, Some(End::BrokenOff)) => Some(Err(status(Code::Cancelled))),
        (None, None) => None,
    }
}

pub struct Sender(Arc<Pipe>);

pub struct Receiver(Arc<Pipe>);

pub fn pipe() -> (Box<dyn StreamSender>, Box<dyn StreamReceiver>) {
    let pipe = Arc::new(Pipe::default());
    (Box::new(Sender(Arc::clone(&pipe))), Box::new(Receiver(pipe)))
}

impl Sender {
    fn put(&self, item: &(dyn Encode + Sync)) -> Result<(), Status> {
        let mut memory = Memory::default();
        memory.put(item)?;
        self.0.change(|state| state.items.push_back(memory));
        Ok(())
    }
}

impl StreamSender for Sender {
    fn send(&mut self, item: &(dyn Encode + Sync), deadline: Option<Deadline>) -> Result<(), Status> {
        self.0.wait_until(deadline, room)??;
        self.put(item)
    }

    fn poll_send(&mut self, cx: &mut Wakers<'_>, item: &(dyn Encode + Sync)) -> Poll<Result<(), Status>> {
        match self.0.poll_until(cx, room) {
            Poll::Ready(Ok(())) => Poll::Ready(self.put(item)),
            other => other,
        }
    }

    fn finish(&mut self) -> Result<(), Status> {
        self.0.change(|state| state.end = Some(End::Finished));
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.change(|state| state.end = state.end.or(Some(End::BrokenOff)));
    }
}

fn take(item: Result<Option<Memory>, Status>, place: &mut (dyn Decode + Send)) -> Result<bool, Status> {
    match item? {
        Some(item) => place.decode(item.bytes()).map(|()| true),
        None => Ok(false),
    }
}

impl StreamReceiver for Receiver {
    fn recv(&mut self, item: &mut (dyn Decode + Send), deadline: Option<Deadline>) -> Result<bool, Status> {
        take(self.0.wait_until(deadline, next)?, item)
    }

    fn poll_recv(&mut self, cx: &mut Wakers<'_>, item: &mut (dyn Decode + Send)) -> Poll<Result<bool, Status>> {
        self.0.poll_until(cx, next).map(|next| take(next, item))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.change(|state| state.receiver_is_gone = true);
    }
}
