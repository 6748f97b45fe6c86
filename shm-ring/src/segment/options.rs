//! What a maker of segments may choose.

use std::os::fd::BorrowedFd;

use rustix::fs::{Gid, Mode, Stat};

use super::header::expect;
use crate::error::Error;
use crate::rendezvous::own_uid;

/// Who may use a segment, and how its memory is prepared.
///
/// By default it is for this user alone (mode 0600), pre-faulted, and on pages of ordinary size.
///
/// ```
/// let team = shm_ring::SegmentOptions::new().mode(0o660).group(100);
/// assert_ne!(team, shm_ring::SegmentOptions::new());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentOptions {
    mode: u32,
    group: Option<u32>,
    prefault: bool,
    huge_pages: bool,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SegmentOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self { mode: 0o600, group: None, prefault: true, huge_pages: false }
    }

    /// Who may open the segment, as permission bits; exactly these, whatever the umask. 0600 by default.
    ///
    /// Whoever opens a segment by its name states this too: a segment that others may write than are named here is
    /// refused, and so is one of another user unless this lets its group or everybody write. A user of a segment may
    /// write all of it: let in whom you trust.
    ///
    /// # Panics
    /// If a bit other than read and write is set: segments are never executable.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        assert!(mode & !0o666 == 0, "a segment has no other permission bits than read and write");
        self.mode = mode;
        self
    }

    /// The group whose members the middle bits of the mode are about. This process's own by default.
    #[must_use]
    pub const fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Whether every page is filled in before the segment is handed out, at making and at opening; on by default.
    ///
    /// Costs 1 µs for each page of 4 KiB that is made and 0.4 µs for each that is opened. Without it the first use of
    /// each page costs that, in the middle of a message. The memory is allocated in both cases.
    #[must_use]
    pub const fn prefault(mut self, prefault: bool) -> Self {
        self.prefault = prefault;
        self
    }

    /// Whether pages of 2 MiB are asked for; off by default. Only segments of at least 2 MiB can have them, and only
    /// where the system gives them: `advise` in `/sys/kernel/mm/transparent_hugepage/shmem_enabled` for memfd, a
    /// mount with `huge=advise` for names and files. Elsewhere the pages are ordinary ones;
    /// [`Segment::huge_bytes`](super::Segment::huge_bytes) says what came of it.
    ///
    /// Makes a large segment some ten times cheaper to make and a hundred times cheaper to open (64 MiB: 31 ms to 2.5 ms
    /// and 7 ms to 0.06 ms), and rounds its memory up to whole huge pages. Copying through it was no faster where this
    /// was measured, on a virtual machine.
    #[must_use]
    pub const fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// Gives a fresh file its group and mode.
    pub(super) fn apply_to(&self, fd: BorrowedFd<'_>) -> Result<(), Error> {
        if let Some(gid) = self.group {
            rustix::fs::fchown(fd, None, Some(Gid::from_raw(gid)))
                .map_err(Error::system("giving a segment to a group"))?;
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode)).map_err(Error::system("setting the mode of a segment"))
    }

    pub(super) fn wants_prefault(&self) -> bool {
        self.prefault
    }

    pub(super) fn wants_huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// Whether an object found under a name belongs to the circle that these options describe.
    pub(super) fn admit(&self, found: &Stat) -> Result<(), Error> {
        const GROUP_WRITES: u32 = 0o020;
        const ALL_WRITE: u32 = 0o002;
        let strangers = found.st_mode & (GROUP_WRITES | ALL_WRITE) & !self.mode;
        if strangers != 0 {
            let (found, expected) = (found.st_mode & 0o777, self.mode);
            return Err(Error::BadSegment { what: "mode", found: found.into(), expected: expected.into() });
        }
        if self.mode & ALL_WRITE != 0 || found.st_uid == own_uid() {
            return Ok(());
        }
        if self.mode & GROUP_WRITES != 0 {
            let group = self.group.unwrap_or_else(|| rustix::process::getegid().as_raw());
            return expect("group", found.st_gid.into(), group.into());
        }
        expect("owner", found.st_uid.into(), own_uid().into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// An object with such a mode, owner and group.
    fn found(mode: u32, uid: u32, gid: u32) -> Stat {
        let fd = rustix::fs::memfd_create("found", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut stat = super::super::mapping::stat(fd.as_fd()).unwrap();
        (stat.st_mode, stat.st_uid, stat.st_gid) = (0o100_000 | mode, uid, gid);
        stat
    }

    #[test]
    fn an_object_is_admitted_if_it_is_ours_or_of_a_circle_that_was_agreed_and_lets_no_others_write() {
        let (us, them) = (own_uid(), own_uid() + 1);
        let own_group = rustix::process::getegid().as_raw();
        let (alone, everybody) = (SegmentOptions::new(), SegmentOptions::new().mode(0o666));
        let group = SegmentOptions::new().mode(0o660);
        for (options, mode, uid, gid, refusal) in [
            (alone, 0o600, us, own_group, None),
            (alone, 0o644, us, 7, None),
            (alone, 0o600, them, own_group, Some("owner")),
            (alone, 0o620, us, own_group, Some("mode")),
            (alone, 0o602, us, own_group, Some("mode")),
            (group, 0o660, us, 7, None),
            (group, 0o660, them, own_group, None),
            (group, 0o660, them, own_group + 1, Some("group")),
            (group, 0o662, us, own_group, Some("mode")),
            (group.group(7), 0o660, them, 7, None),
            (group.group(7), 0o660, them, 8, Some("group")),
            (everybody, 0o666, them, 9, None),
            (everybody.mode(0o602), 0o620, us, own_group, Some("mode")),
        ] {
            let answer = options.admit(&found(mode, uid, gid));
            let case = format!("{options:?} of {mode:o} {uid} {gid}: {answer:?}");
            match refusal {
                None => assert!(answer.is_ok(), "{case}"),
                Some(why) => assert!(matches!(answer, Err(Error::BadSegment { what, .. }) if what == why), "{case}"),
            }
        }
    }

    #[test]
    fn a_mode_that_lets_others_write_is_told_by_its_permissions_alone() {
        let answer = SegmentOptions::new().admit(&found(0o622, own_uid(), 0));
        assert!(matches!(answer, Err(Error::BadSegment { found: 0o622, expected: 0o600, .. })), "{answer:?}");
    }
}
