//! Arena blocks: lent, read, given back, used again.

use loom::thread;
use shm_ring::model::arena;

use crate::explore::explore;

/// The only block goes to the reader and comes back; the owner never gets it while it is lent.
#[test]
fn a_block_is_used_again_only_after_it_was_given_back() {
    explore("arena return", None, || {
        let (owner, reader) = arena();
        let lent = owner.allocate(8).unwrap().lend();
        let returner = thread::spawn(move || reader.discard(lent));
        let again = owner.allocate(8).map(|block| block.at());
        returner.join().unwrap();
        let after = owner.allocate(8).map(|block| block.at());
        match again {
            // Taken and dropped before the second try: free again.
            Some(at) => assert_ne!(at, lent),
            None => assert!(after.is_some()),
        }
    });
}

/// The only block is lent a second time while the reader gives back the first life: the owner gets it once more, and not
/// while the second life is with the reader.
#[test]
fn a_block_that_was_given_back_once_is_not_taken_back_again() {
    explore("arena second life", None, || {
        let (owner, reader) = arena();
        let first = owner.allocate(8).unwrap().lend();
        let returner = thread::spawn(move || reader.discard(first));
        let early = owner.allocate(8).map(|block| block.lend());
        returner.join().unwrap();
        let second = early.or_else(|| owner.allocate(8).map(|block| block.lend()));
        assert!(second.is_some_and(|second| second != first));
        assert!(owner.allocate(8).is_none(), "it is with the reader");
    });
}
