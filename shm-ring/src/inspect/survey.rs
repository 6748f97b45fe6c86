//! Which segments processes have, through the descriptors that `/proc` shows.
//!
//! Each segment keeps a descriptor of its memory open. It is reopened for reading through `/proc/PID/fd`, which asks
//! the process nothing and goes by the rights of the file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::figures::Report;
use super::onlooker::Onlooker;
use crate::error::Error;
use crate::segment::{self, FileId, HEADER_BYTES};

/// What was found in some processes.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Survey {
    /// The segments, each once, however many processes and descriptors it has.
    pub found: Vec<Found>,
    /// What begins like a segment and is none that can be read: half-made, of another version, or spoilt.
    pub refused: Vec<Refused>,
}

/// A segment and the processes that have it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Found {
    /// The processes, by number, of those that were searched.
    pub pids: Vec<u32>,
    /// The name under which the first of them holds it.
    pub name: String,
    /// The segment.
    pub onlooker: Onlooker,
}

impl Found {
    /// As [`Onlooker::look`], with the processes and the name in the report.
    ///
    /// # Errors
    /// As [`Onlooker::look`].
    pub fn look(&self) -> Result<Report, Error> {
        let (pids, name) = (self.pids.clone(), Some(self.name.clone()));
        Ok(Report { pids, name, ..self.onlooker.look()? })
    }
}

/// A file that was refused.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refused {
    /// The process that holds it.
    pub pid: u32,
    /// The name under which it holds it.
    pub name: String,
    /// Why it was refused.
    pub error: Error,
}

/// All segments that a process has mapped, but those on its heap. It may be stopped or hung.
///
/// A few system calls for each of its descriptors, some 4 µs. Regular files that are no segments are opened and their
/// first bytes are read.
///
/// # Errors
/// [`Error::NoProcess`]; [`Error::System`] if it is another user's, or forbids to be looked at.
pub fn process(pid: u32) -> Result<Survey, Error> {
    let mut search = Search::default();
    search.visit(pid, |_| true)?;
    Ok(search.into_survey())
}

/// All segments of all processes that this user may look at; the others are left out.
///
/// # Errors
/// [`Error::System`] if `/proc` cannot be read.
pub fn machine() -> Result<Survey, Error> {
    everywhere(|_| true)
}

/// As [`machine`], of what is held under names that `is_wanted`.
pub(super) fn everywhere(is_wanted: impl Fn(&str) -> bool) -> Result<Survey, Error> {
    let failed = |source| Error::System { what: "reading the list of processes", source };
    let mut search = Search::default();
    for entry in std::fs::read_dir("/proc").map_err(failed)? {
        let number = entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse().ok());
        // One that has ended meanwhile, or is another user's, has nothing to show.
        let _ = number.map(|pid| search.visit(pid, &is_wanted));
    }
    Ok(search.into_survey())
}

#[derive(Default)]
struct Search {
    /// Files that were opened, and what came of it; `None` if it is no segment.
    seen: BTreeMap<FileId, Option<Found>>,
    refused: Vec<Refused>,
}

impl Search {
    fn visit(&mut self, pid: u32, is_wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
        let listed = std::fs::read_dir(format!("/proc/{pid}/fd")).map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::NoProcess { pid },
            _ => Error::System { what: "looking at the descriptors of a process", source },
        })?;
        // Descriptors come and go while they are listed: what cannot be followed any more is passed by.
        for path in listed.flatten().map(|entry| entry.path()) {
            let Some(stat) = rustix::fs::stat(&path).ok().filter(may_be_segment) else { continue };
            let id = FileId::of(&stat);
            match self.seen.entry(id) {
                Entry::Occupied(mut known) => {
                    if let Some(found) = known.get_mut()
                        && !found.pids.contains(&pid)
                    {
                        found.pids.push(pid);
                    }
                }
                Entry::Vacant(place) => {
                    let name = name_of(&path);
                    if !is_wanted(&name) {
                        continue;
                    }
                    match open(&path, id) {
                        Ok(None) => drop(place.insert(None)),
                        Ok(Some(onlooker)) => drop(place.insert(Some(Found { pids: vec![pid], name, onlooker }))),
                        Err(error) => {
                            place.insert(None);
                            self.refused.push(Refused { pid, name, error });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn into_survey(self) -> Survey {
        let mut found: Vec<_> = self.seen.into_values().flatten().collect();
        found.iter_mut().for_each(|found| found.pids.sort_unstable());
        Survey { found, refused: self.refused }
    }
}

/// Devices, pipes and sockets are not even opened.
fn may_be_segment(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size >= HEADER_BYTES as i64
}

fn name_of(path: &Path) -> String {
    let target: PathBuf = std::fs::read_link(path).unwrap_or_default();
    let text = target.to_string_lossy();
    text.strip_suffix(" (deleted)").unwrap_or(&text).to_owned()
}

/// Opens what a process has there. `None`: it is no segment, may not be read, or is something else by now.
fn open(path: &Path, id: FileId) -> Result<Option<Onlooker>, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else { return Ok(None) };
    let is_the_same = segment::stat(file.as_fd()).is_ok_and(|stat| FileId::of(&stat) == id);
    if !is_the_same || !segment::is_segment(file.as_fd()).unwrap_or(false) {
        return Ok(None);
    }
    Onlooker::open(file.as_fd()).map(Some)
}
