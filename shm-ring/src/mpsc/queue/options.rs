//! What can be said when a queue is created or opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::address::QueueAddress;
use super::door::Door;
use super::lanes::Hub;
use super::welcome::MAX_TAG;
use super::{Queue, link};
use crate::error::Error;
use crate::mpsc::{MpscLayout, Sender};
use crate::rendezvous::{Access, Listener, Peer, RuntimeDir, file_name};
use crate::trust::{BuildId, Trust};

/// Names the runtime directory, in the environment.
const DIRECTORY_VARIABLE: &str = "SWITCHBOARD_RUNTIME_DIR";

/// Cells of a lane unless something else is asked for.
const CELLS: u32 = 512;

/// Producers unless something else is asked for.
const PRODUCERS: u32 = 1024;

/// On which terms producers are let in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) trust: Trust,
    pub(super) lanes_per_user: u32,
    pub(super) bytes_per_user: usize,
}

impl Default for Terms {
    fn default() -> Self {
        Self { trust: Trust::CHECKED, lanes_per_user: 64, bytes_per_user: 64 << 20 }
    }
}

impl Terms {
    /// Most lanes of another user, if each takes so many bytes.
    pub(super) fn lanes_of_another(&self, lane_bytes: usize) -> u32 {
        let by_bytes = u32::try_from(self.bytes_per_user / lane_bytes).unwrap_or(u32::MAX);
        self.lanes_per_user.min(by_bytes)
    }

    /// How far the producer at the other end is trusted.
    pub(super) fn trust_in(&self, producer: &Peer) -> Trust {
        if Trust::towards(producer.uid).is_isolated() {
            return Trust::ISOLATED;
        }
        if self.trust.is_trusted() && !BuildId::is_own_of(producer) { Trust::CHECKED } else { self.trust }
    }
}

/// How a queue is created, and where it is found.
#[derive(Debug, Clone, Default)]
pub struct QueueOptions {
    directory: Option<PathBuf>,
    layout: Option<MpscLayout>,
    producers: Option<u32>,
    tag: Box<[u8]>,
    pub(super) terms: Terms,
    access: Access,
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

    /// How far producers are trusted at most; [`Trust::CHECKED`] unless something else is asked for. Those of other users
    /// are [`Trust::ISOLATED`] whatever this says, and of the trusted ones those whose [`BuildId`](crate::BuildId) is not
    /// this program's are checked. For the creator.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.terms.trust = trust;
        self
    }

    /// Which other users may open the queue; by default nobody but root, who may do everything. For the creator.
    #[must_use]
    pub fn access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// Most producers at a time of each user other than the creator's own, 64 unless something else is asked for. Further
    /// ones are told [`Error::ResourceExhausted`]. For the creator.
    #[must_use]
    pub fn producers_per_user(mut self, limit: u32) -> Self {
        self.terms.lanes_per_user = limit;
        self
    }

    /// Most bytes that the lanes of such a user take together, 64 MiB unless something else is asked for. For the creator.
    #[must_use]
    pub fn bytes_per_user(mut self, limit: usize) -> Self {
        self.terms.bytes_per_user = limit;
        self
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
        let hub = Arc::new(Hub::new(layout, self.producers.unwrap_or(PRODUCERS), &self.tag, self.terms)?);
        let directory = RuntimeDir::open_for(&address.directory(&self.runtime()), &self.access)?;
        let listener = Listener::bind_for(Arc::new(directory), address.name(), &self.access)?;
        let door = Door::open(&hub, listener)?;
        Ok(Queue::new(address.clone(), hub, door))
    }

    /// Opens a queue as a producer, with a lane of its own. Blocks until the consumer's process answers, some 200 µs.
    ///
    /// # Errors
    /// [`Error::NotFound`] at once if nobody serves the name, [`Error::TooManyProducers`]; [`Error::ResourceExhausted`] if
    /// this user has as many lanes as it may; [`Error::RuntimeDir`] if it may not open the queue at all;
    /// [`Error::LayoutVersion`] if the programs are of different builds.
    pub fn open(&self, address: &QueueAddress) -> Result<Sender, Error> {
        link::open(&RuntimeDir::open_to_connect(&address.directory(&self.runtime()))?, address)
    }
}
