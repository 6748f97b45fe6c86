//! A storm of signals over all threads of this process: whoever waits in the kernel is thrown out of it all the time.
#![allow(unsafe_code)] // A handler is unsafe to install.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Signals every other thread at about this interval, until it is dropped.
#[derive(Debug)]
#[must_use = "the storm ends with this"]
pub struct Storm {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Storm {
    /// Begins. The handler is installed without `SA_RESTART`, so that system calls end with `EINTR`.
    pub fn begin(interval: Duration) -> Self {
        let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing but to add to an atomic, which is allowed in one.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("the signal can be handled");
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let (process, me) = (std::process::id() as libc::pid_t, nix::unistd::gettid().as_raw());
            while !told.load(Ordering::Relaxed) {
                // The interval is the subject, not a way to wait for something.
                std::thread::sleep(interval);
                for entry in std::fs::read_dir("/proc/self/task").expect("proc is mounted").flatten() {
                    let thread: libc::pid_t = entry.file_name().to_string_lossy().parse().unwrap_or(me);
                    if thread != me {
                        // SAFETY: no memory is passed. A thread that is gone meanwhile is told by an error, which is fine.
                        let _ = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
                    }
                }
            }
        });
        Self { over, thread: Some(thread) }
    }

    /// Signals that were handled in this process so far.
    pub fn handled() -> u64 {
        HANDLED.load(Ordering::Relaxed)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
