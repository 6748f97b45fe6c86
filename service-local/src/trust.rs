//! Which mode of trust two sides of a connection agree on.

use shm_ring::{BuildId, Trust};

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
    if ours.is_trusted() && theirs == TRUSTED && is_one_program { ours } else { Trust::CHECKED }
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
    fn a_grant_that_is_weaker_than_what_was_asked_for_is_not_accepted() {
        assert_eq!(accept(Trust::CHECKED, ISOLATED), Some(Trust::ISOLATED));
        assert_eq!(accept(Trust::CHECKED, CHECKED), Some(Trust::CHECKED));
        assert_eq!(accept(Trust::ISOLATED, CHECKED), None);
        assert_eq!(accept(Trust::CHECKED, TRUSTED), None);
        assert_eq!(accept(Trust::ISOLATED, 3), None);
    }
}
