//! Time stamps for calls: nanoseconds on `CLOCK_MONOTONIC`, read from the time-stamp counter.
//!
//! `CLOCK_MONOTONIC` is the same for all processes of a host, so a deadline can travel between them. The kernel's
//! read costs about 23 ns, the counter's about 9, and three stamps stand in the way of each call. Each thread
//! keeps its own anchor (counter, kernel time) and takes a new one after a second, so the error stays below the
//! anchor's own read error plus a second's drift (some microseconds), whatever the uptime. Until a thread's first
//! anchor is 20 ms old its reads go to the kernel: nobody waits for a calibration.
#![allow(unsafe_code)] // The counter is read by an intrinsic.

/// Nanoseconds since an arbitrary point, the same for all processes of this host. Costs about 10 ns; no system call.
#[inline]
pub fn now_ns() -> u64 {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    return tsc::now_ns();
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    kernel_ns()
}

/// The kernel's own answer: exact, about 23 ns.
pub fn kernel_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (t.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec as u64)
}

/// Nanoseconds for which the calling thread has had a processor since it began. A system call.
pub fn thread_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (t.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec as u64)
}

/// A point in time as nanoseconds on the clock of [`kernel_ns`]. Two clock reads.
pub(crate) fn ns_of(deadline: std::time::Instant) -> u64 {
    let left = deadline.saturating_duration_since(std::time::Instant::now());
    kernel_ns().saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
mod tsc {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::kernel_ns;

    const FIRST_NS: u64 = 20_000_000;
    const RENEW_NS: u64 = 1_000_000_000;

    /// A moment seen on both clocks, and the slope from it on.
    #[derive(Clone, Copy)]
    struct Anchor {
        ticks: u64,
        ns: u64,
        /// Nanoseconds per tick, times 2^32; below 2^32. Zero: not known yet.
        slope: u64,
        /// Ticks after which a new anchor is due; below 2^32.
        valid_ticks: u64,
    }

    thread_local! {
        static ANCHOR: Cell<Anchor> = const { Cell::new(Anchor { ticks: 0, ns: 0, slope: 0, valid_ticks: 0 }) };
    }

    fn ticks() -> u64 {
        // SAFETY: RDTSC exists on every x86-64 processor; where the kernel forbids it (prctl) it faults for every
        // user of the C library's clock as well.
        unsafe { core::arch::x86_64::_rdtsc() }
    }

    #[inline]
    pub(super) fn now_ns() -> u64 {
        let anchor = ANCHOR.get();
        let passed = ticks().wrapping_sub(anchor.ticks);
        if passed < anchor.valid_ticks {
            // Both factors are below 2^32, see `renew`.
            return anchor.ns + ((passed * anchor.slope) >> 32);
        }
        renew(anchor)
    }

    /// Whether the kernel itself keeps time by the counter (it watches for counters that drift or differ by core).
    fn counter_is_sound() -> bool {
        static SOUND: OnceLock<bool> = OnceLock::new();
        *SOUND.get_or_init(|| {
            std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
                .is_ok_and(|name| matches!(name.trim(), "tsc" | "kvm-clock"))
        })
    }

    /// One moment on both clocks: the counter halfway between two reads around the kernel's, from the closest pair of
    /// a few tries, because a thread may be taken off the processor in between.
    fn both_clocks() -> (u64, u64) {
        let sample = || {
            let before = ticks();
            let ns = kernel_ns();
            let width = ticks().wrapping_sub(before);
            (width, before.wrapping_add(width / 2), ns)
        };
        let best = (0..3).map(|_| sample()).min_by_key(|(width, ..)| *width);
        best.map_or((0, 0), |(_, ticks, ns)| (ticks, ns))
    }

    #[cold]
    fn renew(old: Anchor) -> u64 {
        if !counter_is_sound() {
            return kernel_ns();
        }
        let (now, ns) = both_clocks();
        if old.ns == 0 {
            ANCHOR.set(Anchor { ticks: now, ns, slope: 0, valid_ticks: 0 });
            return ns;
        }
        let (passed_ns, passed) = (ns.saturating_sub(old.ns), now.wrapping_sub(old.ticks));
        if passed_ns < FIRST_NS || passed == 0 {
            return ns;
        }
        let slope = u64::try_from((u128::from(passed_ns) << 32) / u128::from(passed)).unwrap_or(u64::MAX);
        // A counter slower than 1 GHz does not fit; then every read goes to the kernel.
        let fits = slope < 1 << 32;
        let valid = (RENEW_NS << 32).checked_div(slope).filter(|_| fits).unwrap_or(0);
        let valid_ticks = valid.min((1 << 32) - 1);
        ANCHOR.set(Anchor { ticks: now, ns, slope, valid_ticks });
        ns
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn stamps_follow_the_kernels_clock_within_20_microseconds_over_two_seconds() {
        let start = kernel_ns();
        let mut worst = 0;
        while kernel_ns() - start < 2_300_000_000 {
            let before = kernel_ns();
            let stamp = now_ns();
            let after = kernel_ns();
            // A thread that was taken off the processor between the reads proves nothing.
            if after - before < 2_000 {
                worst = worst.max(before.saturating_sub(stamp)).max(stamp.saturating_sub(after));
            }
        }
        assert!(worst < 20_000, "off by {worst} ns");
    }
}
