//! Call slots: reply against sleep, against giving up, against the end of the connection.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use shm_ring::model::slots;
use shm_ring::slot::{Finished, ReplyHeader, Waited};
use shm_ring::wait::SpinBudget;

use crate::explore::explore;

const REPLY: ReplyHeader = ReplyHeader { tag: 1, len: 8, place: 0 };

fn at_once() -> SpinBudget {
    SpinBudget::new(Some(Duration::ZERO))
}

/// The caller looks, falls asleep or not; the reply comes in between somewhere. It is never missed and never torn.
#[test]
fn a_reply_that_is_seen_is_seen_whole() {
    explore("slot reply against park", None, || {
        let (client, server) = slots(1);
        let mut call = client.acquire().unwrap();
        call.arm();
        let id = call.id();
        let replier = thread::spawn(move || {
            assert_eq!(server.finish(id, REPLY, &[77]), Finished::Delivered);
        });
        assert_eq!(call.wait(None, &at_once(), || ()), Waited::Done(REPLY));
        let mut words = [0];
        call.read(&mut words);
        assert_eq!(words, [77]);
        drop(call);
        replier.join().unwrap();
    });
}

/// Two calls one after the other in the same slot: the second caller never gets the first one's reply.
#[test]
fn a_slot_used_again_gives_the_new_reply() {
    explore("slot reuse", Some(3), || {
        let (client, server) = slots(1);
        let server = Arc::new(server);
        for i in 1..=2 {
            let mut call = client.acquire().unwrap();
            call.arm();
            let (id, server) = (call.id(), Arc::clone(&server));
            let replier = thread::spawn(move || server.finish(id, REPLY, &[i]));
            assert_eq!(call.wait(None, &at_once(), || ()), Waited::Done(REPLY));
            let mut words = [0];
            call.read(&mut words);
            assert_eq!(words, [i]);
            drop(call);
            replier.join().unwrap();
        }
    });
}

/// Giving up races the reply: either the reply is the result, or the server learns that nobody waits; never both,
/// never neither. The slot is free again only when the server is done.
#[test]
fn a_call_that_is_given_up_ends_in_exactly_one_way() {
    explore("slot abandon against reply", None, || {
        let (client, server) = slots(1);
        let mut call = client.acquire().unwrap();
        call.arm();
        let id = call.id();
        let replier = thread::spawn(move || server.finish(id, REPLY, &[5]));
        match call.abandon() {
            Ok(abandoned) => {
                let early = abandoned.reclaim(&client, |_, _| ());
                let finished = replier.join().unwrap();
                assert_eq!(finished, Finished::Abandoned);
                if let Err(abandoned) = early {
                    abandoned.reclaim(&client, |_, word| assert_eq!(word, 5)).unwrap();
                }
            }
            Err((call, waited)) => {
                assert_eq!(waited, Waited::Done(REPLY));
                drop(call);
                assert_eq!(replier.join().unwrap(), Finished::Delivered);
            }
        }
        assert!(client.acquire().is_some());
    });
}

/// The connection ends while a caller starts and falls asleep: it is told, whatever the order.
#[test]
fn a_caller_that_falls_asleep_at_the_end_is_told() {
    explore("slot end against park", None, || {
        let (client, _server) = slots(1);
        let client = Arc::new(client);
        let watcher = {
            let client = Arc::clone(&client);
            thread::spawn(move || client.end())
        };
        let mut call = client.acquire().unwrap();
        call.arm();
        assert_eq!(call.wait(None, &at_once(), || ()), Waited::Ended);
        drop(call);
        watcher.join().unwrap();
    });
}

/// The server is killed between DONE and its wake-up of the sleeping caller: the end wakes it, and it has its reply.
#[test]
fn a_reply_whose_server_died_before_the_wakeup_is_read() {
    explore("slot death before the wake-up", None, || {
        let (client, server) = slots(1);
        let client = Arc::new(client);
        let mut call = client.acquire().unwrap();
        call.arm();
        let id = call.id();
        let killed = {
            let client = Arc::clone(&client);
            thread::spawn(move || {
                server.finish_and_die(id, REPLY, &[3]);
                client.end(); // by the watcher, which learns of the death after it
            })
        };
        assert_eq!(call.wait(None, &at_once(), || ()), Waited::Done(REPLY));
        drop(call);
        killed.join().unwrap();
    });
}

/// The end races the reply: a reply that was committed is the result, else the caller is told; it never hangs.
#[test]
fn a_reply_committed_before_the_end_wins() {
    explore("slot end against reply", Some(3), || {
        let (client, server) = slots(1);
        let client = Arc::new(client);
        let mut call = client.acquire().unwrap();
        call.arm();
        let id = call.id();
        let replier = thread::spawn(move || server.finish(id, REPLY, &[9]));
        let watcher = {
            let client = Arc::clone(&client);
            thread::spawn(move || client.end())
        };
        let waited = call.wait(None, &at_once(), || ());
        let finished = replier.join().unwrap();
        watcher.join().unwrap();
        match waited {
            Waited::Done(header) => assert_eq!((header, finished), (REPLY, Finished::Delivered)),
            Waited::Ended => assert_eq!(finished, Finished::Stale),
            Waited::TimedOut => panic!("there was no deadline"),
        }
    });
}
