//! Limits of this process that are about to be reached.
#![allow(unsafe_code)] // Mappings are made and taken away.

use std::ffi::c_void;
use std::ptr::null_mut;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const PAGE: usize = 4096;

/// A limit of this process that was lowered; dropped, it is as it was.
#[derive(Debug)]
#[must_use = "the limit is raised again with this"]
pub struct Lowered {
    resource: Resource,
    before: Rlimit,
}

impl Lowered {
    /// Allows so many descriptors more than are open now.
    pub fn descriptors(more: usize) -> Self {
        let entries = std::fs::read_dir("/proc/self/fd").expect("proc is mounted");
        let numbers: Vec<usize> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        // The descriptor that read the directory is closed again.
        let is_open = |number: &usize| {
            numbers.contains(number) && std::fs::exists(format!("/proc/self/fd/{number}")).expect("proc is mounted")
        };
        let first_refused = (0..).filter(|number| !is_open(number)).nth(more).expect("numbers do not end");
        Self::lower(Resource::Nofile, first_refused as u64)
    }

    /// Allows so many bytes of address space more than are in use now.
    pub fn address_space(more: usize) -> Self {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("proc is mounted");
        let pages: usize = statm.split(' ').next().and_then(|text| text.parse().ok()).expect("the first is the size");
        Self::lower(Resource::As, (pages * PAGE + more) as u64)
    }

    fn lower(resource: Resource, to: u64) -> Self {
        let before = getrlimit(resource);
        setrlimit(resource, Rlimit { current: Some(to), maximum: before.maximum }).expect("a limit can be lowered");
        Self { resource, before }
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        setrlimit(self.resource, self.before).expect("up to its maximum a limit can be raised");
    }
}

/// So many mappings that the kernel gives this process hardly any more (`vm.max_map_count`). Dropped, they are gone.
#[derive(Debug)]
#[must_use = "the mappings go with this"]
pub struct Mappings {
    base: *mut u8,
    pages: usize,
    cut: usize,
    /// Single ones, of which the kernel gives a few more than it makes by cutting.
    single: Vec<*mut c_void>,
}

impl Mappings {
    /// Makes as many as there may be: pages of one range that differ from their neighbours.
    pub fn all() -> Self {
        let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("proc is mounted");
        let pages = 2 * text.trim().parse::<usize>().expect("a number");
        let (prot, flags) = (ProtFlags::READ, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: new memory at a place of the kernel's choice.
        let base = unsafe { mmap_anonymous(null_mut(), pages * PAGE, prot, flags) }.expect("address space is left");
        let mut mappings = Self { base: base.cast(), pages, cut: 0, single: Vec::with_capacity(64) };
        while mappings.protect(mappings.cut, MprotectFlags::empty()) {
            mappings.cut += 1;
        }
        // Shared pages are never joined with their neighbours.
        // SAFETY: new memory at a place of the kernel's choice.
        while let Ok(page) = unsafe { mmap_anonymous(null_mut(), PAGE, prot, MapFlags::SHARED) } {
            mappings.single.push(page);
        }
        mappings
    }

    fn protect(&self, cut: usize, protection: MprotectFlags) -> bool {
        let at = (2 * cut + 1) * PAGE;
        // SAFETY: inside the range, which is as long as twice the largest number of cuts, and of which nobody uses a byte.
        let page = unsafe { self.base.add(at) };
        at < self.pages * PAGE
            // SAFETY: as above: nobody uses the page.
            && unsafe { mprotect(page.cast(), PAGE, protection) }.is_ok()
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        for page in self.single.drain(..) {
            // SAFETY: made by this one, and nobody uses it.
            unsafe { munmap(page, PAGE) }.expect("mappings can be taken away");
        }
        // SAFETY: the whole range is this one's, and nobody uses it.
        unsafe { munmap(self.base.cast(), self.pages * PAGE) }.expect("mappings can be taken away");
    }
}
