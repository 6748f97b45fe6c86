//! Waiting for a lock no longer than a call may take.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crate::context::Deadline;

/// How often a lock that is held is looked at while there is a deadline: its holder connects, which takes some hundred
/// microseconds if all is well.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// Waits for a lock until the deadline; `None` if it was not free by then. Without a deadline as long as it takes.
///
/// For locks that are held while something slow is under way, off the path of a call. A lock that a panic left
/// poisoned is given all the same.
pub fn lock_until<T>(mutex: &Mutex<T>, deadline: Option<Deadline>) -> Option<MutexGuard<'_, T>> {
    let Some(deadline) = deadline else {
        return Some(mutex.lock().unwrap_or_else(PoisonError::into_inner));
    };
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if deadline.has_passed() => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}
