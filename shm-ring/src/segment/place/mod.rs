//! Segments under a name, which outlive the processes that use them.
//!
//! There is one way in for makers and openers, a loop without a lock around it: a maker completes its segment under a
//! name of its own (`draft.rs`) and renames it to the place's name if nothing stands there. So what has the name is
//! complete, at whatever instruction its maker was killed; of makers that race one wins, and the others open what it
//! made; and an opener that finds the name gone or given to another file while it opens begins again. Locks on the
//! file itself (`lock.rs`) tell whether a segment is in use, and keep removing and replacing apart.

mod draft;
mod lock;
mod shm;

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use self::draft::{Draft, Missed};
pub(crate) use self::lock::LockFile;
use super::header::{self, expect};
use super::{Layout, Segment, SegmentOptions, mapping};
use crate::error::Error;

/// Longest name of a place in bytes: a draft's name is longer, and file systems end at 255.
const MAX_NAME: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Named,
    File,
}

/// Where a segment stands that is meant to outlive the processes that use it: a name of POSIX shared memory, or a
/// file.
///
/// It stays until it is [removed](Self::remove), whoever ends or is killed; POSIX shared memory also ends with the
/// machine. Between processes that only talk to each other [`Segment::memfd`] is the better choice: it has nothing to
/// clean up.
///
/// Whoever may write the file can also truncate it, and whoever touches a page that is gone ends by `SIGBUS`. By
/// default that is this user alone.
///
/// ```
/// # use shm_ring::{Error, Layout, Place, Segment, SegmentOptions};
/// # #[derive(Clone, Debug)]
/// # struct Board;
/// # impl Layout for Board {
/// #     const KIND: u64 = 1;
/// #     fn params(&self) -> [u64; 8] { [0; 8] }
/// #     fn from_params(_: &[u64; 8]) -> Result<Self, Error> { Ok(Self) }
/// #     fn bytes(&self) -> usize { 4096 }
/// # }
/// # fn main() -> Result<(), Error> {
/// let place = Place::named(&format!("board-{}", std::process::id()))?;
/// let (segment, origin) = place.open_or_create(Board, 1, &SegmentOptions::new())?;
/// println!("{place}: {} bytes, {origin:?}", segment.bytes());
/// assert!(matches!(place.create(Board, 2, &SegmentOptions::new()), Err(Error::Taken { .. })));
/// place.remove()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    kind: Kind,
    directory: PathBuf,
    name: OsString,
}

/// How [`Place::open_or_create`] came by its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was made now.
    Created,
    /// Somebody had made it before.
    Opened,
}

