//! Threads that are known to sleep.

use nix::unistd::Pid;

/// Returns when a thread of this process sleeps on a word of shared memory.
pub fn wait_until_asleep(thread: Pid) {
    while !sleeps(thread) {
        std::thread::yield_now();
    }
}

fn sleeps(thread: Pid) -> bool {
    let call = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap_or_default();
    let mut words = call.split(' ');
    let number = nix::libc::SYS_futex.to_string();
    // `FUTEX_WAIT_BITSET` without the private flag; the library's own locks have it.
    words.next() == Some(number.as_str()) && words.nth(1) == Some("0x9")
}
