//! Private memory for payloads that are copied out before they are looked at.

use std::cell::Cell;
use std::collections::TryReserveError;
use std::fmt;

/// Sixteen bytes, which is how payloads are aligned.
type Unit = u128;

/// What is kept for the next payload, in bytes; what a longer one needed is given back after it.
const KEPT: usize = 4 << 20;

/// Room for one payload, used again and again. Its bytes begin at a multiple of 16.
#[derive(Default)]
pub(crate) struct Copy(Vec<Unit>);

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copy").field("bytes", &self.bytes()).finish()
    }
}

impl Copy {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn bytes(&self) -> usize {
        self.0.len() * size_of::<Unit>()
    }

    /// Room for `len` bytes, which hold anything. Allocates if no payload was as long before.
    ///
    /// # Errors
    /// There is no memory for it: a peer says how long its payloads are, so this must not end the process.
    pub(crate) fn room(&mut self, len: usize) -> Result<&mut [u8], TryReserveError> {
        if self.bytes() < len || self.0.is_empty() {
            self.0 = Vec::new();
            // Not even an empty payload begins elsewhere than at a multiple of 16, so there is always a page.
            let units = len.max(1).div_ceil(4096).saturating_mul(4096 / size_of::<Unit>());
            self.0.try_reserve_exact(units)?;
            self.0.resize(units, 0);
        }
        Ok(&mut bytemuck::cast_slice_mut(&mut self.0)[..len])
    }

    /// The payload of `len` bytes that there was room for.
    pub(crate) fn filled(&self, len: usize) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..len]
    }

    /// To be called when the payload is not needed any more.
    pub(crate) fn settle(&mut self) {
        if self.bytes() > KEPT {
            self.0 = Vec::new();
        }
    }
}

thread_local!(static CALLER: Cell<Copy> = Cell::default());

/// Runs `f` with the calling thread's room. What `f` calls may come here again and then has room of its own; and so has
/// what is dropped when the thread ends, after its room.
pub(crate) fn with_callers_room<T>(f: impl FnOnce(&mut Copy) -> T) -> T {
    let mut copy = CALLER.try_with(Cell::take).unwrap_or_default();
    let result = f(&mut copy);
    copy.settle();
    // A thread that ends keeps nothing.
    let _ = CALLER.try_with(|kept| kept.set(copy));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_at_the_end_of_a_thread_has_room_too() {
        struct CallsAtTheEnd;
        impl Drop for CallsAtTheEnd {
            fn drop(&mut self) {
                with_callers_room(|copy| copy.room(10).unwrap().fill(1));
            }
        }
        thread_local!(static LAST: CallsAtTheEnd = const { CallsAtTheEnd });
        let thread = std::thread::spawn(|| {
            // What is there later ends earlier.
            LAST.with(|_| ());
            with_callers_room(|copy| copy.room(10).unwrap().fill(1));
        });
        thread.join().expect("no panic");
    }

    #[test]
    fn room_is_as_long_as_asked_for_aligned_and_kept_up_to_a_limit() {
        let mut copy = Copy::new();
        for len in [0, 1, 5000, 100, KEPT] {
            let room = copy.room(len).unwrap();
            assert_eq!((room.len(), room.as_ptr() as usize % 16), (len, 0));
        }
        copy.settle();
        assert_eq!(copy.bytes(), KEPT);
        assert_eq!(copy.room(KEPT + 1).unwrap().len(), KEPT + 1);
        copy.settle();
        assert_eq!(copy.bytes(), 0);
    }

    #[test]
    fn more_than_there_is_is_an_error_and_the_next_payload_has_room() {
        let mut copy = Copy::new();
        for len in [usize::MAX, usize::MAX - 4096, isize::MAX as usize, 1 << 62] {
            assert!(copy.room(len).is_err(), "{len}");
        }
        assert_eq!(copy.room(5).unwrap().len(), 5);
    }

    #[test]
    fn a_call_within_a_call_has_room_of_its_own() {
        with_callers_room(|outer| {
            outer.room(10).unwrap().fill(1);
            with_callers_room(|inner| inner.room(10).unwrap().fill(2));
            assert_eq!(outer.room(10).unwrap(), [1; 10]);
        });
    }
}
