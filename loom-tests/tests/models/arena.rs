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
        let returner = thread::spawn(move || reader.give_back(lent));
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
