//! One connection per instance, opened once however many threads ask for it.
//!
//! The cache belongs to a [`crate::LocalRuntime`] and its clones; a program has one of these, unless it wants two
//! settings of how to wait.

use service_core::{Address, Code, Deadline, Outcome, Status, lock_until};
use shm_ring::rendezvous::RuntimeDir;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::connection::{LocalConnection, Settings};
use crate::names::{parse_socket_name, socket_name};

/// Where threads that want the same instance wait for the one that connects.
type Entry = Arc<Mutex<Option<Arc<LocalConnection>>>>;

/// Connections by directory and socket name. Dead ones are replaced when somebody asks again.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: Mutex<HashMap<(std::path::PathBuf, String), Entry>>,
}

impl Cache {
    /// The live connection to an address, opened if there is none. Without an instance in the address, the first in
    /// the order of names that answers.
    pub(crate) fn connect(
        &self,
        dir: &Arc<RuntimeDir>,
        address: &Address,
        settings: Settings,
        deadline: Option<Deadline>,
    ) -> Result<Arc<LocalConnection>, Status> {
        if let Some(instance) = &address.instance {
            return self.connect_to(dir, socket_name(&address.service, instance), settings, deadline);
        }
        let names = dir.names().map_err(|error| crate::errors::not_run(&error))?;
        let candidates = names
            .into_iter()
            .filter(|name| parse_socket_name(name).is_some_and(|(service, _)| service == address.service));
        let mut last = Status::new(Code::NotFound, Outcome::NotRun, format!("no instance of `{address}`"));
        for name in candidates {
            match self.connect_to(dir, name, settings, deadline) {
                Ok(connection) => return Ok(connection),
                Err(status) => last = status,
            }
        }
        Err(last)
    }

    fn connect_to(
        &self,
        dir: &Arc<RuntimeDir>,
        name: String,
        settings: Settings,
        deadline: Option<Deadline>,
    ) -> Result<Arc<LocalConnection>, Status> {
        let entry = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(entries.entry((dir.path().to_owned(), name.clone())).or_default())
        };
        let mut held = lock_until(&entry, deadline).ok_or_else(|| {
            let text = format!("another thread was still connecting to `{name}` at the deadline");
            Status::new(Code::DeadlineExceeded, Outcome::NotRun, text)
        })?;
        if let Some(connection) = held.as_ref().filter(|connection| connection.is_open()) {
            return Ok(Arc::clone(connection));
        }
        // The dead one's descriptors and memory go before the new one's come.
        *held = None;
        let connection = LocalConnection::open(dir, name, settings, deadline)?;
        *held = Some(Arc::clone(&connection));
        Ok(connection)
    }
}
