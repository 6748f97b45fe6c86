//! How far a peer is trusted with what it writes.
//!
//! | mode | payloads are read | assumed of the peer |
//! |---|---|---|
//! | [`Trust::ISOLATED`] | from a private copy, validated there | nothing |
//! | [`Trust::CHECKED`] | in place, validated | it keeps the protocol: what it has handed over it does not write |
//! | [`Trust::trusted`] | in place, archives without validation | the same, and that it is the same program |
//!
//! Control words are read once and checked in every mode. See `SAFETY.md` beside this crate.
#![allow(unsafe_code)] // One function is a promise of its caller's.

#[cfg(not(loom))]
mod build_id;
#[cfg(not(loom))]
mod private;

#[cfg(not(loom))]
pub use build_id::BuildId;
#[cfg(not(loom))]
pub(crate) use private::Private;

/// A trust mode. The greater of two is the stricter one, so `max` is what two sides agree on.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Trust(Kind);

#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Trusted,
    Checked,
    Isolated,
}

impl Trust {
    /// The peer is taken to keep the protocol, as a process of the same user, which could attach a debugger to us anyway.
    pub const CHECKED: Self = Self(Kind::Checked);

    /// Nothing is assumed of the peer: all that it wrote is copied out, then validated.
    pub const ISOLATED: Self = Self(Kind::Isolated);

    /// Archives are read without being validated.
    ///
    /// # Safety
    /// Every peer towards which this mode is used keeps the protocol of this crate, is built from the same sources as this
    /// program with the same options, and writes only what the typed senders of this crate make of values of the very type
    /// that is received. Where two processes meet by
    /// a name, the [`BuildId`]s are compared, and a peer of another build is [`CHECKED`](Self::CHECKED): a help against
    /// mistakes, not against forgers.
    pub const unsafe fn trusted() -> Self {
        Self(Kind::Trusted)
    }

    /// How far a peer of that effective user is trusted unless somebody says otherwise: [`CHECKED`](Self::CHECKED) for our own,
    /// [`ISOLATED`](Self::ISOLATED) for every other, and for the number that the kernel gives for users of other user
    /// namespaces, which many may share.
    #[cfg(not(loom))]
    pub fn towards(uid: u32) -> Self {
        use crate::rendezvous::own_uid;
        const OVERFLOW_UID: u32 = 65_534;
        if uid == own_uid() && uid != OVERFLOW_UID { Self::CHECKED } else { Self::ISOLATED }
    }

    /// Whether everything is copied out before it is looked at.
    #[inline(always)]
    pub const fn is_isolated(self) -> bool {
        matches!(self.0, Kind::Isolated)
    }

    /// Whether archives are read without being validated.
    #[inline(always)]
    pub const fn is_trusted(self) -> bool {
        matches!(self.0, Kind::Trusted)
    }
}

impl Default for Trust {
    /// [`CHECKED`](Self::CHECKED).
    fn default() -> Self {
        Self::CHECKED
    }
}

impl std::fmt::Display for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Kind::Trusted => "trusted",
            Kind::Checked => "checked",
            Kind::Isolated => "isolated",
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::rendezvous::own_uid;

    #[test]
    fn the_stricter_of_two_is_the_greater() {
        // SAFETY: nothing is read by it here.
        let trusted = unsafe { Trust::trusted() };
        assert_eq!(trusted.max(Trust::CHECKED), Trust::CHECKED);
        assert_eq!(Trust::CHECKED.max(Trust::ISOLATED), Trust::ISOLATED);
        assert_eq!(Trust::default(), Trust::CHECKED);
    }

    #[test]
    fn a_peer_of_another_user_is_isolated() {
        assert_eq!(Trust::towards(own_uid()), Trust::CHECKED);
        assert_eq!(Trust::towards(own_uid() ^ 1), Trust::ISOLATED);
        assert_eq!(Trust::towards(65_534), Trust::ISOLATED);
    }
}
