//! Threads that are known to sleep.

use std::sync::mpsc::channel;
use std::thread::{Scope, ScopedJoinHandle};

use nix::unistd::{Pid, gettid};

/// Runs `f`, which is going to sleep on a word of shared memory, on a thread of its own; returns when it does.
pub fn spawn_sleeper<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    f: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    let (tell, told) = channel();
    let thread = scope.spawn(move || {
        tell.send(gettid()).expect("the test waits for it");
        f()
    });
    let id = told.recv().expect("the thread tells it first");
    while !sleeps(id) {
        std::thread::yield_now();
    }
    thread
}

/// Whether a thread of this process sleeps on a word of shared memory.
fn sleeps(thread: Pid) -> bool {
    let call = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap_or_default();
    let mut words = call.split(' ');
    let number = nix::libc::SYS_futex.to_string();
    // `FUTEX_WAIT_BITSET` without the private flag; the library's own locks have it.
    words.next() == Some(number.as_str()) && words.nth(1) == Some("0x9")
}
