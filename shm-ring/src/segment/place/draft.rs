//! A segment under a name of its own, until it is complete and takes the place's name.
//!
//! A draft is called `.NAME.PID.START.COUNT` after its place and its maker (process number, and start in clock ticks since
//! boot), in the same directory. A maker that dies leaves it there; whoever makes the next draft of the place, or removes
//! the place, sweeps what no living process can finish. Should a process of another pid namespace misjudge that, the
//! maker finds its draft gone and makes another: nothing depends on the judgement.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use super::lock::LockFile;
use super::shm;
use super::{Directory, Kind, Place};
use crate::error::Error;
use crate::process::Stat;
use crate::raw::Region;
use crate::segment::{Layout, Segment, SegmentOptions, mapping};
use crate::sync::{AtomicU64, Ordering};

/// A complete segment that nobody can find yet.
pub(super) struct Draft<'a, L> {
    name: DraftName<'a>,
    pub(super) segment: Segment<L>,
}

/// Why a draft did not get the place's name.
pub(super) enum Missed {
    /// Something stands there.
    Occupied,
    /// The draft was swept by a process that took its maker for dead.
    Swept,
    Failed(Error),
}

impl<'a, L: Layout> Draft<'a, L> {
    pub(super) fn make(
        directory: &'a Directory<'a>,
        layout: L,
        epoch: u64,
        options: &SegmentOptions,
    ) -> Result<Self, Error> {
        let bytes = layout.bytes();
        mapping::refuse_more_than_is_allowed(bytes)?;
        sweep(directory);
        let name = DraftName { directory, name: Maker::this().draft_of(directory.place) };
        let made = match directory.place.kind {
            Kind::Named => {
                mapping::refuse_more_than_there_is(bytes)?;
                name.object(bytes)
            }
            Kind::File => name.file(bytes),
        };
        let (file, region) = made?;
        // Nobody looks for it yet, so nobody else has it. Should somebody play with it, it merely counts as unused.
        file.try_use()?;
        options.apply_to(file.as_fd())?;
        mapping::settle_made(&region, file.as_fd(), options)?;
        Ok(Self { name, segment: Segment::make(region, layout, epoch).in_use_by(file) })
    }

    /// Gives the draft the place's name, if nothing stands there.
    pub(super) fn publish(&self) -> Result<(), Missed> {
        self.name.rename(RenameFlags::NOREPLACE)
    }

    /// Takes the place's name from the file that has it. By the holder of that file's name lock.
    pub(super) fn replace(&self) -> Result<(), Missed> {
        self.name.rename(RenameFlags::empty())
    }
}

/// A draft's name; whatever still has it is removed when this is dropped.
struct DraftName<'a> {
    directory: &'a Directory<'a>,
    name: OsString,
}

impl DraftName<'_> {
    /// A POSIX shared memory object of this name, mapped.
    fn object(&self, bytes: usize) -> Result<(LockFile, Region), Error> {
        let refused = mapping::refused("segment", bytes);
        shm::create(&self.name.to_string_lossy(), bytes).map_err(&refused)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.directory.fd, &self.name, flags, Mode::empty()).map_err(&refused)?;
        let region = mapping::map(file.as_fd(), bytes)?;
        Ok((LockFile::new(file)?, region))
    }

    /// A file of this name, mapped.
    fn file(&self, bytes: usize) -> Result<(LockFile, Region), Error> {
        let refused = mapping::refused("segment", bytes);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file =
            rustix::fs::openat(&self.directory.fd, &self.name, flags, Mode::RUSR | Mode::WUSR).map_err(&refused)?;
        rustix::fs::ftruncate(&file, bytes as u64).map_err(&refused)?;
        let region = mapping::map(file.as_fd(), bytes)?;
        Ok((LockFile::new(file)?, region))
    }

    fn rename(&self, flags: RenameFlags) -> Result<(), Missed> {
        let Directory { fd, place } = self.directory;
        rustix::fs::renameat_with(fd, &self.name, fd, &place.name, flags).map_err(|errno| match errno {
            Errno::EXIST => Missed::Occupied,
            Errno::NOENT => Missed::Swept,
            errno => Missed::Failed(Error::system("publishing a segment")(errno)),
        })
    }
}

impl Drop for DraftName<'_> {
    fn drop(&mut self) {
        // Mostly the name is the place's by now, and nothing is there to remove. A draft that cannot be removed is swept
        // when its maker is gone.
        let _ = rustix::fs::unlinkat(&self.directory.fd, &self.name, AtFlags::empty());
    }
}

/// Removes drafts of a place that no living process can finish. What cannot be removed is left to the next.
pub(super) fn sweep(directory: &Directory<'_>) {
    let Ok(entries) = Dir::read_from(&directory.fd) else { return };
    let prefix = Maker::prefix(directory.place);
    for entry in entries.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let maker = name.as_bytes().strip_prefix(prefix.as_bytes()).and_then(Maker::parse);
        if maker.is_some_and(|maker| maker.is_gone()) {
            let _ = rustix::fs::unlinkat(&directory.fd, name, AtFlags::empty());
        }
    }
}

/// A process, told from a later one with the same number by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Maker {
    pid: i32,
    /// Clock ticks since boot; 0 if the system does not say.
    start: u64,
}

impl Maker {
    fn this() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self { pid, start: Stat::of("self").map_or(0, |stat| stat.start) }
    }

    fn prefix(place: &Place) -> OsString {
        OsString::from_vec([b".", place.name.as_bytes(), b"."].concat())
    }

    fn draft_of(self, place: &Place) -> OsString {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut name = Self::prefix(place);
        name.push(format!("{}.{}.{count}", self.pid, self.start));
        name
    }

    /// From what follows the prefix in a draft's name.
    fn parse(name: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(name).ok()?.split('.');
        let maker = Self { pid: parts.next()?.parse().ok()?, start: parts.next()?.parse().ok()? };
        parts.next()?.parse::<u64>().ok()?;
        parts.next().is_none().then_some(maker)
    }

    fn is_gone(self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return true };
        if rustix::process::test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        // Something has the number. Is it the maker, and does it still run?
        Stat::of(&self.pid.to_string())
            .is_some_and(|stat| stat.is_over() || (self.start != 0 && stat.start != self.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_names_its_place_and_its_maker() {
        let place = Place::named("work.items").unwrap();
        let maker = Maker { pid: 12, start: 345 };
        let name = maker.draft_of(&place);
        let rest = name.as_bytes().strip_prefix(b".work.items.").unwrap();
        assert_eq!(Maker::parse(rest), Some(maker));
    }

    #[test]
    fn names_that_are_no_drafts_are_not_taken_for_some() {
        for name in ["", "12", "12.34", "12.34.x", "12.34.5.6", "x.34.5", "items.12.34.5"] {
            assert_eq!(Maker::parse(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let this = Maker::this();
        assert!(!this.is_gone());
        assert!(Maker { start: this.start + 1, ..this }.is_gone());
    }

    #[test]
    fn a_process_that_nobody_has_waited_for_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = child.id();
        let stat = format!("/proc/{id}/stat");
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z") {
            std::thread::yield_now();
        }
        let start = Stat::of(&id.to_string()).unwrap().start;
        assert!(Maker { pid: id as i32, start }.is_gone());
        child.wait().unwrap();
        assert!(Maker { pid: id as i32, start }.is_gone());
    }
}