impl Place {
    /// A name of POSIX shared memory, as `shm_open` knows it: one name space for all users of the machine.
    ///
    /// # Errors
    /// [`Error::BadName`] unless it is 1 to 200 ASCII letters, digits, `.`, `-` and `_`, not beginning with `.`.
    pub fn named(name: &str) -> Result<Self, Error> {
        let is_plain = |letter: u8| letter.is_ascii_alphanumeric() || b".-_".contains(&letter);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_plain) {
            let why = "it must be of letters, digits, `.`, `-` and `_`, and begin with another than `.`";
            return Err(Error::BadName { name: name.to_owned(), why });
        }
        Self::at(Kind::Named, PathBuf::from(shm::DIRECTORY), name.into())
    }

    /// A file. Its directory must exist, lie on one of this machine's own file systems, and be writable for makers.
    ///
    /// On a disk the first store to a page after it was written back costs about a microsecond: files that are used
    /// all the time belong on a `tmpfs`.
    ///
    /// # Errors
    /// [`Error::BadName`] unless the path ends in a name of up to 200 bytes.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let Some(name) = path.file_name() else {
            return Err(Error::BadName { name: path.display().to_string(), why: "it does not end in a file's name" });
        };
        // An empty parent is the working directory.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::at(Kind::File, directory.to_owned(), name.to_owned())
    }

    fn at(kind: Kind, directory: PathBuf, name: OsString) -> Result<Self, Error> {
        if name.as_bytes().len() > MAX_NAME {
            let name = name.to_string_lossy().into_owned();
            return Err(Error::BadName { name, why: "it is longer than 200 bytes" });
        }
        Ok(Self { kind, directory, name })
    }

    /// The file that stands there, or would.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Makes a segment, which nobody sees before it is complete. One that stands there and is used by nobody is
    /// replaced, whatever its layout or version: so a program that ended in any way can start again.
    ///
    /// Costs some tens of microseconds, a look through the directory, and about 2 µs a page.
    ///
    /// # Errors
    /// [`Error::Taken`] if a handle of any process is open, or if what stands there is no segment;
    /// [`Error::ResourceExhausted`] if the system has no room for all of it, here and never later; [`Error::System`] for
    /// other answers, such as missing rights.
    pub fn create<L: Layout>(&self, layout: L, epoch: u64, options: &SegmentOptions) -> Result<Segment<L>, Error> {
        let directory = self.directory()?;
        let began = Instant::now();
        let make = || Draft::make(&directory, layout.clone(), epoch, options);
        let mut draft = make()?;
        loop {
            let missed = match draft.publish() {
                Err(Missed::Occupied) => match directory.file()? {
                    Some(former) => self.replace(&directory, &former, &draft)?,
                    None => Some(Missed::Occupied),
                },
                answer => answer.err(),
            };
            match missed {
                None => return Ok(draft.segment),
                Some(Missed::Occupied) => lock::pause(began)?,
                Some(Missed::Swept) => draft = make()?,
                Some(Missed::Failed(error)) => return Err(error),
            }
        }
    }

    /// `None` if the draft has the place now.
    fn replace<L: Layout>(
        &self,
        directory: &Directory<'_>,
        former: &LockFile,
        draft: &Draft<'_, L>,
    ) -> Result<Option<Missed>, Error> {
        self.is_ours(former)?;
        if !former.try_name()? || !directory.leads_to(former)? {
            return Ok(Some(Missed::Occupied));
        }
        if !former.try_have_alone()? {
            return Err(self.taken("a handle to it is open"));
        }
        Ok(draft.replace().err())
    }

    /// Opens the segment that stands there.
    ///
    /// # Errors
    /// [`Error::NoSegment`] if nothing does; [`Error::BadSegment`] if it is no complete segment of this kind, or not
    /// within the circle of `options`; [`Error::LayoutVersion`] if a program of another version made it.
    pub fn open<L: Layout>(&self, options: &SegmentOptions) -> Result<Segment<L>, Error> {
        let nothing = || Error::NoSegment { place: self.to_string() };
        let directory = match self.directory() {
            Err(Error::System { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Err(nothing()),
            directory => directory?,
        };
        directory.open(options)?.ok_or_else(nothing)
    }

    /// Opens the segment that stands there, or makes it: any number of processes may do this at once, and all get the
    /// same one.
    ///
    /// Costs as [`open`](Self::open) or [`create`](Self::create). Each of several makers that race allocates a
    /// segment of its own until one has won.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create`](Self::create); [`Error::BadSegment`] also if a segment stands there
    /// whose parameters are not those of `layout`. Nothing is replaced.
    pub fn open_or_create<L: Layout>(
        &self,
        layout: L,
        epoch: u64,
        options: &SegmentOptions,
    ) -> Result<(Segment<L>, Origin), Error> {
        let directory = self.directory()?;
        let mut draft = None;
        loop {
            if let Some(segment) = directory.open::<L>(options)? {
                for (found, expected) in segment.layout().params().into_iter().zip(layout.params()) {
                    expect("parameter of the layout", found, expected)?;
                }
                return Ok((segment, Origin::Opened));
            }
            let made = match draft.take() {
                Some(made) => made,
                None => match Draft::make(&directory, layout.clone(), epoch, options) {
                    Ok(made) => made,
                    // It may have been the winner of a race who took the room.
                    Err(_) if directory.file()?.is_some() => continue,
                    Err(error) => return Err(error),
                },
            };
            match made.publish() {
                Ok(()) => return Ok((made.segment, Origin::Created)),
                Err(Missed::Occupied) => draft = Some(made),
                Err(Missed::Swept) => {}
                Err(Missed::Failed(error)) => return Err(error),
            }
        }
    }

    /// Takes the segment from its name; false if nothing stood there. Whoever has it open goes on using it, and its
    /// memory is given back when the last of them is gone.
    ///
    /// # Errors
    /// [`Error::Taken`] if what stands there is no segment; [`Error::System`] for other answers, such as missing
    /// rights.
    pub fn remove(&self) -> Result<bool, Error> {
        let directory = self.directory()?;
        draft::sweep(&directory);
        let began = Instant::now();
        while let Some(file) = directory.file()? {
            self.is_ours(&file)?;
            if file.try_name()? && directory.leads_to(&file)? {
                return match rustix::fs::unlinkat(&directory.fd, &self.name, AtFlags::empty()) {
                    Ok(()) => Ok(true),
                    Err(Errno::NOENT) => Ok(false), // by a tool that knows no locks
                    Err(errno) => Err(Error::system("removing a segment")(errno)),
                };
            }
            lock::pause(began)?;
        }
        Ok(false)
    }

    fn directory(&self) -> Result<Directory<'_>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&self.directory, flags, Mode::empty())
            .map_err(Error::system("opening the directory of a segment"))?;
        Ok(Directory { fd, place: self })
    }

    fn is_ours(&self, file: &LockFile) -> Result<(), Error> {
        if header::is_in(file.as_fd())? { Ok(()) } else { Err(self.taken("what stands there is no segment")) }
    }

    fn taken(&self, why: &'static str) -> Error {
        Error::Taken { place: self.to_string(), why }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

/// The directory of a place, opened for one operation.
struct Directory<'a> {
    fd: OwnedFd,
    place: &'a Place,
}

impl Directory<'_> {
    /// What stands under the place's name at this moment.
    fn file(&self) -> Result<Option<LockFile>, Error> {
        // Opening a pipe or a terminal must neither block nor have an effect; what it is is looked at afterwards.
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        match rustix::fs::openat(&self.fd, &self.place.name, flags, Mode::empty()) {
            Ok(file) => LockFile::new(file).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::system("opening a segment")(errno)),
        }
    }

    /// Whether the name still belongs to this file.
    fn leads_to(&self, file: &LockFile) -> Result<bool, Error> {
        let ours = mapping::stat(file.as_fd())?;
        match rustix::fs::statat(&self.fd, &self.place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(Error::system("looking at a segment's name")(errno)),
        }
    }

    /// Opens the segment that has the name; `None` if nothing has it.
    fn open<L: Layout>(&self, options: &SegmentOptions) -> Result<Option<Segment<L>>, Error> {
        let began = Instant::now();
        while let Some(file) = self.file()? {
            if !file.try_use()? {
                // It is about to be replaced.
                lock::pause(began)?;
                continue;
            }
            // Only now: before, it could have been given to another file, and this one thought to be unused.
            if !self.leads_to(&file)? {
                continue;
            }
            let stat = mapping::stat(file.as_fd())?;
            options.admit(&stat)?;
            let bytes = mapping::whole_file_bytes(&stat)?;
            let region = mapping::map(file.as_fd(), bytes)?;
            mapping::settle_opened(&region, options)?;
            return Ok(Some(Segment::check(region)?.in_use_by(file)));
        }
        Ok(None)
    }
}
