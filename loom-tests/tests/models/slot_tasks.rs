//! Calls that tasks wait for: whoever waits is woken, by the rope, by another look at the finished set, or by the end. A
//! wake-up that is lost shows as a deadlock, which loom reports.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Condvar, Mutex};
use loom::thread;
use shm_ring::model::{rope, slots};
use shm_ring::slot::{Call, ClientSlots, ReplyHeader, Waited};

use crate::explore::explore;

const REPLY: ReplyHeader = ReplyHeader { tag: 1, len: 8, place: 0 };

/// A thread that runs one task.
#[derive(Default)]
struct Task {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

impl Task {
    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !std::mem::take(&mut *woken) {
            woken = self.changed.wait(woken).unwrap();
        }
    }
}

fn task() -> (Arc<Task>, Waker) {
    let task = Arc::<Task>::default();
    (Arc::clone(&task), Waker::from(task))
}

fn sent(client: &ClientSlots) -> Call<'_> {
    let mut call = client.acquire().unwrap();
    call.arm();
    call
}

fn expect_reply(call: &Call<'_>, waited: Poll<Waited>, word: u64) {
    assert_eq!(waited, Poll::Ready(Waited::Done(REPLY)));
    let mut words = [0];
    call.read(&mut words);
    assert_eq!(words, [word]);
}

/// The task sleeps. The watcher thread says that it wants to be told while the reply comes: it sees the bit, or the rope is
/// pulled.
#[test]
fn a_task_is_told_of_its_reply_by_the_rope() {
    explore("slot task by the rope", None, || {
        let (client, server) = slots(1);
        let (ringer, listener) = rope();
        let (client, server) = (Arc::new(client), server.telling_by(ringer));
        let (sleeper, waker) = task();
        let call = sent(&client);
        assert!(call.poll(&Context::from_waker(&waker), None).is_pending());
        let id = call.id();
        let replier = thread::spawn(move || {
            server.finish(id, REPLY, &[7]);
        });
        let watcher = {
            let client = Arc::clone(&client);
            thread::spawn(move || {
                if client.arm() == 0 {
                    listener.wait();
                    assert_eq!(client.wake_finished(), 1);
                }
            })
        };
        sleeper.wait();
        expect_reply(&call, call.poll(&Context::from_waker(&waker), None), 7);
        drop(call);
        replier.join().unwrap();
        watcher.join().unwrap();
    });
}

/// Another task looks at the finished set and wakes the one that waits: that one finds its reply, whole.
#[test]
fn whoever_is_woken_finds_the_reply() {
    explore("slot task by another's look", None, || {
        let (client, server) = slots(1);
        let client = Arc::new(client);
        let (sleeper, waker) = task();
        let call = sent(&client);
        assert!(call.poll(&Context::from_waker(&waker), None).is_pending());
        let id = call.id();
        let replier = thread::spawn(move || {
            server.finish(id, REPLY, &[7]);
        });
        let other = {
            let client = Arc::clone(&client);
            thread::spawn(move || {
                while client.wake_finished() == 0 {
                    thread::yield_now();
                }
            })
        };
        sleeper.wait();
        expect_reply(&call, call.poll(&Context::from_waker(&waker), None), 7);
        drop(call);
        replier.join().unwrap();
        other.join().unwrap();
    });
}

/// The task is polled twice, the second time for another waker, while the reply comes: the last waker is called, or the
/// poll finds the reply.
#[test]
fn a_task_that_is_polled_again_while_the_reply_comes_is_woken() {
    explore("slot task polled again", Some(3), || {
        let (client, server) = slots(1);
        let client = Arc::new(client);
        let call = sent(&client);
        let id = call.id();
        let replier = {
            let client = Arc::clone(&client);
            thread::spawn(move || {
                server.finish(id, REPLY, &[7]);
                client.wake_finished();
            })
        };
        let (sleeper, waker) = task();
        let mut waited = call.poll(&Context::from_waker(Waker::noop()), None);
        if waited.is_pending() {
            waited = call.poll(&Context::from_waker(&waker), None);
        }
        if waited.is_pending() {
            sleeper.wait();
            waited = call.poll(&Context::from_waker(&waker), None);
        }
        expect_reply(&call, waited, 7);
        drop(call);
        replier.join().unwrap();
    });
}

/// The connection ends while a call is sent and its task goes to sleep: it is told, whatever the order.
#[test]
fn a_task_that_waits_at_the_end_is_told() {
    explore("slot end against task", None, || {
        let (client, _server) = slots(1);
        let client = Arc::new(client);
        let watcher = {
            let client = Arc::clone(&client);
            thread::spawn(move || client.end())
        };
        let (sleeper, waker) = task();
        let call = sent(&client);
        let mut waited = call.poll(&Context::from_waker(&waker), None);
        while waited.is_pending() {
            sleeper.wait();
            waited = call.poll(&Context::from_waker(&waker), None);
        }
        assert_eq!(waited, Poll::Ready(Waited::Ended));
        drop(call);
        watcher.join().unwrap();
    });
}

/// The task gives up, as a future does that is dropped, while the reply comes: one of the two is the call's end, and the
/// slot is free again once the server is done.
#[test]
fn a_call_that_its_task_gives_up_ends_in_exactly_one_way() {
    explore("slot task gives up", None, || {
        let (client, server) = slots(1);
        let client = Arc::new(client);
        let call = sent(&client);
        assert!(call.poll(&Context::from_waker(Waker::noop()), None).is_pending());
        let id = call.detach();
        let replier = thread::spawn(move || server.finish(id, REPLY, &[7]));
        match client.take_up(id).unwrap().abandon() {
            Ok(abandoned) => {
                replier.join().unwrap();
                assert_eq!(client.wake_finished(), 1, "whoever waits for a slot is told of this one");
                abandoned.reclaim(&client, |_, word| assert_eq!(word, 7)).unwrap();
            }
            Err((call, waited)) => {
                expect_reply(&call, Poll::Ready(waited), 7);
                drop(call);
                replier.join().unwrap();
            }
        }
        assert!(client.acquire().is_some());
    });
}
