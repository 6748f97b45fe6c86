//! Where producers come in: the queue's socket. On the watcher thread.

use std::sync::Arc;

use super::super::ring::TAKEN;
use super::lanes::Hub;
use crate::account;
use crate::error::Error;
use crate::rendezvous::{Event, Listener, Next, Watch, Watched, watch};

/// Lanes up to this size are made on the watcher thread: about 3 µs for each 4 KiB.
const QUICK_BYTES: usize = 1 << 20;

/// Producers that are let in before the watcher thread sees to its other news: tasks and deaths.
const GUESTS: u32 = 16;

/// Where producers come in. Dropped, nobody does any more.
#[derive(Debug)]
pub(super) struct Door {
    listener: Arc<Listener>,
    _watch: Watch,
}

impl Door {
    pub(super) fn open(hub: &Arc<Hub>, listener: Listener) -> Result<Self, Error> {
        if let Some(socket) = listener.socket() {
            hub.account.note::<{ account::CONSUMER_AT }>(TAKEN | u64::from(std::process::id()));
            hub.account.note::<{ account::DEVICE_AT }>(socket.device);
            hub.account.note::<{ account::INODE_AT }>(socket.inode);
        }
        let listener = Arc::new(listener);
        let porter = Porter { hub: Arc::clone(hub), listener: Arc::clone(&listener) };
        Ok(Self { _watch: watch(listener.fd(), true, None, Arc::new(porter))?, listener })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // The watcher thread may be letting somebody in at this moment, and hold the listener.
        self.listener.close();
    }
}

/// Lets producers in.
struct Porter {
    hub: Arc<Hub>,
    listener: Arc<Listener>,
}

impl Watched for Porter {
    fn on_event(&self, _event: Event) -> Next {
        // An error is one visitor's, or too few descriptors: it sees its connection end, and who still waits is news
        // again.
        for _ in 0..GUESTS {
            let Ok(Some(connection)) = self.listener.accept() else { break };
            if self.hub.lane_bytes() <= QUICK_BYTES {
                let _ = self.hub.admit(connection);
                continue;
            }
            let hub = Arc::clone(&self.hub);
            let made = std::thread::Builder::new().name("switchboard-lane".into());
            // Without a thread the connection ends, and the visitor knows.
            let _ = made.spawn(move || hub.admit(connection));
        }
        Next::Keep
    }
}
