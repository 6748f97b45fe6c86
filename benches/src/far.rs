//! The other end of a one-way row: a process of its own, or a thread of this one, on a given processor.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::peer::{Peer, PeerEnd};
use crate::placement::Pinned;
use crate::subject::Failure;

/// A worker that does its part of a chunk each time it is told to, and leaves its processor alone in between.
#[derive(Debug)]
pub enum Far {
    /// A process in a role that obeys [`Peer::go_with`].
    Process(Peer),
    /// A thread.
    Thread {
        /// How much to do; closed when the thread is to end.
        go: Option<Sender<u64>>,
        /// The thread itself.
        handle: Option<JoinHandle<()>>,
    },
}

impl Far {
    /// Starts a thread on `core` that makes its end by `open` and then obeys. Blocks until it has its end.
    ///
    /// # Errors
    /// What `open` answers, or the thread cannot be placed.
    pub fn thread<T: FnMut(u64) -> Result<(), Failure>>(
        core: usize,
        open: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        let (go, commands) = channel();
        let (ready, is_ready) = channel();
        let handle = std::thread::spawn(move || obey_thread(core, open, &ready, &commands));
        is_ready.recv()??;
        Ok(Self::Thread { go: Some(go), handle: Some(handle) })
    }

    /// Sends the worker into its part of a chunk. Returns without waiting for it.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn go(&mut self, number: u64) -> Result<(), Failure> {
        match self {
            Self::Process(peer) => peer.go_with(number),
            Self::Thread { go, .. } => {
                let go = go.as_ref().ok_or("the thread was told to end")?;
                go.send(number).map_err(|_gone| "the thread of the other end is gone".into())
            }
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        if let Self::Thread { go, handle } = self {
            *go = None;
            // A thread that panicked has said so itself, and its subject has failed already.
            let _ = handle.take().map(JoinHandle::join);
        }
    }
}

fn obey_thread<T: FnMut(u64) -> Result<(), Failure>>(
    core: usize,
    open: impl FnOnce() -> Result<T, Failure>,
    ready: &Sender<Result<(), Failure>>,
    commands: &Receiver<u64>,
) {
    let opened = Pinned::to(core).and_then(|pinned| Ok((pinned, open()?)));
    // Neither of these can be told to nobody: the starter waits for exactly one answer.
    let (_pinned, mut work) = match opened {
        Ok(opened) => {
            let _ = ready.send(Ok(()));
            opened
        }
        Err(failure) => {
            let _ = ready.send(Err(failure));
            return;
        }
    };
    while let Ok(number) = commands.recv() {
        if let Err(failure) = work(number) {
            // The measuring side cannot be told: it waits for messages. Its watchdog ends the run.
            eprintln!("switchboard-bench: the thread of the other end: {failure}");
            return;
        }
    }
}

/// The peer's side of [`Far::Process`]: does its part of each chunk until the parent wants it to end.
///
/// # Errors
/// The first error of `work`.
pub fn obey(mut end: PeerEnd, mut work: impl FnMut(u64) -> Result<(), Failure>) -> Result<(), Failure> {
    while let Some(number) = end.wait_for_number() {
        work(number)?;
    }
    Ok(())
}
