//! What can be said when a queue is created or opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::address::QueueAddress;
use super::lanes::{Door, Hub};
use super::welcome::MAX_TAG;
use super::{Queue, link};
use crate::error::Error;
use crate::mpsc::{MpscLayout, Sender};
use crate::rendezvous::{Listener, RuntimeDir, file_name};

/// Names the runtime directory, in the environment.
const DIRECTORY_VARIABLE: &str = "SWITCHBOARD_RUNTIME_DIR";

/// Cells of a lane unless something else is asked for.
const CELLS: u32 = 512;

/// Producers unless something else is asked for.
const PRODUCERS: u32 = 1024;

/// How a queue is created, and where it is found.
#[derive(Debug, Clone, Default)]
pub struct QueueOptions {
    directory: Option<PathBuf>,
    layout: Option<MpscLayout>,
    producers: Option<u32>,
    tag: Box<[u8]>,
}

impl QueueOptions {
    /// The defaults: `SWITCHBOARD_RUNTIME_DIR`, else [`RuntimeDir::default_path`]; lanes of 512 cells of 128 bytes; 1024
    /// producers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The directory in which namespaces are subdirectories.
    #[must_use]
    pub fn runtime_dir(self, directory: &Path) -> Self {
        Self { directory: Some(directory.to_owned()), ..self }
    }

    /// The shape of each producer's lane. For the creator.
    #[must_use]
    pub fn lane(self, layout: MpscLayout) -> Self {
        Self { layout: Some(layout), ..self }
    }

    /// Most producers at a time, up to [`MAX_LANES`](crate::ready::MAX_LANES); further ones are refused. Each costs the
    /// consumer the memory of a lane and five descriptors. For the creator.
    #[must_use]
    pub fn producers(self, limit: u32) -> Self {
        Self { producers: Some(limit), ..self }
    }

    /// Bytes that every producer is told, up to 1024: what the frames mean. For the creator.
    #[must_use]
    pub fn tag(self, tag: &[u8]) -> Self {
        Self { tag: tag.into(), ..self }
    }

    fn directory(&self, address: &QueueAddress) -> Result<RuntimeDir, Error> {
        RuntimeDir::open(&address.directory(&self.runtime()))
    }

    fn runtime(&self) -> PathBuf {
        let named = || std::env::var_os(DIRECTORY_VARIABLE).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        self.directory.clone().or_else(named).unwrap_or_else(RuntimeDir::default_path)
    }

    /// The directory and the name of the socket by which the queue is found, whether it is there or not.
    pub(crate) fn socket(&self, address: &QueueAddress) -> (PathBuf, String) {
        (address.directory(&self.runtime()), file_name(address.name()))
    }

    /// Creates the queue; the caller is its consumer. Costs some system calls, and the watcher thread of this process if
    /// it does not run yet.
    ///
    /// # Errors
    /// [`Error::AlreadyServed`] if a live process has a queue of that name; one that a dead process left is replaced.
    /// [`Error::RuntimeDir`] and [`Error::ResourceExhausted`] as they say; [`Error::TooLarge`] for the tag.
    pub fn create(&self, address: &QueueAddress) -> Result<Queue, Error> {
        if self.tag.len() > MAX_TAG {
            return Err(Error::TooLarge { len: self.tag.len(), limit: MAX_TAG });
        }
        let layout = self.layout.map_or_else(|| MpscLayout::new(CELLS), Ok)?;
        let hub = Arc::new(Hub::new(layout, self.producers.unwrap_or(PRODUCERS), &self.tag)?);
        let listener = Listener::bind(Arc::new(self.directory(address)?), address.name())?;
        let door = Door::open(&hub, listener)?;
        Ok(Queue::new(address.clone(), hub, door))
    }

    /// Opens a queue as a producer, with a lane of its own. Blocks until the consumer's process answers, some 200 µs.
    ///
    /// # Errors
    /// [`Error::NotFound`] at once if nobody serves the name, [`Error::TooManyProducers`]; [`Error::LayoutVersion`] if the
    /// programs are of different builds.
    pub fn open(&self, address: &QueueAddress) -> Result<Sender, Error> {
        link::open(&self.directory(address)?, address)
    }
}
