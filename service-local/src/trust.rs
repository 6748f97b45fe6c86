//! Which mode of trust two sides of a connection agree on.
#![allow(unsafe_code)] // What the agreed mode assumes of the peer is said where its payloads are read in place.

use crate::errors::OF_CLIENTS;
use service_core::Assurance;
use shm_ring::arena::{ArenaReader, BlockRef, Lent, RequestBlocks};
use shm_ring::{BuildId, Error, Trust};

const TRUSTED: u8 = 0;
const CHECKED: u8 = 1;
const ISOLATED: u8 = 2;

/// A mode as it stands in a message.
pub(crate) fn to_byte(trust: Trust) -> u8 {
    if trust.is_isolated() {
        ISOLATED
    } else if trust.is_trusted() {
        TRUSTED
    } else {
        CHECKED
    }
}

/// A build's id as it stands in a message.
pub(crate) fn own_build() -> [u8; BuildId::BYTES] {
    BuildId::own().map_or([0; BuildId::BYTES], BuildId::to_bytes)
}

/// What the server grants: the strictest of what the two sides want and of what the client's user is owed. `Trusted` has
/// to be wanted by both, which are one program; otherwise it is `Checked`.
pub(crate) fn agree(ours: Trust, theirs: u8, their_build: &[u8; BuildId::BYTES], uid: u32) -> Trust {
    // A byte of no meaning is taken for the strictest.
    let stricter = ours.is_isolated() || Trust::towards(uid).is_isolated() || theirs >= ISOLATED;
    if stricter {
        return Trust::ISOLATED;
    }
    let is_one_program = BuildId::own().is_some_and(|own| own.to_bytes() == *their_build);
    if ours.is_trusted() && theirs == TRUSTED && is_one_program {
        return ours;
    }
    if (ours.is_trusted() || theirs == TRUSTED) && OF_CLIENTS.admit().is_some() {
        tracing::info!(uid, is_one_program, "only one side wants to be trusted, or it is another build: checked");
    }
    Trust::CHECKED
}

/// What messages are read on, in a mode that both sides agreed on.
#[inline]
pub(crate) fn assurance(agreed: Trust) -> Option<Assurance> {
    // SAFETY: whoever made a `Trust` that is trusted has promised this of every peer towards which it is used: the same
    // program, which keeps the protocol and writes only what the serializers make. That both sides have it, of one user and
    // one build, was compared when the connection was made; the descriptor's fingerprints say which types are meant.
    agreed.is_trusted().then(|| unsafe { Assurance::new() })
}

/// A request's block in place, until its call is finished. Not for isolated clients, whose blocks are copied out.
///
/// # Errors
/// [`Error::Corrupt`] if there is no such block, or it is shorter.
pub(crate) fn request_in_place(arena: &RequestBlocks, at: BlockRef, len: usize) -> Result<&[u8], Error> {
    // SAFETY: the assumption of the modes that are not isolated: a client of our own user keeps the protocol, by which it
    // writes a request's block no more from the commit of the request to the end of its call.
    unsafe { arena.read(at, len) }
}

/// A reply's block in place, until what this gives is dropped. Not of services that are taken for isolated.
///
/// # Errors
/// [`Error::Corrupt`] if there is no such block, it is shorter, or this life of it was read already.
pub(crate) fn reply_in_place(arena: &ArenaReader, at: BlockRef, len: usize) -> Result<Lent<'_>, Error> {
    // SAFETY: the assumption of the modes that are not isolated: a service of our own user keeps the protocol, by which it
    // has lent the block with this reply and touches it no more before it is given back.
    unsafe { arena.lent(at, len) }
}

/// What the client makes of the server's grant: `None` if that is weaker than what it asked for.
pub(crate) fn accept(ours: Trust, granted: u8) -> Option<Trust> {
    match granted {
        ISOLATED => Some(Trust::ISOLATED),
        CHECKED if !ours.is_isolated() => Some(Trust::CHECKED),
        TRUSTED if ours.is_trusted() => Some(ours),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use shm_ring::rendezvous::own_uid;

    use super::*;

    const NO_BUILD: [u8; BuildId::BYTES] = [9; BuildId::BYTES];

    #[test]
    fn the_strictest_of_both_wishes_and_of_what_the_user_is_owed_is_granted() {
        let own = own_uid();
        for (ours, theirs, uid, granted) in [
            (Trust::CHECKED, CHECKED, own, Trust::CHECKED),
            (Trust::ISOLATED, CHECKED, own, Trust::ISOLATED),
            (Trust::CHECKED, ISOLATED, own, Trust::ISOLATED),
            (Trust::CHECKED, CHECKED, own ^ 1, Trust::ISOLATED),
            (Trust::CHECKED, TRUSTED, own, Trust::CHECKED),
            (Trust::CHECKED, 200, own, Trust::ISOLATED),
        ] {
            assert_eq!(agree(ours, theirs, &NO_BUILD, uid), granted, "{ours} {theirs} {uid}");
        }
    }

    #[test]
    fn trusted_takes_the_wish_of_both_and_one_build() {
        // SAFETY: nothing is read by it here.
        let trusted = unsafe { Trust::trusted() };
        let own = own_uid();
        assert_eq!(agree(trusted, TRUSTED, &own_build(), own), trusted);
        assert_eq!(agree(trusted, TRUSTED, &NO_BUILD, own), Trust::CHECKED);
        assert_eq!(agree(trusted, CHECKED, &own_build(), own), Trust::CHECKED);
        assert_eq!(agree(Trust::CHECKED, TRUSTED, &own_build(), own), Trust::CHECKED);
        assert_eq!(agree(trusted, TRUSTED, &own_build(), own ^ 1), Trust::ISOLATED);
        assert!(assurance(trusted).is_some());
        assert!(assurance(Trust::CHECKED).is_none() && assurance(Trust::ISOLATED).is_none());
    }

    #[test]
    fn a_grant_that_is_weaker_than_what_was_asked_for_is_not_accepted() {
        assert_eq!(accept(Trust::CHECKED, ISOLATED), Some(Trust::ISOLATED));
        assert_eq!(accept(Trust::CHECKED, CHECKED), Some(Trust::CHECKED));
        assert_eq!(accept(Trust::ISOLATED, CHECKED), None);
        assert_eq!(accept(Trust::CHECKED, TRUSTED), None);
        assert_eq!(accept(Trust::ISOLATED, 3), None);
    }
}
