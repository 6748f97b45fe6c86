//! In which process a handle is at home: a child made by fork has a copy of it, and none of the memory behind it.
//!
//! Segments are not inherited over fork, so a copied handle leads nowhere. One private page tells: the kernel wipes it in
//! each child (`MADV_WIPEONFORK`), and nobody ever writes it after its first word was set. So the word is a load from a
//! line that every processor may keep, and needs no system call, unlike the number of the process, which moreover could
//! come again.
#![cfg_attr(not(any(loom, miri)), allow(unsafe_code))] // A page of its own, which only the kernel changes.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// What the word of a page says in the process that made it; zero in every child of that process.
const AT_HOME: u64 = 1;

/// The process in which something was made. Kept beside what is of no use in a forked child.
///
/// ```
/// # fn main() -> Result<(), shm_ring::Error> {
/// let home = shm_ring::Home::here()?;
/// assert!(home.is_here()); // in a child of this process it would not be
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Home(&'static AtomicU64);

impl Home {
    /// This process. One load, but for the first call in a process, which makes the page: two system calls.
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] if the system refuses the page.
    pub fn here() -> Result<Self, Error> {
        // Models and Miri do not fork.
        #[cfg(any(loom, miri))]
        return Ok(Self::everywhere());
        #[cfg(not(any(loom, miri)))]
        page::of_this_process().map(Self).map_err(Error::system("the page that tells children from parents"))
    }

    /// As [`here`](Self::here), for who speaks the system's language.
    #[cfg(not(loom))]
    pub(crate) fn of_system() -> std::io::Result<Self> {
        #[cfg(miri)]
        return Ok(Self::everywhere());
        #[cfg(not(miri))]
        Ok(page::of_this_process().map(Self)?)
    }

    /// Every process that has a copy: of memory that a fork copies too.
    pub(crate) fn everywhere() -> Self {
        static WORD: AtomicU64 = AtomicU64::new(AT_HOME);
        Self(&WORD)
    }

    /// Whether this is still that process, and no child of it. Wait-free: one load of a word that is never written.
    #[inline(always)]
    pub fn is_here(self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Refuses to go on in a forked child.
    ///
    /// # Errors
    /// [`Error::ForkedHandle`], which names `what` belongs to the parent.
    pub fn check(self, what: &'static str) -> Result<(), Error> {
        if self.is_here() { Ok(()) } else { Err(Error::ForkedHandle { what }) }
    }
}

#[cfg(not(any(loom, miri)))]
mod page {
    use core::ptr::null_mut;
    use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

    use rustix::io::Errno;
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    use super::AT_HOME;

    const BYTES: usize = 4096;

    /// The page that was made last, by this process or by one that it descends from. Pages are never given back: handles
    /// lead to them, and a process has one for each fork in its descent at most.
    static NEWEST: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());

    pub(super) fn of_this_process() -> Result<&'static AtomicU64, Errno> {
        // ORDERING: Acquire, pairs with the Release of the exchange below: the word was set before the page was shown.
        let newest = NEWEST.load(Ordering::Acquire);
        // SAFETY: null, or a page that was mapped below, whose first word is aligned, and that nobody unmaps; a child has a
        // wiped one at the same place.
        if let Some(word) = unsafe { newest.as_ref() }
            && word.load(Ordering::Relaxed) != 0
        {
            return Ok(word);
        }
        let page = make()?;
        // ORDERING: Release, pairs with the Acquire above, as does the Acquire if another thread was first.
        let shown = match NEWEST.compare_exchange(newest, page, Ordering::Release, Ordering::Acquire) {
            Ok(_) => page,
            Err(first) => {
                // SAFETY: made above, and shown to nobody.
                let _ = unsafe { munmap(page.cast(), BYTES) };
                first
            }
        };
        // SAFETY: a page of this process, as above; not null, for pages only follow one another.
        Ok(unsafe { &*shown })
    }

    fn make() -> Result<*mut AtomicU64, Errno> {
        // SAFETY: new private memory at a place of the kernel's choice.
        let page = unsafe { mmap_anonymous(null_mut(), BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }?;
        // SAFETY: the page was just made, and is wiped in children only.
        if let Err(errno) = unsafe { madvise(page, BYTES, Advice::LinuxWipeOnFork) } {
            // SAFETY: made above, and shown to nobody.
            let _ = unsafe { munmap(page, BYTES) };
            return Err(errno);
        }
        let word = page.cast::<AtomicU64>();
        // SAFETY: page-aligned, zeroed memory that is as long as a word at least, and known to nobody else yet.
        unsafe { &*word }.store(AT_HOME, Ordering::Relaxed);
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_of_a_process_have_one_home() {
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(|| Home::here().unwrap())).collect();
        let first = Home::here().unwrap();
        for thread in threads {
            let home = thread.join().unwrap();
            assert!(home.is_here() && std::ptr::eq(home.0, first.0));
        }
    }
}
