//! How a ring begins and ends: owners, close, death, and what an onlooker sees.

use shm_ring::mpsc::{Control, End, Events, Receiver, Sender};
use shm_ring::{ClaimError, Error, RecvError};

use super::{plain, ring, with_blocks};
use crate::support::backings::for_every_backing;

for_every_backing!(an_end_has_one_owner_for_the_life_of_the_ring, |backing| {
    let (maker, opener) = backing.pair(plain(4));
    let ends =
        (Sender::attach(&maker, Events::default()).unwrap(), Receiver::attach(&opener, Events::default()).unwrap());
    let refused = || {
        let pid = std::process::id();
        let again = Sender::attach(&opener, Events::default()).unwrap_err();
        assert!(matches!(again, Error::AlreadyAttached { role: "producer", pid: named } if named == pid), "{again}");
        let again = Receiver::attach(&maker, Events::default()).unwrap_err();
        assert_eq!(again.to_string(), format!("the ring's consumer is process {pid}"));
    };
    refused();
    drop(ends);
    refused();
});

for_every_backing!(what_was_sent_before_a_close_is_received_and_then_closed, |backing| {
    let (sender, mut receiver) = ring(backing, plain(8));
    sender.try_send(b"last").unwrap();
    sender.close();
    assert!(sender.is_closed());
    assert_eq!(sender.try_send(b"late").unwrap_err(), ClaimError::Closed);
    assert_eq!(sender.claim(4).unwrap_err(), ClaimError::Closed);
    assert_eq!(sender.try_batch(2).map(|_| ()).unwrap_err(), ClaimError::Closed);
    assert_eq!(receiver.recv().unwrap().bytes(), b"last");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Closed);
});

for_every_backing!(a_claim_made_before_the_close_is_waited_for, |backing| {
    let (sender, mut receiver) = ring(backing, plain(8));
    let mut claim = sender.try_claim(4).unwrap();
    sender.close();
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty, "it may still come");
    claim.write(b"kept");
    claim.commit();
    assert_eq!(receiver.recv().unwrap().bytes(), b"kept");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
});

for_every_backing!(the_last_handle_that_is_dropped_closes_the_ring, |backing| {
    let (sender, mut receiver) = ring(backing, plain(8));
    let other = sender.clone();
    drop(sender);
    other.try_send(b"still").unwrap();
    drop(other);
    assert_eq!(receiver.recv().unwrap().bytes(), b"still");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
});

for_every_backing!(a_forgotten_claim_holds_nothing_up_once_the_handles_are_gone, |backing| {
    let (sender, mut receiver) = ring(backing, plain(8));
    std::mem::forget(sender.try_claim(4).unwrap());
    sender.try_send(b"behind").unwrap();
    drop(sender);
    assert_eq!(receiver.recv().unwrap().bytes(), b"behind");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
});

for_every_backing!(a_receiver_that_closes_still_receives_what_is_there, |backing| {
    let (sender, mut receiver) = ring(backing, plain(8));
    sender.try_send(b"there").unwrap();
    receiver.close();
    assert_eq!(sender.try_send(b"late").unwrap_err(), ClaimError::Closed);
    assert_eq!(receiver.recv().unwrap().bytes(), b"there");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
    drop(receiver);
    assert_eq!(sender.try_claim(1).unwrap_err(), ClaimError::Closed);
});

for_every_backing!(an_onlooker_sees_the_counts_and_ends_the_ring_for_both, |backing| {
    let (maker, opener) = backing.pair(plain(4));
    let control = Control::over(&opener, Events::default());
    assert_eq!((control.stats().producer.end, control.stats().consumer.pid), (End::Free, 0));
    let sender = Sender::attach(&maker, Events::default()).unwrap();
    let mut receiver = Receiver::attach(&opener, Events::default()).unwrap();
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    drop(sender.try_claim(1).unwrap());
    for _ in 0..3 {
        sender.try_send(b"x").unwrap();
    }
    assert!(matches!(sender.try_send(b"y"), Err(ClaimError::Full { .. })));
    drop(receiver.try_recv().unwrap());
    let stats = control.stats();
    assert_eq!((stats.capacity, stats.len, stats.claimed, stats.given_back), (4, 2, 4, 2));
    assert_eq!((stats.aborted, stats.full, stats.empty), (1, 1, 1));
    assert_eq!((stats.producer.end, stats.producer.pid), (End::Attached, std::process::id()));
    assert_eq!((sender.len(), receiver.len(), stats.len), (2, 2, 2));
    control.close();
    assert_eq!(sender.try_send(b"late").unwrap_err(), ClaimError::Closed);
    assert_eq!(receiver.drain(10, |frame| assert_eq!(frame.bytes(), b"x")), 2);
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
    assert_eq!(control.stats().consumer.end, End::Closed);
});

for_every_backing!(dead_producers_frames_are_received_and_their_claims_stepped_over, |backing| {
    let (maker, opener) = backing.pair(with_blocks(8, 1024, 2));
    let sender = Sender::attach(&maker, Events::default()).unwrap();
    let mut receiver = Receiver::attach(&opener, Events::default()).unwrap();
    sender.try_send(b"first").unwrap();
    std::mem::forget(sender.try_claim(4).unwrap());
    sender.try_send(&[7; 1000]).unwrap();
    let mut batch = sender.try_batch(2).unwrap();
    batch.try_send(b"not committed").unwrap();
    std::mem::forget(batch);
    // It stops here for ever.
    std::mem::forget(sender);
    let control = Control::over(&maker, Events::default());
    control.producers_died();
    assert_eq!(receiver.recv().unwrap().bytes(), b"first");
    assert_eq!(receiver.recv().unwrap().bytes(), [7; 1000]);
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
    let stats = control.stats();
    assert_eq!((stats.producer.end, stats.aborted, stats.len), (End::Died, 3, 0));
});

for_every_backing!(a_dead_consumer_closes_the_ring_for_its_producers, |backing| {
    let (maker, opener) = backing.pair(plain(8));
    let sender = Sender::attach(&maker, Events::default()).unwrap();
    std::mem::forget(Receiver::attach(&opener, Events::default()).unwrap());
    let control = Control::over(&opener, Events::default());
    control.consumer_died();
    assert_eq!(sender.try_send(b"x").unwrap_err(), ClaimError::Closed);
    assert_eq!(control.stats().consumer.end, End::Died);
});
