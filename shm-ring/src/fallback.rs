//! Kernel features that can be switched off, so that the fall-backs for older kernels can be tested on newer ones.

use std::sync::OnceLock;

/// A kernel feature that is used where it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// `MFD_NOEXEC_SEAL` (6.3): without it segments are merely not executable by mode.
    NoexecSeal,
    /// `membarrier(2)`, expedited (4.16, and allowed by the sandbox): without it both sides of a ring fence.
    Membarrier,
    /// `MADV_POPULATE_READ` and `_WRITE` (5.14): without it each page is read once instead.
    Populate,
    /// `SO_PEERPIDFD` (6.5): without it `pidfd_open` and a second look at the socket.
    PeerPidfd,
    /// `SO_PASSRIGHTS` (6.16): without it whoever connects can send descriptors, which are closed.
    PassRights,
}

impl Feature {
    /// The word for it in `SWITCHBOARD_DISABLE` (comma-separated).
    pub fn name(self) -> &'static str {
        match self {
            Self::Membarrier => "membarrier",
            Self::NoexecSeal => "noexec-seal",
            Self::Populate => "populate",
            Self::PeerPidfd => "peerpidfd",
            Self::PassRights => "passrights",
        }
    }

    /// Whether the environment says not to use it. Read once per process.
    pub fn is_disabled(self) -> bool {
        static DISABLED: OnceLock<String> = OnceLock::new();
        let list = DISABLED.get_or_init(|| std::env::var("SWITCHBOARD_DISABLE").unwrap_or_default());
        list.split(',').any(|word| word.trim() == self.name())
    }
}
