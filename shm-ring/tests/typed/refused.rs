//! What is not sent, and what the ring answers.

use std::cell::Cell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Serialize, rancor, ser};
use shm_ring::typed::SendError;
use shm_ring::{ClaimError, RecvError};

use super::pair;

#[derive(Archive, Serialize)]
struct File {
    #[rkyv(with = rkyv::with::AsString)]
    path: PathBuf,
}

#[test]
fn a_value_that_its_type_refuses_is_not_sent() {
    let (mut sender, mut receiver) = pair::<File>();
    let no_text = File { path: OsString::from_vec(vec![0xff]).into() };
    assert!(matches!(sender.send(&no_text), Err(SendError::Refused(_))));
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    sender.send(&File { path: "/a/path".into() }).unwrap();
    assert_eq!(receiver.recv().unwrap().read().unwrap().path, "/a/path");
}

/// Bytes that become more each time they are written.
struct Restless(Cell<usize>);

impl Archive for Restless {
    type Archived = ArchivedVec<u8>;
    type Resolver = (VecResolver, usize);

    fn resolve(&self, (resolver, len): Self::Resolver, out: rkyv::Place<Self::Archived>) {
        ArchivedVec::resolve_from_len(len, resolver, out);
    }
}

impl<S: rancor::Fallible + ser::Writer + ser::Allocator + ?Sized> Serialize<S> for Restless {
    fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, S::Error> {
        let len = self.0.get();
        self.0.set(len + 100);
        Ok((ArchivedVec::<u8>::serialize_from_slice(&vec![7_u8; len], serializer)?, len))
    }
}

#[test]
fn a_value_that_changes_while_it_is_written_is_not_sent() {
    let (mut sender, mut receiver) = pair::<Restless>();
    let sent = sender.send(&Restless(Cell::new(100_000)));
    assert!(matches!(sent, Err(SendError::Changed { .. })), "{sent:?}");
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    sender.send(&Restless(Cell::new(10))).unwrap();
    assert_eq!(receiver.recv().unwrap().read().unwrap().len(), 10);
}

#[test]
fn what_the_ring_answers_is_what_the_sender_gets() {
    let (mut sender, receiver) = pair::<[u8]>();
    let too_large = sender.try_send(&vec![0; (1 << 20) + 1]);
    assert_eq!(too_large, Err(ClaimError::TooLarge { len: (1 << 20) + 1, limit: 1 << 20 }.into()));
    let full = loop {
        if let Err(error) = sender.try_send(&[0; 1000]) {
            break error;
        }
    };
    assert!(matches!(full, SendError::Claim(ClaimError::Full { .. })), "{full}");
    let soon = Instant::now() + Duration::from_millis(5);
    let late = sender.send_deadline(&[0; 1000], soon);
    assert!(matches!(late, Err(SendError::Claim(ClaimError::TimedOut { .. }))), "{late:?}");
    assert!(Instant::now() >= soon);
    drop(receiver);
    assert_eq!(sender.send(&[1]), Err(ClaimError::Closed.into()));
}

#[test]
fn what_the_ring_answers_is_what_the_receiver_gets() {
    let (sender, mut receiver) = pair::<String>();
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    let soon = Instant::now() + Duration::from_millis(5);
    assert_eq!(receiver.recv_deadline(soon).unwrap_err(), RecvError::TimedOut);
    assert!(Instant::now() >= soon);
    drop(sender);
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Closed);
}
